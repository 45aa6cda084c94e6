/* SPDX-License-Identifier: MIT */
/* See throttle.h. */
#include "vmm/throttle.h"

#include <string.h>

#include "base/clock.h"

#define PERIOD_NS	(100 * FERRY_NS_PER_MS)
#define PERCENT_MAX	99u

static void throttle_main(void *arg)
{
	struct ferry_throttle *t = arg;

	pthread_mutex_lock(&t->lock);
	while (!t->quit) {
		uint64_t now = ferry_now_ns();
		uint64_t next = UINT64_MAX;

		if (t->percent) {
			next = now + PERIOD_NS;
			ferry_gate_hold(t->gate, now + PERIOD_NS / 100 *
						       t->percent);
		} else {
			ferry_gate_hold(t->gate, 0);
		}
		/* a new percentage begins a new period */
		ferry_cond_wait_until(&t->changed, &t->lock, next);
	}
	pthread_mutex_unlock(&t->lock);
}

int ferry_throttle_start(struct ferry_throttle *t, struct ferry_gate *gate,
			 struct ferry_err *e)
{
	memset(t, 0, sizeof(*t));
	t->gate = gate;
	pthread_mutex_init(&t->lock, NULL);
	ferry_cond_init(&t->changed);
	return ferry_thread_start(&t->thread, "throttle", throttle_main, t, e);
}

void ferry_throttle_stop(struct ferry_throttle *t)
{
	if (!t->gate)
		return;
	pthread_mutex_lock(&t->lock);
	t->quit = true;
	pthread_cond_signal(&t->changed);
	pthread_mutex_unlock(&t->lock);
	ferry_thread_join(&t->thread);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	t->gate = NULL;
}

void ferry_throttle_set(struct ferry_throttle *t, unsigned percent)
{
	pthread_mutex_lock(&t->lock);
	t->percent = percent > PERCENT_MAX ? PERCENT_MAX : percent;
	pthread_cond_signal(&t->changed);
	pthread_mutex_unlock(&t->lock);
}
