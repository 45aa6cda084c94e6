/* SPDX-License-Identifier: MIT */
/*
 * Verify mode: what arrives is compared, so an octet of a page, or of where a
 * page belongs, that changes on the way is an error: before the VM runs at the
 * target, it goes on at the source; later, both sides keep what they have.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "park/merge.h"
#include "rig.h"

#define SMALL								\
	.block = { { "ram", 8 * 4096, 4096, false } }, .blocks = 1,	\
	.zero_percent = 30, .hasty = true
#define LARGER								\
	.block = { { "ram", 4 << 20, 4096, true },			\
		   { "vram", 1 << 20, 4096, false } }, .blocks = 2,	\
	.untouched_percent = 30, .zero_percent = 20, .writer = true
#define VERIFY	{ "x-ferry-verify", "on" }

enum { MAIN, DATA, URGENT };

static const struct mode {
	const char *what;
	struct rig_config cfg;
} whole[] = {
	{ "precopy", { LARGER, .param = { VERIFY,
		{ "postcopy-ram", "off" } } } },
	{ "one pass, then postcopy", { LARGER, .reader = true,
		.param = { VERIFY, { "x-ferry-precopy-passes", "1" } } } },
	{ "postcopy", { LARGER, .reader = true,
		.param = { VERIFY, { "x-ferry-precopy-passes", "0" } } } },
	{ "four channels", { LARGER, .reader = true,
		.param = { VERIFY, { "multifd-channels", "4" } } } },
	{ "memory that nobody touched", {
		.block = { { "ram", 1 << 20, 4096, true } }, .blocks = 1,
		.untouched_percent = 100, .param = { VERIFY } } },
};

static void what_is_right_arrives(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(whole); i++) {
		struct rig r;

		rig_run(&r, &whole[i].cfg);
		rig_expect_moved(&r, whole[i].what);
		assert_int_equal(r.source_stats.verified, FERRY_VERIFIED_RIGHT);
		assert_int_equal(r.target_stats.verified, FERRY_VERIFIED_RIGHT);
		rig_fini(&r);
	}
}

/* ---- octets that change ------------------------------------------------------- */

#define SOON	{ "x-ferry-timeout", "1000" }

static const struct mode changed[] = {
	{ "precopy", { SMALL, .param = { VERIFY, SOON,
		{ "postcopy-ram", "off" } }, .target_param = { SOON } } },
	{ "postcopy", { SMALL, .param = { VERIFY, SOON,
		{ "x-ferry-recover", "0" },
		{ "x-ferry-precopy-passes", "0" } },
		.target_param = { SOON } } },
};

static uint64_t carried(const struct mode *m, unsigned channel)
{
	uint64_t n;
	struct rig r;

	rig_run(&r, &m->cfg);
	rig_expect_moved(&r, m->what);
	rig_free_source(&r);
	n = r.counter[channel].written;
	rig_fini(&r);
	return n;
}

static unsigned found;

static void change(const struct mode *m, unsigned channel, uint64_t at)
{
	struct rig_config cfg = m->cfg;
	struct rig r;

	cfg.has_fault = true;
	cfg.fault.channel = channel;
	cfg.fault.fault = (struct ferry_fault)FERRY_FAULT_NONE;
	cfg.fault.fault.corrupt_write_at = at;
	rig_run(&r, &cfg);
	if (rig_verdict(&r)[0])
		fail_msg("%s, channel %u octet %lu: %s; source %s: %s; "
			 "target %s: %s", m->what, channel, (unsigned long)at,
			 rig_verdict(&r),
			 ferry_state_name(r.source_stats.state),
			 r.source_err.msg,
			 ferry_state_name(r.target_stats.state),
			 r.target_err.msg);
	found += strstr(r.source_err.msg, "verify: block ram page ") != NULL;
	rig_fini(&r);
}

/* The channel on which the pages go (in postcopy the target asks for them all,
 * as it loads its devices); of the first packet's header each, else some. */
static void a_changed_octet_is_found(void **state)
{
	static const unsigned channel[] = { DATA, URGENT };
	const char *s = getenv("FERRY_CUTS_STEP");
	unsigned step = s && atoi(s) > 4 ? 701 : 97;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(changed); i++) {
		unsigned c = channel[i];
		uint64_t n = carried(&changed[i], c);

		found = 0;
		for (uint64_t at = 48; at < n; at += at < 1392 ? 13 : step)
			change(&changed[i], c, at);
		print_message("%s: %u by their sums\n", changed[i].what,
			      found);
		assert_true(found > 10);
	}
}

/* ---- what is left when one was found --------------------------------------- */

/* The VM runs there and a page of it is wrong: nobody goes on by himself, both
 * say why, and the two halves know which page. */
static void check_paused(struct rig *r)
{
	const struct ferry_stats *s = &r->source_stats, *t = &r->target_stats;

	assert_int_equal(s->state, FERRY_STATE_POSTCOPY_PAUSED);
	assert_int_equal(t->state, FERRY_STATE_POSTCOPY_PAUSED);
	assert_int_equal(s->verified, FERRY_VERIFIED_WRONG);
	assert_int_equal(t->verified, FERRY_VERIFIED_WRONG);
	assert_false(s->seeking);
	assert_false(t->seeking);
	assert_non_null(strstr(t->error, "verify: block ram page "));
}

/* What the first packets hold depends on who asks first: until one of a page is
 * hit. */
static void spoil_a_page(struct rig *r)
{
	struct rig_config cfg = changed[1].cfg;

	cfg.has_fault = true;
	cfg.fault.channel = URGENT;
	cfg.fault.fault = (struct ferry_fault)FERRY_FAULT_NONE;
	for (uint64_t at = 2000; at < 20000; at += 1000) {
		cfg.fault.fault.corrupt_write_at = at;
		rig_run(r, &cfg);
		if (strstr(r->source_err.msg, "verify: block ram page "))
			return;
		rig_fini(r);
	}
	fail_msg("no page was hit");
}

static int dump(struct rig *r, bool target, char path[64])
{
	int fd = memfd_create("half", MFD_CLOEXEC);
	struct ferry_err err = { 0 };

	snprintf(path, 64, "/proc/self/fd/%d", fd);
	if (target ? ferry_target_rescue(r->target, 1, fd, &err) :
		     ferry_source_rescue(r->source, fd, &err))
		fail_msg("%s", err.msg);
	return fd;
}

static void a_rescue_does_not_take_the_wrong_page(void **state)
{
	static const struct ferry_merge_how how = { 0 };
	char half[2][64], image[] = "/tmp/ferry-verify-XXXXXX";
	int fd[2], tmp = mkstemp(image);
	struct ferry_merged m;
	struct ferry_err err = { 0 };
	struct rig r;

	(void)state;
	close(tmp);
	unlink(image);
	spoil_a_page(&r);
	check_paused(&r);
	for (unsigned i = 0; i < 2; i++)
		fd[i] = dump(&r, i, half[i]);
	if (ferry_merge(half[0], half[1], image, &how, &m, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(m.wrong, 1);
	assert_int_equal(m.changed, 0);
	assert_string_equal(m.page[0].block, "ram");
	close(fd[0]);
	close(fd[1]);
	unlink(image);
	rig_fini(&r);
}

/* ---- what does not go together ------------------------------------------------ */

static void what_cannot_be_verified_is_refused(void **state)
{
	static const struct {
		const char *what, *says;
		struct rig_config cfg;
	} rows[] = {
		{ "a QEMU", "knows no checksums", { SMALL, .param = { VERIFY,
			{ "postcopy-ram", "off" },
			{ "x-ferry-peer", "qemu" } } } },
		{ "pages that are freed", "release-ram frees what", { SMALL,
			.param = { VERIFY, { "release-ram", "on" } } } },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_err err;
		struct rig r;

		rig_init(&r, &rows[i].cfg);
		assert_int_equal(ferry_source_start(r.source, "unix:/nowhere",
						    &err), -1);
		if (!strstr(err.msg, rows[i].says))
			fail_msg("%s: %s", rows[i].what, err.msg);
		rig_fini(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_right_arrives),
		cmocka_unit_test(a_changed_octet_is_found),
		cmocka_unit_test(a_rescue_does_not_take_the_wrong_page),
		cmocka_unit_test(what_cannot_be_verified_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
