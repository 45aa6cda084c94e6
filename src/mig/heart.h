/* SPDX-License-Identifier: MIT */
/*
 * A sign of life at regular times, whatever else its side is busy with:
 * stopping the VM, looking through memory, loading devices.
 *
 * Threads: one of its own, "ferry-heart"; start and stop by one thread.  What
 *          it calls must not block.
 */
#ifndef FERRY_MIG_HEART_H
#define FERRY_MIG_HEART_H

#include <pthread.h>
#include <stdint.h>

#include "base/thread.h"

/* The shortest silence that may be taken for a loss (x-ferry-timeout's least)
 * is five times this. */
#define FERRY_HEARTBEAT_MS	UINT64_C(100)

struct ferry_heart {
	void		(*beat)(void *arg);
	void		*arg;
	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	bool		 stop;		/* lock */
	struct ferry_thread thread;
};

/* beat and arg are filled, the rest is zero. */
FERRY_CHECKED int ferry_heart_start(struct ferry_heart *h,
				    struct ferry_err *e);
/* Joins.  Safe when never started, or stopped already. */
void ferry_heart_stop(struct ferry_heart *h);

#endif
