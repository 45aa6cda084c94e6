/* SPDX-License-Identifier: MIT */
/* See gate.h. */
#include "vmm/gate.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"

/* Only the timer has something to say: it has come between looking and
 * running, or where it would have. */
static void on_kick(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	if (info->si_code == SI_TIMER)
		__atomic_store_n((uint8_t *)info->si_value.sival_ptr, 1,
				 __ATOMIC_RELAXED);
}

void ferry_gate_init(struct ferry_gate *g)
{
	struct sigaction sa = {		/* no SA_RESTART */
		.sa_sigaction = on_kick, .sa_flags = SA_SIGINFO,
	};

	sigaction(SIGRTMIN, &sa, NULL);	/* cannot fail: both are valid */
	memset(g, 0, sizeof(*g));
	g->limit_ns = UINT64_MAX;
	pthread_mutex_init(&g->lock, NULL);
	ferry_cond_init(&g->changed);
}

void ferry_gate_fini(struct ferry_gate *g)
{
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
}

void ferry_gate_seat(struct ferry_gate *g, struct ferry_seat *s)
{
	g->seat[g->seats++] = s;
}

static void kick_all_locked(struct ferry_gate *g)
{
	for (unsigned i = 0; i < g->seats; i++) {
		if (!g->seat[i]->inside)
			continue;
		__atomic_store_n(g->seat[i]->immediate_exit, 1,
				 __ATOMIC_RELAXED);
		pthread_kill(g->seat[i]->thread, SIGRTMIN);
	}
}

void ferry_gate_open(struct ferry_gate *g)
{
	pthread_mutex_lock(&g->lock);
	if (!g->open) {
		for (unsigned i = 0; i < g->seats; i++)
			g->seat[i]->sits_out = false;
		g->open = true;
		pthread_cond_broadcast(&g->changed);
	}
	pthread_mutex_unlock(&g->lock);
}

bool ferry_gate_close_until(struct ferry_gate *g, uint64_t until_ns)
{
	bool was_open, closed;

	pthread_mutex_lock(&g->lock);
	was_open = g->open;
	g->open = false;
	kick_all_locked(g);
	while (g->inside &&
	       ferry_cond_wait_until(&g->changed, &g->lock, until_ns))
		;
	closed = !g->inside;
	if (!closed) {
		g->open = was_open;
		pthread_cond_broadcast(&g->changed);
	}
	pthread_mutex_unlock(&g->lock);
	return closed;
}

void ferry_gate_close(struct ferry_gate *g)
{
	(void)ferry_gate_close_until(g, UINT64_MAX);
}

bool ferry_gate_is_open(struct ferry_gate *g)
{
	bool open;

	pthread_mutex_lock(&g->lock);
	open = g->open;
	pthread_mutex_unlock(&g->lock);
	return open;
}

void ferry_gate_hold(struct ferry_gate *g, uint64_t until_ns)
{
	pthread_mutex_lock(&g->lock);
	g->hold_until_ns = until_ns;
	if (until_ns)
		kick_all_locked(g);
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

/* Caller holds the lock; at the vCPU's first enter, and when the limit moves. */
static void set_timer(struct ferry_gate *g, struct ferry_seat *s)
{
	struct itimerspec at = { 0 };

	if (g->limit_ns != UINT64_MAX)	/* 0 would be none */
		at.it_value = ferry_timespec(g->limit_ns ? g->limit_ns : 1);
	if (s->timed)
		timer_settime(s->timer, TIMER_ABSTIME, &at, NULL);
}

/* Without one it is kicked by who keeps the lease, and looks on its way in. */
static void make_timer(struct ferry_gate *g, struct ferry_seat *s)
{
	struct sigevent ev = {
		.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN,
		.sigev_value.sival_ptr = s->immediate_exit,
	};

	ev._sigev_un._tid = gettid();
	s->timed = !timer_create(CLOCK_BOOTTIME, &ev, &s->timer);
	set_timer(g, s);
}

void ferry_gate_limit(struct ferry_gate *g, uint64_t boot_ns)
{
	pthread_mutex_lock(&g->lock);
	g->limit_ns = boot_ns;
	for (unsigned i = 0; i < g->seats; i++)
		set_timer(g, g->seat[i]);
	if (boot_ns <= ferry_boot_ns())
		kick_all_locked(g);
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

bool ferry_gate_is_limited(struct ferry_gate *g)
{
	bool limited;

	pthread_mutex_lock(&g->lock);
	limited = g->limit_ns <= ferry_boot_ns();
	pthread_mutex_unlock(&g->lock);
	return limited;
}

void ferry_gate_quit(struct ferry_gate *g)
{
	pthread_mutex_lock(&g->lock);
	g->quit = true;
	kick_all_locked(g);
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

static void leave_locked(struct ferry_gate *g, struct ferry_seat *s)
{
	if (!s->inside)
		return;
	s->inside = false;
	if (--g->inside == 0)
		pthread_cond_broadcast(&g->changed);
}

/* When this vCPU may run, as things stand. */
static uint64_t opens_at_locked(const struct ferry_gate *g,
				const struct ferry_seat *s)
{
	if (g->quit)
		return 0;
	if (!g->open || s->sits_out || g->limit_ns <= ferry_boot_ns())
		return UINT64_MAX;
	return g->hold_until_ns;
}

bool ferry_gate_enter(struct ferry_gate *g, struct ferry_seat *s)
{
	uint64_t at;
	bool quit;

	pthread_mutex_lock(&g->lock);
	leave_locked(g, s);
	s->thread = pthread_self();
	if (!s->timed)
		make_timer(g, s);
	while ((at = opens_at_locked(g, s)) > ferry_now_ns())
		ferry_cond_wait_until(&g->changed, &g->lock, at);
	quit = g->quit;
	if (quit && s->timed) {
		timer_delete(s->timer);
		s->timed = false;
	}
	if (!quit) {
		s->inside = true;
		g->inside++;
		__atomic_store_n(s->immediate_exit, 0, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&g->lock);
	return !quit;
}

void ferry_gate_sit_out(struct ferry_gate *g, struct ferry_seat *s)
{
	pthread_mutex_lock(&g->lock);
	s->sits_out = true;
	pthread_mutex_unlock(&g->lock);
}
