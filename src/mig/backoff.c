/* SPDX-License-Identifier: MIT */
/*
 * Growing distances, moved by chance.
 */
#include "mig/backoff.h"

#include "base/clock.h"

#define FIRST_NS	(20 * FERRY_NS_PER_MS)
#define LAST_NS		(3 * FERRY_NS_PER_S)
#define LASTED_NS	FERRY_NS_PER_S	/* it was a good one */

void ferry_backoff_lost(struct ferry_backoff *b, uint64_t now_ns)
{
	if (b->joined_ns && now_ns - b->joined_ns > LASTED_NS)
		b->attempt = 0;
	b->joined_ns = 0;
	if (!b->attempt)
		b->since_ns = now_ns;
}

void ferry_backoff_joined(struct ferry_backoff *b, uint64_t now_ns,
			  uint64_t missing)
{
	if (missing < b->missing)
		b->attempt = 0;
	b->missing = missing;
	b->joined_ns = now_ns;
}

void ferry_backoff_anew(struct ferry_backoff *b, uint64_t now_ns)
{
	b->attempt = 0;
	b->since_ns = now_ns;
}

/* One step of splitmix64: any two seeds are far apart. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

uint64_t ferry_backoff_ns(unsigned attempt, unsigned paths, uint64_t seed)
{
	unsigned round = attempt ? (attempt - 1) / (paths ? paths : 1) : 0;
	uint64_t ns = round < 8 ? FIRST_NS << round : LAST_NS;

	if (!attempt)
		return 0;
	if (ns > LAST_NS)
		ns = LAST_NS;
	return ns - ns / 4 + mix(seed + attempt) % (ns / 2 + 1);
}
