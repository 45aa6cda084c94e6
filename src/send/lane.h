/* SPDX-License-Identifier: MIT */
/*
 * A lane: a channel with its encoder, on which bulk and requested pages may
 * take turns.  With an urgent channel each has a lane of its own and nobody
 * ever waits; without one, a request goes ahead of the next batch of bulk.
 *
 * Threads: bulk by one sender; urgent by one other thread.
 */
#ifndef FERRY_SEND_LANE_H
#define FERRY_SEND_LANE_H

#include <pthread.h>
#include <stdbool.h>

#include "send/encode.h"

struct ferry_lane {
	struct ferry_chan *chan;
	bool		 owned;		/* closed with the lane */
	pthread_mutex_t	 lock;
	pthread_cond_t	 freed;
	bool		 busy;
	unsigned	 wanted;	/* urgent ones waiting */
	struct ferry_encoder enc;	/* whoever has the turn */
};

typedef void ferry_encoder_init(struct ferry_encoder *x,
				struct ferry_chan *chan,
				struct ferry_send_counters *count);

void ferry_lane_init(struct ferry_lane *l, struct ferry_chan *chan, bool owned,
		     ferry_encoder_init *encoder,
		     struct ferry_send_counters *count);
void ferry_lane_fini(struct ferry_lane *l);

/* Take the turn; bulk lets urgent go first. */
void ferry_lane_enter_bulk(struct ferry_lane *l);
bool ferry_lane_try_bulk(struct ferry_lane *l);
void ferry_lane_enter_urgent(struct ferry_lane *l);
void ferry_lane_leave(struct ferry_lane *l);

#endif
