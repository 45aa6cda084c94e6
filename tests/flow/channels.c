/* SPDX-License-Identifier: MIT */
/*
 * Several channels for requested pages, beside several for bulk: all of it
 * moves, whatever the guest asks for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "rig.h"

#define AT_ONCE		{ "x-ferry-precopy-passes", "0" }
#define URGENT(n)	{ "x-ferry-urgent-channels", n }
#define DATA(n)		{ "multifd-channels", n }

#define MEDIUM								\
	.block = { { "ram", 4 << 20, 4096, false } }, .blocks = 1,	\
	.zero_percent = 10, .reader = true

static const struct { const char *what; unsigned urgent;
		      struct rig_config cfg; } shapes[] = {
	{ "two", 2, { MEDIUM, .param = { AT_ONCE, URGENT("2") } } },
	{ "eight", 8, { MEDIUM, .param = { AT_ONCE, URGENT("8") } } },
	{ "four, after a pass", 4, { MEDIUM, .writer = true, .restless = true,
		.param = { { "x-ferry-precopy-passes", "1" }, URGENT("4"),
			   DATA("3") } } },
	{ "four, and nothing is pushed", 4, { MEDIUM, .param = { AT_ONCE,
		URGENT("4"), { "x-ferry-background-push", "off" } } } },
	{ "windows", 3, { MEDIUM, .param = { AT_ONCE, URGENT("3"),
		{ "x-ferry-prefault-backward", "16" } } } },
	{ "none, whatever was asked for", 0, { MEDIUM, .param = { AT_ONCE,
		URGENT("4"), { "postcopy-preempt", "off" } } } },
};

static void requests_are_spread_over_urgent_channels(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(shapes); i++) {
		const char *what = shapes[i].what;
		struct rig r;

		rig_run(&r, &shapes[i].cfg);
		rig_expect_moved(&r, what);
		if (r.source_stats.urgent_channels != shapes[i].urgent ||
		    r.target_stats.urgent_channels != shapes[i].urgent)
			fail_msg("%s: %u urgent channels at the source, %u at "
				 "the target", what,
				 r.source_stats.urgent_channels,
				 r.target_stats.urgent_channels);
		rig_fini(&r);
	}
}

/* ---- a slow one ----------------------------------------------------------------- */

/* Data 3 of four takes 64 KiB in 0.1 s: a quarter of it all would take 6 s. */
#define SLOW								\
	.block = { { "ram", 16 << 20, 4096, false } }, .blocks = 1,	\
	.has_fault = true, .fault = { .channel = 4, .fault = {		\
		.cut_write_at = UINT64_MAX, .cut_read_at = UINT64_MAX,	\
		.corrupt_write_at = UINT64_MAX,				\
		.corrupt_read_at = UINT64_MAX,				\
		.stall_write_at = UINT64_MAX,				\
		.stall_read_at = UINT64_MAX,				\
		.delay_us = 100000, .most_bytes = 64 << 10 } }

static const struct { const char *what; struct rig_config cfg; } slow[] = {
	{ "precopy", { SLOW, .writer = true, .restless = true, .param = {
		DATA("4"), { "downtime-limit", "60000" },
		{ "x-ferry-verify", "on" } } } },
	{ "postcopy", { SLOW, .reader = true, .param = { AT_ONCE, DATA("4"),
		{ "x-ferry-verify", "on" } } } },
};

static void what_a_slow_channel_has_not_sent_is_dealt_anew(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(slow); i++) {
		struct ferry_channel_stats st = FERRY_CHANNEL_STATS_INIT;
		struct rig r;

		rig_run(&r, &slow[i].cfg);
		rig_expect_moved(&r, slow[i].what);
		assert_int_equal(ferry_source_channel(r.source, 3, &st), 0);
		assert_true(st.normal_pages > 0);
		/* A quarter would be its share. */
		if (st.normal_pages * 4 > r.source_stats.normal_pages / 4 * 3)
			fail_msg("%s: it has sent %llu pages of %llu, in %u "
				 "passes", slow[i].what,
				 (unsigned long long)st.normal_pages,
				 (unsigned long long)
				 r.source_stats.normal_pages,
				 r.source_stats.passes);
		rig_fini(&r);
	}
}

/* ---- without headers ----------------------------------------------------------- */

#define NO_HEADER	{ "channel-header", "off" }

static const struct { const char *what; struct rig_config cfg; } bare[] = {
	{ "precopy", { MEDIUM, .writer = true, .param = { NO_HEADER,
		{ "postcopy-ram", "off" } }, .target_param = { NO_HEADER } } },
	{ "postcopy at once", { MEDIUM, .param = { NO_HEADER, AT_ONCE },
		.target_param = { NO_HEADER } } },
	{ "a pass, then postcopy", { MEDIUM, .writer = true, .restless = true,
		.param = { NO_HEADER, { "x-ferry-precopy-passes", "1" } },
		.target_param = { NO_HEADER } } },
	/* It takes a QEMU's stream as well, and cannot tell. */
	{ "off at the source alone", { MEDIUM, .param = { NO_HEADER, AT_ONCE } }
	},
};

static void without_headers_they_speak_as_a_qemu_does(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bare); i++) {
		struct rig r;

		rig_run(&r, &bare[i].cfg);
		rig_expect_moved(&r, bare[i].what);
		assert_int_equal(r.channels, 1);
		rig_fini(&r);
	}
}

static void a_header_where_there_shall_be_none_is_refused(void **state)
{
	static const struct rig_config cfg = { MEDIUM,
		.target_param = { NO_HEADER } };
	struct rig r;

	(void)state;
	rig_run(&r, &cfg);
	rig_expect_stayed(&r, "off at the target", "channel-header is off at "
			  "the target, and on at the source");
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_spread_over_urgent_channels),
		cmocka_unit_test(what_a_slow_channel_has_not_sent_is_dealt_anew),
		cmocka_unit_test(without_headers_they_speak_as_a_qemu_does),
		cmocka_unit_test(a_header_where_there_shall_be_none_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
