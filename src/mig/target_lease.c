/* SPDX-License-Identifier: MIT */
/*
 * The lease at the target: the embedder is told until when the VM may run, each
 * time that this changes, and again when it is over.  mig/lease.h has the rules.
 *
 * The embedder is to look at the clock itself; "ferry-lease" is for those vCPUs
 * that are in the guest at that moment, and to tell.  It sleeps on a timer of
 * CLOCK_BOOTTIME, which fires when a host that slept wakes up.
 */
#include "mig/target_impl.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define OUT	"the source was not heard of for the time of the lease: the " \
		"VM stands still until it is"

void ferry_lease_init(struct ferry_lease_keeper *l)
{
	l->timer_fd = l->stop_fd = -1;
	pthread_mutex_init(&l->lock, NULL);
}

void ferry_lease_fini(struct ferry_lease_keeper *l)
{
	if (l->thread.started)
		eventfd_write(l->stop_fd, 1);
	ferry_thread_join(&l->thread);
	ferry_cleanup_fd(&l->timer_fd);
	ferry_cleanup_fd(&l->stop_fd);
	pthread_mutex_destroy(&l->lock);
}

/* ---- what the embedder is told; caller holds the lock --------------------------- */

static void set_timer(struct ferry_lease_keeper *l, uint64_t ns)
{
	struct itimerspec at = { .it_value = ferry_timespec(ns) };

	timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void let_run(struct ferry_target *t, uint64_t until_ns)
{
	if (t->vm->ops.run_until)
		t->vm->ops.run_until(t->vm->opaque, until_ns);
}

static void extended(struct ferry_target *t)
{
	struct ferry_lease_keeper *l = &t->lease;

	if (l->over)
		return;
	set_timer(l, l->held.until_ns);
	l->out = l->held.until_ns <= ferry_boot_ns();
	let_run(t, l->out ? 0 : l->held.until_ns);
}

/* ---- "ferry-lease" --------------------------------------------------------------- */

static bool is_out(struct ferry_target *t)
{
	struct ferry_lease_keeper *l = &t->lease;
	bool now_out;

	pthread_mutex_lock(&l->lock);
	now_out = !l->over && !l->out &&
		  l->held.until_ns <= ferry_boot_ns();
	if (now_out) {
		l->out = true;
		let_run(t, 0);
	}
	pthread_mutex_unlock(&l->lock);
	return now_out;
}

/* Nobody is told of a VM that has not come. */
static void tell(struct ferry_target *t, const char *text)
{
	if (!ferry_status_is_handed(&t->status))
		return;
	ferry_log(&t->status.log, FERRY_LOG_WARN, "%s", *text ? text :
		  "the lease is renewed: the VM goes on");
	ferry_status_event(&t->status, FERRY_EVENT_LEASE, 0, text);
}

static void lease_main(void *arg)
{
	struct ferry_target *t = arg;
	struct pollfd fds[2] = {
		{ .fd = t->lease.timer_fd, .events = POLLIN },
		{ .fd = t->lease.stop_fd, .events = POLLIN },
	};
	uint64_t n;

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents)
			return;
		(void)!read(t->lease.timer_fd, &n, sizeof(n));
		if (is_out(t))
			tell(t, OUT);
	}
}

/* ---- the others ------------------------------------------------------------------- */

int ferry_lease_begin(struct ferry_target *t, uint64_t ns,
		      struct ferry_err *e)
{
	struct ferry_lease_keeper *l = &t->lease;

	if (!(t->features & FERRY_FEATURE_FENCE) || l->held.length_ns)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "LEASE comes twice, "
				     "or was not agreed on");
	l->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC |
				     TFD_NONBLOCK);
	l->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (l->timer_fd < 0 || l->stop_fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "lease");
	if (ferry_thread_start(&l->thread, "ferry-lease", lease_main, t, e))
		return -1;
	pthread_mutex_lock(&l->lock);
	l->held.length_ns = ns;
	pthread_mutex_unlock(&l->lock);
	return 0;
}

bool ferry_lease_is_there(struct ferry_target *t)
{
	bool there;

	pthread_mutex_lock(&t->lease.lock);
	there = t->lease.held.length_ns;
	pthread_mutex_unlock(&t->lease.lock);
	return there;
}

bool ferry_lease_is_out(struct ferry_target *t)
{
	struct ferry_lease_keeper *l = &t->lease;
	bool out;

	pthread_mutex_lock(&l->lock);
	out = l->held.length_ns &&
	      (l->over ? l->out : l->held.until_ns <= ferry_boot_ns());
	pthread_mutex_unlock(&l->lock);
	return out;
}

uint32_t ferry_lease_due(struct ferry_target *t)
{
	uint32_t n;

	pthread_mutex_lock(&t->lease.lock);
	n = ferry_lease_ask(&t->lease.held, ferry_boot_ns());
	pthread_mutex_unlock(&t->lease.lock);
	return n;
}

void ferry_lease_loads(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lease.lock);
	t->lease.held.loaded_ns = ferry_boot_ns();
	pthread_mutex_unlock(&t->lease.lock);
}

/* True when the VM had to stand still, and goes on. */
static bool extend(struct ferry_target *t, uint32_t n)
{
	struct ferry_lease_keeper *l = &t->lease;
	bool was_out;

	pthread_mutex_lock(&l->lock);
	was_out = l->out;
	if (n ? ferry_lease_renew(&l->held, n) : ferry_lease_run(&l->held))
		extended(t);
	was_out = was_out && !l->out;
	pthread_mutex_unlock(&l->lock);
	return was_out;
}

void ferry_lease_renewed(struct ferry_target *t, uint32_t n)
{
	if (extend(t, n))
		tell(t, "");
}

void ferry_lease_runs(struct ferry_target *t)
{
	(void)extend(t, 0);
}

void ferry_lease_starts(struct ferry_target *t)
{
	struct ferry_lease_keeper *l = &t->lease;

	pthread_mutex_lock(&l->lock);
	if (l->held.length_ns)
		extended(t);
	else
		let_run(t, UINT64_MAX);
	pthread_mutex_unlock(&l->lock);
}

static void end(struct ferry_target *t, uint64_t until_ns)
{
	struct ferry_lease_keeper *l = &t->lease;

	pthread_mutex_lock(&l->lock);
	if (!l->over) {
		l->over = true;
		l->out = !until_ns;
		let_run(t, until_ns);
	}
	pthread_mutex_unlock(&l->lock);
}

void ferry_lease_release(struct ferry_target *t)
{
	if (ferry_lease_is_there(t))
		end(t, UINT64_MAX);
}

void ferry_lease_forbid(struct ferry_target *t)
{
	end(t, 0);
}

void ferry_lease_stats(struct ferry_target *t, struct ferry_stats *st)
{
	struct ferry_lease_keeper *l = &t->lease;
	uint64_t now = ferry_boot_ns();

	pthread_mutex_lock(&l->lock);
	if (!l->over) {
		st->lease_ns = l->held.length_ns;
		st->lease_out = l->held.length_ns &&
				l->held.until_ns <= now;
		if (l->held.until_ns > now)
			st->lease_left_ns = l->held.until_ns - now;
	}
	pthread_mutex_unlock(&l->lock);
}
