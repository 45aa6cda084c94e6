/* SPDX-License-Identifier: MIT */
/*
 * Links that are worse than cut: octets change, stop coming, come one by one.
 *
 * A changed octet of a page, or of where a page belongs, cannot be noticed
 * (the protocol has no checksums), so what arrives is not compared here: only
 * that there is one VM, that nobody crashes, and that who fails says why.  A
 * changed octet can also make one side wait for what the other believes to
 * have said, on a link that is alive: then the user cancels.
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
	.zero_percent = 30, .hasty = true, .has_fault = true

/* A peer that waits for what was changed gives up soon. */
#define SOON	.target_param = { { "x-ferry-timeout", "1000" } }

static const struct mode {
	const char *what;
	struct rig_config cfg;
} modes[] = {
	{ "precopy", { SMALL, SOON,
		.param = { { "x-ferry-timeout", "1000" },
			   { "postcopy-ram", "off" } } } },
	{ "postcopy", { SMALL, SOON, .reader = true,
		.param = { { "x-ferry-timeout", "1000" },
			   { "x-ferry-precopy-passes", "0" } } } },
};

/* Where it may be without harm, whatever was changed. */
static void check_course(struct rig *r, const char *what, unsigned channel,
			 unsigned long at)
{
	const char *wrong = rig_verdict_of_course(r);

	if (wrong[0])
		fail_msg("%s, channel %u octet %lu: %s; source %s: %s; "
			 "target %s: %s", what, channel, at, wrong,
			 ferry_state_name(r->source_stats.state),
			 r->source_err.msg,
			 ferry_state_name(r->target_stats.state),
			 r->target_err.msg);
}

static void measure(const struct mode *m, uint64_t carried[3][2])
{
	struct rig_config cfg = m->cfg;
	struct rig r;

	cfg.fault.fault = (struct ferry_fault)FERRY_FAULT_NONE;
	rig_run(&r, &cfg);
	rig_expect_moved(&r, m->what);
	rig_free_source(&r);
	for (unsigned c = 0; c < 3 && c < r.channels; c++) {
		carried[c][0] = r.counter[c].written;
		carried[c][1] = r.counter[c].read;
	}
	rig_fini(&r);
}

/* It ends by itself, or when it is told to. */
static void end_it(struct rig *r)
{
	if (!ferry_source_wait(r->source, 2000, &r->source_err) ||
	    r->source_err.code != FERRY_E_TIMEOUT)
		return;
	if (ferry_source_cancel(r->source, NULL))
		(void)!ferry_target_cancel(r->target, NULL);
}

static void one_fault(const struct mode *m, unsigned channel, bool write,
		      uint64_t at, bool stall)
{
	struct rig_config cfg = m->cfg;
	struct ferry_fault *f = &cfg.fault.fault;
	struct rig r;

	*f = (struct ferry_fault)FERRY_FAULT_NONE;
	cfg.fault.channel = channel;
	if (stall)
		*(write ? &f->stall_write_at : &f->stall_read_at) = at;
	else
		*(write ? &f->corrupt_write_at : &f->corrupt_read_at) = at;
	rig_init(&r, &cfg);
	rig_start(&r);
	end_it(&r);
	rig_finish(&r);
	check_course(&r, m->what, channel, (unsigned long)at);
	rig_fini(&r);
}

static void walk(const struct mode *m, unsigned samples, bool stall)
{
	uint64_t carried[3][2] = { { 0 } };

	measure(m, carried);
	for (unsigned c = 0; c < 3; c++) {
		for (int way = 0; way < 2; way++) {
			uint64_t n = carried[c][way];
			uint64_t step = n / samples + 1;

			for (uint64_t at = 0; at < n; at += step)
				one_fault(m, c, !way, at, stall);
		}
	}
}

static unsigned samples(unsigned n)
{
	const char *step = getenv("FERRY_CUTS_STEP");

	return step && atoi(step) > 4 ? n / 8 + 1 : n;
}

static void changed_octets_end_cleanly(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(modes); i++)
		walk(&modes[i], samples(8), false);
}

static void a_stalled_link_ends_by_the_timeout(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(modes); i++)
		walk(&modes[i], samples(3), true);
}

static const struct { const char *what; uint32_t delay_us, most_bytes; }
slow[] = {
	{ "one octet at a time", 0, 1 },
	{ "7 octets at a time", 0, 7 },
	{ "4095 octets at a time", 0, 4095 },
	{ "a delay before each write", 300, 0 },
};

static void slow_links_carry_all_of_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(modes) * FERRY_LEN(slow); i++) {
		const struct mode *m = &modes[i % FERRY_LEN(modes)];
		size_t j = i / FERRY_LEN(modes);
		struct rig_config cfg = m->cfg;
		struct rig r;

		cfg.fault.fault = (struct ferry_fault)FERRY_FAULT_NONE;
		cfg.fault.fault.delay_us = slow[j].delay_us;
		cfg.fault.fault.most_bytes = slow[j].most_bytes;
		cfg.fault_all = true;
		cfg.param[0][1] = cfg.target_param[0][1] = "60000";
		rig_run(&r, &cfg);
		rig_expect_moved(&r, slow[j].what);
		rig_fini(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changed_octets_end_cleanly),
		cmocka_unit_test(a_stalled_link_ends_by_the_timeout),
		cmocka_unit_test(slow_links_carry_all_of_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
