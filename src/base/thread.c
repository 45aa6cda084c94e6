/* SPDX-License-Identifier: MIT */
/*
 * Thin wrappers: names, blocked signals, a monotonic condition variable.
 */
#include "base/thread.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

static void *entry(void *arg)
{
	struct ferry_thread *t = arg;

	t->fn(t->arg);
	return NULL;
}

int ferry_thread_start(struct ferry_thread *t, const char *name,
		       void (*fn)(void *arg), void *arg, struct ferry_err *e)
{
	sigset_t all, old;
	char shown[16];
	int rc;

	t->fn = fn;
	t->arg = arg;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&t->id, NULL, entry, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return ferry_err_set(e, FERRY_E_IO, rc, "start thread %s",
				     name);

	snprintf(shown, sizeof(shown), "%s", name);
	pthread_setname_np(t->id, shown);
	t->started = true;
	return 0;
}

void ferry_thread_join(struct ferry_thread *t)
{
	if (!t->started)
		return;
	pthread_join(t->id, NULL);
	t->started = false;
}

unsigned ferry_thread_cpus(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);

	return n > 0 ? (unsigned)n : 1;
}

void ferry_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t a;

	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(c, &a);
	pthread_condattr_destroy(&a);
}

bool ferry_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m,
			   uint64_t until_ns)
{
	struct timespec ts;

	if (until_ns == UINT64_MAX)
		return pthread_cond_wait(c, m) == 0;
	ts = ferry_timespec(until_ns);
	return pthread_cond_timedwait(c, m, &ts) == 0;
}
