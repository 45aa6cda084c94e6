/* SPDX-License-Identifier: MIT */
/*
 * A queue's thread: it starts the ring, calls the author's handle(), and obeys
 * the control thread's orders between two calls.
 *
 * An order is a word under the queue's lock and a poke of its eventfd; when it
 * is obeyed the thread says so on another, for which the control thread waits
 * together with the front-end's socket: a thread that is stuck on a missing
 * page, and a front-end that died, are found out about at once
 * (wait_obeyed()).
 *
 * Kicks are dear: the guest leaves its vCPU for each.  So the driver is asked
 * for them only when handle() has taken all there was, and only behind a
 * moment of looking (look_awhile()): as long as work comes that often neither
 * side sleeps nor is woken.
 */
#include "vu/be/device.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/counter.h"

#define LOOK_NS		50000u	/* about what it costs to sleep */
#define SOON_NS		400000u	/* with what it takes to be woken */
#define LOOKS		16u	/* at the ring, between two at the clock */
#define TRIES		8u	/* to look, in vain, before it is given up */
#define PASSES		8u	/* with work in the ring, between two poll() */

static void poke(int fd)
{
	uint64_t one = 1;

	while (fd >= 0 && write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static bool drain(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n);
}

/* ---- the queue's thread ------------------------------------------------- */

static enum ferry_vb_order order_of(struct ferry_vhost_queue *q)
{
	return atomic_load_explicit(&q->order, memory_order_acquire);
}

static void say_obeyed_locked(struct ferry_vhost_queue *q)
{
	q->obeyed = true;
	poke(q->done);
}

/* Drained: what is out is finished first. */
static bool must_stand(struct ferry_vhost_queue *q)
{
	enum ferry_vb_order order = order_of(q);

	return order == FERRY_VB_HOLD ||
	       (order == FERRY_VB_DRAIN && !q->ring.out);
}

/* Until there is another order.  One to go on may have been followed by one to
 * stand still again before we woke up: that is to be answered too. */
static void stand_still(struct ferry_vhost_queue *q)
{
	pthread_mutex_lock(&q->lock);
	while (must_stand(q)) {
		if (!q->obeyed)
			say_obeyed_locked(q);
		pthread_cond_wait(&q->changed, &q->lock);
	}
	pthread_mutex_unlock(&q->lock);
}

void ferry_vhost_queue_flush(struct ferry_vhost_queue *q)
{
	if (!ferry_vb_ring_flush(&q->ring))
		return;
	pthread_mutex_lock(&q->lock);
	if (q->call >= 0) {
		poke(q->call);
		ferry_count(&q->v->counts.calls, 1);
	}
	pthread_mutex_unlock(&q->lock);
}

/* A ring that makes no sense: say so once, to the log and the front-end. */
static void look_whether_broken(struct ferry_vhost_queue *q)
{
	if (!q->ring.wrong || q->told)
		return;
	q->told = true;
	ferry_count(&q->v->counts.broken, 1);
	ferry_vb_log(q->v, FERRY_VB_ERROR, "queue %u: %s; it is not served"
		     " until it starts again", q->index, q->ring.wrong);
	pthread_mutex_lock(&q->lock);
	poke(q->err);
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
	look_whether_broken(q);
}

/* What is readable and yet no eventfd would keep us busy for ever. */
static unsigned take_kick(struct ferry_vhost_queue *q)
{
	if (!drain(q->kick)) {
		ferry_vb_ring_wrong(&q->ring, "what should kick it is no"
				    " eventfd");
		look_whether_broken(q);
		return 0;
	}
	ferry_count(&q->v->counts.kicks, 1);
	return FERRY_VHOST_KICKED;
}

static bool is_watched_ready(const struct ferry_vhost_queue *q)
{
	struct pollfd p = { .fd = q->watch_fd, .events = q->watch_events };

	return q->watch_fd >= 0 && poll(&p, 1, 0) > 0;
}

static bool is_to_look_on(struct ferry_vhost_queue *q, uint64_t until_ns)
{
	return order_of(q) == FERRY_VB_RUN && !atomic_load(&q->poked) &&
	       ferry_now_ns() < until_ns;
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

/* For buffers, where they have lately come soon.  True: they are there. */
static bool look_awhile(struct ferry_vhost_queue *q, uint64_t from_ns)
{
	if (!q->looks || !q->dry || q->ring.wrong)
		return false;
	do {
		if (has_more(q))
			return true;
		sched_yield();
	} while (!is_watched_ready(q) &&
		 is_to_look_on(q, from_ns + LOOK_NS));
	return false;
}

/* One that came soon lets it look before the next waits, too. */
static void learn(struct ferry_vhost_queue *q, uint64_t took_ns)
{
	if (took_ns < SOON_NS)
		q->looks = TRIES;
	else if (q->looks)
		q->looks--;
}

/* True: there is work already. */
static bool ask_for_kicks(struct ferry_vhost_queue *q)
{
	if (q->ring.wrong)
		return false;
	if (q->dry) {
		q->ring.ops->want_kicks(&q->ring, true);
		q->again = q->ring.ops->more(&q->ring);
	}
	return q->again;
}

/*
 * Wait for a kick, the watched fd, or an order.  Returns why to call
 * handle(); 0: an order.
 */
static unsigned wait_work(struct ferry_vhost_queue *q)
{
	struct pollfd p[] = {
		{ .fd = q->wake, .events = POLLIN },
		{ .fd = q->kick, .events = POLLIN },
		{ .fd = q->watch_fd, .events = q->watch_events },
	};
	bool busy = (q->polling || q->kick < 0) && !q->ring.wrong;
	uint64_t from_ns = busy ? 0 : ferry_now_ns();
	unsigned why = 0;

	if (busy)
		has_more(q);		/* a moment, before it is called */
	else
		busy = look_awhile(q, from_ns) || ask_for_kicks(q);
	if (busy && q->passed++ % PASSES)
		return FERRY_VHOST_KICKED;
	if (q->ring.wrong)
		p[1].fd = -1;
	if (poll(p, 3, busy ? 0 : -1) < 0)
		return 0;
	if (p[0].revents)
		drain(q->wake);
	if (p[1].revents)
		why |= take_kick(q);
	if (p[2].revents)
		why |= FERRY_VHOST_READY;
	if (atomic_exchange(&q->changed_enable, false))
		why |= FERRY_VHOST_CHANGED;
	if (from_ns)
		learn(q, ferry_now_ns() - from_ns);
	return why | (busy ? FERRY_VHOST_KICKED : 0);
}

/* As long as there is no order. */
static void serve(struct ferry_vhost_queue *q)
{
	/* What was made available before there was a kick fd. */
	unsigned why = FERRY_VHOST_KICKED;
	bool poked = false;

	for (;;) {
		if (order_of(q) == FERRY_VB_STOP) {
			if (ferry_vb_ring_owes(&q->ring))
				call_handle(q, FERRY_VHOST_KICKED);
			return;
		}
		if (must_stand(q)) {
			stand_still(q);
			why |= FERRY_VHOST_KICKED;
			continue;
		}
		if ((why || poked) && !q->ring.wrong)
			call_handle(q, why);
		else if (why & FERRY_VHOST_READY && q->ring.wrong)
			q->watch_fd = -1;
		why = wait_work(q);
		poked = atomic_exchange(&q->poked, false);
	}
}

static int begin(struct ferry_vhost_queue *q, struct ferry_err *e)
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

/* Broken from the start: wait for the order to stop. */
static void idle(struct ferry_vhost_queue *q)
{
	for (;;) {
		enum ferry_vb_order order = order_of(q);

		if (order == FERRY_VB_STOP)
			return;
		if (order != FERRY_VB_RUN)
			stand_still(q);
		else
			poll(&(struct pollfd){ .fd = q->wake,
					       .events = POLLIN }, 1, -1);
		drain(q->wake);
	}
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

static void run(void *arg)
{
	struct ferry_vhost_queue *q = arg;
	struct ferry_err e;

	if (!begin(q, &e)) {
		serve(q);
		finish(q);
	} else {
		ferry_count(&q->v->counts.broken, 1);
		ferry_vb_log(q->v, FERRY_VB_ERROR, "queue %u: %s", q->index,
			     e.msg);
		pthread_mutex_lock(&q->lock);
		poke(q->err);
		pthread_mutex_unlock(&q->lock);
		idle(q);
	}
	pthread_mutex_lock(&q->lock);
	say_obeyed_locked(q);
	pthread_mutex_unlock(&q->lock);
}

/* ---- the author's calls, on that thread ---------------------------------- */

/* While it is drained, or stops, nothing new goes out. */
int ferry_vhost_queue_pop(struct ferry_vhost_queue *q,
			  struct ferry_vhost_buffer *b)
{
	enum ferry_vb_order order = order_of(q);
	int rc;

	if (order != FERRY_VB_RUN && (order != FERRY_VB_STOP ||
				      !ferry_vb_ring_owes(&q->ring)))
		return order == FERRY_VB_STOP ? -1 : 0;
	rc = ferry_vb_ring_pop(&q->ring, b);
	q->dry = !rc;
	if (rc == 1)
		ferry_count_alone(&q->popped, 1);
	return rc;
}

void ferry_vhost_queue_push(struct ferry_vhost_queue *q,
			    const struct ferry_vhost_buffer *b,
			    uint32_t in_bytes_written)
{
	ferry_vb_ring_push(&q->ring, b, in_bytes_written);
	ferry_count_alone(&q->pushed, 1);
}

void ferry_vhost_queue_unpop(struct ferry_vhost_queue *q,
			     const struct ferry_vhost_buffer *b)
{
	/* All there was is not enough: only what comes now matters. */
	if (q->dry && !ask_for_kicks(q))
		q->dry = false;
	ferry_vb_ring_unpop(&q->ring, b);
}

void ferry_vhost_queue_watch(struct ferry_vhost_queue *q, int fd, short events)
{
	q->watch_fd = fd;
	q->watch_events = events;
}

void ferry_vhost_queue_poll(struct ferry_vhost_queue *q, int polling)
{
	q->polling = polling;
	/* The memory of one that is wrong may be gone. */
	if (!q->ring.wrong)
		q->ring.ops->want_kicks(&q->ring, !polling);
}

uint32_t ferry_vhost_queue_index(const struct ferry_vhost_queue *q)
{
	return q->index;
}

uint32_t ferry_vhost_queue_size(const struct ferry_vhost_queue *q)
{
	return q->ring.size;
}

void *ferry_vhost_queue_priv(const struct ferry_vhost_queue *q)
{
	return q->priv;
}

void ferry_vhost_queue_set_priv(struct ferry_vhost_queue *q, void *priv)
{
	q->priv = priv;
}

uint64_t ferry_vhost_queue_features(const struct ferry_vhost_queue *q)
{
	return q->ring.features;
}

int ferry_vhost_queue_enabled(const struct ferry_vhost_queue *q)
{
	return atomic_load_explicit(&q->enabled, memory_order_acquire);
}

/* ---- the control thread -------------------------------------------------- */

int ferry_vb_queue_init(struct ferry_vhost *v, struct ferry_vhost_queue *q,
			uint32_t index, struct ferry_err *e)
{
	*q = (struct ferry_vhost_queue){
		.v = v, .index = index, .kick = -1, .call = -1, .err = -1,
		.watch_fd = -1,
	};
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->changed, NULL);
	q->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->wake < 0 || q->done < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "eventfd");
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

void ferry_vb_queue_fini(struct ferry_vhost_queue *q)
{
	if (!q->v)
		return;
	replace_fd(q, &q->kick, -1);
	replace_fd(q, &q->call, -1);
	replace_fd(q, &q->err, -1);
	replace_fd(q, &q->wake, -1);
	replace_fd(q, &q->done, -1);
	pthread_cond_destroy(&q->changed);
	pthread_mutex_destroy(&q->lock);
}

static void give_order(struct ferry_vhost_queue *q, enum ferry_vb_order order)
{
	pthread_mutex_lock(&q->lock);
	atomic_store_explicit(&q->order, order, memory_order_release);
	q->obeyed = false;
	pthread_cond_signal(&q->changed);
	pthread_mutex_unlock(&q->lock);
	poke(q->wake);
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
			drain(q->done);
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

int ferry_vb_queue_start(struct ferry_vhost_queue *q, struct ferry_err *e)
{
	char name[16];

	if (ring_prepare(q, e))
		return -1;
	atomic_store(&q->order, FERRY_VB_RUN);
	q->obeyed = q->told = q->polling = q->dry = q->again = false;
	q->looks = TRIES;
	q->watch_fd = -1;
	q->priv = NULL;
	snprintf(name, sizeof(name), "vhost-q%u", q->index);
	if (ferry_thread_start(&q->thread, name, run, q, e)) {
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
	ferry_thread_join(&q->thread);
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
		poke(fd);
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
	poke(q->wake);
}
