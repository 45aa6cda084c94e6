/* SPDX-License-Identifier: MIT */
/*
 * Dealing: a weighted round robin.  Whoever is furthest behind what it deserves
 * gets the next slot, so that each channel's slots are spread over the row.
 */
#include "send/deal.h"

#include "base/clock.h"
#include "base/limits.h"

#define KNOWN_PAGES	128u			/* a packet, or */
#define KNOWN_NS	(20 * FERRY_NS_PER_MS)	/* as long for less */
#define LEAST_PART	64u			/* of what all deserve */

static bool is_known(const struct ferry_speed *s)
{
	return s->ns && s->pages &&
	       (s->pages >= KNOWN_PAGES || s->ns >= KNOWN_NS);
}

/* Pages per second, or 0: unknown. */
static double speed_of(const struct ferry_speed *s)
{
	return is_known(s) ? (double)s->pages * 1e9 / (double)s->ns : 0;
}

/* Weights from speeds; returns their sum. */
static double weigh(double *weight, const struct ferry_speed *speed,
		    unsigned n)
{
	double all = 0, sum = 0;
	unsigned known = 0;

	for (unsigned i = 0; i < n; i++) {
		weight[i] = speed_of(&speed[i]);
		all += weight[i];
		known += weight[i] > 0;
	}
	for (unsigned i = 0; i < n; i++) {
		if (weight[i] <= 0)
			weight[i] = known ? all / known : 1;
		if (weight[i] < all / LEAST_PART)
			weight[i] = all / LEAST_PART;
		sum += weight[i];
	}
	return sum;
}

void ferry_deal(struct ferry_deal *d, const struct ferry_speed *speed,
		unsigned n)
{
	double weight[FERRY_DATA_CHANNELS_MAX];
	double behind[FERRY_DATA_CHANNELS_MAX] = { 0 };
	double sum = weigh(weight, speed, n);

	d->shares = n;
	for (unsigned s = 0; s < FERRY_DEAL_SLOTS; s++) {
		unsigned most = 0;

		for (unsigned i = 0; i < n; i++) {
			behind[i] += weight[i];
			if (behind[i] > behind[most])
				most = i;
		}
		behind[most] -= sum;
		d->slot[s] = (uint8_t)most;
	}
}
