/* SPDX-License-Identifier: MIT */
/*
 * multifd: packets of pages on channels of their own.  Between two ferries
 * data and urgent channels carry the same RAM packets (docs/wire.md), without
 * INIT.  Pure, any thread.
 */
#ifndef FERRY_WIRE_MULTIFD_H
#define FERRY_WIRE_MULTIFD_H

#include "base/limits.h"
#include "wire/decode.h"
#include "wire/span.h"

#define FERRY_MULTIFD_MAGIC	0x11223344u
#define FERRY_MULTIFD_VERSION	1u

/* INIT: opens each of QEMU's channels. */
#define FERRY_MULTIFD_INIT_WIRE	64

struct ferry_multifd_init {
	uint8_t		uuid[16];	/* of the VM; zeroes if it has none */
	uint8_t		id;
};

/* Stream decoder; refuses an id that is not below `channels`. */
FERRY_CHECKED int ferry_multifd_init_decode(struct ferry_rd *r,
					    unsigned channels,
					    struct ferry_multifd_init *i,
					    struct ferry_err *e);
void ferry_multifd_init_encode(struct ferry_wr *w,
			       const struct ferry_multifd_init *i);

enum ferry_packet_flag {
	FERRY_PACKET_SYNC		= 0x01,
	FERRY_PACKET_ZLIB		= 0x02,
	FERRY_PACKET_ZSTD		= 0x04,
	FERRY_PACKET_QPL		= 0x08,
	FERRY_PACKET_UADK		= 0x10,
	FERRY_PACKET_QATZIP		= 0x20,
	FERRY_PACKET_DEVICE_STATE	= 0x40,
};

#define FERRY_PACKET_METHODS	0x3eu	/* at most one of these bits */

/*
 * RAM packet.  offset: n normal pages, then z zero pages, all of one block.
 * The payload (payload_bytes; method none: n pages in that order) follows iff
 * n > 0: QEMU 7.2 leaves a stale size and name where there is none, and they
 * are not looked at then.
 */
#define FERRY_PACKET_WIRE	(64 + 256 + 8 * FERRY_PACKET_PAGES_MAX)

struct ferry_packet {
	uint32_t	flags;		/* enum ferry_packet_flag */
	uint32_t	normal_pages;
	uint32_t	zero_pages;
	uint32_t	payload_bytes;	/* 0 when normal_pages is */
	uint64_t	packet_num;
	char		name[FERRY_NAME_MAX + 1];	/* "" without pages */
	uint64_t	offset[FERRY_PACKET_PAGES_MAX];
};

/* Between two ferries the number of a packet with pages has two halves: the
 * pass of precopy it belongs to (0: after the switchover), and any number. */
static inline uint64_t ferry_packet_num(uint32_t pass, uint64_t any)
{
	return (uint64_t)pass << 32 | (any & UINT32_MAX);
}

static inline uint32_t ferry_packet_pass(const struct ferry_packet *p)
{
	return (uint32_t)(p->packet_num >> 32);
}

/* Stream decoder.  methods: the compression bits that may be set (0: none). */
FERRY_CHECKED int ferry_packet_decode(struct ferry_rd *r, uint32_t methods,
				      struct ferry_packet *p,
				      struct ferry_err *e);

/* All its pages lie inside the block. */
FERRY_CHECKED int ferry_packet_check_in(const struct ferry_packet *p,
					const struct ferry_block_shape *block,
					struct ferry_err *e);

/* Fills all 1344 octets; offsets past n + z are zero. */
void ferry_packet_encode(struct ferry_wr *w, const struct ferry_packet *p);

/*
 * Which packet comes: DONE with *flags when the first 12 octets are there
 * (nothing is consumed in any case), then ferry_packet_decode() or, with
 * FERRY_PACKET_DEVICE_STATE, ferry_device_packet_decode().
 */
FERRY_CHECKED int ferry_packet_peek(const struct ferry_rd *r, uint32_t *flags,
				    size_t *lack, struct ferry_err *e);

/* Device state (QEMU >= 10.0, VFIO). */
#define FERRY_DEVICE_PACKET_WIRE	276

struct ferry_device_packet {
	uint32_t	instance;
	uint32_t	payload_bytes;
	char		name[FERRY_NAME_MAX + 1];
};

/* Stream decoder. */
FERRY_CHECKED int ferry_device_packet_decode(struct ferry_rd *r,
					     struct ferry_device_packet *p,
					     struct ferry_err *e);
void ferry_device_packet_encode(struct ferry_wr *w,
				const struct ferry_device_packet *p);

#endif
