/* SPDX-License-Identifier: MIT */
/*
 * The clock, and a token bucket that takes time as an argument.
 */
#include "base/clock.h"

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * FERRY_NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t ferry_now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t ferry_boot_ns(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

struct timespec ferry_timespec(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / FERRY_NS_PER_S),
		.tv_nsec = (long)(ns % FERRY_NS_PER_S),
	};
}

uint64_t ferry_bucket_take(struct ferry_bucket *b, uint64_t now_ns,
			   uint64_t bytes, uint64_t rate, uint64_t burst_ns)
{
	uint64_t floor = now_ns > burst_ns ? now_ns - burst_ns : 0;
	uint64_t wait;

	if (b->free_at_ns < floor)
		b->free_at_ns = floor;
	if (!rate) {
		b->free_at_ns = floor;
		return 0;
	}
	wait = b->free_at_ns > now_ns ? b->free_at_ns - now_ns : 0;
	b->free_at_ns += (uint64_t)((double)bytes * 1e9 / (double)rate);
	return wait;
}
