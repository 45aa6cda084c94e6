/* SPDX-License-Identifier: MIT */
#include "pool.h"

static void insert(struct pool *pool, struct range new)
{
	unsigned i = pool->ranges++;

	for (; i > 0 && pool->range[i - 1].start > new.start; i--)
		pool->range[i] = pool->range[i - 1];
	pool->range[i] = new;
}

void pool_init(struct pool *pool, const struct bootinfo *info, uint64_t floor,
	       uint64_t ceiling)
{
	pool->ranges = 0;
	for (unsigned i = 0; i < info->ranges; i++) {
		struct range r = info->ram[i];

		if (r.start < floor)
			r.start = floor;
		if (r.end > ceiling)
			r.end = ceiling;
		if (r.start < r.end)
			insert(pool, r);
	}
}

uint64_t pool_take(struct pool *pool, uint64_t bytes, uint64_t ceiling)
{
	bytes = (bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
	for (unsigned i = 0; i < pool->ranges; i++) {
		struct range *r = &pool->range[i];
		uint64_t start = r->start;

		if (bytes > r->end - start || start >= ceiling ||
		    bytes > ceiling - start)
			continue;
		r->start += bytes;
		return start;
	}
	return 0;
}

uint64_t pool_pages(const struct pool *pool)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < pool->ranges; i++)
		bytes += pool->range[i].end - pool->range[i].start;
	return bytes / PAGE_BYTES;
}
