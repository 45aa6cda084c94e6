/* SPDX-License-Identifier: MIT */
/*
 * A memory of awkward blocks, what is owed of it, and what has come of it: for
 * the tests of selection.
 */
#ifndef TESTS_UNIT_SEND_PASSES_H
#define TESTS_UNIT_SEND_PASSES_H

#include "help.h"
#include "send/select.h"

#define SHARES_MAX	64

/* ---- a memory, what is owed of it, what has come ------------------------ */

struct rig {
	struct ferry_mem mem;
	struct ferry_owed owed;
	struct ferry_select sel;
	uint8_t		*wanted[8];	/* per block and page */
	uint8_t		*came[8];
	struct ferry_dirty *dirty[2];
	unsigned	 trackers;
};

/* Sizes: many words, exactly one, a single page, a bit more than a word; huge
 * pages; and 4 KiB pages behind them. */
static inline void awkward_blocks(struct ferry_mem *m)
{
	made_up_block(m, "ram", 1000, PAGE);
	made_up_block(m, "word", 64, PAGE);
	made_up_block(m, "page", 1, PAGE);
	made_up_block(m, "huge", 5 * HUGE_PAGES, HUGE);
	made_up_block(m, "more", 67, PAGE);
}

static inline void rig_init(struct rig *r,
			    void (*blocks)(struct ferry_mem *m), bool heat)
{
	struct ferry_err e = { 0 };

	blocks(&r->mem);
	assert_ok(ferry_owed_init(&r->owed, &r->mem, &e));
	assert_ok(ferry_select_init(&r->sel, &r->mem, &r->owed, r->dirty,
				    r->trackers, heat, &e));
	for (uint32_t i = 0; i < r->mem.blocks; i++) {
		r->wanted[i] = calloc(r->mem.block[i].pages, 1);
		r->came[i] = calloc(r->mem.block[i].pages, 1);
		assert_true(r->wanted[i] && r->came[i]);
	}
}

static inline void rig_fini(struct rig *r)
{
	for (uint32_t i = 0; i < r->mem.blocks; i++) {
		free(r->wanted[i]);
		free(r->came[i]);
	}
	ferry_select_fini(&r->sel);
	ferry_owed_fini(&r->owed);
	free(r->mem.block);
}

static inline void owe(struct rig *r, uint32_t block, uint64_t first,
		       uint64_t pages)
{
	ferry_owed_mark(&r->owed, block, first, pages);
	memset(r->wanted[block] + first, 1, pages);
}

/* About one page in `of`; 1: all. */
static inline void owe_some(struct rig *r, uint32_t of)
{
	uint32_t seed = of;

	for (uint32_t i = 0; i < r->mem.blocks; i++)
		for (uint64_t p = 0; p < r->mem.block[i].pages; p++)
			if (dice(&seed) % of == 0)
				owe(r, i, p, 1);
}

/* As ferry_owed_widen() does at the switchover. */
static inline void want_whole_host_pages(struct rig *r)
{
	for (uint32_t i = 0; i < r->mem.blocks; i++) {
		uint32_t host = r->mem.block[i].host_pages;

		for (uint64_t p = 0; p < r->mem.block[i].pages; p += host)
			if (memchr(r->wanted[i] + p, 1, host))
				memset(r->wanted[i] + p, 1, host);
	}
}

static inline void still(struct rig *r, enum ferry_order order)
{
	want_whole_host_pages(r);
	assert_ok(ferry_select_still(&r->sel, order, NULL));
}

static inline uint64_t stripe_of(const struct rig *r, uint32_t block,
				 uint64_t page)
{
	uint32_t host = r->mem.block[block].host_pages;

	return r->sel.first_stripe[block] + page / (host > 64 ? host : 64);
}

static inline void check_shape(const struct ferry_batch *b)
{
	assert_in_range(b->n, 1, FERRY_PACKET_PAGES_MAX);
	assert_non_null(b->block);
	for (uint32_t i = 0; i < b->n; i++)
		assert_true(b->page[i] < b->block->pages);
}

static inline bool is_ascending(const struct ferry_batch *b)
{
	for (uint32_t i = 1; i < b->n; i++)
		if (b->page[i] <= b->page[i - 1])
			return false;
	return true;
}

static inline void note(struct rig *r, const struct ferry_batch *b)
{
	for (uint32_t i = 0; i < b->n; i++)
		r->came[b->block->index][b->page[i]]++;
}

static inline void check_all_came_once(const struct rig *r)
{
	for (uint32_t i = 0; i < r->mem.blocks; i++)
		for (uint64_t p = 0; p < r->mem.block[i].pages; p++)
			if (r->came[i][p] != r->wanted[i][p])
				fail_msg("block %u page %lu came %u times, not "
					 "%u", i, (unsigned long)p,
					 r->came[i][p], r->wanted[i][p]);
}

/* ---- what one channel is given ------------------------------------------ */

/* Pages of a stripe follow each other, ascending: once another stripe has
 * begun, none of the old one comes.  So a huge page is never torn. */
struct thread_of_pages {
	uint64_t	stripe;		/* + 1; 0: none yet */
	uint64_t	page;		/* the last */
	uint8_t		*done;		/* per stripe: it was left */
};

static inline void follow(struct rig *r, struct thread_of_pages *t,
			  const struct ferry_batch *b, unsigned share,
			  unsigned shares)
{
	for (uint32_t i = 0; i < b->n; i++) {
		uint64_t s = stripe_of(r, b->block->index, b->page[i]);

		if (shares && s % shares != share)
			fail_msg("stripe %lu on channel %u of %u",
				 (unsigned long)s, share, shares);
		if (t->done[s] ||
		    (t->stripe == s + 1 && b->page[i] <= t->page))
			fail_msg("stripe %lu was torn", (unsigned long)s);
		if (t->stripe && t->stripe != s + 1)
			t->done[t->stripe - 1] = 1;
		t->stripe = s + 1;
		t->page = b->page[i];
	}
}

/* One pass by n channels that take turns. */
static inline void run_pass(struct rig *r, unsigned n)
{
	struct ferry_cursor cursor[SHARES_MAX];
	struct thread_of_pages thread[SHARES_MAX];
	struct ferry_batch b;
	unsigned left = n;

	for (unsigned i = 0; i < n; i++) {
		ferry_cursor_rewind(&cursor[i], i, n);
		thread[i] = (struct thread_of_pages){ .done = calloc(1, 4096) };
		assert_non_null(thread[i].done);
	}
	while (left) {
		left = 0;
		for (unsigned i = 0; i < n; i++) {
			int rc = ferry_select_next(&r->sel, &cursor[i], &b);

			assert_in_range(rc, 0, 1);
			if (!rc)
				continue;
			left++;
			check_shape(&b);
			assert_true(r->sel.still || is_ascending(&b));
			follow(r, &thread[i], &b, i, n);
			note(r, &b);
		}
	}
	for (unsigned i = 0; i < n; i++)
		free(thread[i].done);
}

#endif
