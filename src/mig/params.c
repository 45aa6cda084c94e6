/* SPDX-License-Identifier: MIT */
/*
 * Parameters: one table that the API, QMP and the command line read.
 * Adding a row is all it takes to add a parameter to all three.
 */
#include "mig/params.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/thread.h"
#include "mig/heart.h"
#include "send/bulk.h"

static const char *const orders[] = { "linear", "near", "hot", NULL };
static const char *const bulk_ways[] = { "parallel", "serial", NULL };
static const char *const peers[] = { "ferry", "qemu", NULL };

static const char *const compressions[] = { "none", "zlib", "zstd", "auto",
					    NULL };

#define CPUS_PER_CHANNEL	4u
#define CHANNELS_BY_CPUS	8u

#define ROW(n)	.size = sizeof(struct ferry_param_info), .name = (n)
#define BOOL	.type = FERRY_PARAM_BOOL, .unit = "", .max = 1
#define UINT	.type = FERRY_PARAM_UINT
#define TEXT	.type = FERRY_PARAM_TEXT, .unit = ""
#define CAP	.is_capability = 1
#define LIVE	.while_running = 1

static const struct ferry_param_info table[FERRY_PARAMS] = {
	[FERRY_P_POSTCOPY_RAM] = { ROW("postcopy-ram"), BOOL, CAP, .def = 1,
		.help = "Postcopy may be used: by request, after a number of "
			"passes, or when precopy does not converge." },
	[FERRY_P_AUTO_CONVERGE] = { ROW("auto-converge"), BOOL, CAP, LIVE,
		.help = "Slow the vCPUs down when precopy does not converge, "
			"instead of going to postcopy." },
	[FERRY_P_RELEASE_RAM] = { ROW("release-ram"), BOOL, CAP,
		.help = "Free pages at the source once they are sent in "
			"postcopy; recovery is then impossible." },
	[FERRY_P_DOWNTIME_LIMIT] = { ROW("downtime-limit"), UINT, .unit = "ms",
		LIVE, .def = 300, .max = 2000000,
		.help = "Longest pause that precopy may end with." },
	[FERRY_P_MAX_BANDWIDTH] = { ROW("max-bandwidth"), UINT,
		.unit = "bytes/s", LIVE, .max = UINT64_MAX >> 1,
		.help = "Most that precopy passes send; 0: no limit." },
	[FERRY_P_MAX_POSTCOPY_BANDWIDTH] = { ROW("max-postcopy-bandwidth"),
		UINT, .unit = "bytes/s", LIVE, .max = UINT64_MAX >> 1,
		.help = "Most that the background push of postcopy sends; "
			"requested pages are not held back; 0: no limit." },
	[FERRY_P_CHANNELS] = { ROW("multifd-channels"), UINT,
		.unit = "channels", .def = 1, .min = 1,
		.max = FERRY_DATA_CHANNELS_MAX,
		.help = "Connections that carry bulk pages; by default one for "
			"each four CPUs that the process may use, 1 to 8." },
	[FERRY_P_THROTTLE_INITIAL] = { ROW("cpu-throttle-initial"), UINT,
		.unit = "percent", LIVE, .def = 20, .min = 1, .max = 99,
		.help = "First step of slowing the vCPUs down." },
	[FERRY_P_THROTTLE_INCREMENT] = { ROW("cpu-throttle-increment"), UINT,
		.unit = "percent", LIVE, .def = 10, .min = 1, .max = 99,
		.help = "Each further step." },
	[FERRY_P_THROTTLE_MAX] = { ROW("max-cpu-throttle"), UINT,
		.unit = "percent", LIVE, .def = 99, .min = 1, .max = 99,
		.help = "Last step." },
	[FERRY_P_PASSES] = { ROW("x-ferry-precopy-passes"), UINT,
		.unit = "passes", LIVE, .def = FERRY_PASSES_AUTO,
		.max = FERRY_PASSES_AUTO,
		.help = "Passes of precopy before postcopy: 0 is postcopy at "
			"once, 1000 leaves it to the policy." },
	[FERRY_P_MAX_PASSES] = { ROW("x-ferry-max-passes"), UINT,
		.unit = "passes", LIVE, .def = 30, .min = 1, .max = 1000000,
		.help = "Precopy that has not converged after so many passes "
			"fails, VM goes on at the source." },
	[FERRY_P_BY] = { ROW("x-ferry-by"), UINT, .unit = "ms", LIVE,
		.max = UINT32_MAX,
		.help = "Deadline, from the start: the VM runs at the target "
			"by then, by postcopy if need be, or the migration "
			"fails; 0: none." },
	[FERRY_P_PUSH] = { ROW("x-ferry-background-push"), BOOL, LIVE, .def = 1,
		.help = "In postcopy send also what nobody asked for; off is "
			"for measurement." },
	[FERRY_P_PUSH_ORDER] = { ROW("x-ferry-push-order"),
		.type = FERRY_PARAM_CHOICE, .unit = "", .choices = orders,
		.def = FERRY_PUSH_NEAR, .max = FERRY_PUSH_HOT,
		.help = "What the background push sends next: the next "
			"address, what lies near the last fault, or what was "
			"written last first." },
	[FERRY_P_PREFAULT_FORWARD] = { ROW("x-ferry-prefault-forward"), UINT,
		.unit = "pages", LIVE, .def = 8, .max = 4096,
		.help = "Pages after a requested one that are sent with it." },
	[FERRY_P_PREFAULT_BACKWARD] = { ROW("x-ferry-prefault-backward"), UINT,
		.unit = "pages", LIVE, .def = 0, .max = 4096,
		.help = "Pages before a requested one that are sent with it." },
	[FERRY_P_URGENT] = { ROW("postcopy-preempt"), BOOL, CAP, .def = 1,
		.help = "Requested pages travel on a connection of their "
			"own." },
	[FERRY_P_URGENT_CHANNELS] = { ROW("x-ferry-urgent-channels"), UINT,
		.unit = "channels", .def = 1, .min = 1,
		.max = FERRY_URGENT_CHANNELS_MAX,
		.help = "Between two ferries: so many connections for "
			"requested pages, so that one that is stuck does not "
			"hold up the others." },
	[FERRY_P_MAX_FAULT_P99] = { ROW("x-ferry-max-fault-p99"), UINT,
		.unit = "us", LIVE, .max = 60000000,
		.help = "Between two ferries: in postcopy the background push "
			"is slowed down so far that 99 of 100 faults take no "
			"longer than this; 0: it is not." },
	[FERRY_P_PEER] = { ROW("x-ferry-peer"), .type = FERRY_PARAM_CHOICE,
		.unit = "", .choices = peers, .def = FERRY_PEER_FERRY,
		.max = FERRY_PEER_QEMU,
		.help = "Who is at the other end; a source cannot find out." },
	[FERRY_P_CHANNEL_HEADER] = { ROW("channel-header"), BOOL, CAP,
		.def = 1,
		.help = "Every connection between two ferries opens with a "
			"header; off at both ends: they speak QEMU's protocol "
			"and nothing else." },
	[FERRY_P_QEMU_PREEMPT] = { ROW("x-ferry-qemu-preempt"), BOOL,
		.help = "Towards a QEMU: requested pages travel on a "
			"connection of their own; its capability "
			"postcopy-preempt must be on." },
	[FERRY_P_QEMU_MULTIFD] = { ROW("x-ferry-qemu-multifd"), BOOL,
		.help = "Towards a QEMU: pages travel on multifd-channels "
			"connections before the switchover; its capability "
			"multifd must be on, with as many." },
	[FERRY_P_COMPRESSION] = { ROW("multifd-compression"),
		.type = FERRY_PARAM_CHOICE, .unit = "", .choices = compressions,
		.def = FERRY_COMPRESSION_NONE, .max = FERRY_COMPRESSION_AUTO,
		.help = "What bulk pages are compressed by; auto: zstd, while "
			"the connection and not the CPU is what takes the "
			"time; towards a QEMU, with x-ferry-qemu-multifd, the "
			"same as there, and auto is none." },
	[FERRY_P_TIMEOUT] = { ROW("x-ferry-timeout"), UINT, .unit = "ms",
		.def = 4000, .min = 5 * FERRY_HEARTBEAT_MS, .max = 3600000,
		.help = "A peer that is silent for longer is given up; a "
			"QEMU, which gives no signs of life, after 2.5 times "
			"that." },
	[FERRY_P_VERIFY] = { ROW("x-ferry-verify"), BOOL, LIVE,
		.help = "In the end both sides compare a checksum of every "
			"page; in precopy that is part of the pause." },
	[FERRY_P_DEVICE_CHANNELS] = { ROW("x-ferry-device-channels"), UINT,
		.unit = "channels", .max = FERRY_BULK_LANES_MAX,
		.help = "Connections that carry the state of bulk devices; 0: "
			"it travels among the pages." },
	[FERRY_P_BULK] = { ROW("x-ferry-bulk"), .type = FERRY_PARAM_CHOICE,
		.unit = "", .choices = bulk_ways, .max = FERRY_BULK_SERIAL,
		.help = "Bulk devices save at the same time, or, for "
			"measurement, one after the other, behind the "
			"memory." },
	[FERRY_P_ZLIB_LEVEL] = { ROW("multifd-zlib-level"), UINT, .unit = "",
		.def = 1, .max = 9,
		.help = "Level of zlib: 1 is the fastest, 9 the smallest; 0 "
			"does not compress." },
	[FERRY_P_ZSTD_LEVEL] = { ROW("multifd-zstd-level"), UINT, .unit = "",
		.def = 1, .max = 20,
		.help = "Level of zstd: 1 is the fastest, 20 the smallest; 0 "
			"is the library's own default." },
	[FERRY_P_ZSTD_FASTER] = { ROW("x-ferry-zstd-faster"), BOOL, .def = 1,
		.help = "Between two ferries: zstd goes faster than "
			"multifd-zstd-level while the CPU, and not the "
			"connection, is what takes the time." },
	[FERRY_P_CHANNEL_BANDWIDTH] = { ROW("x-ferry-channel-bandwidth"), UINT,
		.unit = "bytes/s", .max = UINT64_MAX >> 1,
		.help = "Most that each connection sends, for networks that "
			"shape each one; 0: no limit." },
	[FERRY_P_RECOVER] = { ROW("x-ferry-recover"), UINT, .unit = "ms", LIVE,
		.def = 600000, .max = UINT32_MAX,
		.help = "Between two ferries: so long after a link was lost "
			"in postcopy they try by themselves to go on; 0: "
			"only when told to." },
	[FERRY_P_LEASE] = { ROW("x-ferry-lease"), UINT, .unit = "ms",
		.max = FERRY_LEASE_MS_MAX,
		.help = "Between two ferries: the target stops the VM when it "
			"has not heard of the source for so long, until all "
			"of the VM is there; then a source may be rolled back "
			"safely. 0: it runs on; else at least 1000." },
	[FERRY_P_TLS_CREDS] = { ROW("tls-creds"), TEXT,
		.help = "Folder with the credentials of TLS, which all "
			"connections then use; psk:FOLDER for its keys.psk "
			"even if it has certificates, too." },
	[FERRY_P_TLS_HOSTNAME] = { ROW("tls-hostname"), TEXT,
		.help = "Source: the name that the target's certificate must "
			"show, if it is not the one that is dialled." },
	[FERRY_P_TLS_AUTHZ] = { ROW("tls-authz"), TEXT,
		.help = "Target: who may come of those with good credentials: "
			"common names, PSK users or whole subjects, separated "
			"by semicolons, * for any part." },
};

const struct ferry_param_info *ferry_param_info(size_t i)
{
	return i < FERRY_PARAMS ? &table[i] : NULL;
}

unsigned ferry_params_channels(unsigned cpus)
{
	unsigned n = cpus / CPUS_PER_CHANNEL;

	return n < 1 ? 1 : n > CHANNELS_BY_CPUS ? CHANNELS_BY_CPUS : n;
}

void ferry_params_init(struct ferry_params *p)
{
	for (size_t i = 0; i < FERRY_PARAMS; i++)
		atomic_init(&p->v[i], table[i].def);
	atomic_init(&p->v[FERRY_P_CHANNELS],
		    ferry_params_channels(ferry_thread_cpus()));
	memset(p->text, 0, sizeof(p->text));
}

void ferry_params_copy(struct ferry_params *to, const struct ferry_params *p)
{
	for (unsigned i = 0; i < FERRY_PARAMS; i++)
		atomic_store_explicit(&to->v[i], ferry_param(p, i),
				      memory_order_relaxed);
	memcpy(to->text, p->text, sizeof(to->text));
}

struct ferry_params *ferry_params_new(void)
{
	struct ferry_params *p = malloc(sizeof(*p));

	if (p)
		ferry_params_init(p);
	return p;
}

void ferry_params_free(struct ferry_params *p)
{
	free(p);
}

static int find(const char *name, enum ferry_param *row, struct ferry_err *e)
{
	for (size_t i = 0; i < FERRY_PARAMS; i++) {
		if (strcmp(table[i].name, name) == 0) {
			*row = (enum ferry_param)i;
			return 0;
		}
	}
	return ferry_err_set(e, FERRY_E_INVALID, 0, "no parameter '%.64s'",
			     name);
}

static int find_number(const char *name, enum ferry_param *row,
		       struct ferry_err *e)
{
	if (find(name, row, e))
		return -1;
	if (table[*row].type != FERRY_PARAM_TEXT)
		return 0;
	return ferry_err_set(e, FERRY_E_INVALID, 0, "%s is a text", name);
}

static int store(struct ferry_params *p, enum ferry_param row, uint64_t value,
		 struct ferry_err *e)
{
	const struct ferry_param_info *t = &table[row];

	if (value < t->min || value > t->max)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%s: %" PRIu64 " is outside %" PRIu64
				     " to %" PRIu64 " %s", t->name, value,
				     t->min, t->max, t->unit);
	atomic_store_explicit(&p->v[row], value, memory_order_relaxed);
	return 0;
}

static int parse_choice(const struct ferry_param_info *t, const char *text,
			uint64_t *value, struct ferry_err *e)
{
	char all[128] = "";

	for (size_t i = 0; t->choices[i]; i++) {
		if (strcmp(t->choices[i], text) == 0) {
			*value = i;
			return 0;
		}
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s",
			 i ? ", " : "", t->choices[i]);
	}
	return ferry_err_set(e, FERRY_E_INVALID, 0,
			     "%s: '%.32s' is none of %s", t->name, text, all);
}

static int parse_bool(const struct ferry_param_info *t, const char *text,
		      uint64_t *value, struct ferry_err *e)
{
	static const char *const words[] = { "off", "on", "false", "true",
					     "0", "1" };

	for (size_t i = 0; i < FERRY_LEN(words); i++) {
		if (strcmp(words[i], text) == 0) {
			*value = i & 1;
			return 0;
		}
	}
	return ferry_err_set(e, FERRY_E_INVALID, 0,
			     "%s: '%.32s' is neither on nor off", t->name,
			     text);
}

static int parse_uint(const struct ferry_param_info *t, const char *text,
		      uint64_t *value, struct ferry_err *e)
{
	bool octets = strcmp(t->unit, "bytes/s") == 0;
	static const char suffixes[] = "kmgt";
	char *end = NULL;
	const char *s;

	errno = 0;
	*value = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || errno)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%s: '%.32s' is not a number", t->name,
				     text);
	if (!*end)
		return 0;
	if (!octets)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%s: '%.32s' is not a number (of %s, "
				     "which take no suffix)", t->name, text,
				     t->unit);

	s = strchr(suffixes, tolower((unsigned char)*end));
	if (!s || end[1] || __builtin_mul_overflow(*value,
				1ull << (10 * (s - suffixes + 1)), value))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%s: '%.32s' is not a number (with k, M, "
				     "G or T)", t->name, text);
	return 0;
}

static int store_text(struct ferry_params *p, enum ferry_param row,
		      const char *text, struct ferry_err *e)
{
	if (strlen(text) >= FERRY_TEXT_BYTES)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%s: more than %u "
				     "octets", table[row].name,
				     FERRY_TEXT_BYTES - 1);
	strcpy(p->text[row - FERRY_P_TLS_CREDS], text);
	return 0;
}

int ferry_params_set(struct ferry_params *p, const char *name,
		     const char *value, struct ferry_err *e)
{
	enum ferry_param row = 0;
	uint64_t v = 0;
	int rc = -1;

	if (find(name, &row, e))
		return -1;

	switch (table[row].type) {
	case FERRY_PARAM_BOOL:
		rc = parse_bool(&table[row], value, &v, e);
		break;
	case FERRY_PARAM_UINT:
		rc = parse_uint(&table[row], value, &v, e);
		break;
	case FERRY_PARAM_CHOICE:
		rc = parse_choice(&table[row], value, &v, e);
		break;
	case FERRY_PARAM_TEXT:
		return store_text(p, row, value, e);
	}
	return rc ? rc : store(p, row, v, e);
}

int ferry_params_set_uint(struct ferry_params *p, const char *name,
			  uint64_t value, struct ferry_err *e)
{
	enum ferry_param row = 0;

	if (find_number(name, &row, e))
		return -1;
	return store(p, row, value, e);
}

int ferry_params_get(const struct ferry_params *p, const char *name,
		     uint64_t *value, struct ferry_err *e)
{
	enum ferry_param row = 0;

	if (find_number(name, &row, e))
		return -1;
	*value = ferry_param(p, row);
	return 0;
}

static const char *show(const struct ferry_params *p, enum ferry_param row,
			char number[24])
{
	uint64_t v = ferry_param(p, row);

	switch (table[row].type) {
	case FERRY_PARAM_BOOL:
		return v ? "on" : "off";
	case FERRY_PARAM_CHOICE:
		return table[row].choices[v];
	case FERRY_PARAM_TEXT:
		return ferry_param_text(p, row);
	case FERRY_PARAM_UINT:
		break;
	}
	snprintf(number, 24, "%" PRIu64, v);
	return number;
}

int ferry_params_get_text(const struct ferry_params *p, const char *name,
			  char *buf, size_t bytes, struct ferry_err *e)
{
	enum ferry_param row = 0;
	char number[24];

	if (find(name, &row, e))
		return -1;
	if ((size_t)snprintf(buf, bytes, "%s", show(p, row, number)) < bytes)
		return 0;
	return ferry_err_set(e, FERRY_E_INVALID, 0, "%s does not fit %zu "
			     "octets", name, bytes);
}

int ferry_params_change(struct ferry_params *p, const char *name,
			const char *value, struct ferry_err *e)
{
	enum ferry_param row = 0;

	if (find(name, &row, e))
		return -1;
	if (!table[row].while_running)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "%s cannot be changed while the migration "
				     "runs", name);
	return ferry_params_set(p, name, value, e);
}
