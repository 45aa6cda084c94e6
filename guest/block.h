/* SPDX-License-Identifier: MIT */
/*
 * A block is a piece of memory that can tell whether it is what it should be:
 * a page of 4 KiB or a record of 256 bytes.  Both begin with a stamp; what
 * follows is made from the stamp; the sum covers every word but itself.
 *
 * Pure: knows no machine, so that it can be tested on any.
 */
#ifndef GUEST_BLOCK_H
#define GUEST_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES	4096u
#define PAGE_WORDS	(PAGE_BYTES / 8)
#define RECORD_BYTES	256u
#define RECORD_WORDS	(RECORD_BYTES / 8)

enum block_word {
	BLOCK_ID,		/* page number or key */
	BLOCK_COUNTER,		/* how often it was written */
	BLOCK_SUM,
	BLOCK_SEED,		/* of the words that follow */
	BLOCK_BODY,
};

enum block_fill {
	FILL_ZERO,		/* all zeros */
	FILL_RANDOM,		/* does not compress */
	FILL_PATTERN,		/* compresses well */
};

enum block_verdict {
	BLOCK_GOOD,
	BLOCK_STALE,		/* whole, but an older one */
	BLOCK_AHEAD,		/* whole, but newer than we know of */
	BLOCK_FOREIGN,		/* whole, but another block's */
	BLOCK_ZERO,		/* nothing but zeros */
	BLOCK_TORN,		/* anything else */
};

/* "stale" and so on. */
const char *block_verdict_name(enum block_verdict v);

/* `words` is a multiple of 4, at least 8, in all of these. */
void block_write(uint64_t *block, size_t words, uint64_t id, uint64_t counter,
		 enum block_fill fill);
enum block_verdict block_check(const uint64_t *block, size_t words,
			       uint64_t id, uint64_t counter);

/* A well mixed function of x that takes every value once. */
static inline uint64_t block_mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0x9fb21c651e98df25ull;
	return x ^ x >> 29;
}

#endif
