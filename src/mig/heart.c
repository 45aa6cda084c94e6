/* SPDX-License-Identifier: MIT */
/*
 * The heart: a thread that waits, beats, and waits.
 */
#include "mig/heart.h"

#include "base/clock.h"

static bool rest(struct ferry_heart *h)
{
	uint64_t until = ferry_now_ns() + FERRY_HEARTBEAT_MS * FERRY_NS_PER_MS;
	bool stop;

	pthread_mutex_lock(&h->lock);
	while (!h->stop && ferry_cond_wait_until(&h->changed, &h->lock, until))
		;
	stop = h->stop;
	pthread_mutex_unlock(&h->lock);
	return !stop;
}

static void heart_main(void *arg)
{
	struct ferry_heart *h = arg;

	while (rest(h))
		h->beat(h->arg);
}

static void fini(struct ferry_heart *h)
{
	pthread_cond_destroy(&h->changed);
	pthread_mutex_destroy(&h->lock);
}

int ferry_heart_start(struct ferry_heart *h, struct ferry_err *e)
{
	h->stop = false;
	pthread_mutex_init(&h->lock, NULL);
	ferry_cond_init(&h->changed);
	if (!ferry_thread_start(&h->thread, "ferry-heart", heart_main, h, e))
		return 0;
	fini(h);
	return -1;
}

void ferry_heart_stop(struct ferry_heart *h)
{
	if (!h->thread.started)
		return;
	pthread_mutex_lock(&h->lock);
	h->stop = true;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->lock);
	ferry_thread_join(&h->thread);
	fini(h);
}
