/* SPDX-License-Identifier: MIT */
/*
 * Time as a vCPU sees it, and the longest times it did not see.
 *
 * A clock adds up the differences between readings of the TSC, so that it
 * never runs backwards, whatever a new host does to the TSC; the differences
 * are the gaps that the guest is there to measure.
 *
 * Threads: one clock per vCPU, ticked by it alone; the _Atomic members may be
 *          read by all, and gap_max may be taken (set to 0) by vCPU 0.
 */
#ifndef GUEST_CLOCK_H
#define GUEST_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>

/* Bucket i counts the gaps up to 2^i us, the last one all that are longer. */
#define GAP_BUCKETS	27

struct timebase {
	uint64_t	khz;
	uint64_t	us_per_cycle;	/* times 2^40 */
};

struct clock {
	const struct timebase *base;
	uint64_t	tsc;		/* last reading */
	uint64_t	now;		/* cycles since the vCPU started */
	uint64_t	beat_due;	/* by `now`; UINT64_MAX: no heartbeat */
	uint64_t	beat_cycles;
	uint64_t	excluded;	/* cycles spent on output */
	_Atomic uint64_t gap_max;	/* cycles */
	_Atomic uint64_t tsc_back;	/* readings below their predecessor */
	_Atomic uint64_t gaps[GAP_BUCKETS];
};

void timebase_set(struct timebase *base, uint64_t khz);

/* Ask the hypervisor, the processor, the timer chip, in this order; 0 when
 * none of them knows. */
uint64_t timebase_find_khz(void);

static inline uint64_t clock_us(const struct clock *c, uint64_t cycles)
{
	return (uint64_t)((unsigned __int128)cycles *
			  c->base->us_per_cycle >> 40);
}

/* For up to 2^31 ms. */
static inline uint64_t clock_cycles(const struct clock *c, uint64_t us)
{
	return us * c->base->khz / 1000;
}

/* Set going; a heartbeat every beat_us, or none for 0. */
void clock_start(struct clock *c, const struct timebase *base,
		 uint64_t beat_us);

/* To be called as often as the gaps should be fine.  Returns the gap. */
uint64_t clock_tick(struct clock *c);

/* The same while talking to a slow device: such a gap counts only from 10 ms
 * on, which no device needs. */
void clock_tick_device(struct clock *c);

/* The owner's way to add; readers see whole values. */
static inline void count_up(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, n +
		atomic_load_explicit(counter, memory_order_relaxed),
		memory_order_relaxed);
}

static inline uint64_t count_read(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
