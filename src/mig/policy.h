/* SPDX-License-Identifier: MIT */
/*
 * What to do after a precopy pass.  The user states goals, the policy picks:
 * a pure function of a struct, so that it is tested by a table.
 */
#ifndef FERRY_MIG_POLICY_H
#define FERRY_MIG_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct ferry_policy_in {
	/* measured */
	unsigned passes;		/* finished */
	uint64_t remaining_bytes;	/* owed now, guest running */
	uint64_t before_bytes;		/* the same after the pass before; 0
					 * when there was none */
	uint64_t rate;			/* bytes of memory moved per second */
	uint64_t dirty_rate;		/* bytes written per second */
	uint64_t elapsed_ns;
	unsigned over_limit;		/* passes in a row that ended with more
					 * owed than max_pause allows */
	unsigned throttle_percent;	/* now */

	const char *not_ready;		/* a bulk device that the target is not
					 * ready for, or NULL */
	bool	 shrinks;		/* what bulk devices have pending does,
					 * and is worth it */

	/* wanted */
	uint64_t max_pause_ns;
	uint64_t deadline_ns;		/* since start; 0: none */
	unsigned precopy_passes;	/* FERRY_PASSES_AUTO: by convergence */
	unsigned max_passes;
	bool	 may_postcopy;
	bool	 may_throttle;
	unsigned throttle_initial, throttle_increment, throttle_max;
};

enum ferry_policy_do {
	FERRY_DO_PASS,		/* one more */
	FERRY_DO_THROTTLE,	/* slow down to throttle_percent, one more */
	FERRY_DO_SWITCHOVER,	/* stop and copy the rest */
	FERRY_DO_POSTCOPY,
	FERRY_DO_HOLD,		/* neither yet: bulk devices need a moment */
	FERRY_DO_GIVE_UP,	/* *why says it */
};

struct ferry_policy_out {
	enum ferry_policy_do what;
	unsigned throttle_percent;
	uint64_t expected_pause_ns;
};

struct ferry_policy_out ferry_policy(const struct ferry_policy_in *in,
				     struct ferry_err *why);

/* How long the rest would take; UINT64_MAX when the rate is not known. */
uint64_t ferry_policy_pause_ns(uint64_t remaining_bytes, uint64_t rate);

#endif
