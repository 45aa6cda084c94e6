/* SPDX-License-Identifier: MIT */
/*
 * RAM_DISCARD and ferry's ZERO_RANGES: ranges of pages of one block, in one
 * payload.  Decoded in two steps, because only the caller can find the block:
 * decode (name and shape), check (all ranges against the block), then walk,
 * which cannot fail.  Pure, any thread; borrows the payload.
 */
#ifndef FERRY_WIRE_RANGES_H
#define FERRY_WIRE_RANGES_H

#include "base/limits.h"
#include "wire/command.h"
#include "wire/span.h"

struct ferry_ranges {
	char		name[FERRY_NAME_MAX + 1];
	uint32_t	count;
	struct ferry_rd	left;
};

/* QEMU sends no more than this in one RAM_DISCARD. */
#define FERRY_RANGES_QEMU	12u

/* How many fit a command about the block. */
size_t ferry_ranges_most(const char *block);

/* command: RAM_DISCARD or ZERO_RANGES.  At least one, at most
 * ferry_ranges_most() spans. */
void ferry_ranges_encode(struct ferry_wr *w, enum ferry_command command,
			 const char *block, const struct ferry_span *spans,
			 size_t n);
size_t ferry_ranges_bytes(const char *block, size_t n);

/* Record decoder. */
FERRY_CHECKED int ferry_ranges_decode(struct ferry_rd *r, uint16_t command,
				      struct ferry_ranges *g,
				      struct ferry_err *e);

/* Each range is whole host pages of the block; g is not moved. */
FERRY_CHECKED int ferry_ranges_check_in(const struct ferry_ranges *g,
					const struct ferry_block_shape *block,
					struct ferry_err *e);

/* The next range; false at the end. */
bool ferry_ranges_next(struct ferry_ranges *g, struct ferry_span *s);

#endif
