/* SPDX-License-Identifier: MIT */
/*
 * While the link is lost: what the user may ask of either side, what strangers
 * may try, and links that do not break but fall silent.  Through the public
 * API, over unix sockets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "mig/greet.h"
#include "mig/source_test.h"
#include "rig.h"
#include "unit/huge.h"

#define QUIET								\
	.block = { { "ram", 1 << 20, 4096, false } }, .blocks = 1,	\
	.zero_percent = 30, .recovers = true, .uri = rig_unix_uri()

/* Postcopy, and nothing goes but what is asked for, until end(). */
#define HELD	.param = { { "x-ferry-precopy-passes", "0" },		\
			   { "x-ferry-background-push", "off" } }

static const char *other_uri(void)
{
	static char uri[64];

	snprintf(uri, sizeof(uri), "%s-2", rig_unix_uri());
	return uri;
}

static struct ferry_stats source_now(struct rig *r)
{
	struct ferry_stats st = FERRY_STATS_INIT;

	ferry_source_stats(r->source, &st);
	return st;
}

static struct ferry_stats target_now(struct rig *r)
{
	struct ferry_stats st = FERRY_STATS_INIT;

	ferry_target_stats(r->target, &st);
	return st;
}

static void await_both(struct rig *r, enum ferry_state state)
{
	struct ferry_stats s, t;

	for (int i = 0; i < 20000; i++) {
		s = source_now(r);
		t = target_now(r);
		if (s.state == state && t.state == state)
			return;
		usleep(1000);
	}
	fail_msg("awaiting %s: the source is %s, the target %s",
		 ferry_state_name(state), ferry_state_name(s.state),
		 ferry_state_name(t.state));
}

static void begin(struct rig *r, const struct rig_config *cfg)
{
	rig_init(r, cfg);
	rig_start(r);
	await_both(r, FERRY_STATE_POSTCOPY_ACTIVE);
}

/* Let it go on, to the end. */
static void end(struct rig *r, const char *what, unsigned recoveries)
{
	struct ferry_err e;

	if (ferry_source_set(r->source, "x-ferry-background-push", "on", &e))
		fail_msg("%s: %s", what, e.msg);
	rig_finish(r);
	rig_expect_moved(r, what);
	assert_int_equal(r->source_stats.recoveries, recoveries);
	assert_true(!recoveries || r->source_stats.apart_ns);
	assert_int_equal(r->source_stats.seeking, 0);
	rig_fini(r);
}

static void expect_paused(struct rig *r, const char *reason)
{
	struct ferry_err e = { 0 };

	assert_int_equal(ferry_source_wait(r->source, 20000, &e), -1);
	if (!strstr(e.msg, reason))
		fail_msg("it is paused for another reason: %s", e.msg);
	assert_int_equal(source_now(r).state, FERRY_STATE_POSTCOPY_PAUSED);
	assert_int_equal(source_now(r).where, FERRY_WHERE_SPLIT);
}

/* ---- orders -------------------------------------------------------------------- */

static void what_is_paused_by_hand_waits_to_be_recovered(void **state)
{
	static const char *const times[] = { "once", "twice", "thrice" };
	const struct rig_config cfg = { QUIET, HELD };
	struct ferry_err e;
	struct rig r;

	(void)state;
	begin(&r, &cfg);
	for (size_t i = 0; i < FERRY_LEN(times); i++) {
		assert_int_equal(ferry_source_pause(r.source, &e), 0);
		expect_paused(&r, "paused by the user");
		assert_int_equal(ferry_source_cancel(r.source, &e), -1);
		assert_int_equal(ferry_source_recover(r.source, NULL, &e), 0);
		await_both(&r, FERRY_STATE_POSTCOPY_ACTIVE);
		assert_int_equal(ferry_source_recover(r.source, NULL, &e), -1);
		assert_non_null(strstr(e.msg, "nothing to recover"));
	}
	end(&r, "paused by hand", FERRY_LEN(times));
}

static void the_target_may_be_paused_and_its_source_comes_back(void **state)
{
	const struct rig_config cfg = { QUIET, HELD };
	struct ferry_err e;
	struct rig r;

	(void)state;
	begin(&r, &cfg);
	assert_int_equal(ferry_target_pause(r.target, &e), 0);
	await_both(&r, FERRY_STATE_POSTCOPY_ACTIVE);
	while (!source_now(&r).recoveries)
		usleep(1000);
	end(&r, "paused at the target", 1);
}

/* Its address is no more: the source looks for it until told not to, and finds
 * it at another one. */
static void who_moved_is_found_at_another_address(void **state)
{
	const struct rig_config cfg = { QUIET, HELD };
	struct ferry_err e;
	struct rig r;

	(void)state;
	begin(&r, &cfg);
	unlink(rig_unix_uri() + 5);
	assert_int_equal(ferry_target_pause(r.target, &e), 0);
	while (target_now(&r).state != FERRY_STATE_POSTCOPY_PAUSED ||
	       source_now(&r).recover_attempts < 3)
		usleep(1000);
	assert_int_equal(ferry_source_wait(r.source, 20, &e), -1);
	assert_int_equal(e.code, FERRY_E_TIMEOUT);	/* no end */

	assert_int_equal(ferry_source_cancel(r.source, &e), 0);
	expect_paused(&r, "cancelled by the user");
	assert_int_equal(ferry_target_recover(r.target, "tcp:nowhere", &e),
			 -1);
	assert_int_equal(ferry_target_recover(r.target, other_uri(), &e), 0);
	assert_int_equal(ferry_source_recover(r.source, "fd:0", &e), -1);
	assert_int_equal(ferry_source_recover(r.source, other_uri(), &e), 0);
	await_both(&r, FERRY_STATE_POSTCOPY_ACTIVE);
	end(&r, "at another address", 1);
}

static void a_further_address_is_tried_in_turn(void **state)
{
	const struct rig_config cfg = { QUIET, HELD };
	struct ferry_err e;
	struct rig r;

	(void)state;
	rig_init(&r, &cfg);
	assert_int_equal(ferry_source_add_path(r.source, "file:/x", &e), -1);
	assert_int_equal(ferry_source_add_path(r.source, other_uri(), &e), 0);
	for (unsigned i = 2; i < FERRY_PATHS_MAX; i++)
		assert_int_equal(ferry_source_add_path(r.source,
				 "unix:/nowhere", &e), 0);
	assert_int_equal(ferry_source_add_path(r.source, "unix:/a", &e), -1);
	rig_start(&r);
	await_both(&r, FERRY_STATE_POSTCOPY_ACTIVE);
	assert_int_equal(ferry_target_recover(r.target, other_uri(), &e), 0);
	unlink(rig_unix_uri() + 5);
	assert_int_equal(ferry_target_pause(r.target, &e), 0);
	while (!source_now(&r).recoveries)
		usleep(1000);
	end(&r, "a second path", 1);
}

static void without_hope_a_pause_is_the_end_until_told(void **state)
{
	const struct rig_config cfg = { QUIET, .param = {
		{ "x-ferry-precopy-passes", "0" },
		{ "x-ferry-background-push", "off" },
		{ "x-ferry-recover", "0" } } };
	struct ferry_err e;
	struct rig r;

	(void)state;
	begin(&r, &cfg);
	assert_int_equal(ferry_target_pause(r.target, &e), 0);
	expect_paused(&r, "");
	assert_int_equal(ferry_source_recover(r.source, NULL, &e), 0);
	await_both(&r, FERRY_STATE_POSTCOPY_ACTIVE);
	end(&r, "by hand alone", 1);
}

static void what_was_freed_cannot_be_recovered(void **state)
{
	const struct rig_config cfg = { QUIET, .freed = true, .param = {
		{ "x-ferry-precopy-passes", "0" },
		{ "x-ferry-background-push", "off" },
		{ "release-ram", "on" } } };
	struct ferry_err e;
	struct rig r;

	(void)state;
	begin(&r, &cfg);
	assert_int_equal(ferry_target_pause(r.target, &e), 0);
	expect_paused(&r, "");
	assert_int_equal(ferry_source_recover(r.source, NULL, &e), -1);
	assert_non_null(strstr(e.msg, "release-ram"));
	rig_fini(&r);
}

/* ---- strangers ------------------------------------------------------------------ */

static struct ferry_chan *knock(void)
{
	struct ferry_err e;
	struct ferry_uri u;
	struct ferry_chan *c;

	assert_int_equal(ferry_uri_parse(&u, rig_unix_uri(), &e), 0);
	c = ferry_uri_dial(&u, 5000, NULL, &e);
	assert_non_null(c);
	return c;
}

/* What a source of this VM would say that comes back, but for its id. */
static void come_back(struct rig *r, enum ferry_channel_type type,
		      unsigned differs, bool again)
{
	struct ferry_channel_head head = {
		.type = (uint16_t)type, .features = FERRY_FEATURES_KNOWN,
		.mandatory = FERRY_FEATURES_MUST |
			     (again ? FERRY_FEATURE_RECOVER : 0),
	};
	struct ferry_chan *c = knock();
	struct ferry_inbuf in = { 0 };
	struct ferry_hello hello, theirs = { 0 };
	struct ferry_err e;

	memcpy(head.session, r->source->session, sizeof(head.session));
	head.session[differs] ^= 1;
	assert_int_equal(ferry_greet_describe(r->src.vm, &hello, &e), 0);
	hello.has_channels = true;
	hello.data = hello.urgent = 1;
	(void)!ferry_greet_send(c, &head, type == FERRY_CHANNEL_MAIN ?
				&hello : NULL, &e);
	ferry_hello_fini(&hello);
	assert_int_equal(ferry_inbuf_init(&in, c, FERRY_GREET_BUF_BYTES, &e),
			 0);
	if (type == FERRY_CHANNEL_MAIN) {
		assert_int_equal(ferry_greet_read_head(&in, true, &head, &e),
				 0);
		assert_int_equal(ferry_greet_read_hello(&in, true, &theirs,
							&e), 0);
		assert_int_equal(theirs.verdict, FERRY_E_STATE);
		ferry_hello_fini(&theirs);
	}
	/* It is shown out, and that is all. */
	assert_null(ferry_inbuf_need(&in, 1, &e));
	ferry_inbuf_fini(&in);
	ferry_chan_close(c);
}

static void try_all(struct rig *r)
{
	for (unsigned octet = 0; octet < FERRY_SESSION_BYTES; octet += 5)
		for (int type = FERRY_CHANNEL_MAIN;
		     type <= FERRY_CHANNEL_URGENT; type++)
			come_back(r, (enum ferry_channel_type)type, octet,
				  type == FERRY_CHANNEL_MAIN);
	come_back(r, FERRY_CHANNEL_MAIN, 3, false);
}

static void who_does_not_know_the_id_is_nobody(void **state)
{
	const struct rig_config cfg = { QUIET, HELD };
	struct ferry_err e;
	struct rig r;

	(void)state;
	begin(&r, &cfg);
	await_both(&r, FERRY_STATE_POSTCOPY_ACTIVE);
	try_all(&r);
	assert_int_equal(target_now(&r).state,
			 FERRY_STATE_POSTCOPY_ACTIVE);
	assert_int_equal(target_now(&r).recover_attempts, 0);

	assert_int_equal(ferry_source_pause(r.source, &e), 0);
	await_both(&r, FERRY_STATE_POSTCOPY_PAUSED);
	try_all(&r);
	assert_int_equal(target_now(&r).state,
			 FERRY_STATE_POSTCOPY_PAUSED);
	assert_int_equal(target_now(&r).recover_attempts, 0);

	assert_int_equal(ferry_source_recover(r.source, NULL, &e), 0);
	await_both(&r, FERRY_STATE_POSTCOPY_ACTIVE);
	end(&r, "after strangers", 1);
}

/* ---- silence ------------------------------------------------------------------- */

#define SILENT	UINT64_MAX
#define NONE	.cut_write_at = UINT64_MAX, .cut_read_at = UINT64_MAX,	\
		.corrupt_write_at = UINT64_MAX,				\
		.corrupt_read_at = UINT64_MAX

/* Main falls silent in postcopy, one way or the other: as a peer that was
 * stopped does, nothing is closed. */
static void a_link_that_falls_silent_is_given_up_and_found(void **state)
{
	static const struct rig_config cfg = {
		.block = { { "ram", 1 << 20, 4096, false } }, .blocks = 1,
		.zero_percent = 30, .hasty = true, .recovers = true,
		.param = { { "x-ferry-precopy-passes", "0" },
			   { "x-ferry-background-push", "off" },
			   { "x-ferry-timeout", "600" } },
		.target_param = { { "x-ferry-timeout", "600" } },
		.has_fault = true,
	};

	(void)state;
	for (int write = 0; write < 2; write++) {
		struct rig_config c = cfg;
		struct rig r;

		/* The opening takes less; PING and PONG go on for ever. */
		c.fault.fault = (struct ferry_fault){ NONE,
			.stall_write_at = write ? 1200 : SILENT,
			.stall_read_at = write ? SILENT : 800 };
		begin(&r, &c);
		for (int i = 0; i < 20000 && !source_now(&r).recoveries; i++)
			usleep(1000);
		end(&r, write ? "nothing arrives" : "nothing is heard", 1);
	}
}

/* ---- huge pages ------------------------------------------------------------------- */

static void break_once(struct rig *r, enum rig_moment m, unsigned arg)
{
	struct ferry_err e;

	if (m == RIG_TARGET_EVENT && arg == FERRY_STATE_POSTCOPY_ACTIVE &&
	    !target_now(r).recoveries)
		(void)!ferry_target_pause(r->target, &e);
}

static void huge_pages_come_as_a_whole(void **state)
{
	const struct rig_config cfg = {
		.block = { { "ram", 8 << 20, 2 << 20, true },
			   { "vram", 256 << 10, 4096, false } },
		.blocks = 2, .zero_percent = 20, .writer = true,
		.reader = true, .recovers = true, .uri = rig_unix_uri(),
		.hook = break_once, .param = {
			{ "x-ferry-precopy-passes", "1" } },
	};
	struct rig r;

	(void)state;
	if (!huge_pages_for(8)) {
		print_message("8 free huge pages of 2 MiB lack\n");
		skip();
	}
	rig_run(&r, &cfg);
	rig_expect_moved(&r, "huge pages");
	assert_int_equal(r.source_stats.recoveries, 1);
	rig_fini(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_paused_by_hand_waits_to_be_recovered),
		cmocka_unit_test(
			the_target_may_be_paused_and_its_source_comes_back),
		cmocka_unit_test(who_moved_is_found_at_another_address),
		cmocka_unit_test(a_further_address_is_tried_in_turn),
		cmocka_unit_test(without_hope_a_pause_is_the_end_until_told),
		cmocka_unit_test(what_was_freed_cannot_be_recovered),
		cmocka_unit_test(who_does_not_know_the_id_is_nobody),
		cmocka_unit_test(
			a_link_that_falls_silent_is_given_up_and_found),
		cmocka_unit_test(huge_pages_come_as_a_whole),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
