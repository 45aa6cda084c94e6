/* SPDX-License-Identifier: MIT */
/*
 * How long to wait before the next attempt to reach a target.  Pure.
 *
 * Distances grow while attempts fail, and while links come back that are good
 * for nothing.  They begin anew behind a link that lasted, or over which
 * something came: who moves on in small steps shall move on.
 */
#ifndef FERRY_MIG_BACKOFF_H
#define FERRY_MIG_BACKOFF_H

#include <stdint.h>

struct ferry_backoff {
	unsigned	 attempt;	/* since there was a good link */
	uint64_t	 since_ns;	/* the first of them */
	uint64_t	 joined_ns;	/* the last link was a link, or 0 */
	uint64_t	 missing;	/* pages, when it was; or 0 */
};

/* A link is lost, or was not to be had. */
void ferry_backoff_lost(struct ferry_backoff *b, uint64_t now_ns);
/* There is one again, and so much is missing behind all that were before. */
void ferry_backoff_joined(struct ferry_backoff *b, uint64_t now_ns,
			  uint64_t missing);
/* Somebody says so. */
void ferry_backoff_anew(struct ferry_backoff *b, uint64_t now_ns);

/*
 * attempt: how many have failed; 0: the first is made at once.  Of `paths`
 * addresses each is tried before the distance doubles; it ends at 3 s.  seed
 * moves it by up to a quarter to either side, so that many sources that lost
 * one link do not come back at one time.
 */
uint64_t ferry_backoff_ns(unsigned attempt, unsigned paths, uint64_t seed);

#endif
