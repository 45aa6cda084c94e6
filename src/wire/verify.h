/* SPDX-License-Identifier: MIT */
/*
 * VERIFY: the sums of pages of one block, one behind the other
 * (base/sum.h).  Decoded in two steps, as ranges are: decode (name and shape),
 * check (against the block), then ferry_verify_next(), which cannot fail.
 * Pure, any thread; borrows the payload.
 */
#ifndef FERRY_WIRE_VERIFY_H
#define FERRY_WIRE_VERIFY_H

#include "base/limits.h"
#include "wire/command.h"

struct ferry_verify {
	char		name[FERRY_NAME_MAX + 1];
	uint64_t	first;		/* page */
	uint32_t	pages;
	struct ferry_rd	left;
};

/* How many fit a command about any block. */
#define FERRY_VERIFY_PAGES_MAX	16000u

/* 1 to FERRY_VERIFY_PAGES_MAX sums. */
void ferry_verify_encode(struct ferry_wr *w, const char *block,
			 uint64_t first, const uint32_t *sum, uint32_t pages);
size_t ferry_verify_bytes(const char *block, uint32_t pages);

/* Record decoder. */
FERRY_CHECKED int ferry_verify_decode(struct ferry_rd *r,
				      struct ferry_verify *v,
				      struct ferry_err *e);

/* All of them are pages of a block that has so many. */
FERRY_CHECKED int ferry_verify_check_in(const struct ferry_verify *v,
					uint64_t block_pages,
					struct ferry_err *e);

/* The next sum; false at the end. */
bool ferry_verify_next(struct ferry_verify *v, uint32_t *sum);

#endif
