/* SPDX-License-Identifier: MIT */
/* Threads, condition variables, and what a scope gives back. */
#include "help.h"

#include <fcntl.h>
#include <signal.h>

#include "base/clock.h"
#include "base/thread.h"

struct report {
	sigset_t blocked;
};

static void report_self(void *arg)
{
	struct report *r = arg;

	pthread_sigmask(SIG_SETMASK, NULL, &r->blocked);
}

static void a_thread_starts_with_every_signal_blocked(void **state)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGPIPE, SIGHUP,
				       SIGUSR1, SIGCHLD, SIGALRM, SIGSEGV };
	struct ferry_thread t = { 0 };
	struct report r;
	sigset_t before, after;

	(void)state;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	assert_ok(ferry_thread_start(&t, "t", report_self, &r, NULL));
	ferry_thread_join(&t);
	for (size_t i = 0; i < FERRY_LEN(signals); i++)
		assert_int_equal(sigismember(&r.blocked, signals[i]), 1);

	/* The caller's own mask is back. */
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (size_t i = 0; i < FERRY_LEN(signals); i++)
		assert_int_equal(sigismember(&after, signals[i]),
				 sigismember(&before, signals[i]));
}

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool open;
};

static void gate_init(struct gate *g)
{
	pthread_mutex_init(&g->lock, NULL);
	ferry_cond_init(&g->cond);
	g->open = false;
}

static void gate_fini(struct gate *g)
{
	pthread_cond_destroy(&g->cond);
	pthread_mutex_destroy(&g->lock);
}

static void wait_for_gate(void *arg)
{
	struct gate *g = arg;

	pthread_mutex_lock(&g->lock);
	while (!g->open)
		ferry_cond_wait_until(&g->cond, &g->lock, UINT64_MAX);
	pthread_mutex_unlock(&g->lock);
}

static void open_gate(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	g->open = true;
	pthread_cond_broadcast(&g->cond);
	pthread_mutex_unlock(&g->lock);
}

static void a_thread_shows_its_name_cut_to_fit(void **state)
{
	struct ferry_thread t = { 0 };
	struct gate g;
	char name[32];

	(void)state;
	gate_init(&g);
	assert_ok(ferry_thread_start(&t, "ferry-data-channel-3",
				     wait_for_gate, &g, NULL));
	assert_ok(pthread_getname_np(t.id, name, sizeof(name)));
	assert_string_equal(name, "ferry-data-chan");
	open_gate(&g);
	ferry_thread_join(&t);
	gate_fini(&g);
}

static void joining_twice_or_never_started_is_harmless(void **state)
{
	struct ferry_thread t = { 0 };
	struct report r;

	(void)state;
	ferry_thread_join(&t);
	assert_ok(ferry_thread_start(&t, "t", report_self, &r, NULL));
	ferry_thread_join(&t);
	ferry_thread_join(&t);
	assert_false(t.started);
}

static void waiting_ends_when_time_is_up(void **state)
{
	uint64_t until = ferry_now_ns() + 20 * FERRY_NS_PER_MS;
	struct gate g;

	(void)state;
	gate_init(&g);
	pthread_mutex_lock(&g.lock);
	while (ferry_cond_wait_until(&g.cond, &g.lock, until))
		;
	assert_true(ferry_now_ns() >= until);
	/* A time that has passed does not wait at all. */
	assert_false(ferry_cond_wait_until(&g.cond, &g.lock, 1));
	pthread_mutex_unlock(&g.lock);
	gate_fini(&g);
}

static int fd_of_scope;
static FILE *file_of_scope;

static void use_and_leave(bool steal)
{
	FERRY_AUTO_FD fd = open("/dev/null", O_RDONLY);
	FERRY_AUTO_FD none = -1;
	FERRY_AUTO_FREE char *memory = strdup("freed at the end");
	FERRY_AUTO_FILE file = NULL;

	(void)none, (void)memory;
	fd_of_scope = fd;
	if (steal) {
		file = fopen("/dev/null", "r");
		file_of_scope = ferry_steal(&file);
		ferry_steal_fd(&fd);
	}
}

static void a_scope_closes_what_was_not_stolen(void **state)
{
	(void)state;
	use_and_leave(false);
	assert_int_equal(fcntl(fd_of_scope, F_GETFD), -1);
	use_and_leave(true);
	assert_true(fcntl(fd_of_scope, F_GETFD) >= 0);
	assert_int_equal(fgetc(file_of_scope), EOF);
	close(fd_of_scope);
	fclose(file_of_scope);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_starts_with_every_signal_blocked),
		cmocka_unit_test(a_thread_shows_its_name_cut_to_fit),
		cmocka_unit_test(joining_twice_or_never_started_is_harmless),
		cmocka_unit_test(waiting_ends_when_time_is_up),
		cmocka_unit_test(a_scope_closes_what_was_not_stolen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
