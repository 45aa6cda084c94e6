/* SPDX-License-Identifier: MIT */
/*
 * Both sides are set to what the user wants.
 */
#ifndef FERRY_TOOLS_SETTLE_H
#define FERRY_TOOLS_SETTLE_H

#include "peer.h"
#include "view.h"
#include "wish.h"

/* How it is to go; a QEMU leaves that to who drives it. */
struct ferry_plan {
	bool	may_postcopy;
	bool	must_postcopy;		/* the user said so: no way around */
	bool	throttle;
	bool	one_way;
	unsigned passes;		/* then postcopy; FERRY_PLAN_AUTO */
	unsigned max_passes;
	unsigned max_throttle;
	uint64_t by_ms;
};

#define FERRY_PLAN_AUTO	1000u

void ferry_plan_of(struct ferry_plan *plan, const struct ferry_wish *w);

/*
 * Set two QEMUs alike, and see that they are.  What a target listens with
 * already is not changed any more: the source follows.  Where the target
 * cannot do postcopy and nobody insisted, plan becomes precopy; why says so.
 */
FERRY_CHECKED int ferry_settle_pair(struct ferry_peer *source,
				    struct ferry_view *s,
				    struct ferry_peer *target,
				    struct ferry_view *t,
				    const struct ferry_wish *w,
				    struct ferry_plan *plan,
				    struct ferry_err *why,
				    struct ferry_err *e);

/* Set a QEMU towards an address; what was not said stays as it is. */
FERRY_CHECKED int ferry_settle_source(struct ferry_peer *source,
				      struct ferry_view *s,
				      const struct ferry_wish *w,
				      struct ferry_plan *plan,
				      struct ferry_err *e);

#endif
