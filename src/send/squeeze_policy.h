/* SPDX-License-Identifier: MIT */
/*
 * Compress, or not?  Only while the connection, and not the CPU, is what takes
 * the time: a pure function of what was measured, so that it is tested by a
 * table.
 *
 * A channel works in windows.  Without compression one in which it mostly
 * waited to write is followed by a sample: a few packets are compressed, which
 * tells how much smaller they get and how long that takes.  With compression a
 * window that did not wait says that the CPU is the limit now: then it is
 * tried in the faster gear (if there is one), and without.  What an experiment
 * led to is measured like anything else; one that did not help is repeated
 * later and later.
 */
#ifndef FERRY_SEND_SQUEEZE_POLICY_H
#define FERRY_SEND_SQUEEZE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

/* A window lasts so long at most. */
#define FERRY_SQUEEZE_WINDOW_NS	(100 * FERRY_NS_PER_MS)

enum ferry_squeeze_mode {
	FERRY_SQUEEZE_OFF,
	FERRY_SQUEEZE_SAMPLE,	/* on, to see what it would be worth */
	FERRY_SQUEEZE_ON,
	FERRY_SQUEEZE_TRIAL,	/* off, to see the same */
	FERRY_SQUEEZE_SHIFT,	/* on in the other gear, to see the same */
};

/* How a window went, and what is remembered. */
struct ferry_squeeze_window {
	enum ferry_squeeze_mode mode;
	bool		 always;	/* never off */
	bool		 has_fast;	/* there is a faster gear, */
	bool		 fast;		/* and it is, or was last, in use */
	unsigned	 windows;	/* in this mode, with this one */
	uint64_t	 mode_ns;	/* the same */
	unsigned	 refused;	/* samples and stretches of compression
					 * that were not worth it, in a row */
	unsigned	 tried;		/* trials, the same */
	unsigned	 shifted;	/* shifts, the same */
	uint64_t	 plain_bytes;	/* of pages */
	uint64_t	 wire_bytes;	/* what they became */
	uint64_t	 ns;		/* all of it */
	uint64_t	 blocked_ns;	/* of that: waiting to write */
	uint64_t	 squeeze_ns;	/* CPU time of compressing */
	/* For 1 MiB of pages, in the last such window; 0: there was none. */
	uint64_t	 off_ns, off_blocked_ns, on_ns;
};

struct ferry_squeeze_next {
	enum ferry_squeeze_mode mode;
	bool		 fast;
	unsigned	 refused, tried, shifted;
};

struct ferry_squeeze_next
ferry_squeeze_policy(const struct ferry_squeeze_window *w);

/* What a MiB of pages took, when plain_bytes took ns. */
uint64_t ferry_squeeze_per_mib(uint64_t ns, uint64_t plain_bytes);

#endif
