/* SPDX-License-Identifier: MIT */
/*
 * Turn taking with one priority: urgent before bulk.
 */
#include "send/lane.h"

void ferry_lane_init(struct ferry_lane *l, struct ferry_chan *chan, bool owned,
		     ferry_encoder_init *encoder,
		     struct ferry_send_counters *count)
{
	*l = (struct ferry_lane){ .chan = chan, .owned = owned };
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->freed, NULL);
	encoder(&l->enc, chan, count);
}

void ferry_lane_fini(struct ferry_lane *l)
{
	if (!l->chan)
		return;
	if (l->owned)
		ferry_chan_close(l->chan);
	l->chan = NULL;
	ferry_encoder_fini(&l->enc);
	pthread_cond_destroy(&l->freed);
	pthread_mutex_destroy(&l->lock);
}

void ferry_lane_enter_bulk(struct ferry_lane *l)
{
	pthread_mutex_lock(&l->lock);
	while (l->busy || l->wanted)
		pthread_cond_wait(&l->freed, &l->lock);
	l->busy = true;
	pthread_mutex_unlock(&l->lock);
}

bool ferry_lane_try_bulk(struct ferry_lane *l)
{
	bool mine;

	pthread_mutex_lock(&l->lock);
	mine = !l->busy && !l->wanted;
	l->busy = l->busy || mine;
	pthread_mutex_unlock(&l->lock);
	return mine;
}

void ferry_lane_enter_urgent(struct ferry_lane *l)
{
	pthread_mutex_lock(&l->lock);
	l->wanted++;
	while (l->busy)
		pthread_cond_wait(&l->freed, &l->lock);
	l->wanted--;
	l->busy = true;
	pthread_mutex_unlock(&l->lock);
}

void ferry_lane_leave(struct ferry_lane *l)
{
	pthread_mutex_lock(&l->lock);
	l->busy = false;
	pthread_cond_broadcast(&l->freed);
	pthread_mutex_unlock(&l->lock);
}
