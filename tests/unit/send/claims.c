/* SPDX-License-Identifier: MIT */
/* Who sends a huge page when bulk and a request want it at the same time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "send/select.h"

#define HOST	512u

/* Nothing is mapped: selection looks at bitmaps only. */
static struct ferry_mem_block block = {
	.name = "huge", .pages = 4 * HOST, .host_pages = HOST,
};
static struct ferry_mem mem = { &block, 1, 4 * HOST };

struct fixture {
	struct ferry_owed owed;
	struct ferry_select select;
	struct ferry_cursor cursor;
	struct ferry_batch batch;
};

static int make(void **state)
{
	static struct fixture f;

	*state = &f;
	if (ferry_owed_init(&f.owed, &mem, NULL) ||
	    ferry_select_init(&f.select, &mem, &f.owed, NULL, 0, false, NULL))
		return -1;
	ferry_owed_mark(&f.owed, 0, 0, block.pages);
	ferry_cursor_rewind(&f.cursor, 0, 1);
	return ferry_select_still(&f.select, FERRY_ORDER_LINEAR, NULL);
}

static int unmake(void **state)
{
	struct fixture *f = *state;

	ferry_select_fini(&f->select);
	ferry_owed_fini(&f->owed);
	return 0;
}

static uint64_t check_row(const struct ferry_batch *b, uint64_t next)
{
	for (uint32_t i = 0; i < b->n; i++)
		assert_int_equal(b->page[i], next + i);
	return next + b->n;
}

/* All that a request for this host page is answered with; returns the end. */
static uint64_t request(struct fixture *f, uint64_t host, bool again)
{
	uint64_t at = host * HOST, next = at;

	while (at < (host + 1) * HOST) {
		ferry_select_claim(&f->select, &block, &at, (host + 1) * HOST,
				   again, &f->batch);
		next = check_row(&f->batch, next);
	}
	return next;
}

static void a_request_leaves_bulk_the_rest_of_what_it_has_begun(void **state)
{
	struct fixture *f = *state;
	uint64_t next;

	assert_int_equal(ferry_select_next(&f->select, &f->cursor, &f->batch),
			 1);
	next = check_row(&f->batch, 0);
	assert_true(next < HOST);

	assert_int_equal(request(f, 0, true), HOST);
	while (ferry_select_rest(&f->select, &f->cursor, &f->batch) > 0)
		next = check_row(&f->batch, next);
	assert_int_equal(next, HOST);
	assert_int_equal(ferry_owed_pages(&f->owed), 3 * HOST);
}

static void what_bulk_has_begun_is_not_sent_twice_to_a_qemu(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ferry_select_next(&f->select, &f->cursor, &f->batch),
			 1);
	assert_int_equal(request(f, 0, false), 0);
}

static void bulk_passes_over_what_was_requested(void **state)
{
	struct fixture *f = *state;
	uint64_t next = HOST;

	assert_int_equal(request(f, 0, true), HOST);
	assert_int_equal(ferry_owed_pages(&f->owed), 3 * HOST);
	while (ferry_select_next(&f->select, &f->cursor, &f->batch) > 0)
		next = check_row(&f->batch, next);
	assert_int_equal(next, 4 * HOST);
	assert_int_equal(ferry_owed_pages(&f->owed), 0);
}

/* Its channel was lost; a request has brought the page all the same. */
static void what_bulk_left_half_way_and_has_come_is_owed_no_more(void **state)
{
	struct fixture *f = *state;
	struct ferry_bitmap received;

	assert_int_equal(ferry_bitmap_init(&received, block.pages, NULL), 0);
	assert_int_equal(ferry_select_next(&f->select, &f->cursor, &f->batch),
			 1);
	assert_int_equal(request(f, 0, true), HOST);
	for (uint64_t page = 0; page < HOST; page++)
		ferry_bitmap_set(&received, page);
	ferry_select_owe_again(&f->select, &received);
	assert_int_equal(ferry_owed_pages(&f->owed), 3 * HOST);
	ferry_cursor_rewind(&f->cursor, 0, 1);
	while (ferry_select_next(&f->select, &f->cursor, &f->batch) > 0)
		;
	assert_int_equal(ferry_owed_pages(&f->owed), 0);
	ferry_bitmap_fini(&received);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_request_leaves_bulk_the_rest_of_what_it_has_begun,
			make, unmake),
		cmocka_unit_test_setup_teardown(
			what_bulk_has_begun_is_not_sent_twice_to_a_qemu,
			make, unmake),
		cmocka_unit_test_setup_teardown(
			bulk_passes_over_what_was_requested, make, unmake),
		cmocka_unit_test_setup_teardown(
			what_bulk_left_half_way_and_has_come_is_owed_no_more,
			make, unmake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
