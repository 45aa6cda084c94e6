/* SPDX-License-Identifier: MIT */
/*
 * Whole migrations in every mode: the target's memory equals the source's, the
 * VM runs once, and what was promised about untouched memory holds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "rig.h"

#define BLOCKS								\
	.block = { { "ram", 4 << 20, 4096, true },			\
		   { "vram", 1 << 20, 4096, false } },			\
	.blocks = 2, .untouched_percent = 30, .zero_percent = 20

static const struct { const char *what; struct rig_config cfg; } modes[] = {
	{ "precopy of a quiet guest", { BLOCKS } },
	{ "precopy of a busy guest", { BLOCKS, .writer = true } },
	{ "precopy with 3 data channels", { BLOCKS, .writer = true,
		.param = { { "multifd-channels", "3" } } } },
	{ "postcopy at once", { BLOCKS, .writer = true, .reader = true,
		.param = { { "x-ferry-precopy-passes", "0" } } } },
	{ "one pass, then postcopy", { BLOCKS, .writer = true, .reader = true,
		.param = { { "x-ferry-precopy-passes", "1" } } } },
	{ "three passes, then postcopy, hottest first", { BLOCKS,
		.writer = true, .reader = true,
		.param = { { "x-ferry-precopy-passes", "3" },
			   { "x-ferry-push-order", "hot" } } } },
	{ "postcopy without an urgent channel", { BLOCKS, .writer = true,
		.reader = true,
		.param = { { "x-ferry-precopy-passes", "0" },
			   { "postcopy-preempt", "off" } } } },
	{ "postcopy on 3 data channels", { BLOCKS, .writer = true,
		.reader = true,
		.param = { { "x-ferry-precopy-passes", "0" },
			   { "multifd-channels", "3" } } } },
	{ "postcopy that frees what it sent", { BLOCKS, .writer = true,
		.freed = true,
		.param = { { "x-ferry-precopy-passes", "0" },
			   { "release-ram", "on" } } } },
	{ "precopy of a stopped VM", { BLOCKS, .stopped = true } },
	{ "QEMU's protocol, precopy", { BLOCKS, .writer = true,
		.param = { { "x-ferry-peer", "qemu" },
			   { "postcopy-ram", "off" } } } },
	{ "QEMU's protocol, postcopy at once", { BLOCKS, .writer = true,
		.reader = true,
		.param = { { "x-ferry-peer", "qemu" },
			   { "x-ferry-precopy-passes", "0" } } } },
	{ "QEMU's protocol, one pass, then postcopy", { BLOCKS,
		.writer = true, .reader = true,
		.param = { { "x-ferry-peer", "qemu" },
			   { "x-ferry-precopy-passes", "1" } } } },
};

static void expect_told(const struct ferry_stats *st, const char *what)
{
	if (st->memory_bytes != 5 << 20 || st->remaining_bytes ||
	    st->distinct_bytes != st->memory_bytes ||
	    st->sent_bytes < st->normal_pages * 4096)
		fail_msg("%s: the target tells of %" PRIu64 " octets, %" PRIu64
			 " of them here, %" PRIu64 " missing, %" PRIu64
			 " received", what, st->memory_bytes,
			 st->distinct_bytes, st->remaining_bytes,
			 st->sent_bytes);
}

/* Only after the target's last word, and then by itself: the engine is not
 * freed yet. */
static void expect_hung_up(const struct rig *r, const char *what)
{
	uint64_t octets[2];

	if (!rig_has_hung_up(r))
		fail_msg("%s: the source has left a connection open", what);
	rig_carried(r, 0, octets);
	if (r->heard != octets[1] + 1)
		fail_msg("%s: the source broke a connection off when it had "
			 "heard %" PRIu64 " of %" PRIu64 " octets", what,
			 r->heard - 1, octets[1]);
}

static void every_mode_moves_the_vm_whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		struct rig r;

		rig_run(&r, &modes[i].cfg);
		rig_expect_moved(&r, modes[i].what);
		expect_told(&r.target_stats, modes[i].what);
		expect_hung_up(&r, modes[i].what);
		if (!r.source_stats.rate_bytes_per_s)
			fail_msg("%s: at no rate", modes[i].what);
		rig_fini(&r);
	}
}

static void untouched_memory_stays_unallocated(void **state)
{
	struct rig_config cfg = {
		.block = { { "ram", 64 << 20, 4096, true } }, .blocks = 1,
		.untouched_percent = 90,
	};
	struct rig r;
	struct stat src, dst;

	(void)state;
	rig_run(&r, &cfg);
	assert_int_equal(r.source_rc, 0);
	assert_int_equal(fstat(r.src.fd[0], &src), 0);
	assert_int_equal(fstat(r.dst.fd[0], &dst), 0);
	assert_true(src.st_blocks * 512 < 16 << 20);
	assert_true(dst.st_blocks <= src.st_blocks + 64);
	assert_true(r.source_stats.sent_bytes < 10 << 20);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_mode_moves_the_vm_whole),
		cmocka_unit_test(untouched_memory_stays_unallocated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
