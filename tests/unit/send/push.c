/* SPDX-License-Identifier: MIT */
/*
 * After the switchover: nobody sends what somebody else has claimed, also when
 * bulk and requests race; the push goes in the order that was asked for; and
 * what was sent can be given back.
 */
#include "passes.h"

#include <sys/stat.h>

#include "unit/huge.h"

/* ---- claims ------------------------------------------------------------- */

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

/* ---- bulk and requests at the same time --------------------------------- */

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

/* ---- order of the push -------------------------------------------------- */

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

/* ---- giving memory back ------------------------------------------------- */

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
