/* SPDX-License-Identifier: MIT */
/*
 * Counters for statistics: relaxed atomics, any thread.
 */
#ifndef FERRY_BASE_COUNTER_H
#define FERRY_BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

static inline void ferry_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* Of a counter that one thread at a time writes: no locked instruction, which
 * would wait for all that was written before. */
static inline void ferry_count_alone(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, n +
			      atomic_load_explicit(counter,
						   memory_order_relaxed),
			      memory_order_relaxed);
}

static inline uint64_t ferry_counted(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
