/* SPDX-License-Identifier: MIT */
/*
 * Gaps, heartbeat, and the frequency of the TSC.
 */
#include "clock.h"

#include "x86.h"

#define BEAT_PORT	0xfe
#define DEVICE_US	10000		/* no output takes that long */

#define KHZ_MIN		100000		/* less is a broken source */
#define KHZ_MAX		20000000

#define PIT_HZ		1193182
#define PIT_CHANNEL_2	0x42
#define PIT_COMMAND	0x43
#define PIT_GATE	0x61
#define PIT_TICKS	24000		/* 20 ms; it counts for 55 ms */
#define PIT_DOUBT	400		/* one part in so many */
#define PIT_RUNS	20
#define PIT_POLLS_MAX	100000		/* a chip that does not count */

void timebase_set(struct timebase *base, uint64_t khz)
{
	base->khz = khz;
	base->us_per_cycle = (1000ull << 40) / khz;
}

/* Channel 2, mode 0: down from 65535, once; then its output goes up. */
static void pit_start(void)
{
	uint8_t gate = (uint8_t)(inb(PIT_GATE) & ~0x03);

	outb(PIT_GATE, gate);
	outb(PIT_COMMAND, 0xb0);
	outb(PIT_CHANNEL_2, 0xff);
	outb(PIT_CHANNEL_2, 0xff);
	outb(PIT_GATE, gate | 0x01);
}

struct pit_sample {
	uint64_t tsc, doubt;	/* when it was taken, give or take */
	unsigned count;
};

static struct pit_sample pit_read(void)
{
	struct pit_sample s = { .tsc = rdtsc() };

	outb(PIT_COMMAND, 0x80);	/* latch */
	s.doubt = (rdtsc() - s.tsc) / 2;
	s.tsc += s.doubt;
	s.count = inb(PIT_CHANNEL_2);
	s.count |= (unsigned)inb(PIT_CHANNEL_2) << 8;
	return s;
}

/*
 * The vCPU may be held up at any moment, for longer than the chip counts.  So
 * a sample counts only when the time it was taken at is known well, and a run
 * only when it ended before the chip did.
 */
static uint64_t khz_by_pit(void)
{
	struct pit_sample from, to;

	for (unsigned run = 0; run < PIT_RUNS; run++) {
		pit_start();
		from = pit_read();
		for (unsigned i = 0; i < PIT_POLLS_MAX; i++) {
			uint64_t cycles;

			to = pit_read();
			if (inb(PIT_GATE) & 0x20)
				break;
			cycles = to.tsc - from.tsc;
			if (from.count < to.count + PIT_TICKS ||
			    from.doubt + to.doubt > cycles / PIT_DOUBT)
				continue;
			return cycles * PIT_HZ / (from.count - to.count) /
			       1000;
		}
	}
	return 0;
}

static uint64_t khz_by_hypervisor(void)
{
	if (!(cpuid(1).c >> 31) || cpuid(0x40000000).a < 0x40000010)
		return 0;
	return cpuid(0x40000010).a;
}

static uint64_t khz_by_processor(void)
{
	uint32_t top = cpuid(0).a;
	struct cpuid ratio;

	if (top < 0x15)
		return 0;
	ratio = cpuid(0x15);
	if (ratio.a && ratio.b && ratio.c)
		return (uint64_t)ratio.c * ratio.b / ratio.a / 1000;
	return top < 0x16 ? 0 : (cpuid(0x16).a & 0xffff) * 1000ull;
}

uint64_t timebase_find_khz(void)
{
	static uint64_t (*const way[])(void) = {
		khz_by_hypervisor, khz_by_processor, khz_by_pit,
	};

	for (unsigned i = 0; i < sizeof(way) / sizeof(way[0]); i++) {
		uint64_t khz = way[i]();

		if (khz >= KHZ_MIN && khz <= KHZ_MAX)
			return khz;
	}
	return 0;
}

void clock_start(struct clock *c, const struct timebase *base,
		 uint64_t beat_us)
{
	c->base = base;
	c->tsc = rdtsc();
	c->beat_cycles = clock_cycles(c, beat_us);
	c->beat_due = beat_us ? c->now : UINT64_MAX;
}

static void record_gap(struct clock *c, uint64_t gap)
{
	uint64_t us = clock_us(c, gap);
	unsigned bucket = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

	if (bucket >= GAP_BUCKETS)
		bucket = GAP_BUCKETS - 1;
	count_up(&c->gaps[bucket], 1);
	if (gap > count_read(&c->gap_max))
		atomic_store_explicit(&c->gap_max, gap, memory_order_relaxed);
}

/* How far the TSC came since last time, never less than nothing. */
static uint64_t advance(struct clock *c)
{
	uint64_t tsc = rdtsc();
	uint64_t gap = tsc - c->tsc;

	if (tsc < c->tsc) {
		count_up(&c->tsc_back, 1);
		gap = 0;
	}
	c->tsc = tsc;
	c->now += gap;
	if (c->now >= c->beat_due) {
		outb(BEAT_PORT, 0);
		c->beat_due = c->now + c->beat_cycles;
	}
	return gap;
}

uint64_t clock_tick(struct clock *c)
{
	uint64_t gap = advance(c);

	record_gap(c, gap);
	return gap;
}

void clock_tick_device(struct clock *c)
{
	uint64_t gap = advance(c);

	if (gap > clock_cycles(c, DEVICE_US))
		record_gap(c, gap);
	else
		c->excluded += gap;
}
