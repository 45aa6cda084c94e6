/* SPDX-License-Identifier: MIT */
/*
 * Source and target from outside, before anything moves: what is asked at the
 * wrong time or of the wrong address is refused with a sentence, callbacks may
 * call back, and nobody hangs.
 */
#include "help.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "mig/vm.h"

#define FOREVER_MS	60000

static struct area memory;

static struct ferry_vm *make_vm(void)
{
	struct ferry_vm_ops ops = IDLE_OPS;
	struct ferry_vm *vm = ferry_vm_new("testing", &ops, NULL, NULL);
	struct ferry_block b = FERRY_BLOCK_INIT;

	assert_non_null(vm);
	b.name = "ram";
	b.addr = memory.p;
	b.bytes = memory.bytes;
	assert_ok(ferry_vm_add_block(vm, &b, NULL));
	return vm;
}

/* ---- source ------------------------------------------------------------- */

static struct ferry_source *make_source(struct ferry_vm *vm)
{
	struct ferry_err e = { 0 };
	struct ferry_source *s = ferry_source_new(vm, NULL, NULL, &e);

	if (!s)
		fail_msg("%s", e.msg);
	return s;
}

static const struct {
	const char *why, *uri;
	const char *param[2];
	int code;
	const char *says;
} bad_sources[] = {
	{ "no address", "", { NULL }, FERRY_E_INVALID, "" },
	{ "an unknown scheme", "http://x", { NULL }, FERRY_E_INVALID, "" },
	{ "no port", "tcp:localhost", { NULL }, FERRY_E_INVALID, "" },
	{ "postcopy into a file", "file:/nowhere/x",
		{ "x-ferry-precopy-passes", "1" }, FERRY_E_UNSUPPORTED,
		"postcopy needs a way back" },
};

static void what_an_address_cannot_carry_is_refused_at_once(void **state)
{
	struct ferry_vm *vm = make_vm();

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad_sources); i++) {
		struct ferry_source *s = make_source(vm);
		struct ferry_stats st = FERRY_STATS_INIT;
		struct ferry_err e = { 0 };

		if (bad_sources[i].param[0])
			assert_ok(ferry_source_set(s, bad_sources[i].param[0],
						   bad_sources[i].param[1],
						   &e));
		if (!ferry_source_start(s, bad_sources[i].uri, &e))
			fail_msg("%s: taken", bad_sources[i].why);
		assert_says(&e, bad_sources[i].code, bad_sources[i].says);
		/* It can be tried again. */
		ferry_source_stats(s, &st);
		assert_int_equal(st.state, FERRY_STATE_NONE);
		ferry_source_free(s);
	}
	ferry_vm_free(vm);
}

static void nobody_at_the_address_is_a_failure_and_the_vm_stays(void **state)
{
	struct ferry_vm *vm = make_vm();
	struct ferry_source *s = make_source(vm);
	struct ferry_stats st = FERRY_STATS_INIT;
	struct ferry_err e = { 0 };

	(void)state;
	assert_ok(ferry_source_start(s, "unix:/nowhere/at/all", &e));
	assert_int_equal(ferry_source_wait(s, FOREVER_MS, &e), -1);
	assert_says(&e, FERRY_E_IO, "/nowhere/at/all");
	ferry_source_stats(s, &st);
	assert_int_equal(st.state, FERRY_STATE_FAILED);
	assert_int_equal(st.where, FERRY_WHERE_SOURCE);
	assert_int_equal(st.safe, FERRY_SAFE_SOURCE);
	assert_string_equal(st.error, e.msg);
	assert_ok(ferry_source_may_run(s, &e));

	/* One object is one attempt. */
	assert_int_equal(ferry_source_start(s, "unix:/nowhere", &e), -1);
	assert_says(&e, FERRY_E_STATE, "was started already");
	assert_int_equal(ferry_source_cancel(s, &e), -1);
	assert_says(&e, FERRY_E_STATE, "nothing to cancel: the migration is "
		    "failed");
	ferry_source_free(s);
	ferry_vm_free(vm);
}

struct starter {
	struct ferry_source *source;
	struct ferry_target *target;
	_Atomic int	*ready;
	struct ferry_err err;
	int rc;
};

static void *start_both(void *arg)
{
	struct starter *a = arg;
	struct ferry_err e = { 0 };

	atomic_fetch_add(a->ready, 1);
	while (atomic_load(a->ready) < 2)
		;	/* woken threads would come too far apart */
	a->rc = ferry_source_start(a->source, "unix:/nowhere", &a->err);
	if (ferry_target_listen(a->target, "tcp:127.0.0.1:0", &e)) {
		a->rc += 2;
		a->err = e;
	}
	return NULL;
}

/* Two threads, one object: one starts it, the other is told so. */
static void of_two_starts_at_once_one_is_refused(void **state)
{
	struct ferry_vm *from = make_vm(), *to = make_vm();

	(void)state;
	for (int i = 0; i < 200; i++) {
		_Atomic int ready = 0;
		struct starter a = { .ready = &ready }, b;
		pthread_t other;

		a.source = make_source(from);
		a.target = ferry_target_new(to, NULL, NULL, NULL);
		b = a;
		assert_ok(pthread_create(&other, NULL, start_both, &b));
		start_both(&a);
		pthread_join(other, NULL);
		/* 0 or -1 of the source, and 2 when listen was refused. */
		assert_int_equal(a.rc + b.rc, 2 - 1);
		assert_true(!a.err.code || strstr(a.err.msg, "started already"));
		assert_true(!b.err.code || strstr(b.err.msg, "started already"));
		ferry_source_free(a.source);
		ferry_target_free(a.target);
	}
	ferry_vm_free(from);
	ferry_vm_free(to);
}

static void before_the_start_there_is_little_to_ask(void **state)
{
	struct ferry_vm *vm = make_vm();
	struct ferry_source *s = make_source(vm);
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_source_cancel(s, &e), -1);
	assert_says(&e, FERRY_E_STATE, "nothing to cancel");
	assert_int_equal(ferry_source_start_postcopy(s, &e), -1);
	assert_says(&e, FERRY_E_STATE, "the migration is none");
	assert_ok(ferry_source_set(s, "postcopy-ram", "off", &e));
	assert_int_equal(ferry_source_start_postcopy(s, &e), -1);
	assert_says(&e, FERRY_E_STATE, "postcopy-ram is off");
	assert_int_equal(ferry_source_wait(s, 0, &e), -1);
	assert_says(&e, FERRY_E_TIMEOUT, "still none");
	assert_ok(ferry_source_may_run(s, &e));
	ferry_source_free(s);
	ferry_source_free(NULL);
	ferry_vm_free(vm);
}

static void a_vm_has_one_source_or_target_at_a_time(void **state)
{
	struct ferry_vm *vm = make_vm();
	struct ferry_source *s = make_source(vm);
	struct ferry_err e = { 0 };

	(void)state;
	assert_null(ferry_source_new(vm, NULL, NULL, &e));
	assert_says(&e, FERRY_E_STATE, "part of a migration already");
	assert_null(ferry_target_new(vm, NULL, NULL, &e));
	assert_says(&e, FERRY_E_STATE, "part of a migration already");
	ferry_source_free(s);
	ferry_source_free(make_source(vm));
	ferry_vm_free(vm);
}

static void a_failed_migrate_says_where_the_vm_is(void **state)
{
	enum ferry_where where = FERRY_WHERE_TARGET;
	struct ferry_vm *vm = make_vm();
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_migrate(vm, "unix:/nowhere", &where, &e), -1);
	assert_int_equal(where, FERRY_WHERE_SOURCE);
	where = FERRY_WHERE_TARGET;
	assert_int_equal(ferry_migrate(vm, "nonsense", &where, &e), -1);
	assert_int_equal(where, FERRY_WHERE_SOURCE);
	ferry_vm_free(vm);
}

/* A caller built with fewer fields: nothing behind them is written. */
static void old_callers_get_what_they_know_of(void **state)
{
	struct ferry_vm *vm = make_vm();
	struct ferry_source *s = make_source(vm);
	struct ferry_stats st;
	uint32_t part = offsetof(struct ferry_stats, total_ns);

	(void)state;
	memset(&st, 0xee, sizeof(st));
	st.size = part;
	ferry_source_stats(s, &st);
	assert_int_equal(st.size, part);
	assert_int_equal(st.state, FERRY_STATE_NONE);
	assert_int_equal(st.total_ns, 0xeeeeeeeeeeeeeeee);
	ferry_source_free(s);
	ferry_vm_free(vm);
}

/* ---- target ------------------------------------------------------------- */

static struct ferry_target *make_target(struct ferry_vm *vm)
{
	struct ferry_err e = { 0 };
	struct ferry_target *t = ferry_target_new(vm, NULL, NULL, &e);

	if (!t)
		fail_msg("%s", e.msg);
	return t;
}

static void a_target_tells_the_port_it_got(void **state)
{
	struct ferry_vm *vm = make_vm();
	struct ferry_target *t = make_target(vm);
	struct ferry_err e = { 0 };
	char uri[128] = "", small[8];

	(void)state;
	assert_int_equal(ferry_target_uri(t, uri, sizeof(uri), &e), -1);
	assert_says(&e, FERRY_E_STATE, "does not listen");
	if (ferry_target_listen(t, "tcp:127.0.0.1:0", &e))
		fail_msg("%s", e.msg);
	assert_ok(ferry_target_uri(t, uri, sizeof(uri), &e));
	assert_memory_equal(uri, "tcp:127.0.0.1:", 14);
	assert_true(atoi(uri + 14) > 0);
	assert_int_equal(ferry_target_uri(t, small, sizeof(small), &e), -1);
	assert_says(&e, FERRY_E_INVALID, "does not fit 8 octets");
	assert_int_equal(ferry_target_listen(t, "tcp:127.0.0.1:0", &e), -1);
	assert_says(&e, FERRY_E_STATE, "was started already");
	ferry_target_free(t);
	ferry_vm_free(vm);
}

static void a_waiting_target_can_be_cancelled(void **state)
{
	struct ferry_vm *vm = make_vm();
	struct ferry_target *t = make_target(vm);
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_target_cancel(t, &e), -1);
	assert_says(&e, FERRY_E_STATE, "nothing to cancel");
	assert_ok(ferry_target_listen(t, "tcp:127.0.0.1:0", &e));
	assert_int_equal(ferry_target_wait(t, 10, &e), -1);
	assert_says(&e, FERRY_E_TIMEOUT, "still setup");
	assert_int_equal(ferry_target_may_run(t, &e), -1);
	assert_says(&e, FERRY_E_STATE, "has not been handed over to this side");
	assert_ok(ferry_target_cancel(t, &e));
	assert_int_equal(ferry_target_wait(t, FOREVER_MS, &e), -1);
	assert_int_equal(e.code, FERRY_E_CANCELLED);
	assert_int_equal(ferry_target_cancel(t, &e), -1);
	ferry_target_free(t);
	ferry_target_free(NULL);
	ferry_vm_free(vm);
}

static const struct { const char *why, *uri; int code; } bad_targets[] = {
	{ "no address", "", FERRY_E_INVALID },
	{ "an unknown scheme", "rdma:x:1", FERRY_E_INVALID },
	{ "no such folder", "unix:/nowhere/at/all", FERRY_E_IO },
	{ "no such file", "file:/nowhere/at/all", FERRY_E_IO },
	{ "a file that is none", "file:/dev/null", FERRY_E_CLOSED },
};

static void an_address_that_cannot_be_is_refused_at_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad_targets); i++) {
		struct ferry_vm *vm = make_vm();
		struct ferry_target *t = make_target(vm);
		struct ferry_err e = { 0 };

		if (!ferry_target_listen(t, bad_targets[i].uri, &e))
			fail_msg("%s: taken", bad_targets[i].why);
		if (e.code != bad_targets[i].code)
			fail_msg("%s: %d '%s'", bad_targets[i].why, e.code,
				 e.msg);
		ferry_target_free(t);
		ferry_vm_free(vm);
	}
}

static void a_target_can_be_freed_while_it_waits(void **state)
{
	struct ferry_vm *vm = make_vm();
	struct ferry_err e = { 0 };

	(void)state;
	for (int listens = 0; listens < 2; listens++) {
		struct ferry_target *t = make_target(vm);

		if (listens)
			assert_ok(ferry_target_listen(t, "tcp:127.0.0.1:0",
						      &e));
		ferry_target_free(t);
	}
	ferry_vm_free(vm);
}

/* ---- callbacks call back ------------------------------------------------ */

struct meddler {
	struct ferry_target *target;
	struct ferry_source *source;
	unsigned	 events;
};

static void cancel_at_once(void *opaque, const struct ferry_event *event)
{
	struct meddler *m = opaque;
	struct ferry_stats st = FERRY_STATS_INIT;
	struct ferry_err e;
	char uri[128];

	m->events++;
	if (m->target) {
		ferry_target_stats(m->target, &st);
		(void)!ferry_target_uri(m->target, uri, sizeof(uri), &e);
		if (event->type == FERRY_EVENT_LISTENING)
			(void)!ferry_target_cancel(m->target, &e);
	} else if (m->source) {
		ferry_source_stats(m->source, &st);
		(void)!ferry_source_may_run(m->source, &e);
		if (event->state == FERRY_STATE_SETUP)
			(void)!ferry_source_cancel(m->source, &e);
	}
}

static void a_callback_may_cancel_its_own_target(void **state)
{
	struct ferry_vm *vm = make_vm();
	struct meddler m = { 0 };
	struct ferry_callbacks cb = {
		.size = sizeof(cb), .opaque = &m, .event = cancel_at_once,
	};
	struct ferry_err e = { 0 };

	(void)state;
	m.target = ferry_target_new(vm, NULL, &cb, &e);
	assert_non_null(m.target);
	assert_ok(ferry_target_listen(m.target, "tcp:127.0.0.1:0", &e));
	assert_int_equal(ferry_target_wait(m.target, FOREVER_MS, &e), -1);
	assert_int_equal(e.code, FERRY_E_CANCELLED);
	ferry_target_free(m.target);
	assert_true(m.events >= 4);	/* setup, listening, and the end */
	ferry_vm_free(vm);
}

static void a_callback_may_cancel_its_own_source(void **state)
{
	struct ferry_vm *vm = make_vm();
	struct meddler m = { 0 };
	struct ferry_callbacks cb = {
		.size = sizeof(cb), .opaque = &m, .event = cancel_at_once,
	};
	struct ferry_stats st = FERRY_STATS_INIT;
	struct ferry_err e = { 0 };

	(void)state;
	m.source = ferry_source_new(vm, NULL, &cb, &e);
	assert_non_null(m.source);
	assert_ok(ferry_source_start(m.source, "tcp:127.0.0.1:1", &e));
	assert_int_equal(ferry_source_wait(m.source, FOREVER_MS, &e), -1);
	ferry_source_stats(m.source, &st);
	assert_int_equal(st.state, FERRY_STATE_CANCELLED);
	assert_int_equal(st.where, FERRY_WHERE_SOURCE);
	ferry_source_free(m.source);
	ferry_vm_free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			what_an_address_cannot_carry_is_refused_at_once),
		cmocka_unit_test(
			nobody_at_the_address_is_a_failure_and_the_vm_stays),
		cmocka_unit_test(of_two_starts_at_once_one_is_refused),
		cmocka_unit_test(before_the_start_there_is_little_to_ask),
		cmocka_unit_test(a_vm_has_one_source_or_target_at_a_time),
		cmocka_unit_test(a_failed_migrate_says_where_the_vm_is),
		cmocka_unit_test(old_callers_get_what_they_know_of),
		cmocka_unit_test(a_target_tells_the_port_it_got),
		cmocka_unit_test(a_waiting_target_can_be_cancelled),
		cmocka_unit_test(an_address_that_cannot_be_is_refused_at_once),
		cmocka_unit_test(a_target_can_be_freed_while_it_waits),
		cmocka_unit_test(a_callback_may_cancel_its_own_target),
		cmocka_unit_test(a_callback_may_cancel_its_own_source),
	};
	int failed;

	area_make(&memory, PRIVATE, 16 * PAGE);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	area_free(&memory);
	return failed;
}
