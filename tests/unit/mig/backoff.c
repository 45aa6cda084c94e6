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

/* As the source does it: lost, then attempts that fail, then a link. */
static void lose(struct ferry_backoff *b, unsigned failures, uint64_t now)
{
	for (unsigned i = 0; i <= failures; i++) {
		ferry_backoff_lost(b, now + i * MS);
		b->attempt++;
	}
}

static const struct {
	const char *what;
	uint64_t lasted_ms, missing[3];
	bool anew;
} links[] = {
	{ "nothing came over any", 1, { 100, 100, 100 }, false },
	{ "something came over it", 1, { 100, 100, 99 }, true },
	{ "over the one before", 1, { 100, 99, 99 }, false },
	{ "it lasted", 1500, { 100, 100, 100 }, true },
	{ "more is missing than was", 1, { 100, 100, 101 }, false },
};

static void distances_begin_anew_behind_a_good_link(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(links); i++) {
		struct ferry_backoff b = { 0 };
		uint64_t now = 1000 * MS, began;
		unsigned before;

		for (unsigned link = 0; link < 3; link++) {
			lose(&b, 5, now);
			before = b.attempt;
			ferry_backoff_joined(&b, now + 10 * MS,
					     links[i].missing[link]);
			now += (10 + links[i].lasted_ms) * MS;
		}
		began = b.since_ns;
		ferry_backoff_lost(&b, now);
		if (links[i].anew != !b.attempt ||
		    (links[i].anew ? now : began) != b.since_ns ||
		    (!links[i].anew && b.attempt != before))
			fail_msg("%s: attempt %u", links[i].what, b.attempt);
	}
}

static void who_asks_by_hand_begins_anew(void **state)
{
	struct ferry_backoff b = { 0 };

	(void)state;
	lose(&b, 5, 1000 * MS);
	ferry_backoff_anew(&b, 2000 * MS);
	assert_int_equal(b.attempt, 0);
	assert_int_equal(b.since_ns, 2000 * MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_attempt_is_made_at_once),
		cmocka_unit_test(distances_grow_and_end),
		cmocka_unit_test(all_addresses_are_tried_before_it_grows),
		cmocka_unit_test(chance_is_the_seeds),
		cmocka_unit_test(distances_begin_anew_behind_a_good_link),
		cmocka_unit_test(who_asks_by_hand_begins_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
