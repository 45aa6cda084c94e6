/* SPDX-License-Identifier: MIT */
/*
 * A workload.  Every function is called by the page's own vCPU.
 */
#ifndef GUEST_MODE_H
#define GUEST_MODE_H

#include "guest.h"

struct mode {
	/* Bytes of tables per hot page, besides its counter. */
	uint64_t shadow_bytes;

	/* Once per vCPU, before its first page. */
	void (*prepare)(struct cpu *c);

	/* Write a page for the first time. */
	void (*fill)(struct cpu *c, uint64_t page);

	/* Verify a page; report, count and repair what is wrong; add its
	 * counters to writes_found. */
	void (*check)(struct cpu *c, uint64_t page);

	/* One iteration.  Returns the bytes it dealt with, for rate=. */
	uint64_t (*step)(struct cpu *c);
};

const struct mode *mode_of(uint64_t config_mode);

/* The pages beyond the working set. */
extern const struct mode mode_cold;

extern const struct mode mode_db;

#endif
