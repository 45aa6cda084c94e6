/* SPDX-License-Identifier: MIT */
/*
 * The guest and its vCPUs.
 *
 * Page p of the working set belongs to vCPU p % cpus: only that one reads and
 * writes it, its counter and its records, so none of them needs a lock.
 */
#ifndef GUEST_GUEST_H
#define GUEST_GUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "block.h"
#include "clock.h"
#include "config.h"
#include "layout.h"
#include "line.h"
#include "pool.h"

struct mode;
struct report;

/* What all vCPUs are told to do; vCPU 0 gives the orders. */
enum order {
	ORDER_NONE,		/* wait */
	ORDER_FILL,		/* write every own page for the first time */
	ORDER_RUN,		/* the workload, until the next order */
	ORDER_CHECK,		/* verify every own page */
	ORDER_STOP,		/* halt for good */
};

/*
 * Threads: set up by vCPU 0 before the others start, constant from then on but
 *          for the _Atomic members and what the pointers lead to.
 */
struct guest {
	struct config	config;
	struct timebase	timebase;
	struct pool	pool;
	const struct mode *mode;	/* of the hot pages */
	uint64_t	hot_pages;	/* 0 .. hot-1: the working set */
	uint64_t	pages;		/* and beyond: filled, not rewritten */
	uint32_t	*counter;	/* what each page's must be */
	uint32_t	*shadow;	/* mode db: what each record's must be */
	struct report	*report;	/* vCPU 0's */
	_Atomic uint64_t order;		/* serial number << 8 | enum order */
	_Atomic uint64_t bad_lines;	/* BAD lines printed */
	_Atomic uint32_t serial_lock;
	_Atomic uint32_t panic;		/* a vCPU died */
};

/*
 * Threads: of its vCPU, but for the _Atomic members, which all may read.
 */
struct cpu {
	struct guest	*guest;
	unsigned	 index;
	struct clock	 clock;
	uint64_t	 service_due;	/* vCPU 0: look after the console */
	uint64_t	 work_due;	/* rate=: the next step */
	bool		 drives;	/* the network and the disk */
	uint64_t	 own_pages;	/* of the hot ones */
	uint64_t	 cursor;	/* mode seq */
	uint64_t	 random;
	uint64_t	 writes;	/* sum of all own counters */
	uint64_t	 writes_found;	/* the same, from the tables */
	_Atomic uint64_t done;		/* the last order carried out */
	_Atomic uint64_t iterations;
	_Atomic uint64_t written;	/* pages or records */
	_Atomic uint64_t written_bytes;
	_Atomic uint64_t swept;		/* pages filled or checked, this order */
	_Atomic uint64_t bad;
} __attribute__((aligned(128)));

extern struct cpu cpus[CPUS_MAX];

/* Passes on the time; a long gap may have been a migration, so the vector
 * registers are looked at after one. */
void cpu_tick(struct cpu *c);

/* 1: entry.S has switched AVX on.  What is used of it: config.avx. */
extern const uint32_t avx_on;

/* The canary: set at start, compared now and then.  cpu.c */
void cpu_registers_fill(struct cpu *c);
void cpu_registers_check(struct cpu *c);

/* Below n. */
static inline uint64_t cpu_random(struct cpu *c, uint64_t n)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return (uint64_t)((unsigned __int128)c->random * n >> 64);
}

/* The own page after `i` others. */
static inline uint64_t cpu_page(const struct cpu *c, uint64_t i)
{
	return i * c->guest->config.cpus + c->index;
}

/* One finding: counted, and printed as a BAD line while there are few. */
struct bad {
	uint64_t	place;		/* page (or register) number */
	uint64_t	expect, found;
	const char	*kind;
	const char	*extra;		/* name of one more value, or NULL */
	uint64_t	extra_value;
};
void cpu_bad(struct cpu *c, const struct bad *bad);

#endif
