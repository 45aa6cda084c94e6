/* SPDX-License-Identifier: MIT */
/*
 * The pages that the source still owes the target: one bit per target page.
 *
 * Threads: anyone may mark; stripe s (64 pages, one word; or one host page
 *          where larger) is drained by the channel it belongs to, in
 *          postcopy also by whoever answers a request.
 * Order:   drain, *then* read the page.  A guest write that races with the
 *          copy sets the bit again: sent once too often, never too seldom.
 * Life:    made when a source starts, freed after its threads have joined.
 */
#ifndef FERRY_MEM_OWED_H
#define FERRY_MEM_OWED_H

#include "base/bitmap.h"
#include "mem/mem.h"

struct ferry_owed {
	const struct ferry_mem	*mem;
	struct ferry_bitmap	*map;		/* one per block */
	_Atomic uint64_t	 pages;		/* set bits, all blocks; exact
						 * when nobody marks or drains */
};

FERRY_CHECKED int ferry_owed_init(struct ferry_owed *o,
				  const struct ferry_mem *mem,
				  struct ferry_err *e);
void ferry_owed_fini(struct ferry_owed *o);

/* Returns how many were not owed before. */
uint64_t ferry_owed_mark(struct ferry_owed *o, uint32_t block, uint64_t first,
			 uint64_t pages);

/* Or 64 bits into word w of a block; returns how many were new.  Bits past
 * the end of the block must be zero. */
uint64_t ferry_owed_mark_word(struct ferry_owed *o, uint32_t block, uint64_t w,
			      uint64_t bits);

/* Take the set bits of word w that are in `mask`, and leave zeroes. */
uint64_t ferry_owed_drain_word(struct ferry_owed *o, uint32_t block,
			       uint64_t w, uint64_t mask);

/* Widen so that a host page is wholly owed or not at all.  VM stopped. */
void ferry_owed_widen(struct ferry_owed *o);

/*
 * After a lost link: owed is all that has not been received, whatever was
 * thought before; host pages as a whole.  received: one bitmap per block.  VM
 * stopped, and nobody marks or drains.
 */
void ferry_owed_rebuild(struct ferry_owed *o,
			const struct ferry_bitmap *received);

static inline uint64_t ferry_owed_pages(struct ferry_owed *o)
{
	return atomic_load_explicit(&o->pages, memory_order_relaxed);
}

#endif
