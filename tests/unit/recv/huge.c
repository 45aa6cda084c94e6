/* SPDX-License-Identifier: MIT */
/*
 * Transparent huge pages: private memory is filled by them as long as nothing
 * is owed to a VM that runs; from then on what is missing is absent, whatever
 * huge page lay over it.
 *
 * Skipped where there are none.
 */
#include "help.h"

/* Room for two that are aligned. */
#define PAGES	(3 * HUGE_PAGES)

/* The first page of the block that begins a huge one. */
static uint64_t aligned(struct rig *r)
{
	return (-(uintptr_t)r->area[0].p % HUGE) / PAGE;
}

static bool is_present(struct rig *r, uint64_t page)
{
	unsigned char there;

	assert_ok(mincore(r->area[0].p + page * PAGE, PAGE, &there));
	return there & 1;
}

static bool none_is_present(struct rig *r, uint64_t first, uint64_t n)
{
	for (uint64_t p = first; p < first + n; p++)
		if (is_present(r, p))
			return false;
	return true;
}

/* As the target does before the first page.  Returns what aligned() does. */
static uint64_t begin(struct rig *r)
{
	rig_add(r, PRIVATE, PAGES);
	rig_init(r);
	assert_ok(ferry_place_begin(&r->place, &r->e));
	return aligned(r);
}

static void listen_or_skip(struct rig *r)
{
	if (!ferry_place_can_listen(&r->place, &r->e)) {
		if (ferry_place_listen(&r->place, &r->e))
			fail_msg("%s", r->e.msg);
		return;
	}
	print_message("SKIP: %s\n", r->e.msg);
	rig_fini(r);
	skip();
}

static bool host_has_them(void)
{
	struct rig r = { 0 };
	uint64_t at;
	bool has;

	rig_add(&r, PRIVATE, PAGES);
	rig_init(&r);
	at = aligned(&r);
	(void)madvise(r.area[0].p, r.area[0].bytes, MADV_HUGEPAGE);
	r.area[0].p[at * PAGE] = 1;
	has = is_present(&r, at + 1);
	rig_fini(&r);
	return has;
}

static void precopy_fills_huge_pages(void **state)
{
	struct rig r = { 0 };
	uint64_t at = begin(&r);

	(void)state;
	assert_ok(put(&r, 0, at + 3, 1, 1));
	assert_true(is_present(&r, at + HUGE_PAGES - 1));
	assert_true(page_is(&r, 0, at + 3, 1));
	assert_int_equal(ferry_map_missing(&r.map), PAGES - 1);
	rig_fini(&r);
}

static void what_is_missing_at_listen_is_absent(void **state)
{
	struct rig r = { 0 };
	uint64_t at = begin(&r);

	(void)state;
	assert_ok(put(&r, 0, at + 3, 4, 1));
	assert_ok(put(&r, 0, at + HUGE_PAGES, HUGE_PAGES, 1));
	listen_or_skip(&r);
	assert_true(none_is_present(&r, at, 3));
	assert_true(none_is_present(&r, at + 7, HUGE_PAGES - 7));
	for (uint64_t p = at + 3; p < at + 7; p++)
		assert_true(page_is(&r, 0, p, 1));
	/* And what has all come stays as it is: huge. */
	for (uint64_t p = at + HUGE_PAGES; p < at + 2 * HUGE_PAGES; p++)
		assert_true(page_is(&r, 0, p, 1));

	/* Its one copy is not taken for a second. */
	assert_ok(put(&r, 0, at, 3, 2));
	assert_int_equal(ferry_counted(&r.place.dropped_pages), 0);
	assert_true(page_is(&r, 0, at + 2, 2));
	rig_fini(&r);
}

static void a_missing_page_in_a_huge_one_is_waited_for(void **state)
{
	struct toucher t = { 0 };
	struct rig r = { 0 };
	uint64_t at = begin(&r);

	(void)state;
	assert_ok(put(&r, 0, at, HUGE_PAGES, 1));
	assert_ok(ferry_place_discard(&r.place, block(&r, 0), at + 9, 1,
				      &r.e));
	listen_or_skip(&r);
	touch(&t, r.area[0].p + (at + 9) * PAGE);
	await_fault(&r.place);
	assert_int_equal(atomic_load(&t.got), -1);
	assert_ok(put(&r, 0, at + 9, 1, 2));
	assert_int_equal(touched(&t), octet(at + 9, 2));
	assert_true(page_is(&r, 0, at + 8, 1));
	assert_true(page_is(&r, 0, at + 10, 1));
	rig_fini(&r);
}

/* It was never written, and yet it lies there. */
static void a_zero_page_in_a_huge_one_is_dropped_by_a_discard(void **state)
{
	struct rig r = { 0 };
	uint64_t at = begin(&r);

	(void)state;
	assert_ok(put_zeroes(&r, 0, at, HUGE_PAGES));
	assert_ok(put(&r, 0, at, 1, 1));
	assert_true(is_present(&r, at + 20));
	assert_ok(ferry_place_discard(&r.place, block(&r, 0), at + 16, 8,
				      &r.e));
	assert_true(none_is_present(&r, at + 16, 8));
	assert_int_equal(ferry_map_missing(&r.map), PAGES - HUGE_PAGES + 8);
	listen_or_skip(&r);
	assert_ok(put(&r, 0, at + 16, 8, 2));
	assert_int_equal(ferry_counted(&r.place.dropped_pages), 0);
	assert_true(page_is(&r, 0, at + 23, 2));
	rig_fini(&r);
}

/* Passes may go on behind a discard. */
static void behind_a_discard_no_huge_page_appears(void **state)
{
	struct rig r = { 0 };
	uint64_t at = begin(&r);

	(void)state;
	assert_ok(put(&r, 0, at, 1, 1));
	assert_ok(ferry_place_discard(&r.place, block(&r, 0), at, 1, &r.e));
	assert_true(none_is_present(&r, at, HUGE_PAGES));
	assert_ok(put(&r, 0, at + 2, 1, 1));
	assert_ok(put(&r, 0, at + HUGE_PAGES, 1, 1));
	assert_true(none_is_present(&r, at, 2));
	assert_true(none_is_present(&r, at + 3, HUGE_PAGES - 3));
	assert_true(none_is_present(&r, at + HUGE_PAGES + 1, HUGE_PAGES - 1));
	assert_true(page_is(&r, 0, at + 2, 1));
	rig_fini(&r);
}

struct writer {
	struct ferry_thread thread;
	struct rig	*r;
	uint64_t	 first;
	_Atomic bool	 runs;
};

/* Every other page of a huge one. */
static void write_on(void *arg)
{
	struct writer *w = arg;

	atomic_store(&w->runs, true);
	for (uint64_t p = w->first; p < w->first + HUGE_PAGES; p += 2)
		assert_ok(put(w->r, 0, p, 1, 1));
}

static void what_arrives_while_missing_pages_are_dropped_stays(void **state)
{
	(void)state;
	for (int round = 0; round < 30; round++) {
		struct rig r = { 0 };
		struct writer w = { .r = &r, .first = begin(&r) };
		struct ferry_err e = { 0 };

		assert_ok(ferry_thread_start(&w.thread, "writer", write_on, &w,
					     &e));
		while (!atomic_load(&w.runs))
			;
		assert_ok(ferry_place_discard(&r.place, block(&r, 0),
					      w.first + 1, 1, &e));
		ferry_thread_join(&w.thread);
		for (uint64_t p = w.first; p < w.first + HUGE_PAGES; p += 2)
			assert_true(page_is(&r, 0, p, 1));
		rig_fini(&r);
	}
}

static void at_the_end_huge_pages_may_come_again(void **state)
{
	struct rig r = { 0 };
	uint64_t at = begin(&r);

	(void)state;
	listen_or_skip(&r);
	ferry_place_end(&r.place);
	r.area[0].p[at * PAGE] = 1;
	assert_true(is_present(&r, at + 1));
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(precopy_fills_huge_pages),
		cmocka_unit_test(what_is_missing_at_listen_is_absent),
		cmocka_unit_test(a_missing_page_in_a_huge_one_is_waited_for),
		cmocka_unit_test(
			a_zero_page_in_a_huge_one_is_dropped_by_a_discard),
		cmocka_unit_test(behind_a_discard_no_huge_page_appears),
		cmocka_unit_test(
			what_arrives_while_missing_pages_are_dropped_stays),
		cmocka_unit_test(at_the_end_huge_pages_may_come_again),
	};

	need(host_has_them(), "this host gives no transparent huge pages "
	     "(/sys/kernel/mm/transparent_hugepage/enabled)");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
