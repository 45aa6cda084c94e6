/* SPDX-License-Identifier: MIT */
/*
 * How fast the background push of postcopy may go, so that a guest that waits
 * for a page waits no longer than the user wants: policy, a pure function of
 * what was measured, tested against a model of a link with a buffer.
 */
#ifndef FERRY_MIG_GOVERN_H
#define FERRY_MIG_GOVERN_H

#include <stdbool.h>
#include <stdint.h>

/* Slower than this it never gets: the push ends some day. */
#define FERRY_GOVERN_FLOOR	(UINT64_C(4) << 20)	/* bytes/s */
/* Where it begins, when nothing is known of the link. */
#define FERRY_GOVERN_FIRST	(UINT64_C(32) << 20)

/* What it has learned; zeroed to begin with. */
struct ferry_govern {
	uint64_t rate;		/* bytes/s that the push may take; 0: nothing
				 * was decided yet */
	uint64_t knee;		/* what was too fast last; 0: nothing was */
	unsigned calm;		/* reports since then */
	uint64_t worst_ns;	/* of the last report */
	unsigned rest;		/* reports that say nothing of this rate: what
				 * was in the buffers is still being waited
				 * for */
};

struct ferry_govern_in {
	uint64_t limit_ns;	/* wanted: 99 of 100 waits, at most */
	uint64_t waits;		/* that ended since the last report */
	uint64_t p99_ns;	/* of those */
	uint64_t oldest_ns;	/* that goes on; 0: none */
	uint64_t pushed;	/* bytes/s got through since then */
	uint64_t most;		/* that the user allows; 0: no limit */
};

/* After each report. */
struct ferry_govern ferry_govern(struct ferry_govern g,
				 const struct ferry_govern_in *in);

#endif
