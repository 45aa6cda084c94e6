/* SPDX-License-Identifier: MIT */
/* The gate without vCPUs: threads that look at immediate_exit as KVM does. */
#include "help.h"

#include <signal.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/thread.h"
#include "vmm/gate.h"

#define RUNNERS		3u
#define LINGER_US	20000	/* a vCPU that takes its time to come out */

struct runner {
	struct ferry_seat	 seat;
	struct ferry_gate	*gate;
	struct ferry_thread	 thread;
	uint8_t			 immediate_exit;
	_Atomic bool		 inside;
	_Atomic unsigned	 entered;
	_Atomic bool		 sit_out;	/* after this time inside */
	_Atomic bool		 stuck;		/* hears no kick */
};

struct crowd {
	struct ferry_gate	 gate;
	struct runner		 runner[RUNNERS];
};

static void run(void *arg)
{
	struct runner *r = arg;
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, SIGRTMIN);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	while (ferry_gate_enter(r->gate, &r->seat)) {
		r->inside = true;
		r->entered++;
		while ((!__atomic_load_n(&r->immediate_exit,
					 __ATOMIC_RELAXED) && !r->sit_out) ||
		       r->stuck)
			usleep(100);
		usleep(LINGER_US);
		if (r->sit_out)
			ferry_gate_sit_out(r->gate, &r->seat);
		r->inside = false;
	}
}

static int set_up(void **state)
{
	struct crowd *c = calloc(1, sizeof(*c));

	ferry_gate_init(&c->gate);
	for (unsigned i = 0; i < RUNNERS; i++) {
		struct runner *r = &c->runner[i];

		r->gate = &c->gate;
		r->seat.immediate_exit = &r->immediate_exit;
		ferry_gate_seat(&c->gate, &r->seat);
		assert_ok(ferry_thread_start(&r->thread, "runner", run, r,
					     NULL));
	}
	*state = c;
	return 0;
}

static int tear_down(void **state)
{
	struct crowd *c = *state;

	ferry_gate_quit(&c->gate);
	for (unsigned i = 0; i < RUNNERS; i++)
		ferry_thread_join(&c->runner[i].thread);
	ferry_gate_fini(&c->gate);
	free(c);
	return 0;
}

static void wait_entered(const struct runner *r, unsigned times)
{
	uint64_t end = ferry_now_ns() + 30 * FERRY_NS_PER_S;

	while (r->entered < times) {
		assert_true(ferry_now_ns() < end);
		usleep(200);
	}
}

static void wait_out(const struct runner *r)
{
	uint64_t end = ferry_now_ns() + 30 * FERRY_NS_PER_S;

	while (r->inside) {
		assert_true(ferry_now_ns() < end);
		usleep(200);
	}
}

static void nobody_enters_a_gate_that_is_closed(void **state)
{
	struct crowd *c = *state;

	assert_false(ferry_gate_is_open(&c->gate));
	usleep(5000);
	for (unsigned i = 0; i < RUNNERS; i++)
		assert_int_equal(c->runner[i].entered, 0);
}

static void closing_waits_until_everybody_is_out(void **state)
{
	struct crowd *c = *state;

	for (unsigned round = 1; round <= 5; round++) {
		ferry_gate_open(&c->gate);
		for (unsigned i = 0; i < RUNNERS; i++)
			wait_entered(&c->runner[i], round);
		ferry_gate_close(&c->gate);
		for (unsigned i = 0; i < RUNNERS; i++)
			assert_false(c->runner[i].inside);
	}
}

/* However soon after opening: a kick is never lost on the way in. */
static void closing_at_once_does_not_hang(void **state)
{
	struct crowd *c = *state;

	for (unsigned i = 0; i < 20; i++) {
		ferry_gate_open(&c->gate);
		usleep(i * 13);
		ferry_gate_close(&c->gate);
	}
}

static void who_sits_out_comes_back_after_the_next_opening_only(void **state)
{
	struct crowd *c = *state;
	struct runner *r = &c->runner[1];

	r->sit_out = true;
	ferry_gate_open(&c->gate);
	wait_entered(r, 1);
	wait_out(r);
	ferry_gate_open(&c->gate);	/* open already: not an opening */
	usleep(2 * LINGER_US);
	assert_int_equal(r->entered, 1);

	r->sit_out = false;
	ferry_gate_close(&c->gate);
	ferry_gate_open(&c->gate);
	wait_entered(r, 2);
}

static void who_is_held_waits_for_the_time_and_no_longer(void **state)
{
	struct crowd *c = *state;
	uint64_t until;

	ferry_gate_open(&c->gate);
	wait_entered(&c->runner[0], 1);
	until = ferry_now_ns() + 150 * FERRY_NS_PER_MS;
	ferry_gate_hold(&c->gate, until);
	wait_entered(&c->runner[0], 2);
	assert_true(ferry_now_ns() >= until);

	/* let go before the time */
	ferry_gate_hold(&c->gate, UINT64_MAX - 1);
	usleep(2 * LINGER_US);
	assert_int_equal(c->runner[0].entered, 2);
	ferry_gate_hold(&c->gate, 0);
	wait_entered(&c->runner[0], 3);
}

static void a_held_gate_can_be_closed(void **state)
{
	struct crowd *c = *state;

	ferry_gate_open(&c->gate);
	wait_entered(&c->runner[0], 1);
	ferry_gate_hold(&c->gate, UINT64_MAX - 1);
	ferry_gate_close(&c->gate);
	assert_false(c->runner[0].inside);
}

static void closing_gives_up_at_its_time_and_leaves_the_gate_open(void **state)
{
	struct crowd *c = *state;
	struct runner *r = &c->runner[2];

	r->stuck = true;
	ferry_gate_open(&c->gate);
	wait_entered(r, 1);
	wait_entered(&c->runner[0], 1);
	assert_false(ferry_gate_close_until(&c->gate, ferry_now_ns() +
					    50 * FERRY_NS_PER_MS));
	assert_true(ferry_gate_is_open(&c->gate));
	wait_entered(&c->runner[0], 2);		/* was driven out, is in again */
	assert_int_equal(r->entered, 1);

	r->stuck = false;
	assert_true(ferry_gate_close_until(&c->gate, ferry_now_ns() +
					   60 * FERRY_NS_PER_S));
	assert_false(ferry_gate_is_open(&c->gate));
	assert_false(r->inside);
}

#define T(f)	cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static void await_all(struct crowd *c, unsigned times)
{
	for (unsigned i = 0; i < RUNNERS; i++)
		wait_entered(&c->runner[i], times);
}

/* Nobody has to do anything for it: each has a timer. */
static void a_limit_drives_everybody_out_by_itself(void **state)
{
	struct crowd *c = *state;

	ferry_gate_open(&c->gate);
	await_all(c, 1);
	ferry_gate_limit(&c->gate, ferry_boot_ns() + 20 * FERRY_NS_PER_MS);
	for (unsigned i = 0; i < RUNNERS; i++)
		wait_out(&c->runner[i]);
	assert_true(ferry_gate_is_limited(&c->gate));
	assert_true(ferry_gate_is_open(&c->gate));
	usleep(50000);
	for (unsigned i = 0; i < RUNNERS; i++)
		assert_int_equal(c->runner[i].entered, 1);
	ferry_gate_limit(&c->gate, UINT64_MAX);
	await_all(c, 2);
	assert_false(ferry_gate_is_limited(&c->gate));
}

static void a_limit_that_is_moved_drives_nobody_out(void **state)
{
	struct crowd *c = *state;

	ferry_gate_open(&c->gate);
	await_all(c, 1);
	ferry_gate_limit(&c->gate, ferry_boot_ns() + 2 * FERRY_NS_PER_S);
	ferry_gate_limit(&c->gate, ferry_boot_ns() + 3600 * FERRY_NS_PER_S);
	usleep(100000);
	for (unsigned i = 0; i < RUNNERS; i++) {
		assert_true(c->runner[i].inside);
		assert_int_equal(c->runner[i].entered, 1);
	}
}

/* One that waits for a page does not run on when it comes. */
static void a_limit_waits_for_nobody(void **state)
{
	struct crowd *c = *state;
	struct runner *r = &c->runner[1];

	r->stuck = true;
	ferry_gate_open(&c->gate);
	await_all(c, 1);
	ferry_gate_limit(&c->gate, 0);
	wait_out(&c->runner[0]);
	assert_true(r->inside);
	r->stuck = false;
	wait_out(r);
	usleep(5000);
	assert_int_equal(r->entered, 1);
	ferry_gate_close(&c->gate);	/* and is no trouble to it */
	ferry_gate_limit(&c->gate, UINT64_MAX);
	usleep(5000);
	assert_int_equal(r->entered, 1);
	ferry_gate_open(&c->gate);
	wait_entered(r, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_limit_drives_everybody_out_by_itself),
		T(a_limit_that_is_moved_drives_nobody_out),
		T(a_limit_waits_for_nobody),
		T(nobody_enters_a_gate_that_is_closed),
		T(closing_waits_until_everybody_is_out),
		T(closing_at_once_does_not_hang),
		T(who_sits_out_comes_back_after_the_next_opening_only),
		T(who_is_held_waits_for_the_time_and_no_longer),
		T(a_held_gate_can_be_closed),
		T(closing_gives_up_at_its_time_and_leaves_the_gate_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
