/* SPDX-License-Identifier: MIT */
/*
 * Selection: every page that is owed comes, once, on the channel that its
 * stripe belongs to, in an order that leaves huge pages whole; and the dirty
 * logs are armed before a page is taken.
 */
#include "passes.h"

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

/* One page in five; those of huge blocks are not left. */
static void what_is_left_for_later_comes_when_asked_for_or_at_last(
							void **state)
{
	struct ferry_bitmap later[8] = { 0 };
	struct ferry_batch b;
	struct rig r = { 0 };
	uint64_t at = 5;

	(void)state;
	rig_init(&r, awkward_blocks, false);
	for (uint32_t i = 0; i < r.mem.blocks; i++) {
		assert_ok(ferry_bitmap_init(&later[i], r.mem.block[i].pages,
					    NULL));
		for (uint64_t p = 0; p < r.mem.block[i].pages; p += 5)
			ferry_bitmap_set(&later[i], p);
	}
	owe_some(&r, 1);
	still(&r, FERRY_ORDER_NEAR);
	ferry_select_later(&r.sel, later);
	run_pass(&r, 2);
	for (uint32_t i = 0; i < r.mem.blocks; i++)
		for (uint64_t p = 0; p < r.mem.block[i].pages; p++)
			assert_int_equal(ferry_bitmap_test(&r.owed.map[i], p),
					 r.mem.block[i].host_pages == 1 &&
					 p % 5 == 0);

	ferry_select_claim(&r.sel, &r.mem.block[0], &at, 11, false, &b);
	assert_int_equal(b.n, 2);
	assert_int_equal(b.page[0], 5);
	assert_int_equal(b.page[1], 10);
	note(&r, &b);

	ferry_select_later(&r.sel, NULL);
	run_pass(&r, 2);
	check_all_came_once(&r);
	for (uint32_t i = 0; i < r.mem.blocks; i++)
		ferry_bitmap_fini(&later[i]);
	rig_fini(&r);
}

/* ---- halting ------------------------------------------------------------ */

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

/* ---- arming ------------------------------------------------------------- */

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
			what_is_left_for_later_comes_when_asked_for_or_at_last),
		cmocka_unit_test(
		a_halted_pass_finishes_the_huge_page_and_begins_no_other),
		cmocka_unit_test(a_halt_sends_no_more_than_the_stripe_at_hand),
		cmocka_unit_test(each_log_is_armed_before_a_page_is_taken),
		cmocka_unit_test(logs_are_armed_in_pieces_once_each),
		cmocka_unit_test(each_pass_arms_anew),
		cmocka_unit_test(nothing_is_armed_when_nothing_is_owed),
		cmocka_unit_test(a_stopped_vm_needs_no_arming),
		cmocka_unit_test(a_log_that_cannot_be_armed_ends_the_pass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
