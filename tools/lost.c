/* SPDX-License-Identifier: MIT */
/* See lost.h. */
#include "lost.h"

#include <string.h>

/* What is waited for so long is not just on its way. */
#define NOTABLE_US	500000u

static bool is(const char *a, const char *b)
{
	return a && !strcmp(a, b);
}

/* The target's lease: without its source it stands still. */
static bool is_out(const struct json_object *m)
{
	return ferry_json_bool(ferry_json_obj(m, "x-ferry-lease"), "out",
			       false);
}

/* What a rollback would rest on, or until when the target's VM may run. */
static void print_lease(FILE *to, const struct json_object *m)
{
	const struct json_object *l = ferry_json_obj(m, "x-ferry-lease");
	const char *may = ferry_json_str(m, "x-ferry-rollback");
	double left = (double)ferry_json_u64(l, "left-ms", 0) / 1000;

	if (may && !is(may, "no"))
		fprintf(to, "rollback   %s%s\n", may, is(may, "unproven") ?
			": there is no lease, and nothing proves that the "
			"target is dead" : "");
	if (is_out(m))
		fputs("lease      has run out: the VM stands still until the "
		      "source is heard of\n", to);
	else if (may && left > 0)
		fprintf(to, "lease      the target may run the VM for %.1f "
			"s\n", left);
}

/* What became of a link that was lost, and when. */
static void print_link(FILE *to, const struct json_object *m)
{
	const struct json_object *r = ferry_json_obj(m, "x-ferry-recovery");
	double apart = (double)ferry_json_u64(r, "apart-us", 0) / 1e6;
	int count = (int)ferry_json_u64(r, "count", 0);

	if (!r)
		return;
	if (is(ferry_json_str(m, "status"), "completed"))
		fprintf(to, "link       was lost, and found again %d times; "
			"%.1f s without\n", count, apart);
	else
		fprintf(to, "link       lost %.1f s ago, found again %d times "
			"in %d attempts, %.1f s without%s\n",
			(double)ferry_json_u64(r, "lost-ms-ago", 0) / 1000,
			count, (int)ferry_json_u64(r, "attempts", 0), apart,
			ferry_json_bool(r, "seeking", false) ?
			"; looking for it" : "");
}

/* That this half was dumped, or was to be. */
static void print_dumped(FILE *to, const struct json_object *m)
{
	const struct json_object *d = ferry_json_obj(m, "x-ferry-dumped");
	const char *file = ferry_json_str(d, "file");
	double ago = (double)ferry_json_u64(d, "ms-ago", 0) / 1000;

	if (!file)
		return;
	if (ferry_json_bool(d, "written", false))
		fprintf(to, "dumped     to %s, %.1f s ago\n", file, ago);
	else
		fprintf(to, "dumped     not: %s could not be written %.1f s "
			"ago\n", file, ago);
}

/* Who waits now, and who waited how long. */
static void print_guest(FILE *to, const struct json_object *m)
{
	const struct json_object *f = ferry_json_obj(m, "x-ferry-faults");
	uint64_t now_us = ferry_json_u64(f, "waiting-us", 0);
	uint64_t worst_us = ferry_json_u64(f, "max-us", 0);
	int pages = (int)ferry_json_u64(f, "waiting", 0);

	if (now_us >= NOTABLE_US)
		fprintf(to, "guest      waits for %d page%s, since %.1f s%s\n",
			pages, pages == 1 ? "" : "s", (double)now_us / 1e6,
			is_out(m) ? "" : "; it goes on as they come");
	else if (worst_us && ferry_json_obj(m, "x-ferry-recovery"))
		fprintf(to, "guest      waited %.3f s for a page at most\n",
			(double)worst_us / 1e6);
}

/* ---- what can be done ------------------------------------------------------ */

#define FREED		"what was sent was freed here (release-ram): it can " \
			"neither go on nor be rolled back; `ferry rescue` " \
			"of both sides has what there is"
#define SOURCE_WAYS	"`ferry recover`, at another address if need be; " \
			"`ferry rescue` if the link never comes back"
#define BACK		"; if the target is dead: `ferry rollback`"
#define BACK_HERE	"its source comes back to it, or `ferry recover` " \
			"with another address; `ferry rescue` if the link " \
			"never comes back.  "
#define TARGET_WAYS	BACK_HERE "If the source is dead, what is " \
			"missing is lost with it: the VM runs until it " \
			"touches that, and only a source is rolled back"
#define TARGET_STANDS	BACK_HERE "If the source is dead, the VM is lost " \
			"with it: under a lease it does not run alone"

#define DUMPED		"`ferry rescue dump` of the other side, too, then " \
			"`ferry rescue merge` of both files; neither side " \
			"comes back to this migration"
#define NOT_DUMPED	"`ferry rescue dump` again, to where there is room; " \
			"neither side comes back to this migration"
#define WRONG_SOURCE	"`ferry rescue`, which takes such a page from " \
			"here; or end the target and `ferry rollback`; or " \
			"leave it as it is: `migrate-set-parameters` with " \
			"x-ferry-verify off, then `ferry recover`"
#define WRONG_TARGET	"are at the source: see its `ferry status`"

static const char *wrong_ways(bool target)
{
	return target ? WRONG_TARGET : WRONG_SOURCE;
}

const char *ferry_lost_ways(const struct json_object *m)
{
	const struct json_object *r = ferry_json_obj(m, "x-ferry-recovery");
	const char *role = ferry_json_str(m, "x-ferry-role");
	const char *may = ferry_json_str(m, "x-ferry-rollback");

	if (!r || !is(ferry_json_str(m, "status"), "postcopy-paused"))
		return NULL;
	if (ferry_json_obj(m, "x-ferry-dumped"))
		return ferry_json_bool(ferry_json_obj(m, "x-ferry-dumped"),
				       "written", false) ? DUMPED : NOT_DUMPED;
	if (is(ferry_json_str(m, "x-ferry-verified"), "wrong"))
		return wrong_ways(is(role, "target"));
	if (is(role, "target"))
		return is_out(m) ? TARGET_STANDS : TARGET_WAYS;
	if (ferry_json_bool(m, "x-ferry-freed", false))
		return FREED;
	return may && !is(may, "no") ? SOURCE_WAYS BACK : SOURCE_WAYS;
}

/* Whether it came as it left, of a migration that was to be verified. */
static void print_verified(FILE *to, const struct json_object *m)
{
	const char *is_it = ferry_json_str(m, "x-ferry-verified");

	if (is_it)
		fprintf(to, "verify     %s\n", is(is_it, "right") ?
			"each page is at the target as it was at the source" :
			"a page is not at the target what it was at the "
			"source");
}

void ferry_lost_print(FILE *to, const struct json_object *m)
{
	const char *ways = ferry_lost_ways(m);

	print_verified(to, m);
	print_lease(to, m);
	print_link(to, m);
	print_dumped(to, m);
	print_guest(to, m);
	if (ways)
		fprintf(to, "ways out   %s\n", ways);
}
