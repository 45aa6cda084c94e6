/* SPDX-License-Identifier: MIT */
/*
 * Time.  Everything that decides by time is a pure function of a `now_ns`
 * that its caller passes; this is where callers get it.  Any thread.
 */
#ifndef FERRY_BASE_CLOCK_H
#define FERRY_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define FERRY_NS_PER_S	UINT64_C(1000000000)
#define FERRY_NS_PER_MS	UINT64_C(1000000)
#define FERRY_NS_PER_US	UINT64_C(1000)

/* CLOCK_MONOTONIC. */
uint64_t ferry_now_ns(void);

/* CLOCK_BOOTTIME: what passes while the host sleeps counts. */
uint64_t ferry_boot_ns(void);

struct timespec ferry_timespec(uint64_t ns);

/*
 * A token bucket: how long to wait before `bytes` may pass, at `rate` bytes/s
 * (0: no limit), with at most burst_ns worth of saved-up allowance.  The rate
 * may differ from call to call.  One thread at a time.
 */
struct ferry_bucket {
	uint64_t	 free_at_ns;	/* when what has passed is paid for */
};

uint64_t ferry_bucket_take(struct ferry_bucket *b, uint64_t now_ns,
			   uint64_t bytes, uint64_t rate, uint64_t burst_ns);

#endif
