/* SPDX-License-Identifier: MIT */
/*
 * Shares by speed: how many slots each channel gets, and that they are mixed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "send/deal.h"

#define S	FERRY_NS_PER_S

static const struct {
	const char *why;
	unsigned n;
	struct ferry_speed speed[4];
	unsigned least[4], most[4];	/* slots */
} rows[] = {
	{ "one", 1, { { 1000, S } }, { 256 }, { 256 } },
	{ "four alike", 4, { { 1000, S }, { 1000, S }, { 1000, S },
	    { 1000, S } }, { 64, 64, 64, 64 }, { 64, 64, 64, 64 } },
	{ "one is four times as slow", 4, { { 4000, S }, { 4000, S },
	    { 4000, S }, { 1000, S } }, { 78, 78, 78, 19 },
	  { 79, 79, 79, 20 } },
	{ "the same in less time", 2, { { 1000, S / 3 }, { 1000, S } },
	  { 192, 64 }, { 192, 64 } },
	{ "one hardly moves: it keeps a few", 4, { { 100000, S },
	    { 100000, S }, { 100000, S }, { 1, S } }, { 80, 80, 80, 3 },
	  { 86, 86, 86, 8 } },
	{ "nobody was at work", 4, { { 0, 0 } }, { 64, 64, 64, 64 },
	  { 64, 64, 64, 64 } },
	{ "one had nothing to do: as the mean of the others", 3,
	  { { 2000, S }, { 4000, S }, { 0, S } }, { 56, 113, 85 },
	  { 57, 114, 86 } },
	{ "what a moment says does not count", 2, { { 2000, S },
	    { 1, 1000 } }, { 128, 128 }, { 128, 128 } },
	{ "a packet does", 2, { { 3000, S }, { 128, S / 128 } }, { 39, 213 },
	  { 41, 217 } },
};

static void shares_are_as_the_speeds(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned slots[4] = { 0 };
		struct ferry_deal d;

		ferry_deal(&d, rows[i].speed, rows[i].n);
		assert_int_equal(d.shares, rows[i].n);
		for (unsigned s = 0; s < FERRY_DEAL_SLOTS; s++) {
			assert_true(d.slot[s] < rows[i].n);
			slots[d.slot[s]]++;
		}
		for (unsigned c = 0; c < rows[i].n; c++)
			if (slots[c] < rows[i].least[c] ||
			    slots[c] > rows[i].most[c])
				fail_msg("%s: channel %u has %u slots",
					 rows[i].why, c, slots[c]);
	}
}

/* In no half of the row is much more than half of anybody's. */
static void slots_are_mixed(void **state)
{
	static const struct ferry_speed speed[4] = {
		{ 4000, S }, { 3000, S }, { 2000, S }, { 1000, S },
	};
	unsigned first[4] = { 0 }, all[4] = { 0 };
	struct ferry_deal d;

	(void)state;
	ferry_deal(&d, speed, 4);
	for (unsigned s = 0; s < FERRY_DEAL_SLOTS; s++) {
		first[d.slot[s]] += s < FERRY_DEAL_SLOTS / 2;
		all[d.slot[s]]++;
	}
	for (unsigned c = 0; c < 4; c++)
		assert_in_range(first[c], all[c] / 2 - 1, all[c] / 2 + 1);
}

static void what_was_not_dealt_goes_round(void **state)
{
	struct ferry_deal d = { 0 };

	(void)state;
	for (unsigned s = 0; s < 1000; s++)
		assert_int_equal(ferry_deal_share(&d, s, 3), s % 3);
	ferry_deal(&d, (struct ferry_speed[2]){ { 9000, S }, { 1000, S } }, 2);
	for (unsigned s = 0; s < 1000; s++) {
		assert_int_equal(ferry_deal_share(&d, s, 3), s % 3);
		assert_int_equal(ferry_deal_share(&d, s, 2), d.slot[s % 256]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_are_as_the_speeds),
		cmocka_unit_test(slots_are_mixed),
		cmocka_unit_test(what_was_not_dealt_goes_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
