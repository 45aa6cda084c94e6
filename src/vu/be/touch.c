/* SPDX-License-Identifier: MIT */
/*
 * Reading one octet of each page, with a look at the clock around it.
 */
#include "vu/be/touch.h"

#include "base/clock.h"
#include "base/counter.h"
#include "base/limits.h"

/* A read that is shorter met no fault that was served by another process. */
#define WAIT_MIN_NS	10000

static void count_wait(struct ferry_vb_touch *t, uint64_t ns)
{
	uint64_t max = atomic_load_explicit(&t->wait_max_ns,
					    memory_order_relaxed);
	unsigned bucket = 0;

	while (bucket < FERRY_VHOST_WAIT_BUCKETS - 1 &&
	       ns / 1000 >= 1ull << bucket)
		bucket++;
	ferry_count(&t->waits[bucket], 1);
	ferry_count(&t->wait_sum_ns, ns);
	while (ns > max &&
	       !atomic_compare_exchange_weak_explicit(&t->wait_max_ns, &max,
						      ns, memory_order_relaxed,
						      memory_order_relaxed))
		;
}

bool ferry_vb_touch_wait(struct ferry_vb_touch *t, const void *at,
			 uint64_t bytes)
{
	const volatile uint8_t *p = at;
	const volatile uint8_t *end = p + bytes;
	uint64_t before = ferry_now_ns();

	while (p < end) {
		uint64_t now;

		(void)*p;
		now = ferry_now_ns();
		if (now - before >= WAIT_MIN_NS)
			count_wait(t, now - before);
		before = now;
		p += FERRY_PAGE_BYTES - (uintptr_t)p % FERRY_PAGE_BYTES;
	}
	return !ferry_vb_touch_broken(t);
}
