/* SPDX-License-Identifier: MIT */
/*
 * Runs in ring 3, which may write the tables like all else.  Entries only go
 * from absent to present, so nothing has to be flushed.
 */
#include "paging.h"

#include <stddef.h>

#define GIB		(1ull << 30)
#define LARGE		(2ull << 20)
#define ENTRIES		512
#define P_W_U		0x07u
#define P_W_U_LARGE	0x87u

extern volatile uint64_t pdpt[ENTRIES];		/* entry.S */

static const char *map_gib(struct pool *pool, uint64_t gib)
{
	uint64_t table = pool_take(pool, PAGE_BYTES, PAGING_LOW_END);
	volatile uint64_t *entry = (volatile uint64_t *)table;

	if (!table)
		return "no memory below 4 GiB for page tables";
	for (uint64_t i = 0; i < ENTRIES; i++)
		entry[i] = (gib * GIB + i * LARGE) | P_W_U_LARGE;
	pdpt[gib] = table | P_W_U;
	return NULL;
}

const char *paging_map_high(struct pool *pool)
{
	const char *wrong = NULL;

	for (unsigned i = 0; i < pool->ranges && !wrong; i++) {
		uint64_t gib = pool->range[i].start / GIB;
		uint64_t end = (pool->range[i].end + GIB - 1) / GIB;

		for (; gib < end && !wrong; gib++)
			if (gib >= PAGING_LOW_END / GIB && !pdpt[gib])
				wrong = map_gib(pool, gib);
	}
	return wrong;
}
