/* SPDX-License-Identifier: MIT */
/*
 * What the guest says about itself, and the commands it takes: vCPU 0's
 * business alone.  README.md has the lines; tests/vm/guestlog.py reads them.
 */
#ifndef GUEST_REPORT_H
#define GUEST_REPORT_H

#include "guest.h"

enum report_phase {
	REPORT_FILL,		/* progress only */
	REPORT_RUN,		/* reports, commands, the end */
	REPORT_CHECK,		/* reports, nothing else */
};

struct report {
	enum report_phase phase;
	uint64_t	start;		/* all times are cpus[0].clock.now */
	uint64_t	line_due;	/* FERRY or INIT */
	uint64_t	gaps_due;	/* HIST */
	uint64_t	trace_due;
	uint64_t	last_time;	/* of the last FERRY line */
	uint64_t	last_bytes;	/* written by then */
	uint64_t	gap_line;	/* longest since the last FERRY line */
	uint64_t	gap_trace;	/* since the last sample */
	uint64_t	gap_reset;	/* since the command r */
	uint64_t	gap_ever;
	uint64_t	gaps_at_ready[GAP_BUCKETS];
	uint64_t	gaps_at_reset[GAP_BUCKETS];
};

/* Filling starts: a line of progress now and then. */
void report_fill(struct cpu *c);

/* Memory is filled: says READY; what happened so far is no gap. */
void report_ready(struct cpu *c);

/* When service_due has come.  May post orders; may end the guest. */
void report_service(struct cpu *c);

#endif
