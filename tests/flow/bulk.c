/* SPDX-License-Identifier: MIT */
/*
 * Bulk devices, whose state goes beside the memory: in every mode, on channels
 * of their own and among the pages; slow ones, failing ones, and what a peer
 * may not send.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "mig/source_impl.h"
#include "rig.h"

#define RAM	.block = { { "ram", 256 << 10, 4096, true } }, .blocks = 1, \
		.zero_percent = 20, .writer = true

static const char *const passes[] = { "1000", "1", "0" };
static const unsigned devices[] = { 1, 3, 8 };
static const struct { const char *data, *device, *way; } carriers[] = {
	{ "1", "0", "parallel" }, { "3", "0", "parallel" },
	{ "1", "1", "parallel" }, { "1", "4", "parallel" },
	{ "2", "3", "serial" }, { "2", "0", "serial" },
};

static void one_course(size_t pass, size_t n, size_t by)
{
	struct rig_config cfg = {
		RAM, .reader = true,
		.bulk = { .devices = devices[n], .blocks = 40 },
		.param = { { "x-ferry-precopy-passes", passes[pass] },
			   { "multifd-channels", carriers[by].data },
			   { "x-ferry-device-channels", carriers[by].device },
			   { "x-ferry-bulk", carriers[by].way } },
	};
	char what[120];
	struct rig r;

	snprintf(what, sizeof(what), "%u devices, %s passes, on %s data and "
		 "%s device channels, %s", devices[n], passes[pass],
		 carriers[by].data, carriers[by].device, carriers[by].way);
	rig_run(&r, &cfg);
	rig_expect_moved(&r, what);
	rig_fini(&r);
}

static void devices_move_in_every_mode_and_on_every_channel(void **state)
{
	(void)state;
	for (size_t pass = 0; pass < FERRY_LEN(passes); pass++)
		for (size_t n = 0; n < FERRY_LEN(devices); n++)
			for (size_t by = 0; by < FERRY_LEN(carriers); by++)
				one_course(pass, n, by);
}

static void a_stopped_vm_moves_with_its_devices(void **state)
{
	struct rig_config cfg = {
		.block = { { "ram", 64 << 10, 4096, true } }, .blocks = 1,
		.stopped = true, .bulk = { .devices = 2, .blocks = 5 },
	};
	struct rig r;

	(void)state;
	rig_run(&r, &cfg);
	rig_expect_moved(&r, "a stopped VM");
	/* It is the embedder who lets them run. */
	assert_false(r.dst.bulk[0].steps & 1u << FERRY_BULK_RUN);
	rig_fini(&r);
}

static struct ferry_bulk_stats stats_of(struct rig *r, unsigned index,
					bool target)
{
	struct ferry_bulk_stats st = FERRY_BULK_STATS_INIT;

	assert_int_equal(target ? ferry_target_bulk(r->target, index, &st) :
				  ferry_source_bulk(r->source, index, &st), 0);
	return st;
}

static void a_slow_device_holds_no_other_up(void **state)
{
	struct rig_config cfg = {
		RAM, .bulk = { .devices = 3, .blocks = 200, .slow_us = 2000 },
		.param = { { "postcopy-ram", "off" } },
	};
	struct ferry_bulk_stats st = FERRY_BULK_STATS_INIT;
	struct rig r;

	(void)state;
	rig_run(&r, &cfg);
	rig_expect_moved(&r, "a slow device");
	for (unsigned i = 0; i < 3; i++) {
		st = stats_of(&r, i, false);
		assert_string_equal(st.name, "bulk");
		assert_int_equal(st.instance, i);
		assert_int_equal(st.state, FERRY_BULK_STATE_LOADED);
		assert_true(st.ready && st.path_ns);
		assert_int_equal(st.longest, i == 0);
		/* Handed out is what was loaded, in the same order. */
		assert_int_equal(st.precopy_bytes, stats_of(&r, 2 - i, true)
				 .precopy_bytes);
		assert_int_equal(st.pause_bytes, stats_of(&r, 2 - i, true)
				 .pause_bytes);
	}
	assert_int_equal(ferry_source_bulk(r.source, 3, &st), -1);
	assert_int_equal(ferry_target_bulk(r.target, 3, &st), -1);
	rig_fini(&r);
}

/* ---- the switchover -------------------------------------------------------- */

static void look_when_stopped(struct rig *r, enum rig_moment m, unsigned arg)
{
	(void)arg;
	if (m != RIG_STOP)
		return;
	for (unsigned i = 0; i < r->cfg.bulk.devices; i++)
		assert_true(stats_of(r, i, false).ready);
}

static void the_vm_is_not_stopped_before_the_target_is_ready(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(passes); i++) {
		struct rig_config cfg = {
			RAM, .bulk = { .devices = 2, .blocks = 10,
				       .hold_ms = 150 },
			.param = { { "x-ferry-precopy-passes", passes[i] } },
			.hook = look_when_stopped,
		};
		struct rig r;

		rig_run(&r, &cfg);
		rig_expect_moved(&r, passes[i]);
		assert_true(r.source_stats.total_ns > 150000000);
		rig_fini(&r);
	}
}

static void at_the_deadline_a_target_that_is_not_ready_loses_it(void **state)
{
	struct rig_config cfg = {
		RAM, .bulk = { .devices = 1, .blocks = 10, .hold_ms = 60000 },
		.param = { { "x-ferry-by", "200" } },
	};
	struct rig r;

	(void)state;
	rig_run(&r, &cfg);
	rig_expect_stayed(&r, "not ready", "not ready for bulk device bulk");
	assert_int_equal(r.source_err.code, FERRY_E_NOTCONVERGED);
	assert_false(r.has_sum);	/* it was never stopped */
	rig_fini(&r);
}

/* ---- failures -------------------------------------------------------------- */

static void a_failing_device_is_named_at_both_ends(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= RIG_BULK_FAILS; n++) {
		struct rig_config cfg = {
			RAM, .bulk = { .devices = 3, .blocks = 10,
				       .fails = n },
			.param = { { "x-ferry-precopy-passes",
				     n % 2 ? "0" : "1000" } },
		};
		char why[40];
		struct rig r;

		snprintf(why, sizeof(why), "bulk device bulk/2: no %u", n);
		rig_run(&r, &cfg);
		rig_expect_stayed(&r, why, why);
		if (!strstr(r.target_err.msg, why))
			fail_msg("%s: the target says: %s", why,
				 r.target_err.msg);
		rig_fini(&r);
	}
}

static void what_hides_that_it_could_not_write_fails_all_the_same(void **state)
{
	struct rig_config cfg = {
		RAM, .bulk = { .devices = 1, .blocks = 60, .short_read = true },
		.param = { { "x-ferry-device-channels", "1" },
			   { "postcopy-ram", "off" } },
		.target_param = { { "x-ferry-timeout", "1000" } },
		.hasty = true, .has_fault = true,
		.fault = { .channel = 3, .fault = FERRY_FAULT_NONE },
	};
	struct rig r;

	(void)state;
	cfg.fault.channel = 2;		/* main, data, device */
	cfg.fault.fault.cut_write_at = 20000;
	rig_run(&r, &cfg);
	rig_expect_stayed(&r, "a cut device channel", "");
	rig_fini(&r);
}

static void a_device_that_hangs_is_told_to_return(void **state)
{
	struct rig_config cfg = {
		RAM, .bulk = { .devices = 2, .blocks = 10, .hangs = true },
		.param = { { "postcopy-ram", "off" } },
	};
	struct ferry_bulk_stats st;
	struct rig r;

	(void)state;
	rig_init(&r, &cfg);
	rig_start(&r);
	rig_await(&r, FERRY_STATE_DEVICE);
	do {
		usleep(500);
		st = stats_of(&r, 1, false);
	} while (st.state != FERRY_BULK_STATE_SAVING);
	assert_int_equal(ferry_source_cancel(r.source, NULL), 0);
	rig_finish(&r);
	rig_expect_stayed(&r, "cancel", "cancelled");
	rig_fini(&r);
}

static void a_target_that_is_freed_while_it_loads_gives_the_vm_back(
	void **state)
{
	struct rig_config cfg = {
		RAM, .uri = rig_unix_uri(),
		.bulk = { .devices = 2, .blocks = 400, .slow_us = 5000 },
		.param = { { "postcopy-ram", "off" } },
	};
	struct rig r;

	(void)state;
	rig_init(&r, &cfg);
	rig_start(&r);
	rig_await(&r, FERRY_STATE_DEVICE);
	rig_free_target(&r);
	rig_finish_source(&r);
	rig_expect_stayed(&r, "freed", "taken down");
	rig_fini(&r);
}

static void break_device_channel(struct rig *r, enum rig_moment m,
				 unsigned arg)
{
	struct ferry_chan *chan;

	if (m != RIG_SOURCE_EVENT || arg != FERRY_STATE_POSTCOPY_ACTIVE)
		return;
	chan = r->source->bulk_lanes.lane[0].chan;
	chan->ops->shutdown(chan);
	usleep(20000);		/* the target sees it while pages come */
}

static void a_device_channel_that_has_done_its_work_may_go(void **state)
{
	struct rig_config cfg = {
		RAM, .bulk = { .devices = 2, .blocks = 20 },
		.param = { { "x-ferry-precopy-passes", "0" },
			   { "x-ferry-device-channels", "2" } },
		.hook = break_device_channel,
	};
	struct rig r;

	(void)state;
	rig_run(&r, &cfg);
	rig_expect_moved(&r, "a device channel is lost in postcopy");
	assert_int_equal(r.source_stats.last_pause_ns, 0);
	assert_int_equal(r.target_stats.last_pause_ns, 0);
	rig_fini(&r);
}

/* ---- what does not fit ----------------------------------------------------- */

static void devices_that_differ_are_refused_before_memory_is_copied(
	void **state)
{
	static const struct { unsigned source, target; const char *why; } row[] = {
		{ 2, 1, "bulk device \"bulk\"/1 exists on the source only" },
		{ 1, 2, "bulk device \"bulk\"/1 exists on the target only" },
		{ 1, 0, "bulk device \"bulk\"/0 exists on the source only" },
		{ 0, 1, "bulk device \"bulk\"/0 exists on the target only" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(row); i++) {
		struct rig_config from = {
			RAM, .bulk = { .devices = row[i].source, .blocks = 3 },
		};
		struct rig_config to = {
			RAM, .bulk = { .devices = row[i].target, .blocks = 3 },
		};
		struct rig r, m;

		rig_init(&r, &to);
		rig_start_target(&r);
		rig_init(&m, &from);
		m.to = &r;
		rig_start_source(&m);
		rig_finish_source(&m);
		rig_expect_stayed(&m, row[i].why, row[i].why);
		assert_int_equal(m.source_stats.sent_bytes, 0);
		rig_fini(&m);
		rig_fini(&r);
	}
}

static void a_qemu_takes_no_bulk_device(void **state)
{
	struct rig_config cfg = {
		RAM, .bulk = { .devices = 1, .blocks = 1 },
		.uri = rig_unix_uri(),
		.param = { { "x-ferry-peer", "qemu" } },
	};
	struct ferry_err err = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r, &cfg);
	assert_int_equal(ferry_source_start(r.source, "unix:/nowhere", &err),
			 -1);
	assert_int_equal(err.code, FERRY_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "bulk device bulk"));
	rig_fini(&r);
}

/* ---- a peer that lies ------------------------------------------------------ */

/* Each octet of the header of the first packet, and some of its payload. */
static void a_packet_that_is_not_what_it_was_is_refused(void **state)
{
	(void)state;
	for (unsigned at = 48; at < 48 + 24 + 8; at++) {
		struct rig_config cfg = {
			RAM, .hasty = true,
			.bulk = { .devices = 1, .blocks = 40 },
			.param = { { "x-ferry-device-channels", "1" },
				   { "postcopy-ram", "off" } },
			.has_fault = true,
			.fault = { .channel = 2, .fault = FERRY_FAULT_NONE },
		};
		char what[40];
		struct rig r;

		cfg.fault.fault.corrupt_write_at = at;
		snprintf(what, sizeof(what), "octet %u", at);
		rig_run(&r, &cfg);
		rig_expect_stayed(&r, what, "");
		rig_fini(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    devices_move_in_every_mode_and_on_every_channel),
		cmocka_unit_test(a_stopped_vm_moves_with_its_devices),
		cmocka_unit_test(a_slow_device_holds_no_other_up),
		cmocka_unit_test(
		    the_vm_is_not_stopped_before_the_target_is_ready),
		cmocka_unit_test(
		    at_the_deadline_a_target_that_is_not_ready_loses_it),
		cmocka_unit_test(a_failing_device_is_named_at_both_ends),
		cmocka_unit_test(
		    what_hides_that_it_could_not_write_fails_all_the_same),
		cmocka_unit_test(a_device_that_hangs_is_told_to_return),
		cmocka_unit_test(
		    a_target_that_is_freed_while_it_loads_gives_the_vm_back),
		cmocka_unit_test(a_device_channel_that_has_done_its_work_may_go),
		cmocka_unit_test(
		    devices_that_differ_are_refused_before_memory_is_copied),
		cmocka_unit_test(a_qemu_takes_no_bulk_device),
		cmocka_unit_test(a_packet_that_is_not_what_it_was_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
