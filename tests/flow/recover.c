/* SPDX-License-Identifier: MIT */
/*
 * Recovery: the link is lost in postcopy, and found again.  The links behind it
 * are cut at every octet of every channel too, in both directions; then what a
 * user may ask meanwhile, and what strangers may try.
 *
 * One run takes every third of them (FERRY_CUTS_STEP, 1 for all), and others
 * each time; of the pages' own octets, which are many and alike, one in 31 of
 * those.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "rig.h"

#define SMALL								\
	.block = { { "ram", 4 * 4096, 4096, false } }, .blocks = 1,	\
	.zero_percent = 30, .hasty = true, .recovers = true,		\
	.hook = break_once

#define AT_ONCE	{ "x-ferry-precopy-passes", "0" }

enum { MAIN, DATA, URGENT, LINK };	/* in the order they are dialled */

static void cut_at(struct rig_fault *f, unsigned channel, bool write,
		   uint64_t at)
{
	struct ferry_fault none = FERRY_FAULT_NONE;

	f->channel = channel;
	f->fault = none;
	if (write)
		f->fault.cut_write_at = at;
	else
		f->fault.cut_read_at = at;
}

/* Before anything is pushed: the VM runs at the target, which lacks most of
 * it.  All channels for bulk of the first link: the last one is the link. */
static void break_once(struct rig *r, enum rig_moment m, unsigned arg)
{
	struct ferry_stats st = FERRY_STATS_INIT;

	if (m != RIG_SOURCE_EVENT || arg != FERRY_STATE_POSTCOPY_ACTIVE)
		return;
	ferry_source_stats(r->source, &st);
	for (unsigned i = DATA; i < DATA + st.data_channels; i++) {
		struct ferry_chan *data = r->counter[i].chan;

		if (data)
			data->ops->shutdown(data);
	}
}

static void expect_recovered(struct rig *r, const char *what, unsigned times)
{
	rig_expect_moved(r, what);
	if (r->source_stats.recoveries < times ||
	    r->target_stats.recoveries < times ||
	    r->source_stats.recover_attempts < r->source_stats.recoveries ||
	    !r->source_stats.apart_ns || !r->source_stats.last_pause_ns)
		fail_msg("%s: recoveries: the source counts %u of %u, the "
			 "target %u", what, r->source_stats.recoveries,
			 r->source_stats.recover_attempts,
			 r->target_stats.recoveries);
}

static const struct { const char *what; struct rig_config cfg; } shapes[] = {
	{ "a guest that waits", { SMALL, .reader = true,
		.param = { AT_ONCE } } },
	{ "three data channels", { SMALL, .reader = true, .param = { AT_ONCE,
		{ "multifd-channels", "3" } } } },
	{ "no urgent channel", { SMALL, .reader = true, .param = { AT_ONCE,
		{ "postcopy-preempt", "off" } } } },
	{ "after a pass", { .block = { { "ram", 1 << 20, 4096, false } },
		.blocks = 1, .zero_percent = 30, .hasty = true,
		.writer = true, .restless = true, .reader = true,
		.recovers = true, .hook = break_once,
		.param = { { "x-ferry-precopy-passes", "1" } } } },
	{ "two blocks, much untouched", { .block = {
		{ "ram", 4 << 20, 4096, true },
		{ "vram", 1 << 20, 4096, false } }, .blocks = 2,
		.untouched_percent = 30, .zero_percent = 20, .writer = true,
		.reader = true, .recovers = true, .hook = break_once,
		.param = { AT_ONCE } } },
};

static void what_is_lost_in_postcopy_is_found_again(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(shapes); i++) {
		struct rig r;

		rig_run(&r, &shapes[i].cfg);
		expect_recovered(&r, shapes[i].what, 1);
		rig_fini(&r);
	}
}

/* ---- the links behind it ------------------------------------------------------ */

static unsigned long step(unsigned channel, uint64_t at)
{
	const char *s = getenv("FERRY_CUTS_STEP");
	unsigned long n = s && atoi(s) > 0 ? (unsigned long)atoi(s) : 3;

	/* Of the pages' channels: the header, and the first packet's. */
	return channel % LINK == MAIN || at < 48 + 400 ? n : 31 * n;
}

static void one_cut(const struct rig_config *base, unsigned channel,
		    bool write, uint64_t at)
{
	struct rig_config cfg = *base;
	char what[64];
	struct rig r;

	snprintf(what, sizeof(what), "channel %u cut at %s octet %lu", channel,
		 write ? "written" : "read", (unsigned long)at);
	cfg.has_again = true;
	cut_at(&cfg.again, channel, write, at);
	rig_run(&r, &cfg);
	expect_recovered(&r, what, 1);
	rig_fini(&r);
}

/* What each channel of the second link carries when nothing else is cut. */
static void measure(const struct rig_config *cfg, uint64_t all[LINK][2])
{
	struct rig r;

	rig_run(&r, cfg);
	expect_recovered(&r, "once", 1);
	assert_int_equal(r.channels, 2 * LINK);
	ferry_source_free(r.source);
	r.source = NULL;
	for (unsigned c = 0; c < LINK; c++)
		rig_carried(&r, LINK + c, all[c]);
	rig_fini(&r);
}

static void cut_the_second_link(const struct rig_config *cfg)
{
	uint64_t all[LINK][2], first = (uint64_t)time(NULL) % step(MAIN, 0);
	unsigned cuts = 0;

	measure(cfg, all);
	for (unsigned c = LINK; c < 2 * LINK; c++)
		for (int read = 0; read < 2; read++)
			for (uint64_t at = first; at <= all[c - LINK][read];
			     at += step(c, at), cuts++)
				one_cut(cfg, c, !read, at);
	print_message("%u cuts, from octet %u on\n", cuts, (unsigned)first);
}

static void every_octet_of_the_second_link_may_be_the_last(void **state)
{
	static const struct rig_config quiet = { SMALL, .param = { AT_ONCE } };
	static const struct rig_config waits = { SMALL, .reader = true,
						 .param = { AT_ONCE } };

	(void)state;
	cut_the_second_link(&quiet);
	cut_the_second_link(&waits);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_lost_in_postcopy_is_found_again),
		cmocka_unit_test(
			every_octet_of_the_second_link_may_be_the_last),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
