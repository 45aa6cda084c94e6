/* SPDX-License-Identifier: MIT */
/* The token bucket, with a clock of the test's own. */
#include "help.h"

#include "base/clock.h"

#define S	FERRY_NS_PER_S
#define MS	FERRY_NS_PER_MS
#define RATE	1000000ull	/* one octet each microsecond */
#define BURST	(5 * MS)

static void the_first_octets_pass_at_once(void **state)
{
	struct ferry_bucket b = { 0 };

	(void)state;
	assert_int_equal(ferry_bucket_take(&b, S, 1000, RATE, BURST), 0);
}

static void what_has_passed_is_paid_for_before_the_next(void **state)
{
	struct ferry_bucket b = { .free_at_ns = S };

	(void)state;
	assert_int_equal(ferry_bucket_take(&b, S, 10000, RATE, 0), 0);
	assert_int_equal(ferry_bucket_take(&b, S, 0, RATE, 0), 10 * MS);
	assert_int_equal(ferry_bucket_take(&b, S + 4 * MS, 0, RATE, 0),
			 6 * MS);
	assert_int_equal(ferry_bucket_take(&b, S + 10 * MS, 0, RATE, 0), 0);
}

/* A sender that always waits as told, for ten seconds. */
static void the_rate_is_kept_to_the_octet(void **state)
{
	static const uint64_t rates[] = { 1000, 12345, 1000000, 125000000,
					  12500000000ull };
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rates); i++) {
		uint64_t now = 100 * S, piece = rates[i] / 100 + 1, sent = 0;
		struct ferry_bucket b = { .free_at_ns = now };
		uint64_t want;

		while (now < 110 * S) {
			now += ferry_bucket_take(&b, now, piece, rates[i],
						 BURST);
			sent += piece;
		}
		want = rates[i] * 10;
		assert_in_range(sent, want, want + want / 1000 + 2 * piece);
	}
}

static void a_late_sender_catches_up_by_the_burst_only(void **state)
{
	struct ferry_bucket b = { 0 };

	(void)state;
	assert_int_equal(ferry_bucket_take(&b, 100 * S, 5000, RATE, BURST), 0);
	assert_int_equal(ferry_bucket_take(&b, 100 * S, 1, RATE, BURST), 0);
	/* The 5 ms that were saved up are spent. */
	assert_int_equal(ferry_bucket_take(&b, 100 * S, 0, RATE, BURST), 1000);
}

static void no_rate_is_no_limit_and_forgives(void **state)
{
	struct ferry_bucket b = { .free_at_ns = 2 * S };

	(void)state;
	assert_int_equal(ferry_bucket_take(&b, S, 1ull << 40, 0, BURST), 0);
	assert_int_equal(ferry_bucket_take(&b, S, 0, RATE, BURST), 0);
}

static void a_clock_that_has_just_begun_does_not_wrap(void **state)
{
	struct ferry_bucket b = { 0 };

	(void)state;
	assert_int_equal(ferry_bucket_take(&b, 0, 10, RATE, BURST), 0);
	assert_int_equal(ferry_bucket_take(&b, 1, 0, RATE, BURST), 9999);
}

static void the_clock_goes_forward(void **state)
{
	uint64_t a = ferry_now_ns(), b = ferry_now_ns();

	(void)state;
	assert_true(a > 0 && b >= a);
}

static void a_timespec_holds_the_same_time(void **state)
{
	struct timespec ts = ferry_timespec(7 * S + 999999999);

	(void)state;
	assert_int_equal(ts.tv_sec, 7);
	assert_int_equal(ts.tv_nsec, 999999999);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_octets_pass_at_once),
		cmocka_unit_test(what_has_passed_is_paid_for_before_the_next),
		cmocka_unit_test(the_rate_is_kept_to_the_octet),
		cmocka_unit_test(a_late_sender_catches_up_by_the_burst_only),
		cmocka_unit_test(no_rate_is_no_limit_and_forgives),
		cmocka_unit_test(a_clock_that_has_just_begun_does_not_wrap),
		cmocka_unit_test(the_clock_goes_forward),
		cmocka_unit_test(a_timespec_holds_the_same_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
