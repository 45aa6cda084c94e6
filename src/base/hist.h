/* SPDX-License-Identifier: MIT */
/*
 * A latency histogram: buckets that double, from 1 us to 2200 s.  Debian 12
 * packages no C histogram library, and 32 atomic counters need none.
 * Any thread adds; readers get each counter at some moment.
 */
#ifndef FERRY_BASE_HIST_H
#define FERRY_BASE_HIST_H

#include <stdatomic.h>
#include <stdint.h>

#include <ferry/event.h>

struct ferry_hist {
	_Atomic uint64_t	count[FERRY_HIST_BUCKETS];
	_Atomic uint64_t	sum_ns;
	_Atomic uint64_t	max_ns;
};

void ferry_hist_add(struct ferry_hist *h, uint64_t ns);
void ferry_hist_read(struct ferry_hist *h, uint64_t out[FERRY_HIST_BUCKETS]);

#endif
