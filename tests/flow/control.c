/* SPDX-License-Identifier: MIT */
/*
 * The user changes his mind: cancel, on either side, at every moment and from
 * inside every callback; a source or target that is freed in the midst of it;
 * postcopy on demand.  The VM is always in one place, and whoever asked gets
 * an answer that holds.
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
#include "rig.h"
#include "wire/channel.h"

#define BLOCKS								\
	.block = { { "ram", 1 << 20, 4096, true },			\
		   { "vram", 64 << 10, 4096, false } },			\
	.blocks = 2, .zero_percent = 20, .writer = true

static const struct mode {
	const char *what;
	struct rig_config cfg;
} modes[] = {
	{ "precopy", { BLOCKS } },
	{ "one pass, then postcopy", { BLOCKS, .reader = true,
		.param = { { "x-ferry-precopy-passes", "1" } } } },
	{ "postcopy", { BLOCKS, .reader = true,
		.param = { { "x-ferry-precopy-passes", "0" } } } },
};

/* A cancel, when and on which side; and what came of it. */
struct plan {
	enum rig_moment moment;
	unsigned arg;
	bool at_target;
	_Atomic bool asked;
	int rc;
	struct ferry_err err;
};

static void ask(struct rig *r, struct plan *p)
{
	p->rc = p->at_target ? ferry_target_cancel(r->target, &p->err) :
			       ferry_source_cancel(r->source, &p->err);
	atomic_store(&p->asked, true);
}

static void cancel_at(struct rig *r, enum rig_moment m, unsigned arg)
{
	struct plan *p = r->cfg.hook_arg;

	/* By its last event the source may be gone already. */
	if (m == RIG_TARGET_EVENT && arg == FERRY_STATE_COMPLETED &&
	    !p->at_target)
		return;
	if (m == p->moment && arg == p->arg && !atomic_load(&p->asked))
		ask(r, p);
}

/* A cancel that was accepted is kept, one that was refused disturbs nothing. */
static void check_cancel(struct rig *r, const struct plan *p, const char *what)
{
	if (rig_verdict(r)[0])
		fail_msg("%s: %s; source %s: %s; target %s: %s", what,
			 rig_verdict(r),
			 ferry_state_name(r->source_stats.state),
			 r->source_err.msg,
			 ferry_state_name(r->target_stats.state),
			 r->target_err.msg);
	if (!p->asked || p->rc) {
		if (p->asked)
			assert_true(p->err.code == FERRY_E_STATE &&
				    p->err.msg[0]);
		rig_expect_moved(r, what);
	} else {
		rig_expect_stayed(r, what, p->at_target ?
				  "cancelled by the user of the target" :
				  "cancelled by the user");
		if (p->at_target)
			assert_non_null(strstr(r->target_err.msg,
					       "cancelled by the user"));
		assert_int_equal(p->at_target ? r->target_stats.state :
				 r->source_stats.state,
				 FERRY_STATE_CANCELLED);
	}
}

static const struct { enum rig_moment m; unsigned arg; } moments[] = {
	{ RIG_SOURCE_EVENT, FERRY_STATE_SETUP },
	{ RIG_SOURCE_EVENT, FERRY_STATE_ACTIVE },
	{ RIG_SOURCE_EVENT, FERRY_STATE_DEVICE },
	{ RIG_SOURCE_EVENT, FERRY_STATE_POSTCOPY_ACTIVE },
	{ RIG_SOURCE_EVENT, FERRY_STATE_COMPLETED },
	{ RIG_TARGET_EVENT, FERRY_STATE_ACTIVE },
	{ RIG_TARGET_EVENT, FERRY_STATE_DEVICE },
	{ RIG_TARGET_EVENT, FERRY_STATE_POSTCOPY_ACTIVE },
	{ RIG_TARGET_EVENT, FERRY_STATE_COMPLETED },
	{ RIG_STOP, 0 }, { RIG_SAVE, 0 }, { RIG_LOAD, 0 }, { RIG_START, 0 },
};

static void cancel_in_every_callback(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(modes) * FERRY_LEN(moments) * 2;
	     i++) {
		const struct mode *m = &modes[i / 2 / FERRY_LEN(moments)];
		size_t at = i / 2 % FERRY_LEN(moments);
		struct plan p = {
			.moment = moments[at].m, .arg = moments[at].arg,
			.at_target = i % 2,
		};
		struct rig_config cfg = m->cfg;
		char what[96];
		struct rig r;

		snprintf(what, sizeof(what), "%s, cancel at the %s, moment %zu",
			 m->what, p.at_target ? "target" : "source", at);
		cfg.hook = cancel_at;
		cfg.hook_arg = &p;
		rig_run(&r, &cfg);
		check_cancel(&r, &p, what);
		rig_fini(&r);
	}
}

/* Spread over more than a migration takes. */
static useconds_t delay_us(unsigned i)
{
	return i * i * 13;
}

#define DELAYS	24

static void cancel_at_any_time(void **state)
{
	(void)state;
	for (unsigned i = 0; i < FERRY_LEN(modes) * DELAYS * 2; i++) {
		const struct mode *m = &modes[i / 2 / DELAYS];
		struct plan p = { .at_target = i % 2 };
		struct rig r;

		rig_init(&r, &m->cfg);
		rig_start(&r);
		usleep(delay_us(i / 2 % DELAYS));
		ask(&r, &p);
		rig_finish(&r);
		check_cancel(&r, &p, m->what);
		rig_fini(&r);
	}
}

/* What is freed in the midst of it is broken off; the other side ends. */
static void freed_at_any_time(void **state)
{
	(void)state;
	for (unsigned i = 0; i < FERRY_LEN(modes) * DELAYS * 2; i++) {
		const struct mode *m = &modes[i / 2 / DELAYS];
		struct rig_config cfg = m->cfg;
		bool has_it = false;
		struct rig r;

		cfg.uri = rig_unix_uri();
		rig_init(&r, &cfg);
		rig_start(&r);
		usleep(delay_us(i / 2 % DELAYS));
		if (i % 2) {	/* it was started there, or is given back */
			rig_free_target(&r);
			rig_finish_source(&r);
		} else {
			rig_free_source(&r);
			rig_finish_target(&r);
			has_it = !ferry_target_may_run(r.target, NULL);
		}
		rig_fini(&r);
		if (r.both || r.torn)
			fail_msg("%s, %s freed after %u us: %u ran twice, %u "
				 "torn", m->what, i % 2 ? "target" : "source",
				 delay_us(i / 2 % DELAYS), r.both, r.torn);
		if (!r.src.running && !r.dst.running && !has_it)
			fail_msg("%s, %s freed after %u us: it runs nowhere",
				 m->what, i % 2 ? "target" : "source",
				 delay_us(i / 2 % DELAYS));
	}
}

static void postcopy_on_demand_at_any_time(void **state)
{
	(void)state;
	for (unsigned i = 0; i < DELAYS; i++) {
		struct ferry_err err;
		struct rig r;
		int rc;

		rig_init(&r, &modes[1].cfg);
		assert_int_equal(ferry_source_set(r.source,
				 "x-ferry-precopy-passes", "1000", NULL), 0);
		rig_start(&r);
		usleep(delay_us(i));
		rc = ferry_source_start_postcopy(r.source, &err);
		if (rc)
			assert_non_null(strstr(err.msg, "cannot be started"));
		rig_finish(&r);
		rig_expect_moved(&r, "postcopy on demand");
		rig_fini(&r);
	}
}

/* It would take hours. */
static void postcopy_on_demand_ends_a_slow_pass(void **state)
{
	struct rig_config cfg = modes[1].cfg;
	struct rig r;

	(void)state;
	cfg.param[0][1] = "1000";
	cfg.param[1][0] = "max-bandwidth";
	cfg.param[1][1] = "1";
	rig_init(&r, &cfg);
	rig_start(&r);
	rig_await(&r, FERRY_STATE_ACTIVE);
	assert_int_equal(ferry_source_start_postcopy(r.source, NULL), 0);
	rig_finish(&r);
	rig_expect_moved(&r, "postcopy on demand");
	assert_true(r.source_stats.postcopy_bytes > 0);
	rig_fini(&r);
}

static void nap(struct rig *r, enum rig_moment m, unsigned arg)
{
	(void)arg;
	if (m == *(enum rig_moment *)r->cfg.hook_arg)
		usleep(3000000);
}

/* The engine's thread is away for longer than a peer may be silent. */
static void a_vm_that_takes_its_time_is_no_silence(void **state)
{
	static const enum rig_moment moment[] = {
		RIG_STOP, RIG_SAVE, RIG_LOAD, RIG_START,
	};
	struct rig r[FERRY_LEN(moment)];

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(moment); i++) {
		struct rig_config cfg = {
			BLOCKS, .hook = nap, .hook_arg = (void *)&moment[i],
			.param = { { "x-ferry-timeout", "1500" } },
			.target_param = { { "x-ferry-timeout", "1500" } },
		};

		rig_init(&r[i], &cfg);
		rig_start(&r[i]);
	}
	for (size_t i = 0; i < FERRY_LEN(moment); i++) {
		rig_finish(&r[i]);
		rig_expect_moved(&r[i], "a slow VM");
		rig_fini(&r[i]);
	}
}

/* How much main carries when nothing is stuck. */
static uint64_t carried_by_main(void)
{
	struct rig_config cfg = { BLOCKS };
	uint64_t octets;
	struct rig r;

	rig_run(&r, &cfg);
	rig_free_source(&r);
	octets = r.counter[0].written;
	rig_fini(&r);
	return octets;
}

#define STOPS	24

/* What main does not take keeps nobody from changing his mind, and his VM from
 * running on. */
static void cancel_does_not_wait_for_main(void **state)
{
	uint64_t octets = carried_by_main();

	(void)state;
	for (unsigned i = 0; i < STOPS; i++) {
		struct rig_config cfg = {
			BLOCKS, .hasty = true, .has_fault = true,
			.fault = { 0, FERRY_FAULT_NONE },
			.param = { { "x-ferry-timeout", "3600000" } },
			.target_param = { { "x-ferry-timeout", "3600000" } },
		};
		struct ferry_err err;
		struct rig r;

		cfg.fault.fault.stall_write_at = octets * i / STOPS;
		rig_init(&r, &cfg);
		rig_start(&r);
		usleep(20000);
		if (ferry_source_cancel(r.source, &err)) {
			/* RUN, or half of it, is stuck */
			assert_int_equal(err.code, FERRY_E_STATE);
		} else {
			rig_finish(&r);
			rig_expect_stayed(&r, "stuck", "cancelled by the user");
		}
		rig_fini(&r);
	}
}

/* The timeouts are an hour: nothing else than the cancel can end it. */
static void cancel_does_not_wait_for_a_peer_that_is_stuck(void **state)
{
	(void)state;
	for (unsigned channel = 1; channel < 3; channel++) {
		struct rig_config cfg = {
			BLOCKS, .hasty = true, .has_fault = true,
			.fault = { channel, FERRY_FAULT_NONE },
			.param = { { "x-ferry-timeout", "3600000" } },
			.target_param = { { "x-ferry-timeout", "3600000" } },
		};
		struct rig r;

		/* data: in a page; urgent: behind its header. */
		cfg.fault.fault.stall_write_at = channel == 1 ? 20000 :
						 FERRY_CHANNEL_WIRE;
		rig_init(&r, &cfg);
		rig_start(&r);
		usleep(20000);
		assert_int_equal(ferry_source_cancel(r.source, NULL), 0);
		rig_finish(&r);
		rig_expect_stayed(&r, "stuck", "cancelled by the user");
		rig_fini(&r);
	}
}

static void what_cannot_be_asked_is_refused(void **state)
{
	struct ferry_err err;
	struct rig r;

	(void)state;
	rig_init(&r, &modes[0].cfg);
	assert_int_equal(ferry_source_cancel(r.source, &err), -1);
	assert_non_null(strstr(err.msg, "nothing to cancel"));
	assert_int_equal(ferry_target_cancel(r.target, &err), -1);
	assert_non_null(strstr(err.msg, "nothing to cancel"));
	assert_null(ferry_source_new(r.src.vm, NULL, NULL, &err));
	assert_non_null(strstr(err.msg, "part of a migration already"));
	rig_start(&r);
	assert_int_equal(ferry_source_start(r.source, "tcp:127.0.0.1:1",
					    &err), -1);
	assert_non_null(strstr(err.msg, "started already"));
	assert_int_equal(ferry_source_set(r.source, "multifd-channels", "2",
					  &err), -1);
	assert_non_null(strstr(err.msg, "while the migration runs"));
	rig_finish(&r);
	assert_int_equal(ferry_source_cancel(r.source, &err), -1);
	assert_non_null(strstr(err.msg, "completed"));
	assert_int_equal(ferry_source_may_run(r.source, &err), -1);
	assert_int_equal(ferry_target_may_run(r.target, &err), 0);
	rig_expect_moved(&r, "what was refused");
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cancel_in_every_callback),
		cmocka_unit_test(cancel_at_any_time),
		cmocka_unit_test(freed_at_any_time),
		cmocka_unit_test(postcopy_on_demand_at_any_time),
		cmocka_unit_test(postcopy_on_demand_ends_a_slow_pass),
		cmocka_unit_test(cancel_does_not_wait_for_a_peer_that_is_stuck),
		cmocka_unit_test(cancel_does_not_wait_for_main),
		cmocka_unit_test(a_vm_that_takes_its_time_is_no_silence),
		cmocka_unit_test(what_cannot_be_asked_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
