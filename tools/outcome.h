/* SPDX-License-Identifier: MIT */
/*
 * Where the VM is when nobody does anything any more, from what both sides say.
 */
#ifndef FERRY_TOOLS_OUTCOME_H
#define FERRY_TOOLS_OUTCOME_H

#include <stdbool.h>

/* How one side was seen last. */
struct ferry_end {
	bool	known;		/* it has a QMP socket that we were given */
	bool	gone;		/* and which is closed */
	bool	running;	/* its vCPUs run */
	bool	ran;		/* they were seen to, in this migration */
	bool	done;		/* it was heard to have completed */
	bool	stopped;	/* by us, for the other side ran, too */
	const char *status;	/* of query-migrate, or NULL */
};

struct ferry_outcome {
	int	    code;	/* enum ferry_exit */
	const char *where;	/* source, undecided, split, target or lost */
	const char *advice;	/* what to do, or what it means; or "" */
};

/* was_running: the VM ran before.  Pure. */
struct ferry_outcome ferry_outcome(const struct ferry_end *source,
				   const struct ferry_end *target,
				   bool was_running);

#endif
