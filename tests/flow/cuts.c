/* SPDX-License-Identifier: MIT */
/*
 * A small migration is cut at every octet of every channel, in both
 * directions: whatever happens, the VM is where the states say, it never runs
 * twice, nobody hangs, and each failure has a reason.
 *
 *	cuts [MODE]	one mode; all without it
 *
 * FERRY_CUTS_STEP=n tries only every n-th octet, from FERRY_CUTS_FROM on, and
 * those about the source's steps, so that no phase is left out however large n
 * is.
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

#define SMALL								\
	.block = { { "ram", 4 * 4096, 4096, false } }, .blocks = 1,	\
	.zero_percent = 30, .hasty = true

#define RECOVERS	.recovers = true, .target_param = {		\
		{ "x-ferry-timeout", "500" } }

static const struct mode {
	const char *name;
	struct rig_config cfg;
	bool	 splits;	/* some cut leaves the VM on both sides */
} modes[] = {
	{ "precopy", { SMALL, .param = { { "postcopy-ram", "off" } } } },
	{ "one-pass", { SMALL, .reader = true,
		.param = { { "x-ferry-precopy-passes", "1" } } },
		.splits = true },
	{ "postcopy", { SMALL, .reader = true,
		.param = { { "x-ferry-precopy-passes", "0" } } },
		.splits = true },
	{ "bulk", { SMALL, .bulk = { .devices = 2, .blocks = 2 },
		.param = { { "x-ferry-precopy-passes", "0" },
			   { "x-ferry-device-channels", "2" } } },
		.splits = true },
	{ "bulk-mixed", { SMALL, .bulk = { .devices = 2, .blocks = 2 },
		.param = { { "postcopy-ram", "off" },
			   { "multifd-channels", "2" } } } },
	{ "qemu-precopy", { SMALL,
		.param = { { "postcopy-ram", "off" },
			   { "x-ferry-peer", "qemu" } } } },
	{ "recover-precopy", { SMALL, RECOVERS,
		.param = { { "postcopy-ram", "off" } } } },
	{ "recover", { SMALL, RECOVERS, .reader = true,
		.param = { { "x-ferry-precopy-passes", "0" } } } },
};

static unsigned long number(const char *name, unsigned long otherwise)
{
	const char *s = getenv(name);

	return s ? strtoul(s, NULL, 10) : otherwise;
}

static unsigned long step(void)
{
	unsigned long n = number("FERRY_CUTS_STEP", 1);

	return n ? n : 1;
}

struct tally {
	unsigned runs, completed, source, undecided, split;
};

static void note(struct tally *t, const struct rig *r)
{
	t->runs++;
	if (!r->source_rc)
		t->completed++;
	else if (r->source_stats.where == FERRY_WHERE_SOURCE)
		t->source++;
	else if (r->source_stats.where == FERRY_WHERE_UNDECIDED)
		t->undecided++;
	else
		t->split++;
}

static void one_cut(const struct rig_config *base, unsigned channel,
		    bool write, uint64_t at, struct tally *t)
{
	struct rig_config cfg = *base;
	struct ferry_fault none = FERRY_FAULT_NONE;
	struct rig r;

	cfg.has_fault = true;
	cfg.fault.channel = channel;
	cfg.fault.fault = none;
	if (write)
		cfg.fault.fault.cut_write_at = at;
	else
		cfg.fault.fault.cut_read_at = at;
	rig_run(&r, &cfg);
	if (rig_verdict(&r)[0])
		fail_msg("channel %u cut at %s octet %lu: %s; source %s: %s; "
			 "target %s: %s", channel, write ? "written" : "read",
			 (unsigned long)at, rig_verdict(&r),
			 ferry_state_name(r.source_stats.state),
			 r.source_err.msg,
			 ferry_state_name(r.target_stats.state),
			 r.target_err.msg);
	note(t, &r);
	rig_fini(&r);
}

#define STEPS_MAX	16

/* What each channel carries, written [0] and read [1], when nothing is cut: to
 * the end, and until each step of the source. */
struct course {
	unsigned channels, steps;
	uint64_t all[RIG_CHANNELS_MAX][2];
	uint64_t until[STEPS_MAX][RIG_CHANNELS_MAX][2];
};

static void note_step(struct rig *r, enum rig_moment m, unsigned arg)
{
	struct course *k = r->cfg.hook_arg;

	(void)arg;
	if (m != RIG_SOURCE_EVENT && m != RIG_STOP && m != RIG_SAVE)
		return;		/* not the source's thread */
	assert_true(k->steps < STEPS_MAX);
	for (unsigned c = 0; c < r->channels; c++)
		rig_carried(r, c, k->until[k->steps][c]);
	k->steps++;
}

static void measure(const struct rig_config *base, struct course *k)
{
	struct rig_config cfg = *base;
	struct rig r;

	cfg.hook = note_step;
	cfg.hook_arg = k;
	rig_run(&r, &cfg);
	assert_int_equal(r.source_rc, 0);
	ferry_source_free(r.source);	/* closes main */
	r.source = NULL;
	k->channels = r.channels;
	for (unsigned c = 0; c < r.channels; c++)
		rig_carried(&r, c, k->all[c]);
	rig_fini(&r);
}

/* The last octet before a step, and the first two behind it. */
static bool is_at_step(const struct course *k, unsigned channel, bool read,
		       uint64_t at)
{
	for (unsigned i = 0; i < k->steps; i++) {
		uint64_t until = k->until[i][channel][read];

		if (at + 1 >= until && at <= until + 1)
			return true;
	}
	return false;
}

static void cut_along(const struct rig_config *cfg, const struct course *k,
		      unsigned channel, bool read, struct tally *t)
{
	unsigned long from = number("FERRY_CUTS_FROM", 0) % step();

	for (uint64_t at = 0; at <= k->all[channel][read]; at++)
		if (at % step() == from || is_at_step(k, channel, read, at))
			one_cut(cfg, channel, !read, at, t);
}

static void cut_everywhere(const struct rig_config *cfg, struct tally *t)
{
	struct course k = { 0 };

	measure(cfg, &k);
	for (unsigned c = 0; c < k.channels; c++) {
		cut_along(cfg, &k, c, true, t);
		cut_along(cfg, &k, c, false, t);
	}
	print_message("%u cuts: %u completed, %u at the source, %u undecided, "
		      "%u split\n", t->runs, t->completed, t->source,
		      t->undecided, t->split);
}

static void a_cut_anywhere_leaves_one_vm(void **state)
{
	const struct mode *m = *state;
	struct tally t = { 0 };

	cut_everywhere(&m->cfg, &t);
	assert_true(t.source > 0);
	assert_int_equal(t.split > 0, m->splits);
	/* Whoever can be asked is: nothing is left in the air. */
	if (m->cfg.recovers)
		assert_int_equal(t.undecided, 0);
}

int main(int argc, char **argv)
{
	struct CMUnitTest tests[FERRY_LEN(modes)];
	size_t n = 0;

	for (size_t i = 0; i < FERRY_LEN(modes); i++) {
		if (argc > 1 && strcmp(argv[1], modes[i].name))
			continue;
		tests[n++] = (struct CMUnitTest){
			.name = modes[i].name,
			.test_func = a_cut_anywhere_leaves_one_vm,
			.initial_state = (void *)&modes[i],
		};
	}
	return n ? _cmocka_run_group_tests("cuts", tests, n, NULL, NULL) : 2;
}
