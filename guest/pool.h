/* SPDX-License-Identifier: MIT */
/*
 * The memory that is ours to use: tables are taken from it first, the rest is
 * numbered pages.  Pure.
 */
#ifndef GUEST_POOL_H
#define GUEST_POOL_H

#include <stdint.h>

#include "block.h"
#include "bootinfo.h"

struct pool {
	unsigned	ranges;
	struct range	range[RANGES_MAX];	/* ascending, no overlaps */
};

/* RAM from `floor` on, but for nothing above `ceiling`. */
void pool_init(struct pool *pool, const struct bootinfo *info, uint64_t floor,
	       uint64_t ceiling);

/* Whole pages, not cleared; at the start of the first range that has room and
 * lies below `ceiling`.  0: no range has. */
uint64_t pool_take(struct pool *pool, uint64_t bytes, uint64_t ceiling);

uint64_t pool_pages(const struct pool *pool);

/* Address of page `page` < pool_pages().  Two or three ranges in practice. */
static inline uint64_t pool_address(const struct pool *pool, uint64_t page)
{
	const struct range *r = pool->range;
	uint64_t offset = page * PAGE_BYTES;

	while (offset >= r->end - r->start)
		offset -= r->end - r->start, r++;
	return r->start + offset;
}

#endif
