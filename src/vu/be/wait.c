/* SPDX-License-Identifier: MIT */
/*
 * How a worker waits for work.
 *
 * Kicks are dear: the guest leaves its vCPU for each.  So the driver is asked
 * for them only when handle() has taken all there was, and only behind a
 * moment of looking (look_awhile()): as long as work comes that often neither
 * side sleeps nor is woken.
 */
#include "vu/be/worker.h"

#include <poll.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/counter.h"

#define LOOK_NS		50000u	/* about what it costs to sleep */
#define SOON_NS		400000u	/* with what it takes to be woken */
#define LOOKS		16u	/* at the ring, between two at the clock */
#define PASSES		8u	/* with work in a ring, between two poll() */
#define FDS		3u	/* of a queue: its orders, its kicks, its own */

/* What is readable and yet no eventfd would keep us busy for ever. */
static unsigned take_kick(struct ferry_vhost_queue *q)
{
	if (!ferry_vb_drain(q->kick)) {
		ferry_vb_ring_wrong(&q->ring, "what should kick it is no"
				    " eventfd");
		ferry_vb_look_whether_broken(q);
		return 0;
	}
	ferry_count(&q->v->counts.kicks, 1);
	return FERRY_VHOST_KICKED;
}

static bool is_sound(struct ferry_vhost_queue *q)
{
	return ferry_vb_is_served(q) && !q->ring.wrong;
}

/* It is called again and again. */
static bool is_polled(const struct ferry_vhost_queue *q)
{
	return q->polling || q->kick < 0;
}

static bool has_more(struct ferry_vhost_queue *q)
{
	for (unsigned i = 0; q->dry && i < LOOKS; i++) {
		if (q->ring.ops->more(&q->ring))
			return true;
		for (unsigned k = 0; k < 4; k++)
			__builtin_ia32_pause();
	}
	return false;
}

static bool is_watched_ready(struct ferry_vb_worker *w)
{
	struct pollfd p[FERRY_VHOST_TOGETHER_MAX];
	nfds_t n = 0;

	for (uint32_t i = 0; i < w->n; i++) {
		struct ferry_vhost_queue *q = &w->queue[i];

		if (ferry_vb_is_served(q) && q->watch_fd >= 0)
			p[n++] = (struct pollfd){ .fd = q->watch_fd,
						  .events = q->watch_events };
	}
	return n && poll(p, n, 0) > 0;
}

/* There is no order, nor anybody who wants handle() to be called. */
static bool is_quiet(struct ferry_vb_worker *w)
{
	for (uint32_t i = 0; i < w->n; i++) {
		struct ferry_vhost_queue *q = &w->queue[i];

		if (q->heard != ferry_vb_order_of(q) ||
		    (ferry_vb_is_served(q) && atomic_load(&q->poked)))
			return false;
	}
	return true;
}

/* Once over those that had no more; *any: there is one. */
static bool look(struct ferry_vb_worker *w, bool *any)
{
	*any = false;
	for (uint32_t i = 0; i < w->n; i++) {
		struct ferry_vhost_queue *q = &w->queue[i];

		if (!is_sound(q) || !q->dry)
			continue;
		*any = true;
		if (has_more(q))
			return true;
	}
	return false;
}

/* For buffers, where they have lately come soon.  True: they are there. */
static bool look_awhile(struct ferry_vb_worker *w, uint64_t from_ns)
{
	bool any;

	if (!w->looks)
		return false;
	for (uint32_t i = 0; i < w->n; i++)
		w->queue[i].heard = ferry_vb_order_of(&w->queue[i]);
	do {
		if (look(w, &any))
			return true;
		if (!any)
			return false;
	} while (!is_watched_ready(w) && is_quiet(w) &&
		 ferry_now_ns() < from_ns + LOOK_NS);
	return false;
}

/* One that came soon lets it look before the next waits, too. */
static void learn(struct ferry_vb_worker *w, uint64_t took_ns)
{
	if (took_ns < SOON_NS)
		w->looks = FERRY_VB_LOOKS;
	else if (w->looks)
		w->looks--;
}

bool ferry_vb_ask_for_kicks(struct ferry_vhost_queue *q)
{
	if (q->ring.wrong)
		return false;
	if (q->dry) {
		q->ring.ops->want_kicks(&q->ring, true);
		q->again = q->ring.ops->more(&q->ring);
	}
	return q->again;
}

static bool ask_for_kicks(struct ferry_vb_worker *w)
{
	bool again = false;

	for (uint32_t i = 0; i < w->n; i++)
		if (is_sound(&w->queue[i]))
			again |= ferry_vb_ask_for_kicks(&w->queue[i]);
	return again;
}

/* Where a queue is called again and again: a moment, before it is. */
static bool is_busy(struct ferry_vb_worker *w)
{
	bool busy = false;

	for (uint32_t i = 0; i < w->n; i++) {
		struct ferry_vhost_queue *q = &w->queue[i];

		if (!is_sound(q) || !is_polled(q))
			continue;
		(void)has_more(q);
		busy = true;
	}
	return busy;
}

/* Those that have work. */
static void note_busy(struct ferry_vb_worker *w)
{
	for (uint32_t i = 0; i < w->n; i++) {
		struct ferry_vhost_queue *q = &w->queue[i];

		if (is_sound(q) && (is_polled(q) || q->again ||
				    (q->dry && q->ring.ops->more(&q->ring))))
			q->why |= FERRY_VHOST_KICKED;
	}
}

static void fill_fds(struct ferry_vhost_queue *q, struct pollfd p[FDS])
{
	bool served = ferry_vb_is_served(q);

	p[0] = (struct pollfd){ .fd = q->wake, .events = POLLIN };
	p[1] = (struct pollfd){
		.fd = served && !q->ring.wrong ? q->kick : -1,
		.events = POLLIN,
	};
	p[2] = (struct pollfd){
		.fd = served ? q->watch_fd : -1, .events = q->watch_events,
	};
}

static void take_fds(struct ferry_vhost_queue *q, const struct pollfd p[FDS])
{
	if (p[0].revents)
		ferry_vb_drain(q->wake);
	if (p[1].revents)
		q->why |= take_kick(q);
	if (p[2].revents)
		q->why |= FERRY_VHOST_READY;
}

static void poll_all(struct ferry_vb_worker *w, bool busy)
{
	struct pollfd p[FERRY_VHOST_TOGETHER_MAX][FDS];

	for (uint32_t i = 0; i < w->n; i++)
		fill_fds(&w->queue[i], p[i]);
	if (poll(p[0], (nfds_t)FDS * w->n, busy ? 0 : -1) < 0)
		return;
	for (uint32_t i = 0; i < w->n; i++)
		take_fds(&w->queue[i], p[i]);
}

/* A neighbour's handle() may have finished what one was to finish first. */
static bool is_one_to_halt(struct ferry_vb_worker *w)
{
	for (uint32_t i = 0; i < w->n; i++)
		if (ferry_vb_is_to_halt(&w->queue[i]))
			return true;
	return false;
}

void ferry_vb_worker_wait(struct ferry_vb_worker *w)
{
	bool busy;
	uint64_t from_ns;

	if (is_one_to_halt(w))
		return;
	busy = is_busy(w);
	from_ns = busy ? 0 : ferry_now_ns();
	if (!busy)
		busy = look_awhile(w, from_ns) || ask_for_kicks(w);
	if (!busy || w->passed++ % PASSES == 0) {
		poll_all(w, busy);
		if (from_ns)
			learn(w, ferry_now_ns() - from_ns);
	}
	if (busy)
		note_busy(w);
}
