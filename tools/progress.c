/* SPDX-License-Identifier: MIT */
/*
 * Progress as a person wants to read it.  Percent counts distinct pages: a page
 * that is sent again does not count twice.  A QEMU does not say those; there it
 * is what the target has and that still holds.
 */
#include "progress.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "command.h"
#include "shape.h"

#define PAGE_BYTES	4096u

static const char *status_of(const struct json_object *m)
{
	const char *status = ferry_json_str(m, "status");

	return status ? status : "none";
}

/* Memory goes over now: it can be said for how long yet. */
static bool is_moving(const struct json_object *m)
{
	return !strcmp(status_of(m), "active") ||
	       !strcmp(status_of(m), "postcopy-active");
}

/* The bulk device that keeps the VM running; NULL: none. */
static const char *waits_for(const struct json_object *m)
{
	return ferry_json_str(m, "x-ferry-waits-for");
}

static void add_rates(const struct json_object *m, char *buf, size_t bytes)
{
	struct json_object *ram = ferry_json_obj(m, "ram");
	uint64_t rate = ferry_json_u64(ram, "pages-per-second", 0) *
			PAGE_BYTES;
	uint64_t dirty = ferry_json_u64(ram, "dirty-pages-rate", 0) *
			 PAGE_BYTES;
	uint64_t remaining = ferry_json_u64(ram, "remaining", 0);
	size_t at = strlen(buf);

	if (!rate)
		return;
	at += (size_t)snprintf(buf + at, bytes - at, "  %" PRIu64 " MiB/s",
			       rate >> 20);
	if (dirty && at < bytes)
		at += (size_t)snprintf(buf + at, bytes - at,
				       "  guest writes %" PRIu64 " MiB/s",
				       dirty >> 20);
	if (remaining && is_moving(m) && !waits_for(m) && at < bytes)
		snprintf(buf + at, bytes - at, "  ETA %.1f s",
			 (double)remaining / (double)rate);
}

static void add_pause(const struct json_object *m, char *buf, size_t bytes)
{
	uint64_t was = ferry_json_u64(m, "downtime", UINT64_MAX);
	uint64_t will = ferry_json_u64(m, "expected-downtime", UINT64_MAX);
	size_t at = strlen(buf);

	if (was != UINT64_MAX)
		snprintf(buf + at, bytes - at, "  pause %" PRIu64 " ms", was);
	else if (will != UINT64_MAX)
		snprintf(buf + at, bytes - at, "  pause ~%" PRIu64 " ms",
			 will);
}

static void add_wait(const struct json_object *m, char *buf, size_t bytes)
{
	const char *device = waits_for(m);
	size_t at = strlen(buf);

	if (device)
		snprintf(buf + at, bytes - at, "  switchover waits for device "
			 "%s", device);
}

/* The one that goes on, or how many there were.  A target is not told. */
static void add_pass(const struct json_object *m, char *buf, size_t bytes)
{
	const char *role = ferry_json_str(m, "x-ferry-role");
	bool active = !strcmp(status_of(m), "active");
	uint64_t pass = ferry_shape_passes(m) + active;
	size_t at = strlen(buf);

	if (pass && (!role || strcmp(role, "target")))
		snprintf(buf + at, bytes - at, "  pass %" PRIu64, pass);
}

void ferry_progress_line(const struct json_object *m, char *buf, size_t bytes)
{
	struct json_object *ram = ferry_json_obj(m, "ram");
	uint64_t total = ferry_json_u64(ram, "total", 0);
	uint64_t rest = ferry_json_u64(ram, "remaining", 0);
	uint64_t have = ferry_json_u64(ram, "x-ferry-distinct",
				       rest < total ? total - rest : 0);

	snprintf(buf, bytes, "%-16s", status_of(m));
	if (!ram || !total)
		return;
	snprintf(buf + strlen(buf), bytes - strlen(buf), " %3" PRIu64 "%%",
		 have * 100 / total);
	add_pass(m, buf, bytes);
	add_rates(m, buf, bytes);
	add_pause(m, buf, bytes);
	add_wait(m, buf, bytes);
}

static size_t columns_of(int fd)
{
	const char *said = getenv("COLUMNS");
	struct winsize size;
	long n = said ? strtol(said, NULL, 10) : 0;

	if (n > 0)
		return (size_t)n;
	return ioctl(fd, TIOCGWINSZ, &size) ? 0 : size.ws_col;
}

void ferry_progress_cut(char *line, int fd)
{
	size_t columns = columns_of(fd);

	/* The last column stays free: some terminals wrap behind it. */
	if (columns && strlen(line) >= columns)
		line[columns - 1] = '\0';
}

int ferry_progress_ended(const struct json_object *m)
{
	static const char *const ends[] = {
		"completed", "failed", "cancelled", "postcopy-paused", "none",
	};

	/* The link was lost, and is looked for. */
	if (ferry_json_bool(ferry_json_obj(m, "x-ferry-recovery"), "seeking",
			    false))
		return 0;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (!strcmp(status_of(m), ends[i]))
			return 1;
	return 0;
}

int ferry_progress_exit(const struct json_object *m)
{
	const char *where = ferry_json_str(m, "x-ferry-where");

	if (!strcmp(status_of(m), "completed"))
		return FERRY_EXIT_DONE;
	if (!where)
		return FERRY_EXIT_LOST;
	if (!strcmp(where, "source"))
		return FERRY_EXIT_FAILED;
	if (!strcmp(where, "split") || !strcmp(where, "undecided"))
		return FERRY_EXIT_SPLIT;
	return !strcmp(where, "target") ? FERRY_EXIT_DONE : FERRY_EXIT_LOST;
}
