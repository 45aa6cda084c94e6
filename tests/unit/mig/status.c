/* SPDX-License-Identifier: MIT */
/*
 * The state's one setter: an event out of each change, in order, from where
 * the API may be called; and a place to wait.
 */
#include "help.h"

#include "base/clock.h"
#include "base/thread.h"
#include "mig/status.h"

#define EVENTS_MAX	64

struct diary {
	struct ferry_status *status;
	struct ferry_event event[EVENTS_MAX];
	char		 text[EVENTS_MAX][64];
	unsigned	 n;
	unsigned	 inside;	/* callbacks at work; never 2 */
	bool		 overlapped;
	bool		 calls_back;
	char		 log[128];
};

static void on_event(void *opaque, const struct ferry_event *event)
{
	struct diary *d = opaque;

	d->overlapped |= ++d->inside > 1;
	assert_true(d->n < EVENTS_MAX);
	d->event[d->n] = *event;
	snprintf(d->text[d->n++], sizeof(d->text[0]), "%s", event->text);
	if (d->calls_back) {
		struct ferry_stats s = FERRY_STATS_INIT;

		assert_int_equal(ferry_status_state(d->status), event->state);
		assert_int_equal(ferry_status_where(d->status), event->where);
		ferry_status_stats(d->status, &s);
		assert_int_equal(s.state, event->state);
	}
	d->inside--;
}

static void on_log(void *opaque, enum ferry_log_level level, const char *line)
{
	struct diary *d = opaque;

	(void)level;
	snprintf(d->log, sizeof(d->log), "%s", line);
}

static void begin(struct ferry_status *s, struct diary *d,
		  enum ferry_side side)
{
	struct ferry_callbacks cb = {
		.size = sizeof(cb), .opaque = d, .event = on_event,
		.log = on_log,
	};

	*d = (struct diary){ .status = s };
	ferry_status_init(s, side, &cb);
}

static void an_event_leaves_with_each_change(void **state)
{
	static const enum ferry_state path[] = {
		FERRY_STATE_SETUP, FERRY_STATE_ACTIVE, FERRY_STATE_DEVICE,
		FERRY_STATE_POSTCOPY_ACTIVE, FERRY_STATE_COMPLETED,
	};
	struct ferry_status s;
	struct diary d;

	(void)state;
	begin(&s, &d, FERRY_SIDE_SOURCE);
	d.calls_back = true;
	for (size_t i = 0; i < FERRY_LEN(path); i++) {
		if (path[i] == FERRY_STATE_POSTCOPY_ACTIVE) {
			ferry_status_handed(&s);
			ferry_status_heard(&s);
		}
		ferry_status_set(&s, path[i]);
	}
	assert_int_equal(d.n, FERRY_LEN(path));
	for (size_t i = 0; i < FERRY_LEN(path); i++) {
		assert_int_equal(d.event[i].size, sizeof(d.event[i]));
		assert_int_equal(d.event[i].type, FERRY_EVENT_STATE);
		assert_int_equal(d.event[i].state, path[i]);
		assert_true(!i || d.event[i].time_ns >= d.event[i - 1].time_ns);
		assert_string_equal(d.text[i], "");
	}
	assert_int_equal(d.event[2].where, FERRY_WHERE_SOURCE);
	assert_int_equal(d.event[2].safe, FERRY_SAFE_SOURCE);
	assert_int_equal(d.event[3].where, FERRY_WHERE_SPLIT);
	assert_int_equal(d.event[3].safe, FERRY_SAFE_NONE);
	assert_int_equal(d.event[4].where, FERRY_WHERE_TARGET);
	assert_int_equal(d.event[4].safe, FERRY_SAFE_TARGET);
	ferry_status_fini(&s);
}

static void a_failure_carries_its_reason(void **state)
{
	struct ferry_err why = { .code = FERRY_E_TIMEOUT, .msg = "too slow" };
	struct ferry_err later = { .code = FERRY_E_IO, .msg = "later" };
	struct ferry_err got = { 0 };
	struct ferry_stats st = FERRY_STATS_INIT;
	struct ferry_status s;
	struct diary d;

	(void)state;
	begin(&s, &d, FERRY_SIDE_SOURCE);
	ferry_status_set(&s, FERRY_STATE_SETUP);
	ferry_status_fail(&s, FERRY_STATE_CANCELLING, &why);
	ferry_status_fail(&s, FERRY_STATE_CANCELLED, &later);
	assert_string_equal(d.text[1], "too slow");
	assert_string_equal(d.log, "migration is cancelled: later");
	/* The first reason stays. */
	assert_int_equal(ferry_status_wait(&s, 0, &got), -1);
	assert_says(&got, FERRY_E_TIMEOUT, "too slow");
	ferry_status_stats(&s, &st);
	assert_string_equal(st.error, "too slow");
	ferry_status_fini(&s);
}

static void other_events_tell_the_state_too(void **state)
{
	struct ferry_status s;
	struct diary d;

	(void)state;
	begin(&s, &d, FERRY_SIDE_TARGET);
	ferry_status_set(&s, FERRY_STATE_SETUP);
	ferry_status_event(&s, FERRY_EVENT_LISTENING, 0, "tcp:[::]:4444");
	ferry_status_event(&s, FERRY_EVENT_PASS, 7, "");
	assert_int_equal(d.event[1].type, FERRY_EVENT_LISTENING);
	assert_int_equal(d.event[1].state, FERRY_STATE_SETUP);
	assert_string_equal(d.text[1], "tcp:[::]:4444");
	assert_int_equal(d.event[2].pass, 7);
	ferry_status_fini(&s);
}

static void nobody_needs_to_listen(void **state)
{
	struct ferry_callbacks none = FERRY_CALLBACKS_INIT;
	struct ferry_err why = { .code = FERRY_E_IO, .msg = "x" };
	struct ferry_status s;

	(void)state;
	for (int i = 0; i < 2; i++) {
		ferry_status_init(&s, FERRY_SIDE_SOURCE, i ? &none : NULL);
		ferry_status_set(&s, FERRY_STATE_SETUP);
		ferry_status_event(&s, FERRY_EVENT_PASS, 1, "");
		ferry_status_fail(&s, FERRY_STATE_FAILED, &why);
		assert_int_equal(ferry_status_wait(&s, -1, NULL), -1);
		ferry_status_fini(&s);
	}
}

static void a_step_is_made_only_from_where_it_begins(void **state)
{
	struct ferry_status s;
	struct diary d;

	(void)state;
	begin(&s, &d, FERRY_SIDE_TARGET);
	ferry_status_set(&s, FERRY_STATE_SETUP);
	ferry_status_set(&s, FERRY_STATE_ACTIVE);
	ferry_status_advance(&s, FERRY_STATE_DEVICE,
			     FERRY_STATE_POSTCOPY_ACTIVE);
	assert_int_equal(ferry_status_state(&s), FERRY_STATE_ACTIVE);
	assert_int_equal(d.n, 2);
	ferry_status_set(&s, FERRY_STATE_DEVICE);
	ferry_status_advance(&s, FERRY_STATE_DEVICE,
			     FERRY_STATE_POSTCOPY_ACTIVE);
	assert_int_equal(ferry_status_state(&s), FERRY_STATE_POSTCOPY_ACTIVE);
	assert_int_equal(d.n, 4);
	ferry_status_fini(&s);
}

static void handing_over_can_be_taken_back(void **state)
{
	struct ferry_status s;

	(void)state;
	ferry_status_init(&s, FERRY_SIDE_SOURCE, NULL);
	assert_false(ferry_status_is_handed(&s));
	ferry_status_handed(&s);
	assert_true(ferry_status_is_handed(&s) && !ferry_status_is_heard(&s));
	assert_int_equal(ferry_status_where(&s), FERRY_WHERE_UNDECIDED);
	ferry_status_heard(&s);
	assert_true(ferry_status_is_handed(&s) && ferry_status_is_heard(&s));
	assert_int_equal(ferry_status_where(&s), FERRY_WHERE_SPLIT);
	ferry_status_renounced(&s);
	assert_false(ferry_status_is_handed(&s) || ferry_status_is_heard(&s));
	assert_int_equal(ferry_status_where(&s), FERRY_WHERE_SOURCE);
	ferry_status_fini(&s);
}

/* ---- waiting ------------------------------------------------------------ */

static void waiting_can_time_out(void **state)
{
	struct ferry_status s;
	struct ferry_err e = { 0 };
	uint64_t begun = ferry_now_ns();

	(void)state;
	ferry_status_init(&s, FERRY_SIDE_SOURCE, NULL);
	ferry_status_set(&s, FERRY_STATE_SETUP);
	assert_int_equal(ferry_status_wait(&s, 0, &e), -1);
	assert_says(&e, FERRY_E_TIMEOUT, "still setup after 0 ms");
	assert_int_equal(ferry_status_wait(&s, 20, &e), -1);
	assert_says(&e, FERRY_E_TIMEOUT, "still setup after 20 ms");
	assert_true(ferry_now_ns() - begun >= 20 * FERRY_NS_PER_MS);
	ferry_status_fini(&s);
}

static void finish(void *arg)
{
	struct ferry_status *s = arg;

	ferry_status_set(s, FERRY_STATE_ACTIVE);
	ferry_status_set(s, FERRY_STATE_DEVICE);
	ferry_status_handed(s);
	ferry_status_set(s, FERRY_STATE_COMPLETED);
}

static void waiting_ends_with_the_migration(void **state)
{
	struct ferry_thread t = { 0 };
	struct ferry_status s;
	struct ferry_err e = { 0 };

	(void)state;
	ferry_status_init(&s, FERRY_SIDE_SOURCE, NULL);
	ferry_status_set(&s, FERRY_STATE_SETUP);
	assert_ok(ferry_thread_start(&t, "finish", finish, &s, &e));
	assert_ok(ferry_status_wait(&s, -1, &e));
	ferry_thread_join(&t);
	assert_int_equal(ferry_status_state(&s), FERRY_STATE_COMPLETED);
	ferry_status_fini(&s);
}

static void waiting_ends_when_it_cannot_go_on_by_itself(void **state)
{
	struct ferry_err why = { .code = FERRY_E_CLOSED, .msg = "gone" };
	struct ferry_err e = { 0 };
	struct ferry_status s;

	(void)state;
	ferry_status_init(&s, FERRY_SIDE_SOURCE, NULL);
	ferry_status_set(&s, FERRY_STATE_SETUP);
	ferry_status_set(&s, FERRY_STATE_ACTIVE);
	ferry_status_set(&s, FERRY_STATE_DEVICE);
	ferry_status_handed(&s);
	ferry_status_fail(&s, FERRY_STATE_POSTCOPY_PAUSED, &why);
	assert_int_equal(ferry_status_wait(&s, -1, &e), -1);
	assert_says(&e, FERRY_E_CLOSED, "gone");
	ferry_status_fini(&s);
}

static void times_stand_still_at_the_end(void **state)
{
	struct ferry_stats a = FERRY_STATS_INIT, b = FERRY_STATS_INIT;
	struct ferry_status s;

	(void)state;
	ferry_status_init(&s, FERRY_SIDE_SOURCE, NULL);
	ferry_status_stats(&s, &a);
	assert_int_equal(a.total_ns, 0);
	ferry_status_set(&s, FERRY_STATE_SETUP);
	ferry_status_set(&s, FERRY_STATE_ACTIVE);
	ferry_status_set(&s, FERRY_STATE_DEVICE);
	ferry_status_handed(&s);
	ferry_status_set(&s, FERRY_STATE_COMPLETED);
	ferry_status_stats(&s, &a);
	usleep(2000);
	ferry_status_stats(&s, &b);
	assert_true(a.total_ns > 0 && a.setup_ns > 0);
	assert_true(a.setup_ns <= a.total_ns);
	assert_int_equal(a.total_ns, b.total_ns);
	assert_string_equal(b.error, "");
	ferry_status_fini(&s);
}

/* ---- several threads ---------------------------------------------------- */

static void shout(void *arg)
{
	for (unsigned i = 0; i < 10; i++)
		ferry_status_event(arg, FERRY_EVENT_PASS, i, "");
}

static void events_come_one_at_a_time(void **state)
{
	struct ferry_thread t[4] = { { 0 } };
	struct ferry_status s;
	struct ferry_err e;
	struct diary d;

	(void)state;
	begin(&s, &d, FERRY_SIDE_SOURCE);
	ferry_status_set(&s, FERRY_STATE_SETUP);
	for (unsigned i = 0; i < 4; i++)
		assert_ok(ferry_thread_start(&t[i], "shout", shout, &s, &e));
	for (unsigned i = 0; i < 4; i++)
		ferry_thread_join(&t[i]);
	assert_int_equal(d.n, 41);
	assert_false(d.overlapped);
	ferry_status_fini(&s);
}

/* ---- a link that is lost, and looked for ------------------------------------ */

static void walk(struct ferry_status *s, const enum ferry_state *path,
		 size_t n)
{
	for (size_t i = 0; i < n; i++)
		ferry_status_set(s, path[i]);
}

static void paused(struct ferry_status *s, struct diary *d, const char *why)
{
	static const enum ferry_state path[] = {
		FERRY_STATE_SETUP, FERRY_STATE_ACTIVE, FERRY_STATE_DEVICE,
		FERRY_STATE_POSTCOPY_ACTIVE,
	};
	struct ferry_err e;

	begin(s, d, FERRY_SIDE_SOURCE);
	walk(s, path, FERRY_LEN(path));
	ferry_err_set(&e, FERRY_E_CLOSED, 0, "%s", why);
	ferry_status_fail(s, FERRY_STATE_POSTCOPY_PAUSED, &e);
}

static void a_pause_is_no_end_while_there_is_hope(void **state)
{
	struct ferry_status s;
	struct ferry_stats st;
	struct ferry_err e;
	struct diary d;

	(void)state;
	paused(&s, &d, "cut");
	ferry_status_hope(&s, UINT64_MAX);
	assert_int_equal(ferry_status_wait(&s, 10, &e), -1);
	assert_int_equal(e.code, FERRY_E_TIMEOUT);
	ferry_status_stats(&s, &st);
	assert_int_equal(st.seeking, 1);

	ferry_status_hope(&s, ferry_now_ns() + 20 * FERRY_NS_PER_MS);
	assert_int_equal(ferry_status_wait(&s, -1, &e), -1);
	assert_string_equal(e.msg, "cut");
	ferry_status_stats(&s, &st);
	assert_int_equal(st.seeking, 0);
	ferry_status_fini(&s);
}

static void recoveries_are_counted_and_reasons_are_the_last(void **state)
{
	static const enum ferry_state again[] = {
		FERRY_STATE_POSTCOPY_RECOVER_SETUP,
		FERRY_STATE_POSTCOPY_RECOVER, FERRY_STATE_POSTCOPY_ACTIVE,
	};
	struct ferry_status s;
	struct ferry_stats st;
	struct ferry_err e;
	struct diary d;

	(void)state;
	paused(&s, &d, "cut");
	walk(&s, again, 1);
	ferry_err_set(&e, FERRY_E_IO, 0, "refused");
	ferry_status_fail(&s, FERRY_STATE_POSTCOPY_PAUSED, &e);
	ferry_status_stats(&s, &st);
	assert_string_equal(st.error, "refused");
	assert_int_equal(st.recover_attempts, 1);
	assert_int_equal(st.recoveries, 0);

	walk(&s, again, FERRY_LEN(again));
	ferry_status_stats(&s, &st);
	assert_int_equal(st.recover_attempts, 2);
	assert_int_equal(st.recoveries, 1);
	assert_true(st.apart_ns > 0 && st.last_pause_ns > 0);
	assert_string_equal(st.error, "");
	ferry_status_fini(&s);
}

static void a_remark_changes_the_reason_and_nothing_else(void **state)
{
	struct ferry_status s;
	struct ferry_stats st;
	struct ferry_err e;
	struct diary d;
	unsigned n;

	(void)state;
	paused(&s, &d, "cut");
	n = d.n;
	ferry_err_set(&e, FERRY_E_CANCELLED, 0, "no more");
	ferry_status_remark(&s, &e);
	ferry_status_stats(&s, &st);
	assert_int_equal(st.state, FERRY_STATE_POSTCOPY_PAUSED);
	assert_string_equal(st.error, "no more");
	assert_int_equal(d.n, n + 1);
	assert_string_equal(d.text[n], "no more");
	ferry_status_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_event_leaves_with_each_change),
		cmocka_unit_test(a_failure_carries_its_reason),
		cmocka_unit_test(other_events_tell_the_state_too),
		cmocka_unit_test(nobody_needs_to_listen),
		cmocka_unit_test(a_step_is_made_only_from_where_it_begins),
		cmocka_unit_test(handing_over_can_be_taken_back),
		cmocka_unit_test(waiting_can_time_out),
		cmocka_unit_test(waiting_ends_with_the_migration),
		cmocka_unit_test(waiting_ends_when_it_cannot_go_on_by_itself),
		cmocka_unit_test(times_stand_still_at_the_end),
		cmocka_unit_test(events_come_one_at_a_time),
		cmocka_unit_test(a_pause_is_no_end_while_there_is_hope),
		cmocka_unit_test(
			recoveries_are_counted_and_reasons_are_the_last),
		cmocka_unit_test(a_remark_changes_the_reason_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
