/* SPDX-License-Identifier: MIT */
/*
 * What an author may do with a queue, on its worker's thread: ferry/vhost.h
 * tells it all.
 */
#include "vu/be/worker.h"

#include "base/counter.h"

void ferry_vhost_queue_flush(struct ferry_vhost_queue *q)
{
	if (!ferry_vb_ring_flush(&q->ring))
		return;
	pthread_mutex_lock(&q->lock);
	if (q->call >= 0) {
		ferry_vb_poke(q->call);
		ferry_count(&q->v->counts.calls, 1);
	}
	pthread_mutex_unlock(&q->lock);
}

/* While it is drained, or stops, nothing new goes out. */
int ferry_vhost_queue_pop(struct ferry_vhost_queue *q,
			  struct ferry_vhost_buffer *b)
{
	enum ferry_vb_order order = ferry_vb_order_of(q);
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
	if (q->dry && !ferry_vb_ask_for_kicks(q))
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

struct ferry_vhost_queue *ferry_vhost_queue_beside(struct ferry_vhost_queue *q,
						   uint32_t index)
{
	struct ferry_vb_worker *w = q->worker;
	struct ferry_vhost_queue *other;

	if (index < w->queue->index || index - w->queue->index >= w->n)
		return NULL;
	other = &w->queue[index - w->queue->index];
	return ferry_vb_is_served(other) ? other : NULL;
}
