/* SPDX-License-Identifier: MIT */
/*
 * Queues, as the control thread has them: what the front-end said of each, when
 * its worker (worker.h) is to serve it and when to stand still.
 *
 * It waits for the worker's word together with the front-end's socket: a
 * worker that is stuck on a missing page, and a front-end that died, are found
 * out about at once (wait_obeyed()).
 */
#include "vu/be/worker.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"

static int queue_init(struct ferry_vhost *v, uint32_t index,
		      struct ferry_err *e)
{
	struct ferry_vhost_queue *q = &v->queue[index];

	*q = (struct ferry_vhost_queue){
		.v = v, .index = index, .kick = -1, .call = -1, .err = -1,
		.watch_fd = -1, .worker = &v->worker[index / v->shape.together],
	};
	if (!q->worker->n++)
		q->worker->queue = q;
	pthread_mutex_init(&q->lock, NULL);
	q->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->wake < 0 || q->done < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "eventfd");
	return 0;
}

int ferry_vb_queues_init(struct ferry_vhost *v, struct ferry_err *e)
{
	const uint32_t n = v->shape.queues, each = v->shape.together;

	v->queue = calloc(n, sizeof(*v->queue));
	v->worker = calloc((n + each - 1) / each, sizeof(*v->worker));
	if (!v->queue || !v->worker)
		return ferry_err_set(e, FERRY_E_NOMEM, 0, "vhost: %u queues",
				     n);
	for (uint32_t i = 0; i < n; i++)
		if (queue_init(v, i, e))
			return -1;
	return 0;
}

static void replace_fd(struct ferry_vhost_queue *q, int *slot, int fd)
{
	int old;

	pthread_mutex_lock(&q->lock);
	old = *slot;
	*slot = fd;
	pthread_mutex_unlock(&q->lock);
	if (old >= 0)
		close(old);
}

static void queue_fini(struct ferry_vhost_queue *q)
{
	if (!q->v)
		return;
	replace_fd(q, &q->kick, -1);
	replace_fd(q, &q->call, -1);
	replace_fd(q, &q->err, -1);
	replace_fd(q, &q->wake, -1);
	replace_fd(q, &q->done, -1);
	pthread_mutex_destroy(&q->lock);
}

void ferry_vb_queues_fini(struct ferry_vhost *v)
{
	for (uint32_t i = 0; v->queue && v->worker && i < v->shape.queues; i++)
		queue_fini(&v->queue[i]);
	free(v->queue);
	free(v->worker);
}

static void give_order(struct ferry_vhost_queue *q, enum ferry_vb_order order)
{
	pthread_mutex_lock(&q->lock);
	atomic_store_explicit(&q->order, order, memory_order_release);
	q->obeyed = false;
	pthread_mutex_unlock(&q->lock);
	ferry_vb_poke(q->wake);
}

static bool has_obeyed(struct ferry_vhost_queue *q)
{
	bool obeyed;

	pthread_mutex_lock(&q->lock);
	obeyed = q->obeyed;
	pthread_mutex_unlock(&q->lock);
	return obeyed;
}

/*
 * In postcopy a queue's thread may wait for a page that only the front-end can
 * bring.  It may take its time; but when the front-end has gone, so have the
 * pages.
 */
static void wait_obeyed(struct ferry_vhost_queue *q)
{
	struct ferry_vhost *v = q->v;
	struct pollfd p[] = {
		{ .fd = q->done, .events = POLLIN },
		{ .fd = v->session.sock.fd, .events = POLLRDHUP },
		{ .fd = v->session.sock.stop, .events = POLLIN },
	};

	while (!has_obeyed(q)) {
		if (poll(p, 3, -1) < 0)
			continue;
		if (p[0].revents)
			ferry_vb_drain(q->done);
		if (p[1].revents || p[2].revents) {
			ferry_vb_postcopy_abandon(&v->session.postcopy,
						  &v->memory, &v->touch);
			p[1].fd = p[2].fd = -1;
		}
	}
}

static int ring_prepare(struct ferry_vhost_queue *q, struct ferry_err *e)
{
	struct ferry_vhost *v = q->v;

	q->ring = (struct ferry_vb_ring){
		.features = v->session.features, .where = q->said.where,
		.memory = &v->memory, .dirty = &v->dirty, .touch = &v->touch,
	};
	if (ferry_vb_ring_init(&q->ring, q->said.size, e))
		return -1;
	q->ring.inflight = ferry_vb_inflight_queue_new(
		&v->session.inflight, q->index, q->said.size,
		q->ring.ops == &ferry_vb_packed_ops);
	return 0;
}

static void ring_drop(struct ferry_vhost_queue *q)
{
	ferry_vb_inflight_queue_free(q->ring.inflight);
	ferry_vb_ring_fini(&q->ring);
}

/* What is the worker's from now on. */
static void hand_over(struct ferry_vhost_queue *q)
{
	atomic_store(&q->order, FERRY_VB_RUN);
	q->begun = q->failed = q->standing = q->obeyed = false;
	q->told = q->polling = q->dry = q->again = false;
	q->why = 0;
	q->watch_fd = -1;
	q->priv = NULL;
	q->worker->members++;
	atomic_store_explicit(&q->member, true, memory_order_release);
}

static int start_worker(struct ferry_vb_worker *w, struct ferry_err *e)
{
	char name[16];

	w->looks = FERRY_VB_LOOKS;
	snprintf(name, sizeof(name), "vhost-q%u", w->queue->index);
	return ferry_thread_start(&w->thread, name, ferry_vb_worker_run, w, e);
}

int ferry_vb_queue_start(struct ferry_vhost_queue *q, struct ferry_err *e)
{
	struct ferry_vb_worker *w = q->worker;

	if (ring_prepare(q, e))
		return -1;
	hand_over(q);
	if (w->members > 1) {
		ferry_vb_poke(q->wake);
	} else if (start_worker(w, e)) {
		atomic_store(&q->member, false);
		w->members = 0;
		ring_drop(q);
		return -1;
	}
	q->started = true;
	return 0;
}

uint32_t ferry_vb_queue_stop(struct ferry_vhost_queue *q, bool told)
{
	if (!q->started)
		return q->said.base;
	atomic_store(&q->ring.leaves, told);
	give_order(q, FERRY_VB_STOP);
	wait_obeyed(q);
	if (!--q->worker->members)
		ferry_thread_join(&q->worker->thread);
	if (!q->ring.out && q->ring.began)
		q->said.base = ferry_vb_ring_base(&q->ring);
	if (told && q->ring.began && !q->ring.wrong)
		ferry_vb_inflight_end(q->ring.inflight);
	ring_drop(q);
	q->started = false;
	replace_fd(q, &q->kick, -1);
	return q->said.base;
}

void ferry_vb_queues_hold(struct ferry_vhost *v, bool drain_first)
{
	for (uint32_t i = 0; i < v->shape.queues; i++)
		if (v->queue[i].started)
			give_order(&v->queue[i], drain_first ? FERRY_VB_DRAIN :
				   FERRY_VB_HOLD);
	for (uint32_t i = 0; i < v->shape.queues; i++)
		if (v->queue[i].started)
			wait_obeyed(&v->queue[i]);
}

void ferry_vb_queues_release(struct ferry_vhost *v)
{
	for (uint32_t i = 0; i < v->shape.queues; i++)
		if (v->queue[i].started)
			give_order(&v->queue[i], FERRY_VB_RUN);
}

void ferry_vb_queues_reset(struct ferry_vhost *v)
{
	for (uint32_t i = 0; i < v->shape.queues; i++) {
		struct ferry_vhost_queue *q = &v->queue[i];

		ferry_vb_queue_stop(q, false);
		replace_fd(q, &q->kick, -1);
		replace_fd(q, &q->call, -1);
		replace_fd(q, &q->err, -1);
		q->said = (struct ferry_vb_queue_said){ 0 };
		atomic_store(&q->enabled, false);
	}
}

void ferry_vb_queue_set_call(struct ferry_vhost_queue *q, int fd)
{
	replace_fd(q, &q->call, fd);
	/* A notification may have gone to the one before. */
	if (q->started)
		ferry_vb_poke(fd);
}

void ferry_vb_queue_set_err(struct ferry_vhost_queue *q, int fd)
{
	replace_fd(q, &q->err, fd);
}

void ferry_vb_queue_set_enabled(struct ferry_vhost_queue *q, bool enabled)
{
	if (atomic_exchange(&q->enabled, enabled) == enabled)
		return;
	atomic_store(&q->changed_enable, true);
	ferry_vb_poke(q->wake);
}
