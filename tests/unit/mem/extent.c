/* SPDX-License-Identifier: MIT */
/* Touched pages are found, dropped and reserved. */
#include "help.h"

#include "mem/extent.h"
#include "mem/pagemap.h"

#define PAGES	700

static uint64_t next_random(uint64_t *x)
{
	*x = *x * 6364136223846793005ull + 1442695040888963407ull;
	return *x >> 33;
}

struct seen {
	uint8_t	 page[PAGES];
	uint64_t end;
	unsigned runs;
	unsigned stop_at;
};

static int see(void *arg, uint64_t first, uint64_t pages)
{
	struct seen *s = arg;

	if (++s->runs == s->stop_at)
		return -1;
	assert_true(pages > 0);
	assert_true(s->runs == 1 || first > s->end);	/* joined, ascending */
	assert_true(first + pages <= PAGES);
	memset(s->page + first, 1, pages);
	s->end = first + pages;
	return 0;
}

static void found_are_exactly_those(enum kind kind)
{
	uint8_t want[PAGES] = { 0 };
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };
	struct seen seen;
	uint64_t x = 1;
	struct area a;

	area_make(&a, kind, PAGES * PAGE);
	/* A huge page would touch its neighbours. */
	madvise(a.p, a.bytes, MADV_NOHUGEPAGE);
	area_add(&m, "ram", &a);
	if (a.fd >= 0)
		assert_int_equal(lseek(a.fd, 12345, SEEK_SET), 12345);

	for (int round = 0; round < 20; round++) {
		memset(&seen, 0, sizeof(seen));
		assert_int_equal(ferry_extent_walk(&m.block[0], see, &seen,
						   &e), 0);
		assert_memory_equal(seen.page, want, PAGES);
		for (int i = 0; i < 1 << round % 8; i++) {
			uint64_t at = next_random(&x) % PAGES;

			a.p[at * PAGE + 9] = 1;
			want[at] = 1;
		}
		if (round == 10)
			a.p[0] = a.p[(PAGES - 1) * PAGE] =
				want[0] = want[PAGES - 1] = 1;
	}
	if (a.fd >= 0)
		assert_int_equal(lseek(a.fd, 0, SEEK_CUR), 12345);
	ferry_mem_fini(&m);
	area_free(&a);
}

static void touched_pages_of_a_file_are_found(void **state)
{
	(void)state;
	found_are_exactly_those(MEMFD);
}

static void touched_pages_of_private_memory_are_found(void **state)
{
	(void)state;
	found_are_exactly_those(PRIVATE);
}

static void a_page_touched_through_another_mapping_is_found(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };
	struct seen seen = { 0 };
	struct area a;

	(void)state;
	area_make(&a, MEMFD, PAGES * PAGE);
	area_add(&m, "ram", &a);
	assert_int_equal(pwrite(a.fd, "x", 1, (off_t)(a.fd_offset +
						      41 * PAGE)), 1);
	assert_int_equal(ferry_extent_walk(&m.block[0], see, &seen, &e), 0);
	assert_int_equal(seen.runs, 1);
	assert_int_equal(seen.page[41], 1);
	ferry_mem_fini(&m);
	area_free(&a);
}

static void huge_pages_count_as_touched_where_nobody_knows(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };
	struct seen seen = { 0 };
	struct area a;

	(void)state;
	if (!area_make(&a, HUGE_MEMFD, HUGE)) {
		print_message("no free huge pages of 2 MiB\n");
		skip();
	}
	area_add(&m, "ram", &a);
	assert_int_equal(ferry_extent_walk(&m.block[0], see, &seen, &e), 0);
	assert_int_equal(seen.runs, 1);
	assert_int_equal(seen.end, 512);
	ferry_mem_fini(&m);
	area_free(&a);
}

static void private_huge_pages_are_found(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };
	struct seen seen = { 0 };
	struct area a;

	(void)state;
	if (!area_make(&a, HUGE_PRIVATE, HUGE)) {
		print_message("no free huge pages of 2 MiB\n");
		skip();
	}
	area_add(&m, "ram", &a);
	assert_int_equal(ferry_extent_walk(&m.block[0], see, &seen, &e), 0);
	assert_int_equal(seen.runs, 0);
	a.p[100] = 1;
	assert_int_equal(ferry_extent_walk(&m.block[0], see, &seen, &e), 0);
	assert_int_equal(seen.end, 512);
	ferry_mem_fini(&m);
	area_free(&a);
}

static void a_walk_stops_when_told(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };
	struct area a;

	(void)state;
	for (enum kind k = MEMFD; k <= PRIVATE; k++) {
		struct seen seen = { .stop_at = 2 };

		area_make(&a, k, PAGES * PAGE);
		madvise(a.p, a.bytes, MADV_NOHUGEPAGE);
		area_add(&m, "ram", &a);
		for (unsigned i = 0; i < 10; i++)
			a.p[i * 20 * PAGE] = 1;
		assert_int_equal(ferry_extent_walk(&m.block[0], see, &seen,
						   &e), -1);
		assert_int_equal(seen.runs, 2);
		ferry_mem_fini(&m);
		area_free(&a);
	}
}

static void the_old_way_finds_at_least_as_much(void **state)
{
	struct ferry_mem m = { 0 };
	struct seen seen = { 0 };
	struct ferry_pagemap p;
	struct area a;

	(void)state;
	area_make(&a, PRIVATE, PAGES * PAGE);
	madvise(a.p, a.bytes, MADV_NOHUGEPAGE);
	area_add(&m, "ram", &a);
	a.p[3 * PAGE] = a.p[4 * PAGE] = a.p[(PAGES - 1) * PAGE] = 1;
	assert_int_equal(ferry_pagemap_open(&p), 0);
	assert_int_equal(ferry_pagemap_read(&p, &m.block[0], 3ull << 62, see,
					    &seen), 0);
	assert_int_equal(seen.runs, 2);
	assert_int_equal(seen.page[3] + seen.page[4] + seen.page[PAGES - 1],
			 3);
	ferry_pagemap_close(&p);
	ferry_mem_fini(&m);
	area_free(&a);
}

static void dropped_pages_are_zero_and_untouched(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };
	struct area a;

	(void)state;
	for (enum kind k = MEMFD; k <= PRIVATE; k++) {
		struct seen seen = { 0 };

		area_make(&a, k, 64 * PAGE);
		madvise(a.p, a.bytes, MADV_NOHUGEPAGE);
		area_add(&m, "ram", &a);
		memset(a.p, 1, a.bytes);
		assert_int_equal(ferry_extent_drop(&m.block[0], 10, 5, &e), 0);
		assert_int_equal(ferry_extent_drop(&m.block[0], 0, 0, &e), 0);
		assert_int_equal(ferry_extent_walk(&m.block[0], see, &seen,
						   &e), 0);
		assert_int_equal(seen.runs, 2);
		assert_int_equal(seen.page[9] + seen.page[10] + seen.page[14] +
				 seen.page[15], 2);
		assert_true(ferry_is_zero(a.p + 10 * PAGE, 5 * PAGE));
		assert_int_equal(a.p[9 * PAGE], 1);
		assert_int_equal(a.p[15 * PAGE], 1);
		ferry_mem_fini(&m);
		area_free(&a);
	}
}

static void locked_private_memory_can_be_dropped(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };
	struct area a;

	(void)state;
	area_make(&a, PRIVATE, 8 * PAGE);
	area_add(&m, "ram", &a);
	memset(a.p, 1, a.bytes);
	if (mlock(a.p, a.bytes)) {
		print_message("RLIMIT_MEMLOCK is too low\n");
		skip();
	}
	if (ferry_extent_drop(&m.block[0], 0, 8, &e))
		fail_msg("%s", e.msg);
	assert_true(ferry_is_zero(a.p, a.bytes));
	ferry_mem_fini(&m);
	area_free(&a);
}

static void punched_huge_pages_are_reserved_again(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };
	struct area a, thief;
	long was;

	(void)state;
	if (!area_make(&a, HUGE_MEMFD, 4 * HUGE)) {
		print_message("no free huge pages of 2 MiB\n");
		skip();
	}
	area_add(&m, "ram", &a);
	was = free_huge_pages();
	memset(a.p, 1, a.bytes);
	assert_int_equal(ferry_extent_drop(&m.block[0], 512, 1024, &e), 0);
	assert_int_equal(free_huge_pages(), was + 2);
	assert_int_equal(ferry_extent_reserve(&m.block[0], &e), 0);
	assert_int_equal(free_huge_pages(), was);
	assert_int_equal(ferry_extent_reserve(&m.block[0], &e), 0);
	assert_int_equal(free_huge_pages(), was);

	/* Somebody else takes all that is left. */
	assert_int_equal(ferry_extent_drop(&m.block[0], 512, 512, &e), 0);
	assert_int_equal(ferry_extent_drop(&m.block[0], 1536, 512, &e), 0);
	if (area_make(&thief, HUGE_PRIVATE, (uint64_t)(was + 1) * HUGE)) {
		assert_int_equal(ferry_extent_reserve(&m.block[0], &e), -1);
		assert_int_equal(e.code, FERRY_E_NOMEM);
		assert_non_null(strstr(e.msg, "lack"));
		/* A write to a piece of one would be SIGBUS. */
		assert_int_equal(ferry_extent_populate(&m.block[0], 1600, 8),
				 -ENOMEM);
		area_free(&thief);
	}
	assert_int_equal(ferry_extent_reserve(&m.block[0], &e), 0);
	assert_int_equal(ferry_extent_populate(&m.block[0], 1600, 8), 0);
	assert_int_equal(a.p[1600 * PAGE], 0);
	ferry_mem_fini(&m);
	area_free(&a);
}

static void exactly_those_pages_are_allocated(void **state)
{
	(void)state;
	for (enum kind kind = MEMFD; kind <= PRIVATE; kind++) {
		struct seen seen = { .stop_at = 0 };
		struct ferry_mem m = { 0 };
		struct ferry_err e = { 0 };
		struct area a;

		area_make(&a, kind, PAGES * PAGE);
		madvise(a.p, a.bytes, MADV_NOHUGEPAGE);
		area_add(&m, "ram", &a);
		memset(a.p + 20 * PAGE, 7, PAGE);
		assert_int_equal(ferry_extent_populate(&m.block[0], 10, 90),
				 0);
		assert_int_equal(ferry_extent_walk(&m.block[0], see, &seen,
						   &e), 0);
		assert_int_equal(seen.runs, 1);
		for (unsigned p = 0; p < PAGES; p++)
			assert_int_equal(seen.page[p], p >= 10 && p < 100);
		for (unsigned p = 10; p < 100; p++)
			assert_int_equal(a.p[p * PAGE], p == 20 ? 7 : 0);
		ferry_mem_fini(&m);
		area_free(&a);
	}
}

static void small_pages_need_no_reservation(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };
	struct area a;

	(void)state;
	area_make(&a, MEMFD, 4 * PAGE);
	area_add(&m, "ram", &a);
	assert_int_equal(ferry_extent_reserve(&m.block[0], &e), 0);
	ferry_mem_fini(&m);
	area_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(touched_pages_of_a_file_are_found),
		cmocka_unit_test(touched_pages_of_private_memory_are_found),
		cmocka_unit_test(
			a_page_touched_through_another_mapping_is_found),
		cmocka_unit_test(
			huge_pages_count_as_touched_where_nobody_knows),
		cmocka_unit_test(private_huge_pages_are_found),
		cmocka_unit_test(a_walk_stops_when_told),
		cmocka_unit_test(the_old_way_finds_at_least_as_much),
		cmocka_unit_test(dropped_pages_are_zero_and_untouched),
		cmocka_unit_test(locked_private_memory_can_be_dropped),
		cmocka_unit_test(punched_huge_pages_are_reserved_again),
		cmocka_unit_test(exactly_those_pages_are_allocated),
		cmocka_unit_test(small_pages_need_no_reservation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
