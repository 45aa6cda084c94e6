/* SPDX-License-Identifier: MIT */
/*
 * Verify mode: what was placed last on each page, as a sum, and how it came;
 * compared in the end with what the source has.  8 octets a page.
 *
 * Threads: note by any receiver (of one page, one at a time, but for the copies
 *          of postcopy, which are to be equal); the rest by the main thread.
 */
#ifndef FERRY_RECV_SUMS_H
#define FERRY_RECV_SUMS_H

#include "recv/map.h"
#include "wire/verify.h"

struct ferry_sums {
	const struct ferry_mem *mem;
	_Atomic uint64_t **note;	/* per block, per page: the sum, then
					 * ferry_sums_way() */
	uint64_t compared;		/* pages */
};

FERRY_CHECKED int ferry_sums_init(struct ferry_sums *s,
				  const struct ferry_mem *mem,
				  struct ferry_err *e);
/* Safe on zeroes. */
void ferry_sums_fini(struct ferry_sums *s);

/* How a page came: channel 0 is main, 1 to 64 are data 0 to 63, from 65 on
 * they are urgent; pass 0 is after the switchover. */
#define FERRY_SUMS_MAIN		0u
#define FERRY_SUMS_DATA		1u
#define FERRY_SUMS_URGENT	(FERRY_SUMS_DATA + FERRY_DATA_CHANNELS_MAX)

uint32_t ferry_sums_way(unsigned channel, uint32_t pass);

/* n pages were placed; data NULL: zeroes.  After the switchover the first copy
 * of a page is placed, and any other must be the same. */
void ferry_sums_note(struct ferry_sums *s, const struct ferry_mem_block *b,
		     uint64_t first, uint64_t n, const uint8_t *data,
		     uint32_t way);

/*
 * The source says what it has, each page once.  As long as nobody runs here,
 * `still` says which pages are, and memory itself is read; else NULL, and what
 * was noted counts.  FERRY_E_MISMATCH names page, channel and pass.
 */
FERRY_CHECKED int ferry_sums_compare(struct ferry_sums *s,
				     const struct ferry_mem_block *b,
				     struct ferry_verify *theirs,
				     const struct ferry_map *still,
				     struct ferry_err *e);

/* The sum of what was placed; where it is not known which of two copies that
 * differ was, that of neither. */
uint32_t ferry_sums_placed(const struct ferry_sums *s, uint32_t block,
			   uint64_t page);

/* It will say all of it again. */
void ferry_sums_restart(struct ferry_sums *s);

/* The source has said all: what it did not name is zero. */
FERRY_CHECKED int ferry_sums_end(struct ferry_sums *s,
				 const struct ferry_map *still,
				 struct ferry_err *e);

#endif
