/* SPDX-License-Identifier: MIT */
/*
 * Lease and rollback: the link is lost behind RUN, and is not found again.
 * With a lease the target stops its VM by itself, and only then the source may
 * have it back; whoever turns out not to be dead is told, and ends.
 */
#include <fcntl.h>
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
#include "base/clock.h"
#include "mig/lease.h"
#include "mig/source_test.h"
#include "rig.h"

#define LEASE	{ "x-ferry-lease", "1000" }
#define AT_ONCE	{ "x-ferry-precopy-passes", "0" }
#define PASS	{ "x-ferry-precopy-passes", "1" }
#define PRECOPY	{ "postcopy-ram", "off" }

#define VM	.block = { { "ram", 1 << 20, 4096, false } }, .blocks = 1, \
		.zero_percent = 30, .hasty = true, .recovers = true

/* Once a link is to last. */
static _Atomic bool calm_again;

/* ---- where it breaks ---------------------------------------------------------- */

/* The VM runs there, and most of it is missing. */
static void cut_when_split(struct rig *r, enum rig_moment m, unsigned arg)
{
	if (m == RIG_SOURCE_EVENT && arg == FERRY_STATE_POSTCOPY_ACTIVE &&
	    !calm_again)
		rig_cut(r);
}

/* It is about to run there, and the source never hears of it. */
static void cut_when_undecided(struct rig *r, enum rig_moment m, unsigned arg)
{
	(void)arg;
	if (m == RIG_START)
		rig_cut(r);
}

/* All of it is there and the lease at an end, and the source does not hear. */
static void cut_at_the_end(struct rig *r, enum rig_moment m, unsigned arg)
{
	if (m == RIG_UNTIL && !arg && r->dst.until == UINT64_MAX &&
	    !calm_again)
		rig_cut(r);
}

/* ---- a lease that nobody needs ------------------------------------------------- */

static const struct { const char *what; struct rig_config cfg; } calm[] = {
	{ "precopy", { VM, .writer = true, .param = { LEASE, PRECOPY } } },
	{ "postcopy at once", { VM, .reader = true,
		.param = { LEASE, AT_ONCE } } },
	{ "postcopy after a pass", { VM, .writer = true, .restless = true,
		.reader = true, .param = { LEASE, PASS } } },
	{ "a VM that was stopped", { VM, .stopped = true,
		.param = { LEASE, PRECOPY } } },
};

static void with_a_lease_it_moves_as_without(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(calm); i++) {
		struct rig r;

		rig_run(&r, &calm[i].cfg);
		rig_expect_moved(&r, calm[i].what);
		assert_true(r.dst.until == UINT64_MAX);
		assert_int_equal(r.source_stats.rollback, FERRY_ROLLBACK_NO);
		assert_int_equal(r.source_stats.lease_ns, 1000000000);
		assert_int_equal(r.target_stats.lease_ns, 0);
		rig_fini(&r);
	}
}

static void break_once(struct rig *r, enum rig_moment m, unsigned arg)
{
	if (m == RIG_SOURCE_EVENT && arg == FERRY_STATE_POSTCOPY_ACTIVE)
		rig_break(r, 1);	/* data, of the first link */
}

static void break_main_once(struct rig *r, enum rig_moment m, unsigned arg)
{
	(void)arg;
	if (m == RIG_START)
		rig_break(r, 0);
}

static const struct { const char *what; struct rig_config cfg; } found[] = {
	{ "split", { VM, .reader = true, .hook = break_once,
		.param = { LEASE, AT_ONCE } } },
	{ "undecided, postcopy", { VM, .reader = true,
		.hook = break_main_once, .param = { LEASE, AT_ONCE } } },
	{ "undecided, precopy", { VM, .hook = break_main_once,
		.param = { LEASE, PRECOPY } } },
};

static void a_link_that_is_found_again_renews_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(found); i++) {
		struct rig r;

		rig_run(&r, &found[i].cfg);
		rig_expect_moved(&r, found[i].what);
		assert_true(r.dst.until == UINT64_MAX);
		assert_int_equal(r.source_stats.recoveries, 1);
		rig_fini(&r);
	}
}

/* ---- the target is lost ----------------------------------------------------------- */

static const struct lost { const char *what; struct rig_config cfg; } lost[] = {
	{ "split", { VM, .reader = true, .hook = cut_when_split,
		.param = { LEASE, AT_ONCE } } },
	{ "undecided, postcopy", { VM, .hook = cut_when_undecided,
		.param = { LEASE, PASS } } },
	{ "undecided, precopy", { VM, .hook = cut_when_undecided,
		.param = { LEASE, PRECOPY } } },
};

#define LOST	FERRY_LEN(lost)

static enum ferry_rollback rollback_of(struct rig *r, uint64_t *left_ns)
{
	struct ferry_stats st = FERRY_STATS_INIT;

	ferry_source_stats(r->source, &st);
	*left_ns = st.lease_left_ns;
	return st.rollback;
}

static void expect_refused(struct rig *r, const char *why)
{
	struct ferry_err err = { 0 };

	assert_int_equal(ferry_source_rollback(r->source, &err), -1);
	if (!strstr(err.msg, why))
		fail_msg("'%s' is not in '%s'", why, err.msg);
}

static void await_target(struct rig *r, enum ferry_state state)
{
	struct ferry_stats st = FERRY_STATS_INIT;

	for (int i = 0; i < 60000 && st.state != state; i++) {
		usleep(1000);
		ferry_target_stats(r->target, &st);
	}
	assert_int_equal(st.state, state);
}

/* As soon as it is told that it may. */
static void roll_back(struct rig *r, const char *what)
{
	struct ferry_err err = { 0 };
	uint64_t left;

	while (rollback_of(r, &left) == FERRY_ROLLBACK_LATER) {
		assert_int_equal(r->src.running, false);
		usleep(1000);
	}
	/* The other one has stood still for a while by now. */
	assert_true(ferry_boot_ns() > r->dst.until);
	if (ferry_source_rollback(r->source, &err))
		fail_msg("%s: %s", what, err.msg);
}

static void expect_home(struct rig *r, const char *what)
{
	struct ferry_stats st = FERRY_STATS_INIT;

	ferry_source_stats(r->source, &st);
	assert_int_equal(st.state, FERRY_STATE_FAILED);
	assert_int_equal(st.where, FERRY_WHERE_SOURCE);
	assert_int_equal(st.safe, FERRY_SAFE_SOURCE);
	assert_non_null(strstr(st.error, "rolled back"));
	assert_true(r->src.running);
	assert_false(rig_side_runs(&r->dst));
	assert_int_equal(ferry_source_may_run(r->source, NULL), 0);
	assert_int_equal(r->both, 0);
	assert_int_equal(r->odd_events, 0);
	if (rig_side_sum(&r->src) != r->sum)
		fail_msg("%s: memory is not what it was", what);
}

/* It comes to life, and is told. */
static void expect_void(struct rig *r, const char *what)
{
	struct ferry_err err = { 0 };

	atomic_store(&r->apart, false);
	await_target(r, FERRY_STATE_FAILED);
	assert_int_equal(ferry_target_wait(r->target, 0, &err), -1);
	if (!strstr(err.msg, "void"))
		fail_msg("%s: %s", what, err.msg);
	assert_int_equal(ferry_target_may_run(r->target, NULL), -1);
	assert_false(rig_side_runs(&r->dst));
	assert_int_equal(r->both, 0);
}

/* All at once: each takes as long as its lease. */
static void a_vm_that_was_lost_goes_on_here(void **state)
{
	static struct rig r[LOST];
	uint64_t left;

	(void)state;
	for (size_t i = 0; i < LOST; i++) {
		rig_init(&r[i], &lost[i].cfg);
		rig_start(&r[i]);
		rig_await(&r[i], FERRY_STATE_POSTCOPY_PAUSED);
		assert_int_equal(rollback_of(&r[i], &left),
				 FERRY_ROLLBACK_LATER);
		assert_in_range(left, 1, 3010000000);
		expect_refused(&r[i], "has not run out");
	}
	for (size_t i = 0; i < LOST; i++) {
		roll_back(&r[i], lost[i].what);
		expect_home(&r[i], lost[i].what);
		expect_refused(&r[i], "it is failed");
		assert_int_equal(ferry_source_recover(r[i].source, NULL,
						      NULL), -1);
	}
	for (size_t i = 0; i < LOST; i++) {
		expect_void(&r[i], lost[i].what);
		rig_fini(&r[i]);
	}
}

/* The source comes back before that, and it goes on. */
static void a_lease_that_has_run_out_is_given_again(void **state)
{
	static const struct rig_config cfg = { VM, .reader = true,
		.hook = cut_when_split, .param = { LEASE, AT_ONCE } };
	struct rig r;

	(void)state;
	rig_init(&r, &cfg);
	rig_start(&r);
	rig_await(&r, FERRY_STATE_POSTCOPY_PAUSED);
	await_target(&r, FERRY_STATE_POSTCOPY_PAUSED);
	while (rig_side_runs(&r.dst))
		usleep(1000);
	while (r.dst.until)		/* and is told so */
		usleep(1000);
	assert_int_equal(ferry_target_may_run(r.target, NULL), -1);
	atomic_store(&calm_again, true);
	atomic_store(&r.apart, false);
	rig_finish(&r);
	atomic_store(&calm_again, false);
	rig_expect_moved(&r, "it is given again");
	assert_true(r.dst.until == UINT64_MAX);
	rig_fini(&r);
}

/* ---- where it may not be --------------------------------------------------------- */

static void what_may_be_whole_there_is_not_rolled_back(void **state)
{
	static const struct rig_config cfg[] = {
		{ VM, .hook = cut_at_the_end, .param = { LEASE, PASS } },
		{ VM, .hook = cut_at_the_end, .param = { LEASE, PRECOPY } },
	};
	uint64_t left;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(cfg); i++) {
		struct rig r;

		rig_init(&r, &cfg[i]);
		rig_start(&r);
		rig_await(&r, FERRY_STATE_POSTCOPY_PAUSED);
		await_target(&r, FERRY_STATE_COMPLETED);
		/* However long it is silent. */
		r.source->lease.last_ns = 0;
		assert_int_equal(rollback_of(&r, &left), FERRY_ROLLBACK_NO);
		expect_refused(&r, "may have all of the VM");
		atomic_store(&calm_again, true);
		atomic_store(&r.apart, false);
		rig_finish(&r);
		atomic_store(&calm_again, false);
		rig_expect_moved(&r, "it was whole");
		rig_fini(&r);
	}
}

static void without_a_lease_it_is_the_users_word(void **state)
{
	static const struct rig_config cfg = { VM, .hook = cut_when_split,
					       .param = { AT_ONCE } };
	struct ferry_err err = { 0 };
	struct rig r;
	uint64_t left;

	(void)state;
	rig_init(&r, &cfg);
	rig_start(&r);
	rig_await(&r, FERRY_STATE_POSTCOPY_PAUSED);
	await_target(&r, FERRY_STATE_POSTCOPY_PAUSED);
	assert_int_equal(rollback_of(&r, &left), FERRY_ROLLBACK_UNPROVEN);
	assert_int_equal(left, 0);
	atomic_store(&r.dst.running, false);	/* it is dead, is it? */
	if (ferry_source_rollback(r.source, &err))
		fail_msg("%s", err.msg);
	expect_home(&r, "no lease");
	expect_void(&r, "no lease");
	rig_fini(&r);
}

static void freed(struct rig *r)
{
	struct ferry_stats st = FERRY_STATS_INIT;

	ferry_source_stats(r->source, &st);
	assert_int_equal(st.rollback, FERRY_ROLLBACK_NO);
}

static void dumped(struct rig *r)
{
	int null = open("/dev/null", O_WRONLY);

	assert_int_equal(ferry_source_rescue(r->source, null, NULL), 0);
	close(null);
}

static const struct {
	const char	*what;
	struct rig_config cfg;
	void		(*before)(struct rig *r);
	const char	*why;
} refused[] = {
	{ "what was sent is gone", { VM, .freed = true,
		.hook = cut_when_split,
		.param = { AT_ONCE, { "release-ram", "on" } } }, freed,
		"release-ram" },
	{ "its half was dumped", { VM, .hook = cut_when_split,
		.param = { AT_ONCE } }, dumped, "dumped for a rescue" },
};

static void what_was_not_kept_cannot_come_back(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(refused); i++) {
		struct rig r;

		rig_init(&r, &refused[i].cfg);
		rig_start(&r);
		rig_await(&r, FERRY_STATE_POSTCOPY_PAUSED);
		refused[i].before(&r);
		expect_refused(&r, refused[i].why);
		assert_false(r.src.running);
		rig_fini(&r);
	}
}

static void a_migration_that_is_not_lost_is_not_rolled_back(void **state)
{
	static const struct rig_config cfg = { VM, .param = { AT_ONCE } };
	struct rig r;

	(void)state;
	rig_init(&r, &cfg);
	expect_refused(&r, "it is none");
	rig_start(&r);
	rig_finish(&r);
	expect_refused(&r, "it is completed");
	rig_fini(&r);
}

static const struct {
	const char *value, *name, *other, *why;
} starts[] = {
	{ "999", "x-ferry-peer", "ferry", "less than 1000 ms" },
	{ "5000", "x-ferry-peer", "qemu", "knows no lease" },
	{ "5000", "release-ram", "on", "rolled back to" },
};

static void a_lease_that_cannot_be_is_refused_at_the_start(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(starts); i++) {
		struct rig_config cfg = { VM, .param = {
			{ "x-ferry-lease", starts[i].value },
			{ starts[i].name, starts[i].other } } };
		struct ferry_err err = { 0 };
		struct rig r;

		rig_init(&r, &cfg);
		assert_int_equal(ferry_source_start(r.source,
						    "tcp:127.0.0.1:1", &err),
				 -1);
		if (!strstr(err.msg, starts[i].why))
			fail_msg("%s", err.msg);
		rig_fini(&r);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_a_lease_it_moves_as_without),
		cmocka_unit_test(a_link_that_is_found_again_renews_it),
		cmocka_unit_test(a_vm_that_was_lost_goes_on_here),
		cmocka_unit_test(a_lease_that_has_run_out_is_given_again),
		cmocka_unit_test(what_may_be_whole_there_is_not_rolled_back),
		cmocka_unit_test(without_a_lease_it_is_the_users_word),
		cmocka_unit_test(what_was_not_kept_cannot_come_back),
		cmocka_unit_test(
			a_migration_that_is_not_lost_is_not_rolled_back),
		cmocka_unit_test(
			a_lease_that_cannot_be_is_refused_at_the_start),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
