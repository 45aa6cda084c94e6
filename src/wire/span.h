/* SPDX-License-Identifier: MIT */
/*
 * Octets of a memory block, as page requests and discards name them.
 * Pure, any thread.
 */
#ifndef FERRY_WIRE_SPAN_H
#define FERRY_WIRE_SPAN_H

#include "base/cursor.h"
#include "base/err.h"
#include "base/limits.h"

/* What the reader knows of its own block: what a peer says is held to it. */
struct ferry_block_shape {
	const char	*name;
	uint64_t	 bytes;
	uint32_t	 page_bytes;	/* host page: 4096 or 2 MiB */
};

struct ferry_span {
	uint64_t	start;		/* octets */
	uint64_t	bytes;
};

/* Without a block: target pages, not empty, does not wrap. */
FERRY_CHECKED int ferry_span_check(const struct ferry_span *s,
				   const char *what, struct ferry_err *e);

/* With one: whole host pages, inside it. */
FERRY_CHECKED int ferry_span_check_in(const struct ferry_span *s,
				      const struct ferry_block_shape *block,
				      const char *what, struct ferry_err *e);

#endif
