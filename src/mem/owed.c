/* SPDX-License-Identifier: MIT */
/*
 * The pages owed: bitmaps and a count.
 *
 * The count is raised before bits are set and lowered after they are taken, so
 * that a reader who races sees too much rather than less than nothing.
 */
#include "mem/owed.h"

#include <assert.h>
#include <stdlib.h>

int ferry_owed_init(struct ferry_owed *o, const struct ferry_mem *mem,
		    struct ferry_err *e)
{
	*o = (struct ferry_owed){ .mem = mem };
	o->map = calloc(mem->blocks ? mem->blocks : 1, sizeof(*o->map));
	if (!o->map)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "pages owed");

	for (uint32_t i = 0; i < mem->blocks; i++) {
		if (!ferry_bitmap_init(&o->map[i], mem->block[i].pages, e))
			continue;
		ferry_owed_fini(o);
		return ferry_err_wrap(e, "pages owed");
	}
	return 0;
}

void ferry_owed_fini(struct ferry_owed *o)
{
	for (uint32_t i = 0; o->map && i < o->mem->blocks; i++)
		ferry_bitmap_fini(&o->map[i]);
	free(o->map);
	*o = (struct ferry_owed){ 0 };
}

static void count_up(struct ferry_owed *o, uint64_t n)
{
	atomic_fetch_add_explicit(&o->pages, n, memory_order_relaxed);
}

static void count_down(struct ferry_owed *o, uint64_t n)
{
	if (n)
		atomic_fetch_sub_explicit(&o->pages, n, memory_order_relaxed);
}

uint64_t ferry_owed_mark(struct ferry_owed *o, uint32_t block, uint64_t first,
			 uint64_t pages)
{
	struct ferry_bitmap *map = &o->map[block];
	uint64_t fresh;

	assert(first <= map->bits && pages <= map->bits - first);
	count_up(o, pages);
	fresh = ferry_bitmap_set_range(map, first, pages);
	count_down(o, pages - fresh);
	return fresh;
}

uint64_t ferry_owed_mark_word(struct ferry_owed *o, uint32_t block, uint64_t w,
			      uint64_t bits)
{
	struct ferry_bitmap *map = &o->map[block];
	uint64_t n = (uint64_t)__builtin_popcountll(bits), had;

	assert(w < map->words);
	assert(w * 64 + 64 <= map->bits || !(bits >> (map->bits - w * 64)));
	if (!bits)
		return 0;

	count_up(o, n);
	had = atomic_fetch_or_explicit(&map->word[w], bits,
				       memory_order_acq_rel) & bits;
	count_down(o, (uint64_t)__builtin_popcountll(had));
	return n - (uint64_t)__builtin_popcountll(had);
}

uint64_t ferry_owed_drain_word(struct ferry_owed *o, uint32_t block,
			       uint64_t w, uint64_t mask)
{
	_Atomic uint64_t *word = &o->map[block].word[w];
	uint64_t taken;

	/* Most words of a late pass are empty: spare them the locked access. */
	if (!(atomic_load_explicit(word, memory_order_relaxed) & mask))
		return 0;

	taken = atomic_fetch_and_explicit(word, ~mask,
					  memory_order_acq_rel) & mask;
	count_down(o, (uint64_t)__builtin_popcountll(taken));
	return taken;
}

static bool any_owed(const struct ferry_bitmap *map, uint64_t w, uint64_t words)
{
	for (uint64_t i = 0; i < words; i++)
		if (atomic_load_explicit(&map->word[w + i],
					 memory_order_acquire))
			return true;
	return false;
}

void ferry_owed_widen(struct ferry_owed *o)
{
	for (uint32_t i = 0; i < o->mem->blocks; i++) {
		const struct ferry_mem_block *b = &o->mem->block[i];
		uint64_t words = b->host_pages / 64;	/* 0: 4 KiB pages */

		for (uint64_t w = 0; words && w < o->map[i].words; w += words)
			if (any_owed(&o->map[i], w, words))
				ferry_owed_mark(o, i, w * 64, b->host_pages);
	}
}

/* The bits of word w that stand for pages. */
static uint64_t valid(const struct ferry_bitmap *map, uint64_t w)
{
	uint64_t left = map->bits - w * 64;

	return left >= 64 ? ~0ull : (1ull << left) - 1;
}

void ferry_owed_rebuild(struct ferry_owed *o,
			const struct ferry_bitmap *received)
{
	for (uint32_t i = 0; i < o->mem->blocks; i++) {
		for (uint64_t w = 0; w < o->map[i].words; w++) {
			uint64_t here = atomic_load(&received[i].word[w]);

			ferry_owed_drain_word(o, i, w, ~0ull);
			ferry_owed_mark_word(o, i, w,
					     ~here & valid(&o->map[i], w));
		}
	}
	ferry_owed_widen(o);
}
