/* SPDX-License-Identifier: MIT */
/*
 * The received map over three bitmaps per block.
 */
#include "recv/map.h"

#include <stdlib.h>

int ferry_map_init(struct ferry_map *m, const struct ferry_mem *mem,
		   struct ferry_err *e)
{
	*m = (struct ferry_map){
		.mem = mem,
		.here = calloc(mem->blocks, sizeof(struct ferry_bitmap)),
		.zero = calloc(mem->blocks, sizeof(struct ferry_bitmap)),
		.asked = calloc(mem->blocks, sizeof(struct ferry_bitmap)),
	};
	if (!m->here || !m->zero || !m->asked)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "received map");

	for (uint32_t i = 0; i < mem->blocks; i++) {
		uint64_t pages = mem->block[i].pages;

		if (ferry_bitmap_init(&m->here[i], pages, e) ||
		    ferry_bitmap_init(&m->zero[i], pages, e) ||
		    ferry_bitmap_init(&m->asked[i], pages, e))
			return ferry_err_wrap(e, "received map of block %s",
					      mem->block[i].name);
	}
	return 0;
}

static void free_maps(struct ferry_bitmap *maps, uint32_t n)
{
	for (uint32_t i = 0; maps && i < n; i++)
		ferry_bitmap_fini(&maps[i]);
	free(maps);
}

void ferry_map_fini(struct ferry_map *m)
{
	uint32_t n = m->mem ? m->mem->blocks : 0;

	free_maps(m->here, n);
	free_maps(m->zero, n);
	free_maps(m->asked, n);
	*m = (struct ferry_map){ 0 };
}

void ferry_map_set_here(struct ferry_map *m, uint32_t block, uint64_t first,
			uint64_t n)
{
	ferry_bitmap_set_range(&m->here[block], first, n);
}

void ferry_map_set_zero(struct ferry_map *m, uint32_t block, uint64_t first,
			uint64_t n)
{
	ferry_bitmap_set_range(&m->zero[block], first, n);
}

void ferry_map_set_missing(struct ferry_map *m, uint32_t block, uint64_t first,
			   uint64_t n)
{
	ferry_bitmap_clear_range(&m->here[block], first, n);
	ferry_bitmap_clear_range(&m->zero[block], first, n);
	ferry_bitmap_clear_range(&m->asked[block], first, n);
}

uint64_t ferry_map_run(const struct ferry_map *m, uint32_t block,
		       uint64_t first, uint64_t n, bool *here)
{
	uint64_t end;

	*here = ferry_map_is_here(m, block, first);
	end = *here ? ferry_bitmap_next_clear_before(&m->here[block], first,
						     first + n) :
		      ferry_bitmap_next_set_before(&m->here[block], first,
						   first + n);
	return end - first;
}

static uint64_t present(const struct ferry_map *m, uint32_t block, uint64_t w)
{
	return atomic_load(&m->here[block].word[w]) |
	       atomic_load(&m->zero[block].word[w]);
}

/* The bits of word w that stand for pages of the block. */
static uint64_t valid(const struct ferry_map *m, uint32_t block, uint64_t w)
{
	uint64_t left = m->mem->block[block].pages - w * 64;

	return left >= 64 ? ~0ull : (1ull << left) - 1;
}

bool ferry_map_next_missing(const struct ferry_map *m, uint32_t *block,
			    uint64_t *page)
{
	for (; *block < m->mem->blocks; (*block)++, *page = 0) {
		uint64_t words = m->here[*block].words;

		for (uint64_t w = *page / 64; w < words; w++) {
			uint64_t bits = ~present(m, *block, w) &
					valid(m, *block, w);

			if (w == *page / 64)
				bits &= ~0ull << (*page % 64);
			if (bits) {
				*page = w * 64 +
					(uint64_t)__builtin_ctzll(bits);
				return true;
			}
		}
	}
	return false;
}

uint64_t ferry_map_missing_end(const struct ferry_map *m, uint32_t block,
			       uint64_t page)
{
	uint64_t pages = m->mem->block[block].pages;
	uint64_t here = ferry_bitmap_next_set_before(&m->here[block], page,
						     pages);

	return ferry_bitmap_next_set_before(&m->zero[block], page, here);
}

uint64_t ferry_map_missing(const struct ferry_map *m)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < m->mem->blocks; i++)
		for (uint64_t w = 0; w < m->here[i].words; w++)
			n += (uint64_t)__builtin_popcountll(
				~present(m, i, w) & valid(m, i, w));
	return n;
}
