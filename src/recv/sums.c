/* SPDX-License-Identifier: MIT */
#include "recv/sums.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/sum.h"

#define CHANNEL_BITS	8
#define PASS_MAX	((1u << 21) - 1)
#define NOTED		(1u << 31)	/* of a way: a page has come */
#define COMPARED	(1u << 30)
#define UNEQUAL		(1u << 29)	/* and another, which was not it */

int ferry_sums_init(struct ferry_sums *s, const struct ferry_mem *mem,
		    struct ferry_err *e)
{
	bool ok;

	*s = (struct ferry_sums){
		.mem = mem,
		.note = calloc(mem->blocks, sizeof(*s->note)),
	};
	ok = s->note;
	for (uint32_t i = 0; ok && i < mem->blocks; i++) {
		s->note[i] = calloc(mem->block[i].pages, sizeof(**s->note));
		ok = s->note[i];
	}
	if (ok)
		return 0;
	ferry_sums_fini(s);
	return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "sums of %" PRIu64
			     " pages", mem->pages);
}

void ferry_sums_fini(struct ferry_sums *s)
{
	for (uint32_t i = 0; s->note && i < s->mem->blocks; i++)
		free((void *)s->note[i]);
	free((void *)s->note);
	*s = (struct ferry_sums){ 0 };
}

uint32_t ferry_sums_way(unsigned channel, uint32_t pass)
{
	return NOTED | (pass < PASS_MAX ? pass : PASS_MAX) << CHANNEL_BITS |
	       channel;
}

static uint64_t make_note(uint32_t sum, uint32_t way)
{
	return (uint64_t)sum << 32 | way;
}

static uint32_t sum_of(uint64_t note)
{
	return note & NOTED ? (uint32_t)(note >> 32) : FERRY_PAGE_SUM_ZERO;
}

static bool is_late(uint64_t note)
{
	return (note & NOTED) && !(note >> CHANNEL_BITS & PASS_MAX);
}

/* Late, the first copy stays: it was placed, and a second one is dropped.  What
 * was compared stays so. */
static uint64_t noted_anew(uint64_t old, uint32_t sum, uint32_t way)
{
	if (!is_late(old) || !is_late(way))
		return make_note(sum, way | (old & (COMPARED | UNEQUAL)));
	return sum_of(old) == sum ? old : old | UNEQUAL;
}

void ferry_sums_note(struct ferry_sums *s, const struct ferry_mem_block *b,
		     uint64_t first, uint64_t n, const uint8_t *data,
		     uint32_t way)
{
	for (uint64_t i = 0; i < n; i++) {
		_Atomic uint64_t *at = &s->note[b->index][first + i];
		uint64_t old = atomic_load_explicit(at, memory_order_relaxed);
		uint32_t sum = data ?
			ferry_page_sum(data + i * FERRY_PAGE_BYTES) :
			FERRY_PAGE_SUM_ZERO;

		while (!atomic_compare_exchange_weak_explicit(
			at, &old, noted_anew(old, sum, way),
			memory_order_relaxed, memory_order_relaxed))
			;
	}
}

static uint64_t note_of(const struct ferry_sums *s, uint32_t block,
			uint64_t page)
{
	return atomic_load_explicit(&s->note[block][page],
				    memory_order_relaxed);
}

uint32_t ferry_sums_placed(const struct ferry_sums *s, uint32_t block,
			   uint64_t page)
{
	uint64_t note = note_of(s, block, page);

	return note & UNEQUAL ? ~sum_of(note) : sum_of(note);
}

/* What is here now, or what was placed. */
static uint32_t ours(const struct ferry_sums *s,
		     const struct ferry_mem_block *b, uint64_t page,
		     const struct ferry_map *still)
{
	if (!still)
		return ferry_sums_placed(s, b->index, page);
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
	uint64_t note = note_of(s, b->index, page);
	uint32_t pass = note >> CHANNEL_BITS & PASS_MAX;
	char from[32], when[40];

	name_channel(from, sizeof(from), note & ((1u << CHANNEL_BITS) - 1));
	snprintf(when, sizeof(when), pass ? "in pass %" PRIu32 :
		 "after the switchover", pass);
	if (!(note & NOTED))
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "verify: block %s "
				     "page %" PRIu64 " never came, and is not "
				     "zero at the source", b->name, page);
	if (note & UNEQUAL)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "verify: block %s "
				     "page %" PRIu64 " has come twice, not the "
				     "same; the first came %s over %s",
				     b->name, page, when, from);
	return ferry_err_set(e, FERRY_E_MISMATCH, 0, "verify: block %s page %"
			     PRIu64 " has the sum %08" PRIx32 " here and %08"
			     PRIx32 " at the source; it came %s over %s%s",
			     b->name, page, mine, theirs, when, from,
			     sum_of(note) == theirs ?
			     " as it should, and was changed here" : "");
}

static int compare_page(struct ferry_sums *s, const struct ferry_mem_block *b,
			uint64_t page, uint32_t theirs,
			const struct ferry_map *still, struct ferry_err *e)
{
	uint32_t mine = ours(s, b, page, still);

	if (mine != theirs)
		return differs(s, b, page, theirs, mine, e);
	if (atomic_fetch_or(&s->note[b->index][page], COMPARED) & COMPARED)
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
			atomic_fetch_and_explicit(&s->note[i][page],
						  ~(uint64_t)COMPARED,
						  memory_order_relaxed);
}

int ferry_sums_end(struct ferry_sums *s, const struct ferry_map *still,
		   struct ferry_err *e)
{
	for (uint32_t i = 0; i < s->mem->blocks; i++) {
		const struct ferry_mem_block *b = &s->mem->block[i];

		for (uint64_t page = 0; page < b->pages; page++)
			if (!(note_of(s, i, page) & COMPARED) &&
			    compare_page(s, b, page, FERRY_PAGE_SUM_ZERO,
					 still, e))
				return -1;
	}
	return 0;
}
