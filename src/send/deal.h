/* SPDX-License-Identifier: MIT */
/*
 * Which channel a stripe travels on before the switchover: a row of slots, as
 * many for each channel as its speed deserves, evenly mixed.  Pure.
 */
#ifndef FERRY_SEND_DEAL_H
#define FERRY_SEND_DEAL_H

#include <stdbool.h>
#include <stdint.h>

#define FERRY_DEAL_SLOTS	256u

struct ferry_deal {
	unsigned	 shares;	/* 0: nothing was dealt; else each slot
					 * is below it */
	uint8_t		 slot[FERRY_DEAL_SLOTS];
};

/* What a sender has done in a pass. */
struct ferry_speed {
	uint64_t	 pages, ns;
};

/* A channel that was hardly at work counts as the mean of the others; the
 * slowest has a few slots, or nobody would learn that it got faster.  n is
 * 1 to 64. */
void ferry_deal(struct ferry_deal *d, const struct ferry_speed *speed,
		unsigned n);

/* Whose stripe s is, of so many channels. */
static inline unsigned ferry_deal_share(const struct ferry_deal *d,
					uint64_t stripe, unsigned shares)
{
	return (unsigned)(d->shares == shares ?
			  d->slot[stripe % FERRY_DEAL_SLOTS] :
			  stripe % shares);
}

#endif
