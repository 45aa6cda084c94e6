/* SPDX-License-Identifier: MIT */
/* How long to wait before the next attempt. */
#include "help.h"

#include "base/clock.h"
#include "mig/backoff.h"

#define MS	FERRY_NS_PER_MS

static void the_first_attempt_is_made_at_once(void **state)
{
	(void)state;
	for (unsigned paths = 0; paths < 4; paths++)
		assert_int_equal(ferry_backoff_ns(0, paths, 7), 0);
}

static void distances_grow_and_end(void **state)
{
	uint64_t middle = 20 * MS;

	(void)state;
	for (unsigned i = 1; i < 100; i++) {
		uint64_t ns = ferry_backoff_ns(i, 1, 3);

		assert_true(ns >= middle - middle / 4 &&
			    ns <= middle + middle / 4);
		middle = middle * 2 > 3000 * MS ? 3000 * MS : middle * 2;
	}
	assert_true(ferry_backoff_ns(UINT32_MAX, 1, 3) <= 3750 * MS);
}

static void all_addresses_are_tried_before_it_grows(void **state)
{
	(void)state;
	for (unsigned i = 1; i <= 3; i++)
		assert_true(ferry_backoff_ns(i, 3, 1) <= 25 * MS);
	assert_true(ferry_backoff_ns(4, 3, 1) >= 30 * MS);
}

/* Many sources that lost one link do not come back at one time; one source
 * does the same each time. */
static void chance_is_the_seeds(void **state)
{
	unsigned same = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 100; seed++) {
		same += ferry_backoff_ns(5, 1, seed) ==
			ferry_backoff_ns(5, 1, seed + 1);
		assert_int_equal(ferry_backoff_ns(5, 1, seed),
				 ferry_backoff_ns(5, 1, seed));
	}
	assert_int_equal(same, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_attempt_is_made_at_once),
		cmocka_unit_test(distances_grow_and_end),
		cmocka_unit_test(all_addresses_are_tried_before_it_grows),
		cmocka_unit_test(chance_is_the_seeds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
