/* SPDX-License-Identifier: MIT */
/*
 * A worker: the thread of one queue, or of several that belong together.  It
 * starts their rings, calls the author's handle(), and obeys the control
 * thread's orders between two calls.
 *
 * An order is a word under the queue's lock and a poke of its eventfd; when it
 * is obeyed the worker says so on another.  A queue that stands still is left
 * alone; the others of its worker go on.
 */
#include "vu/be/worker.h"

#include "base/cleanup.h"
#include "base/counter.h"

static void say_obeyed(struct ferry_vhost_queue *q)
{
	pthread_mutex_lock(&q->lock);
	if (!q->obeyed) {
		q->obeyed = true;
		ferry_vb_poke(q->done);
	}
	pthread_mutex_unlock(&q->lock);
}

static bool must_stand(struct ferry_vhost_queue *q)
{
	enum ferry_vb_order order = ferry_vb_order_of(q);

	return order == FERRY_VB_HOLD ||
	       (order == FERRY_VB_DRAIN && !q->ring.out);
}

static bool is_member(const struct ferry_vhost_queue *q)
{
	return atomic_load_explicit(&q->member, memory_order_acquire);
}

bool ferry_vb_is_served(struct ferry_vhost_queue *q)
{
	return is_member(q) && q->begun && !q->failed && !must_stand(q);
}

bool ferry_vb_is_to_halt(struct ferry_vhost_queue *q)
{
	return is_member(q) && !q->standing && must_stand(q);
}

void ferry_vb_look_whether_broken(struct ferry_vhost_queue *q)
{
	if (!q->ring.wrong || q->told)
		return;
	q->told = true;
	ferry_count(&q->v->counts.broken, 1);
	ferry_vb_log(q->v, FERRY_VB_ERROR, "queue %u: %s; it is not served"
		     " until it starts again", q->index, q->ring.wrong);
	pthread_mutex_lock(&q->lock);
	ferry_vb_poke(q->err);
	pthread_mutex_unlock(&q->lock);
}

static void call_handle(struct ferry_vhost_queue *q, unsigned why)
{
	struct ferry_vhost *v = q->v;

	q->dry = q->again = false;
	if (q->ring.kicks)
		q->ring.ops->want_kicks(&q->ring, false);
	v->ops.handle(v->opaque, q, why);
	ferry_vhost_queue_flush(q);
}

static int start_ring(struct ferry_vhost_queue *q, struct ferry_err *e)
{
	struct ferry_vhost *v = q->v;

	if (ferry_vb_ring_start(&q->ring, q->said.base, e))
		return -1;
	q->ring.ops->want_kicks(&q->ring, true);
	if (q->ring.inflight)
		ferry_count(&v->counts.resubmitted,
			    ferry_vb_inflight_found(q->ring.inflight));
	return v->ops.start ? v->ops.start(v->opaque, q, e) : 0;
}

/* What was made available before there was a kick fd is looked for at once. */
static void begin(struct ferry_vhost_queue *q)
{
	struct ferry_err e;

	q->begun = true;
	q->why = FERRY_VHOST_KICKED;
	if (!start_ring(q, &e))
		return;
	q->failed = true;
	ferry_count(&q->v->counts.broken, 1);
	ferry_vb_log(q->v, FERRY_VB_ERROR, "queue %u: %s", q->index, e.msg);
	pthread_mutex_lock(&q->lock);
	ferry_vb_poke(q->err);
	pthread_mutex_unlock(&q->lock);
}

static void finish(struct ferry_vhost_queue *q)
{
	struct ferry_vhost *v = q->v;

	if (v->ops.stop)
		v->ops.stop(v->opaque, q, ferry_vb_touch_broken(&v->touch));
	ferry_vhost_queue_flush(q);
	/* Whoever serves it next may not know that it was asked not to. */
	if (!q->ring.wrong && !ferry_vb_touch_broken(&v->touch))
		q->ring.ops->want_kicks(&q->ring, true);
	if (q->ring.out)
		ferry_vb_log(v, FERRY_VB_ERROR, "queue %u: the device kept %u"
			     " buffers when it was stopped; they are lost",
			     q->index, q->ring.out);
}

/* Behind the last line it is the control thread's. */
static void leave(struct ferry_vhost_queue *q)
{
	if (!q->failed && ferry_vb_ring_owes(&q->ring))
		call_handle(q, FERRY_VHOST_KICKED);
	if (!q->failed)
		finish(q);
	atomic_store_explicit(&q->member, false, memory_order_release);
	say_obeyed(q);
}

static unsigned take_why(struct ferry_vhost_queue *q)
{
	unsigned why = q->why;

	q->why = 0;
	if (atomic_load_explicit(&q->changed_enable, memory_order_relaxed) &&
	    atomic_exchange(&q->changed_enable, false))
		why |= FERRY_VHOST_CHANGED;
	return why;
}

static void serve(struct ferry_vhost_queue *q)
{
	bool poked = atomic_load_explicit(&q->poked, memory_order_relaxed) &&
		     atomic_exchange(&q->poked, false);
	unsigned why = take_why(q);

	if ((why || poked) && !q->ring.wrong)
		call_handle(q, why);
	else if (why & FERRY_VHOST_READY && q->ring.wrong)
		q->watch_fd = -1;
	/* It may have been used by a neighbour's handle(), too. */
	ferry_vb_look_whether_broken(q);
}

/* One pass; false: it is not ours, or no longer. */
static bool attend(struct ferry_vhost_queue *q)
{
	if (!is_member(q))
		return false;
	if (!q->begun)
		begin(q);
	if (ferry_vb_order_of(q) == FERRY_VB_STOP) {
		leave(q);
		return false;
	}
	q->standing = must_stand(q);
	if (q->standing) {
		say_obeyed(q);
		q->why |= FERRY_VHOST_KICKED;
	} else if (!q->failed) {
		serve(q);
	}
	return true;
}

void ferry_vb_worker_run(void *worker)
{
	struct ferry_vb_worker *w = worker;

	for (;;) {
		unsigned ours = 0;

		for (uint32_t i = 0; i < w->n; i++)
			ours += attend(&w->queue[i]);
		if (!ours)
			return;
		ferry_vb_worker_wait(w);
	}
}
