/* SPDX-License-Identifier: MIT */
/*
 * Records of the RAM section's body: a word of page-aligned address and flags,
 * then what the flag says.  The same records, bare, make up QEMU's preempt
 * channel.  Pure, any thread; the encoders are hot.
 *
 * CONTINUE ("same block as the page record before, on this channel") is the
 * caller's to resolve: it keeps the last block of each channel.
 */
#ifndef FERRY_WIRE_RAM_H
#define FERRY_WIRE_RAM_H

#include "base/limits.h"
#include "wire/decode.h"
#include "wire/span.h"

/* What a record is: exactly one of these. */
enum ferry_ram_kind {
	FERRY_RAM_FULL		= 0x001,	/* obsolete, refused */
	FERRY_RAM_ZERO		= 0x002,
	FERRY_RAM_MEM_SIZE	= 0x004,	/* wire/ramlist.h follows */
	FERRY_RAM_PAGE		= 0x008,
	FERRY_RAM_EOS		= 0x010,	/* the body ends */
	FERRY_RAM_XBZRLE	= 0x040,
	FERRY_RAM_HOOK		= 0x080,	/* RDMA, refused */
	FERRY_RAM_COMPRESS_PAGE	= 0x100,	/* QEMU <= 9.0 */
	FERRY_RAM_MULTIFD_FLUSH	= 0x200,
};

#define FERRY_RAM_CONTINUE	0x020u		/* modifier */

/* Sets of kinds that are legal somewhere. */
#define FERRY_RAM_IN_POSTCOPY	\
	((uint32_t)(FERRY_RAM_ZERO | FERRY_RAM_PAGE | FERRY_RAM_EOS))
#define FERRY_RAM_IN_PRECOPY	\
	(FERRY_RAM_IN_POSTCOPY | FERRY_RAM_MEM_SIZE | FERRY_RAM_XBZRLE | \
	 FERRY_RAM_MULTIFD_FLUSH)

/* Longest compressed page that anyone may send. */
#define FERRY_RAM_COMPRESSED_MAX	(2u * FERRY_PAGE_BYTES)

struct ferry_ram_record {
	uint32_t	kind;		/* enum ferry_ram_kind */
	uint32_t	payload_bytes;	/* raw octets that follow */
	uint64_t	addr;		/* pages: offset in the block;
					 * MEM_SIZE: octets of all blocks */
	bool		same_block;	/* CONTINUE: name is empty */
	char		name[FERRY_NAME_MAX + 1];
};

/*
 * Stream decoder: the record up to its payload.  legal: the kinds that may
 * come here; COMPRESS_PAGE only if named, FULL and HOOK never.
 */
FERRY_CHECKED int ferry_ram_decode(struct ferry_rd *r, uint32_t legal,
				   struct ferry_ram_record *rec,
				   struct ferry_err *e);

/* The page of a decoded page record lies inside the block. */
FERRY_CHECKED int ferry_ram_check_in(const struct ferry_ram_record *rec,
				     const struct ferry_block_shape *block,
				     struct ferry_err *e);

/* Longest record without its payload. */
#define FERRY_RAM_HEAD_MAX	(8 + 1 + FERRY_NAME_MAX + 4)

/*
 * The header of a page record (ZERO, PAGE, XBZRLE, COMPRESS_PAGE).  name NULL:
 * CONTINUE.  payload_bytes counts for XBZRLE and COMPRESS_PAGE only; the
 * payload itself is the caller's to append.
 */
void ferry_ram_page_encode(struct ferry_wr *w, uint32_t kind,
			   const char *name, uint64_t offset,
			   uint32_t payload_bytes);
size_t ferry_ram_page_bytes(uint32_t kind, const char *name);

/* A record that is its word alone: EOS, MULTIFD_FLUSH (addr 0), MEM_SIZE. */
#define FERRY_RAM_MARK_WIRE	8

void ferry_ram_mark_encode(struct ferry_wr *w, uint32_t kind, uint64_t addr);

/* "PAGE"; "unknown".  Static. */
const char *ferry_ram_kind_name(uint32_t kind);

#endif
