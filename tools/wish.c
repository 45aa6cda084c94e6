/* SPDX-License-Identifier: MIT */
/*
 * The table of what ferry sets in a QEMU.  What is not in it is the operator's
 * own and stays as it is; and so does TLS unless it is named (in a QEMU
 * tls-creds and tls-authz are ids of objects).
 */
#include "wish.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define CAP	FERRY_SET_CAP
#define NUMBER	FERRY_SET_NUMBER
#define WORD	FERRY_SET_WORD
#define SOURCE	FERRY_SET_SOURCE
#define TARGET	FERRY_SET_TARGET
#define BOTH	FERRY_SET_BOTH

/*
 * `ours`: what an earlier migration had set does not linger.  The numbers
 * among them have their value from ferry's table.
 */
static const struct ferry_setting settings[] = {
	{ "events",			CAP,	BOTH,	true },
	{ "return-path",		CAP,	SOURCE,	true },
	{ "postcopy-ram",		CAP,	BOTH,	true },
	{ "postcopy-preempt",		CAP,	BOTH,	true },
	{ "multifd",			CAP,	BOTH,	true },
	{ "compress",			CAP,	BOTH,	true },
	{ "xbzrle",			CAP,	SOURCE,	true },
	{ "auto-converge",		CAP,	SOURCE,	true },
	{ "release-ram",		CAP,	SOURCE,	true },
	{ "pause-before-switchover",	CAP,	SOURCE,	true, true },
	{ "background-snapshot",	CAP,	SOURCE,	true, true },
	{ "dirty-limit",		CAP,	SOURCE,	true },
	{ "mapped-ram",			CAP,	BOTH,	false },
	{ "switchover-ack",		CAP,	BOTH,	false },
	{ "dirty-bitmaps",		CAP,	BOTH,	false },
	{ "x-ignore-shared",		CAP,	BOTH,	false },
	{ "validate-uuid",		CAP,	BOTH,	false },
	{ "zero-copy-send",		CAP,	SOURCE,	false },
	{ "zero-blocks",		CAP,	SOURCE,	false },
	{ "postcopy-blocktime",		CAP,	TARGET,	false },
	{ "late-block-activate",	CAP,	TARGET,	false },
	{ "downtime-limit",		NUMBER,	SOURCE,	true },
	{ "max-bandwidth",		NUMBER,	SOURCE,	true },
	{ "max-postcopy-bandwidth",	NUMBER,	SOURCE,	true },
	{ "cpu-throttle-initial",	NUMBER,	SOURCE,	true },
	{ "cpu-throttle-increment",	NUMBER,	SOURCE,	true },
	{ "max-cpu-throttle",		NUMBER,	SOURCE,	true },
	{ "multifd-channels",		NUMBER,	BOTH,	false },
	{ "multifd-compression",	WORD,	BOTH,	false },
	{ "tls-creds",			WORD,	BOTH,	false },
	{ "tls-hostname",		WORD,	SOURCE,	false },
	{ "tls-authz",			WORD,	TARGET,	false },
	{ "multifd-zlib-level",		NUMBER,	SOURCE,	false },
	{ "multifd-zstd-level",		NUMBER,	SOURCE,	false },
	{ "xbzrle-cache-size",		NUMBER,	SOURCE,	false },
	{ "zero-page-detection",	WORD,	SOURCE,	false },
	{ "compress-level",		NUMBER,	SOURCE,	false },
	{ "compress-threads",		NUMBER,	SOURCE,	false },
	{ "decompress-threads",		NUMBER,	TARGET,	false },
	{ "throttle-trigger-threshold",	NUMBER,	SOURCE,	false },
	{ "vcpu-dirty-limit",		NUMBER,	SOURCE,	false },
};

/* What ferry run does and this command does for a QEMU. */
static const char *const done_here[] = {
	"x-ferry-precopy-passes", "x-ferry-max-passes", "x-ferry-by",
};

const struct ferry_setting *ferry_setting(size_t i)
{
	return i < FERRY_LEN(settings) ? &settings[i] : NULL;
}

int ferry_wish_init(struct ferry_wish *w, struct ferry_err *e)
{
	w->params = ferry_params_new();
	w->said = json_object_new_object();
	return w->params && w->said ? 0 :
	       ferry_err_set(e, FERRY_E_NOMEM, 0, "parameters");
}

void ferry_wish_fini(struct ferry_wish *w)
{
	ferry_params_free(w->params);
	json_object_put(w->said);
}

static const struct ferry_param_info *ferrys(const char *name)
{
	const struct ferry_param_info *row;

	for (size_t i = 0; (row = ferry_param_info(i)); i++)
		if (!strcmp(row->name, name))
			return row;
	return NULL;
}

static const struct ferry_setting *find(const char *name)
{
	for (size_t i = 0; i < FERRY_LEN(settings); i++)
		if (!strcmp(settings[i].name, name))
			return &settings[i];
	return NULL;
}

static int check_value(const struct ferry_setting *row, const char *value,
		       struct ferry_err *e)
{
	char *end;

	if (row->never)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%s is nothing "
				     "that `ferry migrate` does", row->name);
	if (row->type == CAP && strcmp(value, "on") && strcmp(value, "off"))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%s=%.80s: on or "
				     "off", row->name, value);
	if (row->type != NUMBER)
		return 0;
	strtoull(value, &end, 10);
	if (*end || *value < '0' || *value > '9')
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%s=%.80s: not a "
				     "number", row->name, value);
	return 0;
}

int ferry_wish_set(struct ferry_wish *w, const char *name, const char *value,
		   struct ferry_err *e)
{
	const struct ferry_param_info *own = ferrys(name);
	const struct ferry_setting *row = find(name);

	if (own || !row) {
		if (ferry_params_set(w->params, name, value, e))
			return -1;
	} else if (check_value(row, value, e)) {
		return -1;
	}
	/* ferry's may be "true", too. */
	if (own && own->type == FERRY_PARAM_BOOL)
		value = ferry_wish_u64(w, name) ? "on" : "off";
	json_object_object_del(w->said, name);
	ferry_json_add_str(w->said, name, value);
	return 0;
}

const char *ferry_wish_said(const struct ferry_wish *w, const char *name)
{
	return ferry_json_str(w->said, name);
}

uint64_t ferry_wish_u64(const struct ferry_wish *w, const char *name)
{
	uint64_t v = 0;

	/* Cannot fail for a name out of the table. */
	ferry_params_get(w->params, name, &v, NULL);
	return v;
}

int ferry_wish_for_ferry(const struct ferry_wish *w, struct ferry_err *e)
{
	json_object_object_foreach(w->said, name, value) {
		(void)value;
		if (!ferrys(name))
			return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
					     "%s is a QEMU's; ferry run does "
					     "not have it", name);
	}
	return 0;
}

int ferry_wish_for_qemu(const struct ferry_wish *w, struct ferry_err *e)
{
	json_object_object_foreach(w->said, name, value) {
		bool here = find(name) != NULL;

		(void)value;
		for (size_t i = 0; i < FERRY_LEN(done_here); i++)
			here |= !strcmp(name, done_here[i]);
		if (!here)
			return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
					     "%s is ferry run's; a QEMU does "
					     "not have it", name);
	}
	return 0;
}
