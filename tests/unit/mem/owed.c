/* SPDX-License-Identifier: MIT */
/* The pages owed: counts, words, widening, and threads that race. */
#include "help.h"

#include <pthread.h>

#include "mem/owed.h"

/* Nothing is mapped: these tests look at bitmaps only. */
static struct ferry_mem_block block[2] = {
	{ .name = "small", .pages = 200, .host_pages = 1 },
	{ .name = "huge", .pages = 2048, .host_pages = 512, .index = 1 },
};
static const struct ferry_mem mem = { block, 2, 2248 };

static int make(void **state)
{
	static struct ferry_owed o;

	*state = &o;
	return ferry_owed_init(&o, &mem, NULL);
}

static int unmake(void **state)
{
	ferry_owed_fini(*state);
	return 0;
}

static void marks_count_only_what_is_new(void **state)
{
	struct ferry_owed *o = *state;

	assert_int_equal(ferry_owed_mark(o, 0, 10, 100), 100);
	assert_int_equal(ferry_owed_mark(o, 0, 0, 200), 100);
	assert_int_equal(ferry_owed_mark(o, 0, 0, 0), 0);
	assert_int_equal(ferry_owed_mark_word(o, 0, 3, 0xff), 0);
	assert_int_equal(ferry_owed_mark_word(o, 1, 5, 0xf0f), 8);
	assert_int_equal(ferry_owed_mark_word(o, 1, 5, 0xfff), 4);
	assert_int_equal(ferry_owed_mark_word(o, 1, 5, 0), 0);
	assert_int_equal(ferry_owed_pages(o), 212);
}

static void drains_take_only_what_is_masked(void **state)
{
	struct ferry_owed *o = *state;

	ferry_owed_mark(o, 0, 0, 200);
	assert_true(ferry_owed_drain_word(o, 0, 1, 0xf0) == 0xf0);
	assert_true(ferry_owed_drain_word(o, 0, 1, 0xff) == 0x0f);
	assert_true(ferry_owed_drain_word(o, 0, 1, 0xff) == 0);
	assert_true(ferry_owed_drain_word(o, 0, 3, ~0ull) == 0xff);
	assert_int_equal(ferry_owed_pages(o), 200 - 16);
	assert_true(ferry_bitmap_test(&o->map[0], 72));
	assert_false(ferry_bitmap_test(&o->map[0], 64));
}

static void a_host_page_is_owed_wholly_or_not_at_all(void **state)
{
	struct ferry_owed *o = *state;

	ferry_owed_mark(o, 0, 7, 1);
	ferry_owed_mark(o, 1, 511, 1);
	ferry_owed_mark(o, 1, 1024, 1);
	ferry_owed_widen(o);
	assert_int_equal(ferry_owed_pages(o), 1 + 512 + 512);
	assert_int_equal(ferry_bitmap_count(&o->map[0]), 1);
	assert_int_equal(ferry_bitmap_next_set(&o->map[1], 0), 0);
	assert_int_equal(ferry_bitmap_next_clear(&o->map[1], 0), 512);
	assert_int_equal(ferry_bitmap_next_set(&o->map[1], 512), 1024);
	assert_int_equal(ferry_bitmap_next_clear(&o->map[1], 1024), 1536);
}

#define ROUNDS	20000

static void *mark_all(void *arg)
{
	struct ferry_owed *o = arg;
	uint64_t fresh = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		fresh += ferry_owed_mark_word(o, 1, i % 32,
					      0x5555ull << i % 48);
		fresh += ferry_owed_mark(o, 1, i % 2000, 48);
	}
	return (void *)(uintptr_t)fresh;
}

static void *drain_all(void *arg)
{
	struct ferry_owed *o = arg;
	uint64_t taken = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		taken += (uint64_t)__builtin_popcountll(
			ferry_owed_drain_word(o, 1, i % 32, ~0ull << i % 7));
		assert_true(ferry_owed_pages(o) <= 3 * 2048);
	}
	return (void *)(uintptr_t)taken;
}

/* What was thought to be owed, or sent, does not matter. */
static void after_a_lost_link_all_that_has_not_come_is_owed(void **state)
{
	struct ferry_owed *o = *state;
	struct ferry_bitmap came[2];

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(ferry_bitmap_init(&came[i],
				 block[i].pages, NULL), 0);
	ferry_owed_mark(o, 0, 0, 50);
	ferry_bitmap_set_range(&came[0], 10, 190);
	ferry_bitmap_clear(&came[0], 199);
	/* Of the second host page one piece lacks; the first has come. */
	ferry_bitmap_set_range(&came[1], 0, 2048);
	ferry_bitmap_clear(&came[1], 700);
	ferry_owed_rebuild(o, came);
	assert_int_equal(ferry_owed_pages(o), 10 + 1 + 512);
	for (uint64_t i = 0; i < 200; i++)
		assert_int_equal(ferry_bitmap_test(&o->map[0], i),
				 i < 10 || i == 199);
	for (uint64_t i = 0; i < 2048; i++)
		assert_int_equal(ferry_bitmap_test(&o->map[1], i),
				 i / 512 == 1);

	/* Once more, with all of it there; then with nothing. */
	ferry_bitmap_set_range(&came[0], 0, 200);
	ferry_bitmap_set(&came[1], 700);
	ferry_owed_rebuild(o, came);
	assert_int_equal(ferry_owed_pages(o), 0);
	for (unsigned i = 0; i < 2; i++)
		ferry_bitmap_clear_range(&came[i], 0, block[i].pages);
	ferry_owed_rebuild(o, came);
	assert_int_equal(ferry_owed_pages(o), 2248);
	for (unsigned i = 0; i < 2; i++)
		ferry_bitmap_fini(&came[i]);
}

static void every_bit_that_is_marked_is_drained_once(void **state)
{
	struct ferry_owed *o = *state;
	void *(*const fn[4])(void *) = { mark_all, drain_all, mark_all,
					 drain_all };
	uint64_t sum[2] = { 0 };
	pthread_t t[4];
	void *ret;

	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, fn[i], o);
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], &ret);
		sum[i % 2] += (uintptr_t)ret;
	}
	assert_int_equal(sum[0] - sum[1], ferry_owed_pages(o));
	assert_int_equal(ferry_bitmap_count(&o->map[1]), ferry_owed_pages(o));
}

#define T(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(marks_count_only_what_is_new),
		T(drains_take_only_what_is_masked),
		T(a_host_page_is_owed_wholly_or_not_at_all),
		T(after_a_lost_link_all_that_has_not_come_is_owed),
		T(every_bit_that_is_marked_is_drained_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
