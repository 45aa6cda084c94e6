/* SPDX-License-Identifier: MIT */
/*
 * See suspect.h.
 */
#include "park/suspect.h"

#include <errno.h>
#include <stdlib.h>

#include "base/sum.h"

void ferry_suspects_fini(struct ferry_suspects *s)
{
	for (uint32_t i = 0; i < s->blocks; i++) {
		if (s->came)
			free(s->came[i]);
		if (s->now)
			free(s->now[i]);
		if (s->left)
			ferry_bitmap_fini(&s->left[i]);
	}
	free((void *)s->came);
	free((void *)s->now);
	free(s->left);
	*s = (struct ferry_suspects){ 0 };
}

/* Until something is known, a page has come as zeroes, and is. */
static uint32_t *zero_sums(uint64_t pages)
{
	uint32_t *sum = calloc(pages, sizeof(*sum));

	for (uint64_t i = 0; sum && i < pages; i++)
		sum[i] = FERRY_PAGE_SUM_ZERO;
	return sum;
}

static int init_block(struct ferry_suspects *s,
		      const struct ferry_mem_block *b, struct ferry_err *e)
{
	if (s->came[b->index])
		return 0;
	s->came[b->index] = zero_sums(b->pages);
	s->now[b->index] = zero_sums(b->pages);
	if (!s->came[b->index] || !s->now[b->index])
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "sums of pages");
	return ferry_bitmap_init(&s->left[b->index], b->pages, e);
}

static int init(struct ferry_suspects *s, const struct ferry_mem *mem,
		struct ferry_err *e)
{
	if (s->blocks)
		return 0;
	s->came = calloc(mem->blocks, sizeof(*s->came));
	s->now = calloc(mem->blocks, sizeof(*s->now));
	s->left = calloc(mem->blocks, sizeof(*s->left));
	s->blocks = mem->blocks;
	return s->came && s->now && s->left ? 0 :
	       ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "sums of pages");
}

int ferry_suspects_note(struct ferry_suspects *s, const struct ferry_mem *mem,
			const struct ferry_half_record *r,
			struct ferry_err *e)
{
	struct ferry_rd rd = ferry_rd_over(r->data, r->n * sizeof(uint32_t));
	uint32_t block = r->place.block;

	if (init(s, mem, e) || init_block(s, &mem->block[block], e))
		return -1;
	for (uint64_t i = 0; i < r->n; i++)
		s->came[block][r->place.first + i] = ferry_rd_be32(&rd);
	ferry_bitmap_set_range(&s->left[block], r->place.first, r->n);
	return 0;
}

static bool is_known(const struct ferry_suspects *s, uint32_t block,
		     uint64_t page)
{
	return s->blocks && s->came[block] &&
	       ferry_bitmap_test(&s->left[block], page);
}

void ferry_suspects_hold(struct ferry_suspects *s, uint32_t block,
			 uint64_t page, const uint8_t *data)
{
	if (is_known(s, block, page))
		s->now[block][page] = ferry_page_sum(data);
}

enum ferry_suspicion ferry_suspects_judge(struct ferry_suspects *s,
					  uint32_t block, uint64_t page,
					  const uint8_t *data)
{
	uint32_t right, came, now;

	if (!is_known(s, block, page))
		return FERRY_PAGE_RIGHT;
	ferry_bitmap_clear(&s->left[block], page);
	right = data ? ferry_page_sum(data) : FERRY_PAGE_SUM_ZERO;
	came = s->came[block][page];
	now = s->now[block][page];
	if (came == right || now == right)
		return FERRY_PAGE_RIGHT;
	return now == came ? FERRY_PAGE_WRONG : FERRY_PAGE_MIXED;
}

bool ferry_suspects_next(const struct ferry_suspects *s, uint32_t *block,
			 uint64_t *page)
{
	for (; *block < s->blocks; ++*block, *page = 0) {
		if (!s->came[*block])
			continue;
		*page = ferry_bitmap_next_set(&s->left[*block], *page);
		if (*page < s->left[*block].bits)
			return true;
	}
	return false;
}
