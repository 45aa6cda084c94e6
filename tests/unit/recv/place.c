/* SPDX-License-Identifier: MIT */
/*
 * Placing before the VM runs here: pages are placed, written over, known to be
 * zero, and dropped again; with userfaultfd and without; and host pages that
 * come in pieces.
 */
#include "help.h"

#include <sys/resource.h>

#define PAGES	64u

/* ---- with userfaultfd and without --------------------------------------- */

/* As the target does before the first page; false when this host has no
 * userfaultfd. */
static bool begin(struct rig *r, bool uffd)
{
	if (!uffd)
		return true;	/* nothing was registered */
	assert_ok(ferry_place_begin(&r->place, &r->e));
	if (!ferry_place_can_listen(&r->place, &r->e))
		return true;
	print_message("SKIP with userfaultfd: %s\n", r->e.msg);
	return false;
}

static void memory_is_emptied_first(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	rig_add(&r, PRIVATE, PAGES);
	memset(r.area[0].p, 1, r.area[0].bytes);
	memset(r.area[1].p, 1, r.area[1].bytes);
	rig_init(&r);
	assert_ok(ferry_place_begin(&r.place, &r.e));
	assert_int_equal(allocated(&r, 0), 0);
	ferry_place_end(&r.place);
	for (uint64_t p = 0; p < PAGES; p++)
		assert_true(page_is(&r, 0, p, -1) && page_is(&r, 1, p, -1));
	rig_fini(&r);
}

static void pages_that_arrive_are_memory(void **state)
{
	(void)state;
	for (int uffd = 0; uffd < 2; uffd++)
		for (enum kind kind = MEMFD; kind <= PRIVATE; kind++) {
			struct rig r = { 0 };

			rig_add(&r, kind, PAGES);
			rig_init(&r);
			if (!begin(&r, uffd)) {
				rig_fini(&r);
				continue;
			}
			assert_ok(put(&r, 0, 0, 1, 1));
			assert_ok(put(&r, 0, 10, 30, 1));
			assert_true(ferry_map_is_here(&r.map, 0, 39));
			assert_false(ferry_map_is_here(&r.map, 0, 40));
			assert_int_equal(ferry_map_missing(&r.map),
					 PAGES - 31);
			assert_int_equal(ferry_counted(&r.place.normal_pages),
					 31);
			ferry_place_complete(&r.place);
			for (uint64_t p = 0; p < PAGES; p++)
				assert_true(page_is(&r, 0, p, p == 0 ||
					    (p >= 10 && p < 40) ? 1 : -1));
			rig_fini(&r);
		}
}

static void what_is_here_is_written_over(void **state)
{
	(void)state;
	for (int uffd = 0; uffd < 2; uffd++) {
		struct rig r = { 0 };

		rig_add(&r, MEMFD, PAGES);
		rig_init(&r);
		if (!begin(&r, uffd)) {
			rig_fini(&r);
			continue;
		}
		/* Here, missing, zero, here: one run over all of them. */
		assert_ok(put(&r, 0, 4, 4, 1));
		assert_ok(put_zeroes(&r, 0, 12, 4));
		assert_ok(put(&r, 0, 16, 4, 1));
		assert_ok(put(&r, 0, 4, 16, 2));
		for (uint64_t p = 4; p < 20; p++) {
			assert_true(ferry_map_is_here(&r.map, 0, p));
			assert_true(page_is(&r, 0, p, 2));
		}
		rig_fini(&r);
	}
}

static void zero_pages_that_were_never_here_stay_unallocated(void **state)
{
	(void)state;
	for (int uffd = 0; uffd < 2; uffd++) {
		struct rig r = { 0 };

		rig_add(&r, MEMFD, PAGES);
		rig_init(&r);
		if (!begin(&r, uffd)) {
			rig_fini(&r);
			continue;
		}
		assert_ok(put_zeroes(&r, 0, 0, PAGES));
		assert_int_equal(allocated(&r, 0), 0);
		assert_int_equal(ferry_map_missing(&r.map), 0);
		assert_true(ferry_map_is_zero(&r.map, 0, 5));
		assert_false(ferry_map_is_here(&r.map, 0, 5));
		assert_int_equal(ferry_counted(&r.place.zero_pages), PAGES);
		ferry_place_complete(&r.place);
		assert_true(page_is(&r, 0, 5, -1));
		rig_fini(&r);
	}
}

static void zeroes_over_what_is_here_are_zeroes(void **state)
{
	(void)state;
	for (int uffd = 0; uffd < 2; uffd++) {
		struct rig r = { 0 };

		rig_add(&r, MEMFD, PAGES);
		rig_init(&r);
		if (!begin(&r, uffd)) {
			rig_fini(&r);
			continue;
		}
		assert_ok(put(&r, 0, 8, 4, 1));
		assert_ok(put_zeroes(&r, 0, 6, 8));
		assert_int_equal(allocated(&r, 0), 4 * PAGE);
		ferry_place_complete(&r.place);
		for (uint64_t p = 6; p < 14; p++)
			assert_true(page_is(&r, 0, p, -1));
		rig_fini(&r);
	}
}

static void what_the_embedder_touched_is_written_over(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	rig_init(&r);
	if (!begin(&r, true)) {
		rig_fini(&r);
		skip();
	}
	/* Behind the engine's back, by another mapping. */
	assert_int_equal(pwrite(r.area[0].fd, "x", 1, (off_t)
				(r.area[0].fd_offset + 3 * PAGE)), 1);
	assert_ok(put(&r, 0, 0, 8, 1));
	for (uint64_t p = 0; p < 8; p++)
		assert_true(page_is(&r, 0, p, 1));
	rig_fini(&r);
}

/* Whoever was told that there is no postcopy is not told otherwise later, nor
 * the other way round. */
static void what_begin_found_is_the_answer_until_the_next(void **state)
{
	struct rlimit full = { 0 }, before;
	struct ferry_err e = { 0 };
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	rig_init(&r);
	assert_ok(getrlimit(RLIMIT_NOFILE, &before));
	full.rlim_max = before.rlim_max;
	assert_ok(setrlimit(RLIMIT_NOFILE, &full));
	assert_ok(ferry_place_begin(&r.place, &e));
	assert_ok(setrlimit(RLIMIT_NOFILE, &before));
	for (int i = 0; i < 2; i++) {
		e = (struct ferry_err){ 0 };
		assert_int_equal(ferry_place_can_listen(&r.place, &e), -1);
		assert_non_null(strstr(e.msg, "userfaultfd cannot be opened"));
	}
	/* Nor may what is here be lost, or a missing page not be seen. */
	assert_ok(put(&r, 0, 0, 4, 1));
	assert_int_equal(ferry_place_listen(&r.place, &e), -1);
	assert_non_null(strstr(e.msg, "userfaultfd cannot be opened"));
	assert_true(page_is(&r, 0, 3, 1));

	if (begin(&r, true)) {
		assert_ok(setrlimit(RLIMIT_NOFILE, &full));
		assert_ok(ferry_place_can_listen(&r.place, &e));
		assert_ok(ferry_place_listen(&r.place, &e));
		assert_ok(setrlimit(RLIMIT_NOFILE, &before));
	}
	rig_fini(&r);
}

/* ---- discards ----------------------------------------------------------- */

static void discarded_pages_are_missing_and_gone(void **state)
{
	(void)state;
	for (enum kind kind = MEMFD; kind <= PRIVATE; kind++) {
		struct rig r = { 0 };

		rig_add(&r, kind, PAGES);
		rig_init(&r);
		assert_ok(put(&r, 0, 0, PAGES, 1));
		assert_ok(ferry_place_discard(&r.place, block(&r, 0), 10, 20,
					      &r.e));
		assert_int_equal(ferry_map_missing(&r.map), 20);
		if (kind == MEMFD)
			assert_int_equal(allocated(&r, 0),
					 (PAGES - 20) * PAGE);
		for (uint64_t p = 0; p < PAGES; p++)
			assert_true(page_is(&r, 0, p, p >= 10 && p < 30 ? -1 :
					    1));
		assert_ok(put(&r, 0, 10, 20, 2));
		assert_true(page_is(&r, 0, 10, 2) && page_is(&r, 0, 29, 2));
		rig_fini(&r);
	}
}

static void a_discard_goes_across_gaps(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	rig_init(&r);
	assert_ok(put(&r, 0, 5, 2, 1));
	assert_ok(put_zeroes(&r, 0, 20, 2));
	assert_ok(put(&r, 0, 40, 2, 1));
	assert_ok(put(&r, 0, 60, 1, 1));
	assert_ok(ferry_place_discard(&r.place, block(&r, 0), 0, 50, &r.e));
	assert_int_equal(allocated(&r, 0), PAGE);
	assert_int_equal(ferry_map_missing(&r.map), PAGES - 1);
	assert_true(page_is(&r, 0, 60, 1));
	rig_fini(&r);
}

static void discarding_what_never_came_is_nothing(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	rig_init(&r);
	/* It would fail if the file were asked. */
	close(r.area[0].fd);
	r.area[0].fd = -1;
	assert_ok(put_zeroes(&r, 0, 3, 1));
	assert_ok(ferry_place_discard(&r.place, block(&r, 0), 0, PAGES, &r.e));
	assert_int_equal(ferry_map_missing(&r.map), PAGES);
	assert_ok(put(&r, 0, 3, 1, 1));
	assert_int_equal(ferry_place_discard(&r.place, block(&r, 0), 3, 1,
					     &r.e), -1);
	assert_says(&r.e, FERRY_E_IO, "block a: drop 1 pages at 3");
	rig_fini(&r);
}

/* ---- pieces of huge pages, before LISTEN -------------------------------- */

static void before_listen_pieces_go_straight_to_memory(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add_huge_in_name(&r, 2 * HUGE_PAGES);
	rig_init(&r);
	assert_ok(put(&r, 0, 700, 3, 1));
	assert_ok(put(&r, 0, 5, 1, 1));
	assert_true(page_is(&r, 0, 702, 1) && page_is(&r, 0, 5, 1));
	assert_true(ferry_map_is_here(&r.map, 0, 701));
	assert_false(ferry_map_is_here(&r.map, 0, 703));
	rig_fini(&r);
}

static void a_host_page_that_is_here_in_part_is_not_listened_for(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, PRIVATE, 4);
	rig_add_huge_in_name(&r, 2 * HUGE_PAGES);
	rig_init(&r);
	ferry_map_set_zero(&r.map, 0, 0, 4);
	ferry_map_set_here(&r.map, 1, 0, HUGE_PAGES);
	ferry_map_set_here(&r.map, 1, HUGE_PAGES, 1);
	assert_int_equal(ferry_place_listen(&r.place, &r.e), -1);
	assert_says(&r.e, FERRY_E_PROTO, "block b: a host page is owed in part "
		    "only");
	rig_fini(&r);
}

/* ---- pieces of huge pages, after LISTEN --------------------------------- */

struct piece {
	unsigned	 block;
	uint64_t	 first, n;
	bool		 zero;
};

static const struct {
	const char *why;
	struct piece piece[3];	/* the last one is refused */
	unsigned n;
	const char *says;
} torn[] = {
	{ "begins in the midst", { { 0, 1, 1, 0 } }, 1,
		"page 1 does not begin a host page" },
	{ "zeroes begin in the midst", { { 0, 511, 1, 1 } }, 1,
		"page 511 does not begin" },
	{ "a gap", { { 0, 0, 4, 0 }, { 0, 5, 1, 0 } }, 2,
		"page 5 in the midst of host page 0" },
	{ "the same piece twice", { { 0, 0, 4, 0 }, { 0, 0, 4, 0 } }, 2,
		"page 0 in the midst" },
	{ "backwards", { { 0, 512, 4, 0 }, { 0, 515, 1, 1 } }, 2,
		"page 515 in the midst of host page 512" },
	{ "the next host page before this is whole",
		{ { 0, 0, 511, 0 }, { 0, 512, 1, 0 } }, 2,
		"page 512 in the midst of host page 0" },
	{ "another block's", { { 0, 0, 4, 0 }, { 1, 4, 1, 0 } }, 2,
		"block b: page 4 in the midst of host page 0 of block a" },
};

static void pieces_out_of_order_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(torn); i++) {
		struct rig r = { 0 };
		int rc = 0;

		rig_add_huge_in_name(&r, 2 * HUGE_PAGES);
		rig_add_huge_in_name(&r, 2 * HUGE_PAGES);
		rig_init(&r);
		atomic_store(&r.place.ops, &ferry_place_postcopy);
		for (unsigned k = 0; k < torn[i].n; k++) {
			const struct piece *p = &torn[i].piece[k];

			assert_ok(rc);
			rc = p->zero ?
			     put_zeroes(&r, p->block, p->first, p->n) :
			     put(&r, p->block, p->first, p->n, 1);
		}
		if (!rc)
			fail_msg("%s: taken", torn[i].why);
		assert_says(&r.e, FERRY_E_PROTO, torn[i].says);
		rig_fini(&r);
	}
}

static void all_zero_pieces_are_a_note_and_no_page(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add_huge_in_name(&r, 2 * HUGE_PAGES);
	rig_init(&r);
	atomic_store(&r.place.ops, &ferry_place_postcopy);
	for (uint64_t p = HUGE_PAGES; p < 2 * HUGE_PAGES; p += 128)
		assert_ok(put_zeroes(&r, 0, p, 128));
	assert_int_equal(ferry_map_missing(&r.map), HUGE_PAGES);
	assert_true(ferry_map_is_zero(&r.map, 0, 2 * HUGE_PAGES - 1));
	assert_false(ferry_map_is_here(&r.map, 0, HUGE_PAGES));
	rig_fini(&r);
}

/* ---- the end ------------------------------------------------------------ */

static void what_comes_after_the_end_is_dropped_and_counted(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	rig_init(&r);
	assert_ok(put(&r, 0, 0, 2, 1));
	ferry_place_end(&r.place);
	assert_ok(put(&r, 0, 0, 4, 2));
	assert_ok(put_zeroes(&r, 0, 1, 3));
	assert_int_equal(ferry_counted(&r.place.dropped_pages), 7);
	assert_true(page_is(&r, 0, 0, 1) && page_is(&r, 0, 1, 1));
	assert_true(page_is(&r, 0, 2, -1));
	ferry_place_end(&r.place);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_emptied_first),
		cmocka_unit_test(pages_that_arrive_are_memory),
		cmocka_unit_test(what_is_here_is_written_over),
		cmocka_unit_test(
			zero_pages_that_were_never_here_stay_unallocated),
		cmocka_unit_test(zeroes_over_what_is_here_are_zeroes),
		cmocka_unit_test(what_the_embedder_touched_is_written_over),
		cmocka_unit_test(
			what_begin_found_is_the_answer_until_the_next),
		cmocka_unit_test(discarded_pages_are_missing_and_gone),
		cmocka_unit_test(a_discard_goes_across_gaps),
		cmocka_unit_test(discarding_what_never_came_is_nothing),
		cmocka_unit_test(before_listen_pieces_go_straight_to_memory),
		cmocka_unit_test(
			a_host_page_that_is_here_in_part_is_not_listened_for),
		cmocka_unit_test(pieces_out_of_order_are_refused),
		cmocka_unit_test(all_zero_pieces_are_a_note_and_no_page),
		cmocka_unit_test(
			what_comes_after_the_end_is_dropped_and_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
