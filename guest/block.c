/* SPDX-License-Identifier: MIT */
/*
 * Block contents and their verification.
 *
 * The sum runs in four independent lanes, so that multiplications overlap.
 * Each step of a lane is invertible: damage to any one word always changes the
 * sum.  The rotation keeps two flipped top bits from cancelling.
 */
#include "block.h"

#include <stdbool.h>

#define LANES		4
#define MULTIPLIER	0xff51afd7ed558ccdull
#define STEP		0x9e3779b97f4a7c15ull

const char *block_verdict_name(enum block_verdict v)
{
	static const char *const name[] = {
		[BLOCK_GOOD] = "good", [BLOCK_STALE] = "stale",
		[BLOCK_AHEAD] = "ahead", [BLOCK_FOREIGN] = "foreign",
		[BLOCK_ZERO] = "zero", [BLOCK_TORN] = "torn",
	};

	return name[v];
}

static inline uint64_t lane(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * MULTIPLIER;
	return sum << 31 | sum >> 33;
}

static uint64_t sum_of(const uint64_t *block, size_t words)
{
	uint64_t a = lane(1, block[BLOCK_ID]);
	uint64_t b = lane(2, block[BLOCK_COUNTER]);
	uint64_t c = lane(3, block[BLOCK_SEED]);
	uint64_t d = 4;

	for (size_t i = BLOCK_BODY; i < words; i += LANES) {
		a = lane(a, block[i]);
		b = lane(b, block[i + 1]);
		c = lane(c, block[i + 2]);
		d = lane(d, block[i + 3]);
	}
	return block_mix(lane(lane(lane(a, b), c), d));
}

static void fill_zero(uint64_t *body, size_t words, uint64_t seed)
{
	(void)seed;
	for (size_t i = 0; i < words; i++)
		body[i] = 0;
}

static void fill_random(uint64_t *body, size_t words, uint64_t seed)
{
	for (size_t i = 0; i < words; i++) {
		body[i] = block_mix(seed);
		seed += STEP;
	}
}

/* Like a table of an ordinary program: one value in eight slots. */
static void fill_pattern(uint64_t *body, size_t words, uint64_t seed)
{
	for (size_t i = 0; i < words; i++)
		body[i] = (seed & 0xffffff) << 8 | (i & 7);
}

void block_write(uint64_t *block, size_t words, uint64_t id, uint64_t counter,
		 enum block_fill fill)
{
	static void (*const filler[])(uint64_t *, size_t, uint64_t) = {
		[FILL_ZERO] = fill_zero,
		[FILL_RANDOM] = fill_random,
		[FILL_PATTERN] = fill_pattern,
	};
	uint64_t seed = block_mix(block_mix(id + STEP) + counter);

	block[BLOCK_ID] = id;
	block[BLOCK_COUNTER] = counter;
	block[BLOCK_SEED] = seed;
	filler[fill](block + BLOCK_BODY, words - BLOCK_BODY, seed);
	block[BLOCK_SUM] = sum_of(block, words);
}

static bool is_zero(const uint64_t *block, size_t words)
{
	uint64_t any = 0;

	for (size_t i = 0; i < words; i++)
		any |= block[i];
	return any == 0;
}

enum block_verdict block_check(const uint64_t *block, size_t words,
			       uint64_t id, uint64_t counter)
{
	if (block[BLOCK_SUM] != sum_of(block, words))
		return is_zero(block, words) ? BLOCK_ZERO : BLOCK_TORN;
	if (block[BLOCK_ID] != id)
		return BLOCK_FOREIGN;
	if (block[BLOCK_COUNTER] < counter)
		return BLOCK_STALE;
	if (block[BLOCK_COUNTER] > counter)
		return BLOCK_AHEAD;
	return BLOCK_GOOD;
}
