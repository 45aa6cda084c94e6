/* SPDX-License-Identifier: MIT */
/*
 * Verify mode at the target: what came is compared with what the source has.
 */
#include "help.h"

#include "base/sum.h"

#define PAGES	32u

struct sums_rig {
	struct rig	r;
	struct ferry_sums sums;
};

static void setup(struct sums_rig *t)
{
	*t = (struct sums_rig){ 0 };
	rig_add(&t->r, PRIVATE, PAGES);
	rig_add(&t->r, PRIVATE, PAGES);
	rig_init(&t->r);
	assert_ok(ferry_sums_init(&t->sums, &t->r.mem, &t->r.e));
	t->r.place.sums = &t->sums;
}

static void teardown(struct sums_rig *t)
{
	ferry_sums_fini(&t->sums);
	rig_fini(&t->r);
}

/* The source says that it has version v of these pages, -1: zeroes. */
static int said(struct sums_rig *t, unsigned i, uint64_t first, uint64_t n,
		int v, const struct ferry_map *still)
{
	uint8_t page[PAGE] = { 0 }, octets[4 * PAGES];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
	struct ferry_verify theirs = { .first = first, .pages = (uint32_t)n };

	for (uint64_t p = first; p < first + n; p++) {
		if (v >= 0)
			fill_page(page, p, (unsigned)v);
		ferry_wr_be32(&w, ferry_page_sum(page));
	}
	theirs.left = ferry_rd_over(octets, ferry_wr_used(&w));
	return ferry_sums_compare(&t->sums, block(&t->r, i), &theirs, still,
				  &t->r.e);
}

static void what_came_last_is_what_counts(void **state)
{
	(void)state;
	for (int runs = 0; runs < 2; runs++) {
		const struct ferry_map *still;
		struct sums_rig t;

		setup(&t);
		still = runs ? NULL : &t.r.map;
		assert_ok(put(&t.r, 0, 0, 8, 1));
		assert_ok(put(&t.r, 0, 2, 2, 2));
		assert_ok(put_zeroes(&t.r, 0, 5, 1));
		assert_ok(put_zeroes(&t.r, 1, 7, 3));
		assert_ok(said(&t, 0, 0, 2, 1, still));
		assert_ok(said(&t, 0, 2, 2, 2, still));
		assert_ok(said(&t, 0, 4, 1, 1, still));
		assert_ok(said(&t, 0, 5, 1, -1, still));
		assert_ok(said(&t, 0, 6, 2, 1, still));
		assert_ok(ferry_sums_end(&t.sums, still, &t.r.e));
		assert_int_equal(t.sums.compared, 2 * PAGES);
		teardown(&t);
	}
}

/* In postcopy a page that somebody asked for may come twice, late. */
static void a_second_copy_does_not_undo_a_comparison(void **state)
{
	struct sums_rig t;

	(void)state;
	setup(&t);
	assert_ok(put(&t.r, 0, 0, PAGES, 1));
	assert_ok(said(&t, 0, 0, PAGES, 1, NULL));
	assert_ok(put(&t.r, 0, 4, 2, 1));
	assert_ok(ferry_sums_end(&t.sums, NULL, &t.r.e));
	teardown(&t);
}

/* The one that was placed first counts, and the other says that one is wrong. */
static void of_two_copies_that_differ_one_is_wrong(void **state)
{
	static const struct {
		const char *what;
		uint32_t pass[2];
		int version[2];
		int says;		/* the source */
		bool wrong;
	} rows[] = {
		{ "equal", { 0, 0 }, { 1, 1 }, 1, false },
		{ "the first is wrong", { 0, 0 }, { 2, 1 }, 1, true },
		{ "the second is wrong", { 0, 0 }, { 1, 2 }, 1, true },
		{ "changed before the switchover", { 1, 0 }, { 2, 1 }, 1,
		  false },
		{ "changed between passes", { 1, 2 }, { 2, 1 }, 1, false },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct sums_rig t;
		int rc;

		setup(&t);
		for (unsigned k = 0; k < 2; k++) {
			t.r.placer.way = ferry_sums_way(FERRY_SUMS_URGENT + k,
							rows[i].pass[k]);
			assert_ok(put(&t.r, 0, 3, 1,
				      (unsigned)rows[i].version[k]));
		}
		rc = said(&t, 0, 3, 1, rows[i].says, NULL);
		if (rc != -rows[i].wrong)
			fail_msg("%s: %d", rows[i].what, rc);
		if (rc)
			assert_says(&t.r.e, FERRY_E_MISMATCH, "page 3 has come "
				    "twice, not the same; the first came after "
				    "the switchover over channel urgent 0");
		teardown(&t);
	}
}

static void a_page_that_differs_is_named_with_its_way(void **state)
{
	static const struct {
		unsigned channel;
		uint32_t pass;
		const char *says;
	} rows[] = {
		{ FERRY_SUMS_MAIN, 1, "block b page 4 has the sum " },
		{ FERRY_SUMS_MAIN, 1, "it came in pass 1 over channel main" },
		{ FERRY_SUMS_DATA + 63, 2, "in pass 2 over channel data 63" },
		{ FERRY_SUMS_DATA, 1u << 30, "in pass 2097151 over channel "
						"data 0" },
		{ FERRY_SUMS_URGENT + 7, 0, "it came after the switchover "
					    "over channel urgent 7" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct sums_rig t;

		setup(&t);
		t.r.placer.way = ferry_sums_way(rows[i].channel, rows[i].pass);
		assert_ok(put(&t.r, 1, 4, 1, 1));
		assert_int_equal(said(&t, 1, 4, 1, 2, NULL), -1);
		assert_says(&t.r.e, FERRY_E_MISMATCH, rows[i].says);
		teardown(&t);
	}
}

static void a_page_that_never_came_is_found(void **state)
{
	struct sums_rig t;

	(void)state;
	setup(&t);
	assert_int_equal(said(&t, 0, 3, 1, 1, &t.r.map), -1);
	assert_says(&t.r.e, FERRY_E_MISMATCH, "page 3 never came, and is not "
		    "zero at the source");
	teardown(&t);
}

static void what_the_source_does_not_name_must_be_zero(void **state)
{
	struct sums_rig t;

	(void)state;
	setup(&t);
	assert_ok(put(&t.r, 1, 31, 1, 1));
	assert_int_equal(ferry_sums_end(&t.sums, NULL, &t.r.e), -1);
	assert_says(&t.r.e, FERRY_E_MISMATCH, "block b page 31");
	teardown(&t);
}

/* As long as nobody runs here memory itself is looked at. */
static void what_was_changed_here_is_found_before_the_vm_runs(void **state)
{
	struct sums_rig t;

	(void)state;
	setup(&t);
	assert_ok(put(&t.r, 0, 0, 2, 1));
	t.r.area[0].p[PAGE + 17] ^= 1;
	assert_ok(said(&t, 0, 0, 1, 1, &t.r.map));
	assert_int_equal(said(&t, 0, 1, 1, 1, &t.r.map), -1);
	assert_says(&t.r.e, FERRY_E_MISMATCH, "and was changed here");
	/* When it runs, that is its right. */
	assert_ok(said(&t, 0, 1, 1, 1, NULL));
	teardown(&t);
}

static void sums_that_cannot_be_are_refused(void **state)
{
	struct sums_rig t;

	(void)state;
	setup(&t);
	assert_int_equal(said(&t, 0, PAGES - 1, 2, -1, NULL), -1);
	assert_says(&t.r.e, FERRY_E_PROTO, "are outside");
	assert_ok(said(&t, 0, 1, 1, -1, NULL));
	assert_int_equal(said(&t, 0, 0, 2, -1, NULL), -1);
	assert_says(&t.r.e, FERRY_E_PROTO, "page 1 came twice");
	teardown(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_came_last_is_what_counts),
		cmocka_unit_test(a_second_copy_does_not_undo_a_comparison),
		cmocka_unit_test(of_two_copies_that_differ_one_is_wrong),
		cmocka_unit_test(a_page_that_differs_is_named_with_its_way),
		cmocka_unit_test(a_page_that_never_came_is_found),
		cmocka_unit_test(what_the_source_does_not_name_must_be_zero),
		cmocka_unit_test(
			what_was_changed_here_is_found_before_the_vm_runs),
		cmocka_unit_test(sums_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
