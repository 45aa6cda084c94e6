/* SPDX-License-Identifier: MIT */
/*
 * Selection: every page that is owed comes, once, on the channel that its
 * stripe belongs to, in an order that leaves huge pages whole; and after the
 * switchover nobody sends what somebody else has claimed.
 */
#include "help.h"

#include <sys/stat.h>

#include "send/select.h"
#include "unit/huge.h"

#define SHARES_MAX	64

/* ---- a memory, what is owed of it, what has come ------------------------------ */

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
static void awkward_blocks(struct ferry_mem *m)
{
	made_up_block(m, "ram", 1000, PAGE);
	made_up_block(m, "word", 64, PAGE);
	made_up_block(m, "page", 1, PAGE);
	made_up_block(m, "huge", 5 * HUGE_PAGES, HUGE);
	made_up_block(m, "more", 67, PAGE);
}

static void rig_init(struct rig *r, void (*blocks)(struct ferry_mem *m),
		     bool heat)
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

static void rig_fini(struct rig *r)
{
	for (uint32_t i = 0; i < r->mem.blocks; i++) {
		free(r->wanted[i]);
		free(r->came[i]);
	}
	ferry_select_fini(&r->sel);
	ferry_owed_fini(&r->owed);
	free(r->mem.block);
}

static void owe(struct rig *r, uint32_t block, uint64_t first, uint64_t pages)
{
	ferry_owed_mark(&r->owed, block, first, pages);
	memset(r->wanted[block] + first, 1, pages);
}

/* About one page in `of`; 1: all. */
static void owe_some(struct rig *r, uint32_t of)
{
	uint32_t seed = of;

	for (uint32_t i = 0; i < r->mem.blocks; i++)
		for (uint64_t p = 0; p < r->mem.block[i].pages; p++)
			if (dice(&seed) % of == 0)
				owe(r, i, p, 1);
}

/* As ferry_owed_widen() does at the switchover. */
static void want_whole_host_pages(struct rig *r)
{
	for (uint32_t i = 0; i < r->mem.blocks; i++) {
		uint32_t host = r->mem.block[i].host_pages;

		for (uint64_t p = 0; p < r->mem.block[i].pages; p += host)
			if (memchr(r->wanted[i] + p, 1, host))
				memset(r->wanted[i] + p, 1, host);
	}
}

static void still(struct rig *r, enum ferry_order order)
{
	want_whole_host_pages(r);
	assert_ok(ferry_select_still(&r->sel, order, NULL));
}

static uint64_t stripe_of(const struct rig *r, uint32_t block, uint64_t page)
{
	uint32_t host = r->mem.block[block].host_pages;

	return r->sel.first_stripe[block] + page / (host > 64 ? host : 64);
}

static void check_shape(const struct ferry_batch *b)
{
	assert_in_range(b->n, 1, FERRY_PACKET_PAGES_MAX);
	assert_non_null(b->block);
	for (uint32_t i = 0; i < b->n; i++)
		assert_true(b->page[i] < b->block->pages);
}

static bool is_ascending(const struct ferry_batch *b)
{
	for (uint32_t i = 1; i < b->n; i++)
		if (b->page[i] <= b->page[i - 1])
			return false;
	return true;
}

static void note(struct rig *r, const struct ferry_batch *b)
{
	for (uint32_t i = 0; i < b->n; i++)
		r->came[b->block->index][b->page[i]]++;
}

static void check_all_came_once(const struct rig *r)
{
	for (uint32_t i = 0; i < r->mem.blocks; i++)
		for (uint64_t p = 0; p < r->mem.block[i].pages; p++)
			if (r->came[i][p] != r->wanted[i][p])
				fail_msg("block %u page %lu came %u times, not "
					 "%u", i, (unsigned long)p,
					 r->came[i][p], r->wanted[i][p]);
}

/* ---- what one channel is given --------------------------------------------------- */

/* Pages of a stripe follow each other, ascending: once another stripe has
 * begun, none of the old one comes.  So a huge page is never torn. */
struct thread_of_pages {
	uint64_t	stripe;		/* + 1; 0: none yet */
	uint64_t	page;		/* the last */
	uint8_t		*done;		/* per stripe: it was left */
};

static void follow(struct rig *r, struct thread_of_pages *t,
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
static void run_pass(struct rig *r, unsigned n)
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

static const unsigned share_counts[] = { 1, 2, 3, 7, 64 };
static const uint32_t densities[] = { 1, 2, 10, 200, 100000 };

static void every_owed_page_comes_once_on_its_own_channel(void **state)
{
	(void)state;
	for (size_t n = 0; n < FERRY_LEN(share_counts); n++)
		for (size_t d = 0; d < FERRY_LEN(densities); d++) {
			struct rig r = { 0 };

			rig_init(&r, awkward_blocks, false);
			owe_some(&r, densities[d]);
			run_pass(&r, share_counts[n]);
			check_all_came_once(&r);
			assert_int_equal(ferry_owed_pages(&r.owed), 0);
			rig_fini(&r);
		}
}

static void so_it_is_after_the_switchover_in_any_order(void **state)
{
	(void)state;
	for (int order = FERRY_ORDER_LINEAR; order <= FERRY_ORDER_HOT; order++)
		for (size_t n = 0; n < FERRY_LEN(share_counts); n++) {
			struct rig r = { 0 };

			rig_init(&r, awkward_blocks, true);
			owe_some(&r, 10);
			ferry_select_note_heat(&r.sel);
			still(&r, (enum ferry_order)order);
			ferry_select_hint(&r.sel, &r.mem.block[3], 700);
			run_pass(&r, share_counts[n]);
			check_all_came_once(&r);
			rig_fini(&r);
		}
}

static void a_pass_over_nothing_is_over_at_once(void **state)
{
	struct ferry_cursor c;
	struct ferry_batch b;
	struct rig r = { 0 };

	(void)state;
	rig_init(&r, awkward_blocks, false);
	ferry_cursor_rewind(&c, 0, 1);
	assert_int_equal(ferry_select_next(&r.sel, &c, &b), 0);
	assert_int_equal(ferry_select_rest(&r.sel, &c, &b), 0);
	rig_fini(&r);
}

static void what_is_written_behind_the_cursor_waits_for_the_next_pass(
							void **state)
{
	struct ferry_cursor c;
	struct ferry_batch b;
	struct rig r = { 0 };

	(void)state;
	rig_init(&r, awkward_blocks, false);
	owe(&r, 0, 500, 1);
	ferry_cursor_rewind(&c, 0, 1);
	assert_int_equal(ferry_select_next(&r.sel, &c, &b), 1);
	note(&r, &b);
	ferry_owed_mark(&r.owed, 0, 3, 1);
	assert_int_equal(ferry_select_next(&r.sel, &c, &b), 0);
	check_all_came_once(&r);
	ferry_cursor_rewind(&c, 0, 1);
	assert_int_equal(ferry_select_next(&r.sel, &c, &b), 1);
	assert_int_equal(b.page[0], 3);
	rig_fini(&r);
}

static void batches_are_filled_from_neighbouring_stripes(void **state)
{
	struct ferry_cursor c;
	struct ferry_batch b;
	struct rig r = { 0 };

	(void)state;
	rig_init(&r, awkward_blocks, false);
	owe(&r, 0, 0, 1000);
	ferry_cursor_rewind(&c, 0, 1);
	assert_int_equal(ferry_select_next(&r.sel, &c, &b), 1);
	assert_int_equal(b.n, 128);
	rig_fini(&r);
}

/* ---- halting ------------------------------------------------------------------------ */

static void a_halted_pass_finishes_the_huge_page_and_begins_no_other(
							void **state)
{
	struct thread_of_pages t = { .done = calloc(1, 4096) };
	struct ferry_cursor c;
	struct ferry_batch b;
	struct rig r = { 0 };
	uint32_t n;

	(void)state;
	rig_init(&r, awkward_blocks, false);
	owe(&r, 3, 0, 5 * HUGE_PAGES);
	ferry_cursor_rewind(&c, 0, 1);
	assert_int_equal(ferry_select_next(&r.sel, &c, &b), 1);
	follow(&r, &t, &b, 0, 1);
	n = b.n;
	while (ferry_select_rest(&r.sel, &c, &b) == 1) {
		check_shape(&b);
		follow(&r, &t, &b, 0, 1);
		n += b.n;
	}
	assert_int_equal(n, HUGE_PAGES);
	assert_int_equal(ferry_owed_pages(&r.owed), 4 * HUGE_PAGES);
	free(t.done);
	rig_fini(&r);
}

static void a_halt_sends_no_more_than_the_stripe_at_hand(void **state)
{
	struct ferry_cursor c;
	struct ferry_batch b;
	struct rig r = { 0 };
	unsigned n = 0;

	(void)state;
	rig_init(&r, awkward_blocks, false);
	owe(&r, 0, 0, 1000);
	ferry_cursor_rewind(&c, 0, 1);
	assert_int_equal(ferry_select_rest(&r.sel, &c, &b), 0);
	assert_int_equal(ferry_select_next(&r.sel, &c, &b), 1);
	while (ferry_select_rest(&r.sel, &c, &b) == 1)
		n += b.n;
	assert_in_range(n, 0, 64);
	assert_int_equal(ferry_owed_pages(&r.owed), 1000 - 128 - n);
	rig_fini(&r);
}

/* ---- arming --------------------------------------------------------------------------- */

struct fake_log {
	struct ferry_dirty dirty;
	struct rig	*rig;
	uint8_t		*armed[8];
	unsigned	 calls;
	uint64_t	 most_pages;
	int		 fails_at;	/* -EIO at this call; 0: never */
};

static bool is_owed(struct rig *r, uint32_t block, uint64_t page)
{
	return ferry_bitmap_test(&r->owed.map[block], page);
}

/* Nothing of what is armed for the first time was taken before. */
static int fake_arm(struct ferry_dirty *d, uint32_t block, uint64_t first,
		    uint64_t pages)
{
	struct fake_log *l = (struct fake_log *)d;
	struct rig *r = l->rig;

	assert_true(pages && first + pages <= r->mem.block[block].pages);
	if (++l->calls == (unsigned)l->fails_at)
		return -EIO;
	if (pages > l->most_pages)
		l->most_pages = pages;
	for (uint64_t p = first; p < first + pages; p++) {
		if (!l->armed[block][p] &&
		    is_owed(r, block, p) != r->wanted[block][p])
			fail_msg("block %u page %lu was taken before its log "
				 "was armed", block, (unsigned long)p);
		l->armed[block][p] = 1;
	}
	return 0;
}

static const struct ferry_dirty_ops fake_ops = {
	.name = "fake", .arm = fake_arm,
};

static void fake_init(struct fake_log *l, struct rig *r)
{
	*l = (struct fake_log){ .dirty = { &fake_ops }, .rig = r };
	for (uint32_t i = 0; i < r->mem.blocks; i++) {
		l->armed[i] = calloc(r->mem.block[i].pages, 1);
		assert_non_null(l->armed[i]);
	}
}

static void fake_fini(struct fake_log *l)
{
	for (unsigned i = 0; i < 8; i++)
		free(l->armed[i]);
}

#define PIECE_PAGES	((64u << 20) / PAGE)

static void a_large_block(struct ferry_mem *m)
{
	made_up_block(m, "page", 1, PAGE);
	made_up_block(m, "ram", 2 * PIECE_PAGES + 100, PAGE);
	made_up_block(m, "huge", 3 * HUGE_PAGES, HUGE);
}

struct tracked {
	struct rig	r;
	struct fake_log	log[2];
};

static void tracked_init(struct tracked *t, uint32_t of)
{
	*t = (struct tracked){ .r = { .trackers = 2 } };
	t->r.dirty[0] = &t->log[0].dirty;
	t->r.dirty[1] = &t->log[1].dirty;
	rig_init(&t->r, a_large_block, false);
	fake_init(&t->log[0], &t->r);
	fake_init(&t->log[1], &t->r);
	owe_some(&t->r, of);
	if (of <= 3)
		owe(&t->r, 0, 0, 1);
}

static void tracked_fini(struct tracked *t)
{
	fake_fini(&t->log[0]);
	fake_fini(&t->log[1]);
	rig_fini(&t->r);
}

static void each_log_is_armed_before_a_page_is_taken(void **state)
{
	struct tracked t;

	(void)state;
	tracked_init(&t, 3);
	run_pass(&t.r, 1);
	check_all_came_once(&t.r);
	for (unsigned l = 0; l < 2; l++)
		for (uint32_t i = 0; i < t.r.mem.blocks; i++)
			for (uint64_t p = 0; p < t.r.mem.block[i].pages; p++)
				assert_true(t.log[l].armed[i][p] ||
					    !t.r.wanted[i][p]);
	tracked_fini(&t);
}

static void logs_are_armed_in_pieces_once_each(void **state)
{
	struct tracked t;

	(void)state;
	tracked_init(&t, 3);
	run_pass(&t.r, 1);
	/* "page", three pieces of "ram", "huge". */
	assert_int_equal(t.log[0].calls, 5);
	assert_int_equal(t.log[0].most_pages, PIECE_PAGES);
	tracked_fini(&t);
}

static void each_pass_arms_anew(void **state)
{
	struct tracked t;
	unsigned calls;

	(void)state;
	tracked_init(&t, 3);
	run_pass(&t.r, 1);
	calls = t.log[0].calls;
	owe(&t.r, 1, 7, 1);
	memset(t.log[0].armed[1], 0, t.r.mem.block[1].pages);
	memset(t.r.came[1], 0, t.r.mem.block[1].pages);
	memset(t.r.wanted[1], 0, t.r.mem.block[1].pages);
	t.r.wanted[1][7] = 1;
	run_pass(&t.r, 1);
	assert_int_equal(t.log[0].calls, calls + 1);
	tracked_fini(&t);
}

static void nothing_is_armed_when_nothing_is_owed(void **state)
{
	struct tracked t;

	(void)state;
	tracked_init(&t, UINT32_MAX);
	run_pass(&t.r, 3);
	assert_int_equal(t.log[0].calls, 0);
	tracked_fini(&t);
}

static void a_stopped_vm_needs_no_arming(void **state)
{
	(void)state;
	for (int for_good = 0; for_good < 2; for_good++) {
		struct tracked t;

		tracked_init(&t, 3);
		if (for_good)
			still(&t.r, FERRY_ORDER_LINEAR);
		else
			ferry_select_stopped(&t.r.sel);
		run_pass(&t.r, 2);
		check_all_came_once(&t.r);
		assert_int_equal(t.log[0].calls + t.log[1].calls, 0);
		tracked_fini(&t);
	}
}

static void a_log_that_cannot_be_armed_ends_the_pass(void **state)
{
	struct ferry_cursor c;
	struct ferry_batch b;
	struct tracked t;
	int rc;

	(void)state;
	tracked_init(&t, 1);
	t.log[1].fails_at = 2;
	ferry_cursor_rewind(&c, 0, 1);
	do
		rc = ferry_select_next(&t.r.sel, &c, &b);
	while (rc == 1);
	assert_int_equal(rc, -EIO);
	tracked_fini(&t);
}

/* ---- claims ---------------------------------------------------------------------------- */

/* All of [first, end) by one requester. */
static uint64_t claim(struct rig *r, uint32_t block, uint64_t first,
		      uint64_t end, bool again)
{
	struct ferry_batch b;
	uint64_t at = first, n = 0;

	while (at < end) {
		uint64_t before = at;

		ferry_select_claim(&r->sel, &r->mem.block[block], &at, end,
				   again, &b);
		assert_true(at > before && at <= end);
		if (!b.n)
			continue;
		check_shape(&b);
		assert_true(b.page[0] >= before && b.page[b.n - 1] < at);
		note(r, &b);
		n += b.n;
	}
	return n;
}

static void a_requested_page_is_claimed_once(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_init(&r, awkward_blocks, false);
	owe(&r, 0, 0, 1000);
	owe(&r, 3, HUGE_PAGES, HUGE_PAGES);
	still(&r, FERRY_ORDER_LINEAR);
	assert_int_equal(claim(&r, 0, 10, 11, false), 1);
	assert_int_equal(claim(&r, 0, 10, 11, false), 0);
	assert_int_equal(claim(&r, 0, 0, 1000, false), 999);
	assert_int_equal(claim(&r, 3, HUGE_PAGES, 2 * HUGE_PAGES, false),
			 HUGE_PAGES);
	assert_int_equal(claim(&r, 3, 0, 5 * HUGE_PAGES, false), 0);
	check_all_came_once(&r);
	assert_int_equal(ferry_owed_pages(&r.owed), 0);
	run_pass(&r, 2);	/* nothing is left for bulk */
	check_all_came_once(&r);
	rig_fini(&r);
}

static void a_page_can_be_sent_again_where_that_is_allowed(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_init(&r, awkward_blocks, false);
	owe(&r, 0, 0, 20);
	owe(&r, 3, 0, HUGE_PAGES);
	still(&r, FERRY_ORDER_LINEAR);
	run_pass(&r, 1);
	assert_int_equal(claim(&r, 0, 10, 30, true), 20);
	assert_int_equal(claim(&r, 3, 0, HUGE_PAGES, true), HUGE_PAGES);
	assert_int_equal(r.came[0][10], 2);
	assert_int_equal(r.came[0][9], 1);
	assert_int_equal(r.came[3][511], 2);
	rig_fini(&r);
}

static void a_request_is_cut_into_batches(void **state)
{
	struct ferry_batch b;
	struct rig r = { 0 };
	uint64_t at = 0;

	(void)state;
	rig_init(&r, awkward_blocks, false);
	owe(&r, 0, 0, 1000);
	still(&r, FERRY_ORDER_LINEAR);
	ferry_select_claim(&r.sel, &r.mem.block[0], &at, 1000, false, &b);
	assert_int_equal(b.n, 128);
	assert_int_equal(at, 128);
	rig_fini(&r);
}

/*
 * A huge page that bulk is in the midst of is sent again beside it: bulk still
 * sends all of its own, or the target is left with a piece that never becomes
 * whole.
 */
static void a_request_leaves_bulk_its_huge_page(void **state)
{
	struct ferry_cursor c;
	struct ferry_batch b;
	struct rig r = { 0 };
	uint32_t n;

	(void)state;
	rig_init(&r, awkward_blocks, false);
	owe(&r, 3, 0, HUGE_PAGES);
	still(&r, FERRY_ORDER_LINEAR);
	ferry_cursor_rewind(&c, 0, 1);
	assert_int_equal(ferry_select_next(&r.sel, &c, &b), 1);
	n = b.n;
	assert_true(n < HUGE_PAGES);
	assert_int_equal(claim(&r, 3, 0, HUGE_PAGES, true), HUGE_PAGES);
	while (ferry_select_next(&r.sel, &c, &b) == 1)
		n += b.n;
	assert_int_equal(n, HUGE_PAGES);
	assert_int_equal(ferry_owed_pages(&r.owed), 0);
	rig_fini(&r);
}

static void bulk_leaves_a_request_its_huge_page(void **state)
{
	struct ferry_batch b;
	struct rig r = { 0 };
	uint64_t at = 0;

	(void)state;
	rig_init(&r, awkward_blocks, false);
	owe(&r, 3, 0, 2 * HUGE_PAGES);
	still(&r, FERRY_ORDER_LINEAR);
	ferry_select_claim(&r.sel, &r.mem.block[3], &at, HUGE_PAGES, false,
			   &b);
	note(&r, &b);
	run_pass(&r, 1);
	while (at < HUGE_PAGES) {
		ferry_select_claim(&r.sel, &r.mem.block[3], &at, HUGE_PAGES,
				   false, &b);
		note(&r, &b);
	}
	check_all_came_once(&r);
	rig_fini(&r);
}

/* ---- bulk and requests at the same time ----------------------------------------------- */

struct requester {
	struct ferry_thread thread;
	struct rig	*r;
	bool		 again;
	uint8_t		*came[8];	/* its own tally */
};

static void request_all_over(void *arg)
{
	struct requester *q = arg;
	uint32_t seed = 7;

	for (unsigned i = 0; i < 3000; i++) {
		uint32_t block = dice(&seed) % q->r->mem.blocks;
		struct ferry_mem_block *b = &q->r->mem.block[block];
		uint64_t at = dice(&seed) % b->pages, end;
		struct ferry_batch batch;

		at -= at % b->host_pages;
		end = at + b->host_pages;
		while (at < end) {
			ferry_select_claim(&q->r->sel, b, &at, end, q->again,
					   &batch);
			for (uint32_t k = 0; k < batch.n; k++)
				q->came[block][batch.page[k]]++;
		}
	}
}

/* Bulk on this thread, requests on another. */
static void race(struct rig *r, struct requester *q, bool again)
{
	struct ferry_err e = { 0 };

	*q = (struct requester){ .r = r, .again = again };
	for (uint32_t i = 0; i < r->mem.blocks; i++) {
		q->came[i] = calloc(r->mem.block[i].pages, 1);
		assert_non_null(q->came[i]);
	}
	assert_ok(ferry_thread_start(&q->thread, "request", request_all_over,
				     q, &e));
	do
		run_pass(r, 2);
	while (ferry_owed_pages(&r->owed));
	ferry_thread_join(&q->thread);
}

static void requester_fini(struct requester *q)
{
	for (unsigned i = 0; i < 8; i++)
		free(q->came[i]);
}

static void racing_requests_and_bulk_send_each_page_once(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		struct requester q;
		struct rig r = { 0 };

		rig_init(&r, awkward_blocks, false);
		owe_some(&r, 2);
		still(&r, FERRY_ORDER_NEAR);
		race(&r, &q, false);
		for (uint32_t i = 0; i < r.mem.blocks; i++)
			for (uint64_t p = 0; p < r.mem.block[i].pages; p++)
				r.came[i][p] = (uint8_t)(r.came[i][p] +
							 q.came[i][p]);
		check_all_came_once(&r);
		requester_fini(&q);
		rig_fini(&r);
	}
}

/* With `again` requests may repeat anything, but bulk never sends half a huge
 * page (run_pass() sees to that) and nothing is forgotten. */
static void racing_requests_leave_bulk_whole_huge_pages(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		struct requester q;
		struct rig r = { 0 };

		rig_init(&r, awkward_blocks, false);
		owe(&r, 3, 0, 5 * HUGE_PAGES);
		still(&r, FERRY_ORDER_LINEAR);
		race(&r, &q, true);
		for (uint64_t p = 0; p < 5 * HUGE_PAGES; p++) {
			assert_int_equal(r.came[3][p],
					 r.came[3][p - p % HUGE_PAGES]);
			assert_true(r.came[3][p] || q.came[3][p]);
		}
		requester_fini(&q);
		rig_fini(&r);
	}
}

/* ---- order of the push ------------------------------------------------------------------- */

static void plain_blocks(struct ferry_mem *m)
{
	made_up_block(m, "low", 640, PAGE);
	made_up_block(m, "high", 640, PAGE);
}

/* The stripes as one channel is given them, one page owed in each. */
static unsigned stripes_in_order(struct rig *r, struct ferry_cursor *c,
				 uint64_t *stripe, unsigned most)
{
	struct ferry_batch b;
	unsigned n = 0;

	while (n < most && ferry_select_next(&r->sel, c, &b) == 1)
		for (uint32_t i = 0; i < b.n && n < most; i++)
			stripe[n++] = stripe_of(r, b.block->index, b.page[i]);
	return n;
}

/* The next batch is all of these stripes. */
static void expect_stripes(struct rig *r, struct ferry_cursor *c,
			   uint64_t first, uint64_t last)
{
	struct ferry_batch b;

	assert_int_equal(ferry_select_next(&r->sel, c, &b), 1);
	assert_int_equal(stripe_of(r, b.block->index, b.page[0]), first);
	assert_int_equal(stripe_of(r, b.block->index, b.page[b.n - 1]), last);
	assert_int_equal(b.n, (last - first + 1) * 64);
}

static void owe_one_per_stripe(struct rig *r)
{
	for (uint32_t i = 0; i < r->mem.blocks; i++)
		for (uint64_t p = 0; p < r->mem.block[i].pages; p += 64)
			owe(r, i, p, 1);
}

static void linear_is_by_address(void **state)
{
	uint64_t stripe[20];
	struct ferry_cursor c;
	struct rig r = { 0 };

	(void)state;
	rig_init(&r, plain_blocks, true);
	owe_one_per_stripe(&r);
	still(&r, FERRY_ORDER_LINEAR);
	ferry_select_hint(&r.sel, &r.mem.block[1], 0);
	ferry_cursor_rewind(&c, 0, 1);
	assert_int_equal(stripes_in_order(&r, &c, stripe, 20), 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(stripe[i], i);
	rig_fini(&r);
}

static void near_goes_on_behind_the_last_request(void **state)
{
	struct ferry_cursor c;
	struct ferry_batch b;
	struct rig r = { 0 };

	(void)state;
	rig_init(&r, plain_blocks, false);
	owe(&r, 0, 0, 640);
	owe(&r, 1, 0, 640);
	still(&r, FERRY_ORDER_NEAR);
	ferry_cursor_rewind(&c, 0, 1);
	expect_stripes(&r, &c, 0, 1);
	ferry_select_hint(&r.sel, &r.mem.block[1], 5 * 64 + 3);
	expect_stripes(&r, &c, 2, 2);	/* was begun */
	expect_stripes(&r, &c, 15, 16);
	ferry_select_hint(&r.sel, &r.mem.block[0], 7 * 64);
	expect_stripes(&r, &c, 17, 17);
	expect_stripes(&r, &c, 7, 8);
	/* The rest is not forgotten. */
	while (ferry_select_next(&r.sel, &c, &b) == 1)
		;
	assert_int_equal(ferry_owed_pages(&r.owed), 0);
	rig_fini(&r);
}

static void a_hint_means_nothing_before_the_switchover(void **state)
{
	uint64_t stripe[1];
	struct ferry_cursor c;
	struct rig r = { 0 };

	(void)state;
	rig_init(&r, plain_blocks, false);
	owe_one_per_stripe(&r);
	ferry_select_hint(&r.sel, &r.mem.block[1], 0);
	ferry_cursor_rewind(&c, 0, 1);
	assert_int_equal(stripes_in_order(&r, &c, stripe, 1), 1);
	assert_int_equal(stripe[0], 0);
	rig_fini(&r);
}

static void hot_begins_with_what_was_written_last(void **state)
{
	uint64_t stripe[20];
	struct ferry_cursor c;
	struct rig r = { 0 };

	(void)state;
	rig_init(&r, plain_blocks, true);
	/* Long ago stripe 2 was written much, lately 13 and, a bit, 4. */
	owe(&r, 0, 2 * 64, 8);
	ferry_select_note_heat(&r.sel);
	run_pass(&r, 1);
	for (unsigned i = 0; i < 6; i++)
		ferry_select_note_heat(&r.sel);
	ferry_owed_mark(&r.owed, 1, 3 * 64, 64);
	ferry_owed_mark(&r.owed, 0, 4 * 64, 8);
	ferry_select_note_heat(&r.sel);
	assert_ok(ferry_select_still(&r.sel, FERRY_ORDER_HOT, NULL));
	ferry_owed_mark(&r.owed, 0, 0, 640);
	ferry_owed_mark(&r.owed, 1, 0, 640);

	assert_int_equal(r.sel.by_heat[0], 13);
	assert_int_equal(r.sel.by_heat[1], 4);
	assert_int_equal(r.sel.by_heat[2], 2);
	assert_int_equal(r.sel.by_heat[3], 0);
	assert_int_equal(r.sel.by_heat[19], 19);
	ferry_cursor_rewind(&c, 0, 1);
	assert_int_equal(stripes_in_order(&r, &c, stripe, 1), 1);
	assert_int_equal(stripe[0], 13);
	rig_fini(&r);
}

static void hot_without_heat_is_linear(void **state)
{
	uint64_t stripe[2];
	struct ferry_cursor c;
	struct rig r = { 0 };

	(void)state;
	rig_init(&r, plain_blocks, false);
	owe_one_per_stripe(&r);
	ferry_select_note_heat(&r.sel);
	still(&r, FERRY_ORDER_HOT);
	ferry_cursor_rewind(&c, 0, 1);
	assert_int_equal(stripes_in_order(&r, &c, stripe, 2), 2);
	assert_int_equal(stripe[1], 1);
	rig_fini(&r);
}

/* ---- giving memory back ---------------------------------------------------------------- */

static long blocks_of(const struct area *a)
{
	struct stat st;

	assert_ok(fstat(a->fd, &st));
	return (long)st.st_blocks;
}

static void a_released_batch_gives_its_memory_back(void **state)
{
	struct ferry_mem mem = { 0 };
	struct ferry_batch b;
	struct area a;

	(void)state;
	assert_true(area_make(&a, MEMFD, 16 * PAGE));
	memset(a.p, 1, a.bytes);
	area_add(&mem, "ram", &a);
	b = (struct ferry_batch){ &mem.block[0], 4, { 2, 3, 4, 9 } };
	ferry_batch_release(&b);
	assert_int_equal(blocks_of(&a), 12 * 8);
	assert_int_equal(a.p[1 * PAGE], 1);
	assert_int_equal(a.p[2 * PAGE], 0);
	assert_int_equal(a.p[4 * PAGE], 0);
	assert_int_equal(a.p[5 * PAGE], 1);
	assert_int_equal(a.p[9 * PAGE], 0);
	ferry_mem_fini(&mem);
	area_free(&a);
}

static void a_huge_page_goes_with_its_last_piece(void **state)
{
	struct ferry_mem mem = { 0 };
	struct ferry_batch b = { 0 };
	struct area a;

	(void)state;
	if (!huge_pages_for(2) || !area_make(&a, HUGE_MEMFD, 2 * HUGE)) {
		print_message("SKIP: no 2 free huge pages\n");
		skip();
	}
	memset(a.p, 1, a.bytes);
	area_add(&mem, "huge", &a);
	b.block = &mem.block[0];
	for (uint64_t first = 0; first < HUGE_PAGES; first += 128) {
		assert_int_equal(a.p[0], 1);
		b.n = 128;
		for (uint32_t i = 0; i < 128; i++)
			b.page[i] = first + i;
		ferry_batch_release(&b);
	}
	assert_int_equal(a.p[0], 0);
	assert_int_equal(a.p[HUGE], 1);
	ferry_mem_fini(&mem);
	area_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_owed_page_comes_once_on_its_own_channel),
		cmocka_unit_test(so_it_is_after_the_switchover_in_any_order),
		cmocka_unit_test(a_pass_over_nothing_is_over_at_once),
		cmocka_unit_test(
		what_is_written_behind_the_cursor_waits_for_the_next_pass),
		cmocka_unit_test(batches_are_filled_from_neighbouring_stripes),
		cmocka_unit_test(
		a_halted_pass_finishes_the_huge_page_and_begins_no_other),
		cmocka_unit_test(a_halt_sends_no_more_than_the_stripe_at_hand),
		cmocka_unit_test(each_log_is_armed_before_a_page_is_taken),
		cmocka_unit_test(logs_are_armed_in_pieces_once_each),
		cmocka_unit_test(each_pass_arms_anew),
		cmocka_unit_test(nothing_is_armed_when_nothing_is_owed),
		cmocka_unit_test(a_stopped_vm_needs_no_arming),
		cmocka_unit_test(a_log_that_cannot_be_armed_ends_the_pass),
		cmocka_unit_test(a_requested_page_is_claimed_once),
		cmocka_unit_test(
			a_page_can_be_sent_again_where_that_is_allowed),
		cmocka_unit_test(a_request_is_cut_into_batches),
		cmocka_unit_test(a_request_leaves_bulk_its_huge_page),
		cmocka_unit_test(bulk_leaves_a_request_its_huge_page),
		cmocka_unit_test(racing_requests_and_bulk_send_each_page_once),
		cmocka_unit_test(racing_requests_leave_bulk_whole_huge_pages),
		cmocka_unit_test(linear_is_by_address),
		cmocka_unit_test(near_goes_on_behind_the_last_request),
		cmocka_unit_test(a_hint_means_nothing_before_the_switchover),
		cmocka_unit_test(hot_begins_with_what_was_written_last),
		cmocka_unit_test(hot_without_heat_is_linear),
		cmocka_unit_test(a_released_batch_gives_its_memory_back),
		cmocka_unit_test(a_huge_page_goes_with_its_last_piece),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
