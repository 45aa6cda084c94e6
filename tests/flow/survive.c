/* SPDX-License-Identifier: MIT */
/*
 * A channel of pages is lost in postcopy: at every octet (of which each run
 * takes some, others each time), by who sends or who receives, several at once,
 * while sums are compared.  Nobody pauses, and all of it moves; only the loss
 * of the last channel for bulk is a lost link.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "rig.h"

enum { MAIN, DATA0, DATA1, DATA2, URGENT0, URGENT1, CHANNELS };

#define THREE_AND_TWO							\
	{ "x-ferry-precopy-passes", "0" }, { "multifd-channels", "3" },	\
	{ "x-ferry-urgent-channels", "2" }
#define RAM(n)								\
	.block = { { "ram", (n) << 10, 4096, false } }, .blocks = 1,	\
	.zero_percent = 10, .recovers = true, .hasty = true

static void expect_no_pause(struct rig *r, const char *what, unsigned lost)
{
	rig_expect_moved(r, what);
	if (r->source_stats.recoveries || r->target_stats.recoveries ||
	    r->source_stats.recover_attempts)
		fail_msg("%s: it paused: %s", what, r->source_stats.error);
	if (r->source_stats.lost_channels < lost)
		fail_msg("%s: %u channels were lost", what,
			 r->source_stats.lost_channels);
}

/* ---- at every octet ------------------------------------------------------------ */

struct course {
	uint64_t from[CHANNELS], to[CHANNELS];
};

/* All of loading is over, and RUN was read: nothing goes back any more. */
static void note_start(struct rig *r, enum rig_moment m, unsigned arg)
{
	struct course *k = r->cfg.hook_arg;

	(void)arg;
	if (m != RIG_START)
		return;
	for (unsigned c = 0; c < CHANNELS; c++) {
		uint64_t octets[2];

		rig_carried(r, c, octets);
		k->from[c] = octets[0];
	}
}

static void measure(const struct rig_config *base, struct course *k)
{
	struct rig_config cfg = *base;
	struct rig r;

	cfg.hook = note_start;
	cfg.hook_arg = k;
	rig_run(&r, &cfg);
	expect_no_pause(&r, "nothing is lost", 0);
	assert_int_equal(r.channels, CHANNELS);
	rig_free_source(&r);
	for (unsigned c = 0; c < CHANNELS; c++)
		k->to[c] = r.counter[c].written;
	rig_fini(&r);
}

static void one_cut(const struct rig_config *base, unsigned channel,
		    uint64_t at)
{
	struct ferry_fault none = FERRY_FAULT_NONE;
	struct rig_config cfg = *base;
	char what[64];
	struct rig r;

	snprintf(what, sizeof(what), "channel %u cut at octet %lu", channel,
		 (unsigned long)at);
	cfg.has_fault = true;
	cfg.fault.channel = channel;
	cfg.fault.fault = none;
	cfg.fault.fault.cut_write_at = at;
	rig_run(&r, &cfg);
	expect_no_pause(&r, what, 0);
	rig_fini(&r);
}

/* FERRY_CUTS_STEP=1: each one. */
static uint64_t step(uint64_t octets)
{
	const char *s = getenv("FERRY_CUTS_STEP");
	uint64_t n = octets / 12 + 1;

	return s && atoi(s) == 1 ? 1 : s && atoi(s) > 50 ? 4 * n : n;
}

static void cut_everywhere(const struct rig_config *cfg)
{
	struct course k = { { 0 }, { 0 } };
	unsigned cuts = 0;

	measure(cfg, &k);
	for (unsigned c = DATA0; c < CHANNELS; c++) {
		uint64_t n = step(k.to[c] - k.from[c]);
		uint64_t at = k.from[c] + 1 + (uint64_t)time(NULL) % n;

		for (; at <= k.to[c]; at += n, cuts++)
			one_cut(cfg, c, at);
		one_cut(cfg, c, k.from[c] + 1);
		one_cut(cfg, c, k.to[c]);
	}
	print_message("%u cuts\n", cuts);
}

static void a_cut_channel_does_not_pause(void **state)
{
	static const struct rig_config quiet = { RAM(1024), .param = {
		THREE_AND_TWO } };
	static const struct rig_config waits = { RAM(1024), .reader = true,
		.param = { THREE_AND_TWO } };

	(void)state;
	cut_everywhere(&quiet);
	cut_everywhere(&waits);
}

/* ---- several at once ------------------------------------------------------------- */

/* Bits of channels, broken when the source says that it pushes; hook_arg. */
static void lose_some(struct rig *r, enum rig_moment m, unsigned arg)
{
	const unsigned *lost = r->cfg.hook_arg;

	if (m != RIG_SOURCE_EVENT || arg != FERRY_STATE_POSTCOPY_ACTIVE)
		return;
	for (unsigned c = 0; c < r->channels; c++)
		if ((*lost >> c & 1) && r->counter[c].chan)
			r->counter[c].shutdown(r->counter[c].chan);
}

#define BIT(c)	(1u << (c))

static const struct {
	const char *what;
	unsigned lost, count;
	struct rig_config cfg;
} shapes[] = {
	{ "a data channel", BIT(DATA1), 1,
		{ RAM(4096), .reader = true, .param = { THREE_AND_TWO } } },
	{ "all but one data channel", BIT(DATA0) | BIT(DATA2), 2,
		{ RAM(4096), .reader = true, .param = { THREE_AND_TWO } } },
	{ "an urgent channel", BIT(URGENT0), 1,
		{ RAM(4096), .reader = true, .param = { THREE_AND_TWO } } },
	{ "all urgent channels", BIT(URGENT0) | BIT(URGENT1), 2,
		{ RAM(4096), .reader = true, .param = { THREE_AND_TWO } } },
	{ "all but one", BIT(DATA0) | BIT(DATA1) | BIT(URGENT0) |
		BIT(URGENT1), 4,
		{ RAM(4096), .reader = true, .param = { THREE_AND_TWO } } },
	{ "urgent ones, and nothing is pushed",
		BIT(URGENT0) | BIT(URGENT1) | BIT(DATA0), 2,
		{ RAM(1024), .reader = true, .param = { THREE_AND_TWO,
		  { "x-ferry-background-push", "off" } } } },
	{ "while sums are compared", BIT(DATA2) | BIT(URGENT0), 2,
		{ RAM(4096), .reader = true, .param = { THREE_AND_TWO,
		  { "x-ferry-verify", "on" } } } },
	{ "after a pass", BIT(DATA1) | BIT(URGENT1), 2,
		{ RAM(4096), .writer = true, .restless = true, .reader = true,
		  .param = { { "x-ferry-precopy-passes", "1" },
			{ "multifd-channels", "3" },
			{ "x-ferry-urgent-channels", "2" } } } },
	{ "two blocks", BIT(DATA1) | BIT(URGENT1), 2, {
		.block = { { "ram", 4 << 20, 4096, true },
			   { "vram", 1 << 20, 4096, false } }, .blocks = 2,
		.untouched_percent = 30, .zero_percent = 20, .reader = true,
		.recovers = true, .param = { THREE_AND_TWO } } },
};

static void several_may_be_lost(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(shapes); i++) {
		struct rig_config cfg = shapes[i].cfg;
		unsigned lost = shapes[i].lost;
		struct rig r;

		cfg.hook = lose_some;
		cfg.hook_arg = &lost;
		rig_run(&r, &cfg);
		expect_no_pause(&r, shapes[i].what, shapes[i].count);
		rig_fini(&r);
	}
}

static void the_last_one_for_bulk_is_a_lost_link(void **state)
{
	static const struct rig_config cfg = { RAM(1024), .reader = true,
		.param = { THREE_AND_TWO } };
	unsigned lost = BIT(DATA0) | BIT(DATA1) | BIT(DATA2);
	struct rig_config c = cfg;
	struct rig r;

	(void)state;
	c.hook = lose_some;
	c.hook_arg = &lost;
	rig_run(&r, &c);
	rig_expect_moved(&r, "all data channels");
	assert_true(r.source_stats.recoveries > 0);
	rig_fini(&r);
}

/* What was freed cannot be sent again. */
static void a_source_that_frees_does_not_offer_it(void **state)
{
	static const struct rig_config cfg = { RAM(1024), .freed = true,
		.param = { THREE_AND_TWO, { "release-ram", "on" } } };
	unsigned lost = BIT(DATA1);
	struct rig_config c = cfg;
	struct rig r;

	(void)state;
	c.recovers = false;
	c.hook = lose_some;
	c.hook_arg = &lost;
	rig_run(&r, &c);
	assert_string_equal(rig_verdict(&r), "");
	assert_int_equal(r.source_rc, -1);
	assert_int_equal(r.source_stats.state, FERRY_STATE_POSTCOPY_PAUSED);
	rig_fini(&r);
}

/* ---- stuck ------------------------------------------------------------------------ */

/* One that takes nothing is given up after a while; the others go on. */
static void a_channel_that_takes_nothing_does_not_pause(void **state)
{
	static const unsigned stuck[] = { DATA1, URGENT0 };
	static const struct rig_config base = { RAM(1024), .reader = true,
		.param = { THREE_AND_TWO, { "x-ferry-timeout", "500" } },
		.target_param = { { "x-ferry-timeout", "500" } } };
	struct course k = { { 0 }, { 0 } };

	(void)state;
	measure(&base, &k);
	for (size_t i = 0; i < FERRY_LEN(stuck); i++) {
		struct ferry_fault none = FERRY_FAULT_NONE;
		struct rig_config cfg = base;
		struct rig r;

		cfg.has_fault = true;
		cfg.fault.channel = stuck[i];
		cfg.fault.fault = none;
		cfg.fault.fault.stall_write_at = k.from[stuck[i]] + 100;
		rig_run(&r, &cfg);
		expect_no_pause(&r, "a stuck channel", 1);
		rig_fini(&r);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cut_channel_does_not_pause),
		cmocka_unit_test(several_may_be_lost),
		cmocka_unit_test(the_last_one_for_bulk_is_a_lost_link),
		cmocka_unit_test(a_source_that_frees_does_not_offer_it),
		cmocka_unit_test(a_channel_that_takes_nothing_does_not_pause),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
