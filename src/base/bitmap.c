/* SPDX-License-Identifier: MIT */
/*
 * Ranges and searches over atomic words.  Any thread; a search that races
 * with writers sees each word at one moment, different words at different
 * ones.
 */
#include "base/bitmap.h"

#include <stdlib.h>

int ferry_bitmap_init(struct ferry_bitmap *b, uint64_t bits,
		      struct ferry_err *e)
{
	b->bits = bits;
	b->words = (bits + 63) / 64;
	b->word = calloc(b->words ? b->words : 1, sizeof(*b->word));
	if (!b->word)
		return ferry_err_set(e, FERRY_E_NOMEM, errno,
				     "bitmap of %llu bits",
				     (unsigned long long)bits);
	return 0;
}

void ferry_bitmap_fini(struct ferry_bitmap *b)
{
	free((void *)b->word);
	*b = (struct ferry_bitmap){ 0 };
}

/* The bits of word w that lie in [first, end). */
static uint64_t mask_in_word(uint64_t w, uint64_t first, uint64_t end)
{
	uint64_t m = ~0ull;

	if (first > w * 64)
		m &= ~0ull << (first - w * 64);
	if (end < w * 64 + 64)
		m &= ~0ull >> (w * 64 + 64 - end);
	return m;
}

uint64_t ferry_bitmap_set_range(struct ferry_bitmap *b, uint64_t first,
				uint64_t n)
{
	uint64_t end = first + n, changed = 0;

	for (uint64_t w = first / 64; n && w * 64 < end; w++) {
		uint64_t m = mask_in_word(w, first, end);
		uint64_t old = atomic_fetch_or_explicit(&b->word[w], m,
							memory_order_seq_cst);

		changed += (uint64_t)__builtin_popcountll(m & ~old);
	}
	return changed;
}

uint64_t ferry_bitmap_clear_range(struct ferry_bitmap *b, uint64_t first,
				  uint64_t n)
{
	uint64_t end = first + n, changed = 0;

	for (uint64_t w = first / 64; n && w * 64 < end; w++) {
		uint64_t m = mask_in_word(w, first, end);
		uint64_t old = atomic_fetch_and_explicit(&b->word[w], ~m,
							 memory_order_seq_cst);

		changed += (uint64_t)__builtin_popcountll(m & old);
	}
	return changed;
}

/* First bit in [from, end) whose value, xored with flip, is 1; else end. */
static uint64_t next_bit(const struct ferry_bitmap *b, uint64_t from,
			 uint64_t end, uint64_t flip)
{
	if (from >= end)
		return end;

	for (uint64_t w = from / 64; w * 64 < end; w++) {
		uint64_t v = atomic_load_explicit(&b->word[w],
						  memory_order_seq_cst) ^ flip;

		v &= mask_in_word(w, from, end);
		if (v)
			return w * 64 + (uint64_t)__builtin_ctzll(v);
	}
	return end;
}

uint64_t ferry_bitmap_next_set(const struct ferry_bitmap *b, uint64_t from)
{
	return next_bit(b, from, b->bits, 0);
}

uint64_t ferry_bitmap_next_clear(const struct ferry_bitmap *b, uint64_t from)
{
	return next_bit(b, from, b->bits, ~0ull);
}

uint64_t ferry_bitmap_next_set_before(const struct ferry_bitmap *b,
				      uint64_t from, uint64_t end)
{
	return next_bit(b, from, end, 0);
}

uint64_t ferry_bitmap_next_clear_before(const struct ferry_bitmap *b,
					uint64_t from, uint64_t end)
{
	return next_bit(b, from, end, ~0ull);
}

uint64_t ferry_bitmap_count(const struct ferry_bitmap *b)
{
	uint64_t n = 0;

	for (uint64_t w = 0; w < b->words; w++)
		n += (uint64_t)__builtin_popcountll(
			atomic_load_explicit(&b->word[w],
					     memory_order_seq_cst));
	return n;
}
