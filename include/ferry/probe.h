/* SPDX-License-Identifier: MIT */
/*
 * What this host can do, and what to change when it cannot: the facts behind
 * `ferry doctor`.
 */
#ifndef FERRY_PROBE_H
#define FERRY_PROBE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ferry_probe_verdict {
	FERRY_PROBE_OK,		/* there and usable */
	FERRY_PROBE_FALLBACK,	/* missing; something slower is used */
	FERRY_PROBE_MISSING,	/* missing; what needs it is refused */
};

struct ferry_probe_row {
	const char *name;	/* stable key, such as "userfaultfd" */
	enum ferry_probe_verdict verdict;
	char found[160];	/* what was seen */
	char lost[160];		/* what is lost by it, or "" */
	char fix[240];		/* the exact command or setting, or "" */
};

/*
 * Probe everything, in a fixed order; fills at most n rows and returns how
 * many there are.  Opens and closes descriptors, changes nothing.
 */
size_t ferry_probe(struct ferry_probe_row *rows, size_t n);

#ifdef __cplusplus
}
#endif
#endif
