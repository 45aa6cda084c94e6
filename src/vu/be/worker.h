/* SPDX-License-Identifier: MIT */
/*
 * A thread that serves queues: one, or as many neighbours as the shape says.
 *
 * Threads: all of it is the worker's own, but for start and stop in queue.c.
 */
#ifndef FERRY_VU_BE_WORKER_H
#define FERRY_VU_BE_WORKER_H

#include <unistd.h>

#include "vu/be/device.h"

#define FERRY_VB_LOOKS	8u	/* in vain, before it is given up to look */

static inline enum ferry_vb_order
ferry_vb_order_of(struct ferry_vhost_queue *q)
{
	return atomic_load_explicit(&q->order, memory_order_acquire);
}

static inline void ferry_vb_poke(int fd)
{
	uint64_t one = 1;

	while (fd >= 0 && write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static inline bool ferry_vb_drain(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n);
}

/* Its ring may be looked at: it has begun, and no order says otherwise.
 * Drained: what is out is finished first. */
bool ferry_vb_is_served(struct ferry_vhost_queue *q);

/* It is to stand still and does not know yet. */
bool ferry_vb_is_to_halt(struct ferry_vhost_queue *q);

/* A ring that makes no sense: say so once, to the log and the front-end. */
void ferry_vb_look_whether_broken(struct ferry_vhost_queue *q);

/* Ask the driver to kick.  True: there is work already. */
bool ferry_vb_ask_for_kicks(struct ferry_vhost_queue *q);

/* wait.c: until there is a reason to look at a queue, which is in its `why`, or
 * an order. */
void ferry_vb_worker_wait(struct ferry_vb_worker *w);

/* The thread: until none of its queues is left. */
void ferry_vb_worker_run(void *worker);

#endif
