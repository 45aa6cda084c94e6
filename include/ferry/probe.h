/* SPDX-License-Identifier: MIT */
/*
 * What this host can do, and what to change when it cannot: the facts behind
 * `ferry doctor`.
 */
#ifndef FERRY_PROBE_H
#define FERRY_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include <ferry/sized.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ferry_probe_verdict {
	FERRY_PROBE_OK,		/* there and usable */
	FERRY_PROBE_FALLBACK,	/* missing; something slower is used */
	FERRY_PROBE_MISSING,	/* missing; what needs it is refused */
};

struct ferry_probe_row {
	uint32_t size;
	enum ferry_probe_verdict verdict;
	const char *name;	/* stable key, such as "userfaultfd" */
	char found[160];	/* what was seen */
	char lost[160];		/* what is lost by it, or "" */
	char fix[240];		/* the exact command or setting, or "" */
};

#define FERRY_PROBE_ROW_INIT FERRY_SIZED(ferry_probe_row)

/*
 * Probe everything, in a fixed order; fills at most n rows and returns how
 * many there are.  Opens and closes descriptors, changes nothing.
 *
 * The size of the first row, set by FERRY_PROBE_ROW_INIT, is taken for that of
 * all; the library fills what both know of a row, and 0 is no row at all:
 *
 *	struct ferry_probe_row rows[32] = { FERRY_PROBE_ROW_INIT };
 */
size_t ferry_probe(struct ferry_probe_row *rows, size_t n);

#ifdef __cplusplus
}
#endif
#endif
