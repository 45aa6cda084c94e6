/* SPDX-License-Identifier: MIT */
/*
 * How fast the guest went and what held it up, every few milliseconds, kept in
 * memory and told when asked for: a line on the serial port costs too much to
 * be said in the middle of what it measures.
 *
 * vCPU 0's alone.
 */
#ifndef GUEST_TRACE_H
#define GUEST_TRACE_H

#include "guest.h"

#define TRACE_SAMPLES	1024u		/* the latest; older ones are lost */

struct sample {
	uint64_t	end;		/* cycles since READY */
	uint64_t	iterations;	/* in it */
	uint64_t	gap;		/* the longest; cycles */
	uint32_t	gaps[GAP_BUCKETS];
};

/* What had been counted by the end of the last sample. */
struct trace_mark {
	uint64_t	iterations;
	uint64_t	gaps[GAP_BUCKETS];
};

/* Forget the samples; the next one begins here. */
void trace_restart(const struct trace_mark *now);

void trace_take(uint64_t end, uint64_t gap, const struct trace_mark *now);

/* A TRACE line for each sample, and TRACED. */
void trace_send(struct cpu *c);

#endif
