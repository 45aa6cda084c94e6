/* SPDX-License-Identifier: MIT */
/*
 * Slowing a guest down: in each period of 100 ms its vCPUs are held at the
 * gate for some percent of the time, all together, so that none waits for
 * another that sleeps.
 */
#ifndef FERRY_VMM_THROTTLE_H
#define FERRY_VMM_THROTTLE_H

#include <pthread.h>
#include <stdbool.h>

#include "base/thread.h"
#include "vmm/gate.h"

struct ferry_throttle {
	struct ferry_gate	*gate;
	struct ferry_thread	 thread;
	pthread_mutex_t		 lock;
	pthread_cond_t		 changed;
	unsigned		 percent;
	bool			 quit;
};

FERRY_CHECKED int ferry_throttle_start(struct ferry_throttle *t,
				       struct ferry_gate *gate,
				       struct ferry_err *e);
void ferry_throttle_stop(struct ferry_throttle *t);

/* 0 (full speed, at once) to 99.  Any thread. */
void ferry_throttle_set(struct ferry_throttle *t, unsigned percent);

#endif
