/* SPDX-License-Identifier: MIT */
/*
 * Bandwidth limits of bulk pages: one allowance that all data channels of a
 * migration share, and that may change while they wait.
 *
 * Threads: any sender takes; any thread sets or stops.
 */
#ifndef FERRY_SEND_PACE_H
#define FERRY_SEND_PACE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"

struct ferry_pace {
	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	struct ferry_bucket bucket;
	uint64_t	 rate;		/* bytes/s; 0: none */
	bool		 stopped;
};

void ferry_pace_init(struct ferry_pace *p);
void ferry_pace_fini(struct ferry_pace *p);
void ferry_pace_set(struct ferry_pace *p, uint64_t rate);

/* Wake whoever waits; until ferry_pace_go() nobody waits. */
void ferry_pace_stop(struct ferry_pace *p);
void ferry_pace_go(struct ferry_pace *p);

/* Wait until `bytes` may pass; returns for how long. */
uint64_t ferry_pace_take(struct ferry_pace *p, uint64_t bytes);

#endif
