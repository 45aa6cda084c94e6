/* SPDX-License-Identifier: MIT */
/*
 * What the model of the hand-over found in the code (docs/model), each at the
 * moment at which it was wrong.
 *
 * Main of the source is on hold where its hook says so: what is written, and
 * when that call returns, is the test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "mig/source_impl.h"
#include "mig/target_test.h"
#include "rig.h"

#define SMALL								\
	.block = { { "ram", 16 * 4096, 4096, false } }, .blocks = 1,	\
	.zero_percent = 30, .recovers = true

#define AT_ONCE	{ "x-ferry-precopy-passes", "0" }

#define MAIN	0	/* the first that is dialled */

/* What the hooks of one run share: several threads. */
static struct {
	ssize_t (*writev)(struct ferry_chan *c, const struct iovec *iov,
			  int n);
	_Atomic bool	 lose_run;	/* it is not written at all */
	_Atomic bool	 said;		/* RUN was */
	_Atomic bool	 starts;	/* the VM, at the target */
	_Atomic bool	 source_may;	/* run it, at that moment */
	_Atomic bool	 broken;	/* the link, once */
} seen;

/* For what comes at once, or is not to come: then the test fails. */
static bool soon(bool (*happens)(struct rig *r), struct rig *r)
{
	uint64_t until = ferry_now_ns() + 60 * FERRY_NS_PER_S;

	while (!happens(r) && ferry_now_ns() < until)
		usleep(1000);
	return happens(r);
}

static bool vm_starts(struct rig *r)
{
	(void)r;
	return seen.starts;
}

static bool is_run(const struct iovec *iov, int n)
{
	static const uint8_t run[] = { 8, 0, 5, 0, 0 };

	return n == 1 && iov->iov_len == sizeof(run) &&
	       !memcmp(iov->iov_base, run, sizeof(run));
}

static ssize_t writev_on_hold(struct ferry_chan *c, const struct iovec *iov,
			      int n)
{
	ssize_t rc;

	if (!is_run(iov, n))
		return seen.writev(c, iov, n);
	if (seen.lose_run) {
		seen.said = true;
		return 5;
	}
	rc = seen.writev(c, iov, n);
	seen.said = true;
	(void)soon(vm_starts, NULL);
	return rc;
}

static void hold_main(struct rig *r)
{
	struct rig_counter *main = &r->counter[MAIN];

	seen.writev = main->ops.writev;
	main->ops.writev = writev_on_hold;
}

/* ---- whose it is while RUN is being said ---------------------------------------- */

static void look_when_it_starts(struct rig *r, enum rig_moment m, unsigned arg)
{
	if (m == RIG_SOURCE_EVENT && arg == FERRY_STATE_DEVICE)
		hold_main(r);
	if (m != RIG_START)
		return;
	seen.source_may = !ferry_source_may_run(r->source, NULL);
	seen.starts = true;
}

/* The call that writes RUN has not returned, and the VM starts. */
static void a_vm_that_starts_there_is_not_said_to_be_here(void **state)
{
	static const struct rig_config cfg[] = {
		{ SMALL, .hook = look_when_it_starts, .param = { AT_ONCE } },
		{ SMALL, .hook = look_when_it_starts,
		  .param = { { "postcopy-ram", "off" } } },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(cfg); i++) {
		struct rig r;

		memset(&seen, 0, sizeof(seen));
		rig_run(&r, &cfg[i]);
		rig_expect_moved(&r, "RUN is slow");
		assert_true(seen.starts && !seen.source_may);
		rig_fini(&r);
	}
}

/* ---- a start that fails when the source is back ----------------------------------- */

static bool is_back(struct rig *r)
{
	return ferry_status_state(&r->target->status) ==
	       FERRY_STATE_POSTCOPY_ACTIVE;
}

/* In the loader: the link breaks, is found again, and then it does not start. */
static void break_the_link_meanwhile(struct rig *r, enum rig_moment m,
				     unsigned arg)
{
	(void)arg;
	if (m != RIG_START)
		return;
	ferry_source_break_main(r->source);
	seen.broken = soon(is_back, r);
}

static void a_start_that_fails_behind_a_recovery_gives_the_vm_back(
							void **state)
{
	static const struct rig_config cfg = {
		SMALL, .hook = break_the_link_meanwhile, .start_fails = true,
		.param = { AT_ONCE },
	};
	struct rig r;

	(void)state;
	memset(&seen, 0, sizeof(seen));
	rig_run(&r, &cfg);
	assert_true(seen.broken);
	rig_expect_stayed(&r, "it does not start", "it will not start");
	rig_fini(&r);
}

/* ---- a target that was cancelled while the source was away --------------------------- */

static void lose_run(struct rig *r, enum rig_moment m, unsigned arg)
{
	if (m == RIG_SOURCE_EVENT && arg == FERRY_STATE_DEVICE) {
		seen.lose_run = true;
		hold_main(r);
	}
}

static bool run_was_said(struct rig *r)
{
	(void)r;
	return seen.said;
}

static void an_undecided_source_hears_that_the_target_was_cancelled(
							void **state)
{
	static const struct rig_config cfg[] = {
		{ SMALL, .hook = lose_run, .param = { AT_ONCE } },
		{ SMALL, .hook = lose_run,
		  .param = { { "postcopy-ram", "off" } } },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(cfg); i++) {
		struct rig r;

		memset(&seen, 0, sizeof(seen));
		rig_init(&r, &cfg[i]);
		rig_start(&r);
		assert_true(soon(run_was_said, &r));
		atomic_store(&r.apart, true);
		ferry_source_break_main(r.source);
		assert_int_equal(ferry_target_cancel(r.target, NULL), 0);
		while (ferry_status_state(&r.target->status) !=
		       FERRY_STATE_CANCELLED)
			usleep(1000);
		atomic_store(&r.apart, false);
		rig_finish(&r);
		rig_expect_stayed(&r, "the target was cancelled", "cancelled");
		rig_fini(&r);
	}
}

/* ---- a source that is freed as soon as it has failed ---------------------------------- */

static bool has_failed(struct rig *r)
{
	return ferry_status_state(&r->source->status) == FERRY_STATE_FAILED;
}

/* In the loader: its LOADED does not arrive. */
static void break_the_link_for_good(struct rig *r, enum rig_moment m,
				    unsigned arg)
{
	(void)arg;
	if (m != RIG_LOAD)
		return;
	ferry_source_break_main(r->source);
	seen.broken = soon(has_failed, r);
}

/* Who starts another migration frees the last: the target, which would wait an
 * hour for that one, knows by then. */
static void a_source_that_is_freed_as_it_fails_has_told_the_target(void **state)
{
	static const struct rig_config cfg[] = {
		{ SMALL, .hook = break_the_link_for_good, .param = { AT_ONCE } },
		{ SMALL, .hook = break_the_link_for_good,
		  .param = { { "postcopy-ram", "off" } } },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(cfg); i++) {
		struct rig r;

		memset(&seen, 0, sizeof(seen));
		rig_init(&r, &cfg[i]);
		rig_start(&r);
		assert_true(soon(has_failed, &r));
		ferry_source_free(r.source);
		r.source = NULL;
		rig_finish_target(&r);
		assert_true(seen.broken && r.src.running && !r.dst.running);
		rig_fini(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vm_that_starts_there_is_not_said_to_be_here),
		cmocka_unit_test(
			a_start_that_fails_behind_a_recovery_gives_the_vm_back),
		cmocka_unit_test(
			an_undecided_source_hears_that_the_target_was_cancelled),
		cmocka_unit_test(
			a_source_that_is_freed_as_it_fails_has_told_the_target),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
