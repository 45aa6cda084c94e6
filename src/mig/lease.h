/* SPDX-License-Identifier: MIT */
/*
 * The lease: the target runs the VM only as long as its source has let it, a
 * little ago; so a source that says nothing more knows when the VM stands
 * still.
 *
 *	target				source
 *	t: ASK_LEASE n	------------->	u: notes the time, then says
 *	runs until t + length <-------	RENEW n
 *
 * t is before u whatever the network does in between, and each is read on its
 * own host's clock: nothing is compared but how fast two clocks go.  The source
 * counts from u, and what it said may have got lost: it errs by waiting too
 * long only.  RUN answers LOADED in the same way.  docs/wire.md, 9.
 *
 * Time is CLOCK_BOOTTIME, which goes on while a host sleeps.  Nothing here
 * reads a clock, or waits.
 *
 * Threads: given: length before there are any; last, asked and free are atomic
 *          words.  Held: one at a time.
 */
#ifndef FERRY_MIG_LEASE_H
#define FERRY_MIG_LEASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* For a target that takes a moment to stop, and for clocks: theirs may differ
 * by one part in a hundred, a hundred times what is usual. */
#define FERRY_LEASE_MARGIN_NS	UINT64_C(2000000000)

/* ---- the source ----------------------------------------------------------- */

struct ferry_lease_given {
	uint64_t	 length_ns;	/* 0: there is no lease */
	_Atomic uint64_t last_ns;	/* it was given, or may have been */
	_Atomic uint32_t asked;		/* the last ASK_LEASE; 0: none */
	uint32_t	 answered;	/* heart */
	_Atomic bool	 free;		/* the target may be rid of it */
	_Atomic bool	 over;		/* it is not given any more */
};

/* Before it is said, whatever it is. */
void ferry_lease_give(struct ferry_lease_given *g, uint64_t now_ns);

/* How long yet until the VM stands still at the target, for certain. */
uint64_t ferry_lease_left_ns(const struct ferry_lease_given *g,
			     uint64_t now_ns);

/* ---- the target ----------------------------------------------------------- */

#define FERRY_LEASE_ASKS	32u	/* remembered; covers two lengths */

struct ferry_lease_held {
	uint64_t	 length_ns;	/* 0: there is no lease */
	uint64_t	 until_ns;	/* 0: it was never given */
	uint32_t	 n;		/* of the last ASK_LEASE */
	uint64_t	 asked_ns[FERRY_LEASE_ASKS];	/* of n % that many */
	uint64_t	 loaded_ns;	/* before LOADED was said; 0: not on
					 * this link */
};

/* What to say now, ASK_LEASE's number; 0: it is not time yet. */
uint32_t ferry_lease_ask(struct ferry_lease_held *h, uint64_t now_ns);

/* RENEW n.  True when it runs longer now. */
bool ferry_lease_renew(struct ferry_lease_held *h, uint32_t n);

/* RUN.  The same. */
bool ferry_lease_run(struct ferry_lease_held *h);

#endif
