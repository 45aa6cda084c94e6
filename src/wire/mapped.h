/* SPDX-License-Identifier: MIT */
/*
 * The header behind each entry of the block list in a mapped-ram file: where
 * the block's bitmap and pages lie.  Pure, any thread.
 */
#ifndef FERRY_WIRE_MAPPED_H
#define FERRY_WIRE_MAPPED_H

#include "base/limits.h"
#include "wire/decode.h"

#define FERRY_MAPPED_WIRE		28
#define FERRY_MAPPED_VERSION		1u
#define FERRY_MAPPED_ALIGN_BYTES	(1u << 20)	/* as QEMU writes */

struct ferry_mapped {
	uint64_t	bitmap_offset;	/* absolute, in the file */
	uint64_t	pages_offset;	/* absolute, a multiple of 4096 */
};

/* Octets of the bitmap of a block: words of 64 pages. */
uint64_t ferry_mapped_bitmap_bytes(uint64_t block_bytes);

/* Where a writer puts them, given the file offset just behind the header. */
struct ferry_mapped ferry_mapped_layout(uint64_t behind_header,
					uint64_t block_bytes);

/* Stream decoder; pages lie behind the bitmap and nothing wraps. */
FERRY_CHECKED int ferry_mapped_decode(struct ferry_rd *r, uint64_t block_bytes,
				      struct ferry_mapped *m,
				      struct ferry_err *e);
void ferry_mapped_encode(struct ferry_wr *w, const struct ferry_mapped *m);

#endif
