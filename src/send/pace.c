/* SPDX-License-Identifier: MIT */
/*
 * The shared allowance.  The bucket decides by a time that is passed in; only
 * the waiting happens here.
 */
#include "send/pace.h"

#include "base/thread.h"

#define BURST_NS	(5 * FERRY_NS_PER_MS)

void ferry_pace_init(struct ferry_pace *p)
{
	*p = (struct ferry_pace){ 0 };
	pthread_mutex_init(&p->lock, NULL);
	ferry_cond_init(&p->changed);
}

void ferry_pace_fini(struct ferry_pace *p)
{
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
}

void ferry_pace_set(struct ferry_pace *p, uint64_t rate)
{
	pthread_mutex_lock(&p->lock);
	if (p->rate != rate) {
		p->rate = rate;
		p->bucket = (struct ferry_bucket){ 0 };
		pthread_cond_broadcast(&p->changed);
	}
	pthread_mutex_unlock(&p->lock);
}

void ferry_pace_stop(struct ferry_pace *p)
{
	pthread_mutex_lock(&p->lock);
	p->stopped = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

void ferry_pace_go(struct ferry_pace *p)
{
	pthread_mutex_lock(&p->lock);
	p->stopped = false;
	pthread_mutex_unlock(&p->lock);
}

uint64_t ferry_pace_take(struct ferry_pace *p, uint64_t bytes)
{
	uint64_t now = ferry_now_ns(), rate, wait;
	bool waits;

	pthread_mutex_lock(&p->lock);
	rate = p->rate;
	wait = ferry_bucket_take(&p->bucket, now, bytes, rate, BURST_NS);
	waits = wait;
	while (wait && !p->stopped && p->rate == rate)
		if (!ferry_cond_wait_until(&p->changed, &p->lock, now + wait))
			break;
	pthread_mutex_unlock(&p->lock);
	return waits ? ferry_now_ns() - now : 0;
}
