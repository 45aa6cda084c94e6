/* SPDX-License-Identifier: MIT */
#include "recv/sums.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/sum.h"

#define CHANNEL_BITS	8
#define PASS_MAX	((1u << 22) - 1)
#define NOTED		(1u << 31)	/* of a way: a page has come */
#define COMPARED	(1u << 30)

int ferry_sums_init(struct ferry_sums *s, const struct ferry_mem *mem,
		    struct ferry_err *e)
{
	bool ok;

	*s = (struct ferry_sums){
		.mem = mem,
		.sum = calloc(mem->blocks, sizeof(*s->sum)),
		.way = calloc(mem->blocks, sizeof(*s->way)),
	};
	ok = s->sum && s->way;
	for (uint32_t i = 0; ok && i < mem->blocks; i++) {
		uint64_t n = mem->block[i].pages;

		s->sum[i] = calloc(n, sizeof(**s->sum));
		s->way[i] = calloc(n, sizeof(**s->way));
		ok = s->sum[i] && s->way[i];
	}
	if (ok)
		return 0;
	ferry_sums_fini(s);
	return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "sums of %" PRIu64
			     " pages", mem->pages);
}

void ferry_sums_fini(struct ferry_sums *s)
{
	for (uint32_t i = 0; s->mem && i < s->mem->blocks; i++) {
		if (s->sum)
			free((void *)s->sum[i]);
		if (s->way)
			free((void *)s->way[i]);
	}
	free((void *)s->sum);
	free((void *)s->way);
	*s = (struct ferry_sums){ 0 };
}

uint32_t ferry_sums_way(unsigned channel, uint32_t pass)
{
	return NOTED | (pass < PASS_MAX ? pass : PASS_MAX) << CHANNEL_BITS |
	       channel;
}

void ferry_sums_note(struct ferry_sums *s, const struct ferry_mem_block *b,
		     uint64_t first, uint64_t n, const uint8_t *data,
		     uint32_t way)
{
	for (uint64_t i = 0; i < n; i++) {
		uint32_t sum = data ?
			ferry_page_sum(data + i * FERRY_PAGE_BYTES) :
			FERRY_PAGE_SUM_ZERO;

		atomic_store_explicit(&s->sum[b->index][first + i], sum,
				      memory_order_relaxed);
		atomic_store_explicit(&s->way[b->index][first + i], way,
				      memory_order_relaxed);
	}
}

static uint32_t noted(const struct ferry_sums *s, uint32_t block,
		      uint64_t page)
{
	uint32_t way = atomic_load_explicit(&s->way[block][page],
					    memory_order_relaxed);

	return way & NOTED ? atomic_load_explicit(&s->sum[block][page],
						  memory_order_relaxed) :
			     FERRY_PAGE_SUM_ZERO;
}

/* What is here now, or what was placed. */
static uint32_t ours(const struct ferry_sums *s,
		     const struct ferry_mem_block *b, uint64_t page,
		     const struct ferry_map *still)
{
	if (!still)
		return noted(s, b->index, page);
	return ferry_map_is_here(still, b->index, page) ?
	       ferry_page_sum(b->host + page * FERRY_PAGE_BYTES) :
	       FERRY_PAGE_SUM_ZERO;
}

static void name_channel(char *text, size_t bytes, unsigned channel)
{
	if (channel >= FERRY_SUMS_URGENT)
		snprintf(text, bytes, "channel urgent %u",
			 channel - FERRY_SUMS_URGENT);
	else if (channel >= FERRY_SUMS_DATA)
		snprintf(text, bytes, "channel data %u",
			 channel - FERRY_SUMS_DATA);
	else
		snprintf(text, bytes, "channel main");
}

static int differs(const struct ferry_sums *s,
		   const struct ferry_mem_block *b, uint64_t page,
		   uint32_t theirs, uint32_t mine, struct ferry_err *e)
{
	uint32_t way = atomic_load(&s->way[b->index][page]);
	uint32_t pass = way >> CHANNEL_BITS & PASS_MAX;
	char from[32], when[40];

	name_channel(from, sizeof(from), way & ((1u << CHANNEL_BITS) - 1));
	snprintf(when, sizeof(when), pass ? "in pass %" PRIu32 :
		 "after the switchover", pass);
	if (!(way & NOTED))
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "verify: block %s "
				     "page %" PRIu64 " never came, and is not "
				     "zero at the source", b->name, page);
	return ferry_err_set(e, FERRY_E_MISMATCH, 0, "verify: block %s page %"
			     PRIu64 " has the sum %08" PRIx32 " here and %08"
			     PRIx32 " at the source; it came %s over %s%s",
			     b->name, page, mine, theirs, when, from,
			     noted(s, b->index, page) == theirs ?
			     " as it should, and was changed here" : "");
}

static int compare_page(struct ferry_sums *s, const struct ferry_mem_block *b,
			uint64_t page, uint32_t theirs,
			const struct ferry_map *still, struct ferry_err *e)
{
	uint32_t mine = ours(s, b, page, still);

	if (mine != theirs)
		return differs(s, b, page, theirs, mine, e);
	if (atomic_fetch_or(&s->way[b->index][page], COMPARED) & COMPARED)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "VERIFY: block %s "
				     "page %" PRIu64 " came twice", b->name,
				     page);
	s->compared++;
	return 0;
}

int ferry_sums_compare(struct ferry_sums *s, const struct ferry_mem_block *b,
		       struct ferry_verify *theirs,
		       const struct ferry_map *still, struct ferry_err *e)
{
	uint64_t page = theirs->first;
	uint32_t sum;

	if (ferry_verify_check_in(theirs, b->pages, e))
		return -1;
	while (ferry_verify_next(theirs, &sum))
		if (compare_page(s, b, page++, sum, still, e))
			return -1;
	return 0;
}

void ferry_sums_restart(struct ferry_sums *s)
{
	s->compared = 0;
	for (uint32_t i = 0; i < s->mem->blocks; i++)
		for (uint64_t page = 0; page < s->mem->block[i].pages; page++)
			atomic_fetch_and_explicit(&s->way[i][page], ~COMPARED,
						  memory_order_relaxed);
}

int ferry_sums_end(struct ferry_sums *s, const struct ferry_map *still,
		   struct ferry_err *e)
{
	for (uint32_t i = 0; i < s->mem->blocks; i++) {
		const struct ferry_mem_block *b = &s->mem->block[i];

		for (uint64_t page = 0; page < b->pages; page++)
			if (!(atomic_load(&s->way[i][page]) & COMPARED) &&
			    compare_page(s, b, page, FERRY_PAGE_SUM_ZERO,
					 still, e))
				return -1;
	}
	return 0;
}
