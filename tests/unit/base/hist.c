/* SPDX-License-Identifier: MIT */
/* The histogram and its percentiles. */
#include "help.h"

#include "base/hist.h"
#include "base/thread.h"

#define FIRST	((uint64_t)FERRY_HIST_FIRST_NS)

static void each_value_falls_into_the_bucket_that_bounds_it(void **state)
{
	(void)state;
	for (unsigned i = 0; i < FERRY_HIST_BUCKETS - 1; i++) {
		uint64_t out[FERRY_HIST_BUCKETS];
		struct ferry_hist h = { 0 };

		ferry_hist_add(&h, (FIRST << i) - 1);
		ferry_hist_add(&h, FIRST << i);
		ferry_hist_read(&h, out);
		assert_int_equal(out[i], 1);
		assert_int_equal(out[i + 1], 1);
		assert_int_equal(h.max_ns, FIRST << i);
		assert_int_equal(h.sum_ns, 2 * (FIRST << i) - 1);
	}
}

static void the_extremes_have_a_bucket_too(void **state)
{
	uint64_t out[FERRY_HIST_BUCKETS];
	struct ferry_hist h = { 0 };

	(void)state;
	ferry_hist_add(&h, 0);
	ferry_hist_add(&h, UINT64_MAX);
	ferry_hist_read(&h, out);
	assert_int_equal(out[0], 1);
	assert_int_equal(out[FERRY_HIST_BUCKETS - 1], 1);
	assert_int_equal(h.max_ns, UINT64_MAX);
}

static void an_empty_histogram_has_no_percentile(void **state)
{
	uint64_t out[FERRY_HIST_BUCKETS] = { 0 };

	(void)state;
	assert_int_equal(ferry_hist_percentile_ns(out, 50), 0);
}

static void percentiles_are_interpolated_in_their_bucket(void **state)
{
	/* 100 values: 90 from 1024 to 2048 ns, 10 from 8192 to 16384 ns. */
	uint64_t out[FERRY_HIST_BUCKETS] = { [1] = 90, [4] = 10 };
	static const struct { double p; uint64_t ns; } want[] = {
		{ 0, 1024 }, { 45, 1536 }, { 90, 2048 }, { 95, 12288 },
		{ 100, 16384 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(want); i++)
		assert_in_range(ferry_hist_percentile_ns(out, want[i].p),
				want[i].ns - 1, want[i].ns + 1);
}

static void percentiles_never_fall(void **state)
{
	struct ferry_hist h = { 0 };
	uint64_t out[FERRY_HIST_BUCKETS], last = 0;

	(void)state;
	for (uint64_t i = 1; i < 1000; i++)
		ferry_hist_add(&h, i * i * 100);
	ferry_hist_read(&h, out);
	for (double p = 0; p <= 100; p += 0.1) {
		uint64_t ns = ferry_hist_percentile_ns(out, p);

		assert_true(ns >= last);
		last = ns;
	}
	/* Right to the bucket: the largest is 99.8 ms. */
	assert_in_range(last, 99800100, 2 * 99800100);
}

static void nonsense_percentiles_stay_in_range(void **state)
{
	uint64_t out[FERRY_HIST_BUCKETS] = { [3] = 5 };

	(void)state;
	assert_in_range(ferry_hist_percentile_ns(out, -5), 4096, 8192);
	assert_in_range(ferry_hist_percentile_ns(out, 200), 4096,
			FIRST << (FERRY_HIST_BUCKETS - 1));
}

#define ADDS	10000

static void add_many(void *arg)
{
	for (uint64_t i = 0; i < ADDS; i++)
		ferry_hist_add(arg, i);
}

static void many_threads_lose_nothing(void **state)
{
	uint64_t out[FERRY_HIST_BUCKETS], total = 0;
	struct ferry_thread t[3] = { 0 };
	struct ferry_hist h = { 0 };

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(t); i++)
		assert_ok(ferry_thread_start(&t[i], "add", add_many, &h,
					     NULL));
	for (size_t i = 0; i < FERRY_LEN(t); i++)
		ferry_thread_join(&t[i]);
	ferry_hist_read(&h, out);
	for (size_t i = 0; i < FERRY_HIST_BUCKETS; i++)
		total += out[i];
	assert_int_equal(total, 3 * ADDS);
	assert_int_equal(h.sum_ns, 3ull * ADDS * (ADDS - 1) / 2);
	assert_int_equal(h.max_ns, ADDS - 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			each_value_falls_into_the_bucket_that_bounds_it),
		cmocka_unit_test(the_extremes_have_a_bucket_too),
		cmocka_unit_test(an_empty_histogram_has_no_percentile),
		cmocka_unit_test(percentiles_are_interpolated_in_their_bucket),
		cmocka_unit_test(percentiles_never_fall),
		cmocka_unit_test(nonsense_percentiles_stay_in_range),
		cmocka_unit_test(many_threads_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
