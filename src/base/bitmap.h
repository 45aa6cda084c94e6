/* SPDX-License-Identifier: MIT */
/*
 * A bitmap whose words are atomic: many threads set, many threads take.
 *
 * Order: sequentially consistent.  Some users set one bit and then look at
 *        another that a second thread sets before it looks at the first:
 *        at least one of the two must see both.
 * Bits past `bits` are always zero.
 * Life: init/fini in the caller's storage; no thread may use it in fini.
 */
#ifndef FERRY_BASE_BITMAP_H
#define FERRY_BASE_BITMAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct ferry_bitmap {
	uint64_t	  bits;
	uint64_t	  words;
	_Atomic uint64_t *word;
};

FERRY_CHECKED int ferry_bitmap_init(struct ferry_bitmap *b, uint64_t bits,
				    struct ferry_err *e);
void ferry_bitmap_fini(struct ferry_bitmap *b);

static inline bool ferry_bitmap_test(const struct ferry_bitmap *b, uint64_t i)
{
	return atomic_load_explicit(&b->word[i / 64], memory_order_seq_cst) >>
	       (i % 64) & 1;
}

/* Returns what the bit was before. */
static inline bool ferry_bitmap_set(struct ferry_bitmap *b, uint64_t i)
{
	uint64_t m = 1ull << (i % 64);

	return atomic_fetch_or_explicit(&b->word[i / 64], m,
					memory_order_seq_cst) & m;
}

/* Returns what the bit was before. */
static inline bool ferry_bitmap_clear(struct ferry_bitmap *b, uint64_t i)
{
	uint64_t m = 1ull << (i % 64);

	return atomic_fetch_and_explicit(&b->word[i / 64], ~m,
					 memory_order_seq_cst) & m;
}

/* Set or clear [first, first + n); returns how many bits changed. */
uint64_t ferry_bitmap_set_range(struct ferry_bitmap *b, uint64_t first,
				uint64_t n);
uint64_t ferry_bitmap_clear_range(struct ferry_bitmap *b, uint64_t first,
				  uint64_t n);

/* Index of the first set (clear) bit at or after `from`, or b->bits. */
uint64_t ferry_bitmap_next_set(const struct ferry_bitmap *b, uint64_t from);
uint64_t ferry_bitmap_next_clear(const struct ferry_bitmap *b, uint64_t from);

/* The same, looking no further than `end` (<= b->bits); `end` if none. */
uint64_t ferry_bitmap_next_set_before(const struct ferry_bitmap *b,
				      uint64_t from, uint64_t end);
uint64_t ferry_bitmap_next_clear_before(const struct ferry_bitmap *b,
					uint64_t from, uint64_t end);

uint64_t ferry_bitmap_count(const struct ferry_bitmap *b);

#endif
