/* SPDX-License-Identifier: MIT */
/*
 * The policy as a table: what was measured, what is wanted, what is done.
 */
#include "help.h"

#include <inttypes.h>

#include "mig/params.h"
#include "mig/policy.h"

#define MIB	(1ull << 20)
#define MS	1000000ull
#define RATE	(1000 * MIB)	/* 1 MiB is 1 ms */

/* Two passes are over, 100 ms are left, 300 are allowed: it fits, and the pass
 * before gained little.  Rows say what differs. */
#define USUAL								\
	.passes = 2, .remaining_bytes = 100 * MIB,			\
	.before_bytes = 150 * MIB, .rate = RATE,			\
	.dirty_rate = 50 * MIB, .max_pause_ns = 300 * MS,		\
	.precopy_passes = FERRY_PASSES_AUTO, .max_passes = 30,		\
	.throttle_initial = 20, .throttle_increment = 10,		\
	.throttle_max = 99

/* The same with 800 ms left, two passes in a row. */
#define TOO_MUCH USUAL, .remaining_bytes = 800 * MIB, .over_limit = 2

_Pragma("GCC diagnostic push")
_Pragma("GCC diagnostic ignored \"-Woverride-init\"")
#ifdef __clang__
_Pragma("GCC diagnostic ignored \"-Winitializer-overrides\"")
#endif

static const struct {
	const char *why;
	struct ferry_policy_in in;
	enum ferry_policy_do what;
	unsigned throttle;
} rows[] = {
	/* what fits */
	{ "it fits", { USUAL }, FERRY_DO_SWITCHOVER },
	{ "it fits exactly",
		{ USUAL, .remaining_bytes = 300 * MIB,
		  .before_bytes = 400 * MIB }, FERRY_DO_SWITCHOVER },
	{ "it does not fit by a page",
		{ USUAL, .remaining_bytes = 300 * MIB + 4096 }, FERRY_DO_PASS },
	{ "nothing is left",
		{ USUAL, .remaining_bytes = 0, .rate = 0 },
		FERRY_DO_SWITCHOVER },
	{ "nothing is known before the first pass",
		{ USUAL, .passes = 0, .remaining_bytes = 0, .rate = 0 },
		FERRY_DO_PASS },
	{ "the rate is not known",
		{ USUAL, .rate = 0 }, FERRY_DO_PASS },
	{ "no pause at all is wanted, and something is left",
		{ USUAL, .max_pause_ns = 0, .remaining_bytes = 4096 },
		FERRY_DO_PASS },

	/* shorter still */
	{ "it fits after the first pass: try one more",
		{ USUAL, .passes = 1, .before_bytes = 0 }, FERRY_DO_PASS },
	{ "it fits and a pass halves it: one more",
		{ USUAL, .before_bytes = 201 * MIB }, FERRY_DO_PASS },
	{ "it fits and a pass gained too little",
		{ USUAL, .before_bytes = 200 * MIB }, FERRY_DO_SWITCHOVER },
	{ "it fits and is short already",
		{ USUAL, .remaining_bytes = 3 * MIB,
		  .before_bytes = 100 * MIB }, FERRY_DO_SWITCHOVER },
	{ "it fits and no pass is left",
		{ USUAL, .passes = 30, .before_bytes = 1000 * MIB },
		FERRY_DO_SWITCHOVER },
	{ "it fits and the deadline is near",
		{ USUAL, .before_bytes = 1000 * MIB, .deadline_ns = 1000 * MS,
		  .elapsed_ns = 950 * MS }, FERRY_DO_SWITCHOVER },

	/* a number of passes */
	{ "postcopy at once",
		{ USUAL, .precopy_passes = 0, .may_postcopy = true,
		  .passes = 0 }, FERRY_DO_POSTCOPY },
	{ "postcopy after one pass: before it",
		{ TOO_MUCH, .precopy_passes = 1, .may_postcopy = true,
		  .passes = 0 }, FERRY_DO_PASS },
	{ "postcopy after one pass: after it",
		{ TOO_MUCH, .precopy_passes = 1, .may_postcopy = true,
		  .passes = 1 }, FERRY_DO_POSTCOPY },
	{ "postcopy after one pass, also when the rest would fit",
		{ USUAL, .precopy_passes = 1, .may_postcopy = true,
		  .passes = 1 }, FERRY_DO_POSTCOPY },
	{ "postcopy after five: the fourth does not fit",
		{ TOO_MUCH, .precopy_passes = 5, .may_postcopy = true,
		  .passes = 4, .over_limit = 4 }, FERRY_DO_PASS },
	{ "postcopy after five: no throttling meanwhile",
		{ TOO_MUCH, .precopy_passes = 5, .may_postcopy = true,
		  .may_throttle = true, .passes = 4, .over_limit = 4 },
		FERRY_DO_PASS },
	{ "a number of passes without postcopy is nothing",
		{ TOO_MUCH, .precopy_passes = 1, .passes = 2 },
		FERRY_DO_PASS },

	/* the deadline */
	{ "the deadline is far",
		{ TOO_MUCH, .over_limit = 1, .deadline_ns = 10000 * MS,
		  .elapsed_ns = 1000 * MS, .may_postcopy = true },
		FERRY_DO_PASS },
	{ "the deadline leaves no time for the pause",
		{ TOO_MUCH, .over_limit = 1, .deadline_ns = 1800 * MS,
		  .elapsed_ns = 1000 * MS, .may_postcopy = true },
		FERRY_DO_POSTCOPY },
	{ "the deadline has passed",
		{ TOO_MUCH, .over_limit = 0, .deadline_ns = 1000 * MS,
		  .elapsed_ns = 1001 * MS, .may_postcopy = true },
		FERRY_DO_POSTCOPY },
	{ "the deadline has passed before the first pass",
		{ USUAL, .passes = 0, .rate = 0, .deadline_ns = 1 * MS,
		  .elapsed_ns = 2 * MS, .may_postcopy = true },
		FERRY_DO_POSTCOPY },
	{ "the deadline has passed, and postcopy is off",
		{ TOO_MUCH, .deadline_ns = 1000 * MS, .elapsed_ns = 1000 * MS,
		  .may_throttle = true }, FERRY_DO_GIVE_UP },
	{ "the deadline has passed, but it fits",
		{ USUAL, .deadline_ns = 1000 * MS, .elapsed_ns = 2000 * MS },
		FERRY_DO_SWITCHOVER },

	/* convergence */
	{ "too much once",
		{ TOO_MUCH, .over_limit = 1, .may_postcopy = true,
		  .may_throttle = true }, FERRY_DO_PASS },
	{ "too much twice: postcopy",
		{ TOO_MUCH, .may_postcopy = true }, FERRY_DO_POSTCOPY },
	{ "too much twice: throttling goes before postcopy",
		{ TOO_MUCH, .may_postcopy = true, .may_throttle = true },
		FERRY_DO_THROTTLE, 20 },
	{ "the next step",
		{ TOO_MUCH, .may_throttle = true, .throttle_percent = 20 },
		FERRY_DO_THROTTLE, 30 },
	{ "the last step is cut",
		{ TOO_MUCH, .may_throttle = true, .throttle_percent = 95 },
		FERRY_DO_THROTTLE, 99 },
	{ "the first step is cut too",
		{ TOO_MUCH, .may_throttle = true, .throttle_initial = 50,
		  .throttle_max = 40 }, FERRY_DO_THROTTLE, 40 },
	{ "throttled to the end: postcopy",
		{ TOO_MUCH, .may_throttle = true, .may_postcopy = true,
		  .throttle_percent = 99 }, FERRY_DO_POSTCOPY, 99 },
	{ "throttled to the end: passes while there are",
		{ TOO_MUCH, .may_throttle = true, .throttle_percent = 99,
		  .passes = 29 }, FERRY_DO_PASS, 99 },
	{ "throttled to the end: and then no more",
		{ TOO_MUCH, .may_throttle = true, .throttle_percent = 99,
		  .passes = 30 }, FERRY_DO_GIVE_UP, 99 },
	{ "nothing is allowed: passes while there are",
		{ TOO_MUCH, .passes = 29 }, FERRY_DO_PASS },
	{ "nothing is allowed: and then no more",
		{ TOO_MUCH, .passes = 30 }, FERRY_DO_GIVE_UP },

	/* bulk devices */
	{ "it fits, and the target is not ready for a device",
		{ USUAL, .not_ready = "gpu" }, FERRY_DO_HOLD },
	{ "postcopy at once, and it is not ready for a device",
		{ USUAL, .precopy_passes = 0, .may_postcopy = true,
		  .passes = 0, .not_ready = "gpu" }, FERRY_DO_HOLD },
	{ "not ready, and memory does not fit: a pass meanwhile",
		{ TOO_MUCH, .over_limit = 1, .not_ready = "gpu" },
		FERRY_DO_PASS },
	{ "the deadline has passed, and it is not ready",
		{ USUAL, .deadline_ns = 1000 * MS, .elapsed_ns = 1000 * MS,
		  .not_ready = "gpu" }, FERRY_DO_GIVE_UP },
	{ "it fits, and devices hand out what they will not later",
		{ USUAL, .shrinks = true }, FERRY_DO_HOLD },
	{ "the same, and the deadline has passed",
		{ USUAL, .deadline_ns = 1000 * MS, .elapsed_ns = 1000 * MS,
		  .shrinks = true }, FERRY_DO_SWITCHOVER },
};

_Pragma("GCC diagnostic pop")

static void the_policy_does_what_the_table_says(void **state)
{
	static const char *const names[] = {
		"pass", "throttle", "switchover", "postcopy", "give up",
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_err e = { 0 };
		struct ferry_policy_out out = ferry_policy(&rows[i].in, &e);

		if (out.what != rows[i].what)
			fail_msg("%s: %s, not %s", rows[i].why,
				 names[out.what], names[rows[i].what]);
		if (out.throttle_percent != rows[i].throttle)
			fail_msg("%s: throttle %u, not %u", rows[i].why,
				 out.throttle_percent, rows[i].throttle);
		if ((out.what == FERRY_DO_GIVE_UP) !=
		    (e.code == FERRY_E_NOTCONVERGED))
			fail_msg("%s: error %d '%s'", rows[i].why, e.code,
				 e.msg);
		assert_int_equal(out.expected_pause_ns,
				 ferry_policy_pause_ns(
					rows[i].in.remaining_bytes,
					rows[i].in.rate));
	}
}

static void giving_up_says_all_figures_and_what_would_help(void **state)
{
	static const struct ferry_policy_in in = {
		.passes = 30, .remaining_bytes = 812 * MIB, .rate = 900 * MIB,
		.dirty_rate = 1200 * MIB, .max_pause_ns = 300 * MS,
		.over_limit = 5, .precopy_passes = FERRY_PASSES_AUTO,
		.max_passes = 30,
	};
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_policy(&in, &e).what, FERRY_DO_GIVE_UP);
	assert_int_equal(e.code, FERRY_E_NOTCONVERGED);
	assert_string_equal(e.msg,
		"precopy does not converge: after 30 passes 812 MiB remain, "
		"a pause of 902 ms (limit 300); guest writes 1200 MiB/s, "
		"900 MiB/s get through; allow postcopy or auto-converge, or a "
		"longer pause");
}

static void a_deadline_that_is_missed_says_so(void **state)
{
	struct ferry_policy_in in = {
		.passes = 3, .remaining_bytes = 500 * MIB, .rate = 100 * MIB,
		.max_pause_ns = 300 * MS, .deadline_ns = 1, .elapsed_ns = 2,
		.precopy_passes = FERRY_PASSES_AUTO, .max_passes = 30,
	};
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_policy(&in, &e).what, FERRY_DO_GIVE_UP);
	assert_says(&e, FERRY_E_NOTCONVERGED, "the deadline is here and "
		    "postcopy is off");
	assert_says(&e, FERRY_E_NOTCONVERGED, "a pause of 5000 ms");

	/* Before anything is measured there is no figure to give. */
	in.passes = 0;
	in.rate = 0;
	ferry_policy(&in, &e);
	assert_says(&e, FERRY_E_NOTCONVERGED, "a pause of unknown length");
}

static void the_pause_is_what_is_left_by_the_rate(void **state)
{
	static const struct { uint64_t bytes, rate, ns; } pauses[] = {
		{ 0, 0, 0 },
		{ 0, RATE, 0 },
		{ 1, 0, UINT64_MAX },
		{ RATE, RATE, 1000 * MS },
		{ 1ull << 46, 1, UINT64_MAX },
		{ UINT64_MAX, 1, UINT64_MAX },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(pauses); i++)
		assert_int_equal(ferry_policy_pause_ns(pauses[i].bytes,
						       pauses[i].rate),
				 pauses[i].ns);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_policy_does_what_the_table_says),
		cmocka_unit_test(
			giving_up_says_all_figures_and_what_would_help),
		cmocka_unit_test(a_deadline_that_is_missed_says_so),
		cmocka_unit_test(the_pause_is_what_is_left_by_the_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
