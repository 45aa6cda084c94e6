/* SPDX-License-Identifier: MIT */
/*
 * Packets that are compressed, in whole migrations: each method on one channel
 * and on several, in precopy, postcopy and both; a target that cannot.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "rig.h"

#define BLOCKS								\
	.block = { { "ram", 8 << 20, 4096, true },			\
		   { "vram", 1 << 20, 4096, false } },			\
	.blocks = 2, .untouched_percent = 10, .zero_percent = 10,	\
	.writer = true, .restless = true, .reader = true

static const struct { const char *name, *passes; } modes[] = {
	{ "precopy", "1000" }, { "one pass, then postcopy", "1" },
	{ "postcopy at once", "0" },
};
static const char *const methods[] = { "none", "zlib", "zstd", "auto" };
static const char *const channels[] = { "1", "2", "5" };

struct sums {
	uint64_t pages, zero, bytes, from, to;
	unsigned data, urgent;
	bool packs;
};

static struct sums add_up(struct rig *r, bool target)
{
	struct ferry_channel_stats st = FERRY_CHANNEL_STATS_INIT;
	struct sums s = { 0 };

	for (unsigned i = 0; target ?
	     !ferry_target_channel(r->target, i, &st) :
	     !ferry_source_channel(r->source, i, &st); i++) {
		bool urgent = st.kind == FERRY_CHANNEL_KIND_URGENT;

		assert_int_equal(st.index, urgent ? i - s.data : i);
		s.data += !urgent;
		s.urgent += urgent;
		s.pages += st.normal_pages;
		s.zero += st.zero_pages;
		s.bytes += st.bytes;
		s.from += st.packed_from_bytes;
		s.to += st.packed_to_bytes;
		s.packs |= st.packing != FERRY_PACKING_NONE;
		if (urgent && st.packed_from_bytes)
			fail_msg("urgent %u compresses", st.index);
	}
	return s;
}

/* What each channel carried adds up to what all did, and both sides agree. */
static void expect_told(struct rig *r, const char *what, bool packs)
{
	struct sums s = add_up(r, false), t = add_up(r, true);

	if (s.data != r->source_stats.data_channels ||
	    s.pages != r->source_stats.normal_pages ||
	    s.zero != r->source_stats.zero_pages ||
	    s.bytes != r->source_stats.sent_bytes)
		fail_msg("%s: %u channels, %" PRIu64 " pages, %" PRIu64
			 " octets do not add up", what, s.data, s.pages,
			 s.bytes);
	if (memcmp(&s.pages, &t.pages, offsetof(struct sums, data)))
		fail_msg("%s: the sides do not agree: %" PRIu64 " and %" PRIu64
			 " octets, %" PRIu64 " and %" PRIu64 " compressed",
			 what, s.bytes, t.bytes, s.to, t.to);
	/* In postcopy most of it may be asked for. */
	if (packs && (s.to > s.from / 2 ||
		      (!r->source_stats.requests &&
		       s.bytes > s.pages * 4096 * 3 / 4)))
		fail_msg("%s: %" PRIu64 " octets became %" PRIu64 ", %" PRIu64
			 " pages went in %" PRIu64 " octets", what, s.from,
			 s.to, s.pages, s.bytes);
	if (!packs && s.packs)
		fail_msg("%s: it compresses", what);
}

static void move(size_t mode, size_t method, size_t n, bool urgent)
{
	struct rig_config cfg = { BLOCKS, .param = {
		{ "x-ferry-precopy-passes", modes[mode].passes },
		{ "multifd-compression", methods[method] },
		{ "multifd-channels", channels[n] },
		{ "postcopy-preempt", urgent ? "on" : "off" },
		{ "downtime-limit", "60000" },
	} };
	char what[100];
	struct rig r;

	snprintf(what, sizeof(what), "%s, %s, %s channels%s", modes[mode].name,
		 methods[method], channels[n], urgent ? "" : ", none urgent");
	rig_run(&r, &cfg);
	rig_expect_moved(&r, what);
	if (method < 3)		/* how auto decides depends on the machine */
		expect_told(&r, what, method > 0);
	rig_fini(&r);
}

static void every_method_moves_the_vm_in_every_mode(void **state)
{
	(void)state;
	for (size_t mode = 0; mode < FERRY_LEN(modes); mode++)
		for (size_t method = 0; method < FERRY_LEN(methods); method++)
			move(mode, method, (mode + method) %
			     FERRY_LEN(channels), (mode + method) % 2);
	move(2, 2, 2, true);
	move(1, 1, 1, false);
}

static void levels_and_limits_are_heeded(void **state)
{
	static const struct { const char *method, *name, *value; } rows[] = {
		{ "zlib", "multifd-zlib-level", "9" },
		{ "zlib", "multifd-zlib-level", "0" },
		{ "zstd", "multifd-zstd-level", "20" },
		{ "auto", "max-bandwidth", "40M" },
		{ "zstd", "max-bandwidth", "20M" },
		{ "auto", "x-ferry-channel-bandwidth", "40M" },
		{ "zstd", "x-ferry-verify", "on" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct rig_config cfg = { BLOCKS, .param = {
			{ "multifd-compression", rows[i].method },
			{ rows[i].name, rows[i].value },
			{ "multifd-channels", "2" },
			{ "downtime-limit", "60000" },
		} };
		struct rig r;

		rig_run(&r, &cfg);
		rig_expect_moved(&r, rows[i].value);
		rig_fini(&r);
	}
}

/* A limit holds for what goes out, not for what that was before: it takes
 * 9 MiB at 3 MiB/s two seconds and more, and compressed much less. */
static void a_limit_counts_what_is_sent(void **state)
{
	struct rig_config cfg = { BLOCKS, .stopped = true, .param = {
		{ "multifd-compression", "zstd" },
		{ "max-bandwidth", "3M" }, { "downtime-limit", "1" },
		{ "x-ferry-precopy-passes", "1" },
	} };
	struct rig r;

	(void)state;
	cfg.writer = cfg.restless = cfg.reader = false;
	rig_run(&r, &cfg);
	rig_expect_moved(&r, "limited");
	if (r.source_stats.total_ns > 1500000000ull)
		print_message("the limit counts pages, or the machine is busy:"
			      " %" PRIu64 " ms\n",
			      r.source_stats.total_ns / 1000000);
	assert_true(r.source_stats.sent_bytes < 3 << 20);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_method_moves_the_vm_in_every_mode),
		cmocka_unit_test(levels_and_limits_are_heeded),
		cmocka_unit_test(a_limit_counts_what_is_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
