/* SPDX-License-Identifier: MIT */
/*
 * Packets of bulk devices, on device or data channels (docs/wire.md, 5.6).
 * Pure, any thread.
 */
#ifndef FERRY_WIRE_BULK_H
#define FERRY_WIRE_BULK_H

#include "base/limits.h"
#include "wire/decode.h"

#define FERRY_BULK_MAGIC	0x46424c4bu	/* "FBLK" */
#define FERRY_BULK_WIRE		24

enum ferry_bulk_packet_flag {
	FERRY_BULK_PACKET_OWN		= 0x003,	/* the device's */
	FERRY_BULK_PACKET_STOPPED	= 0x100,	/* the VM stands */
	FERRY_BULK_PACKET_LAST		= 0x200,	/* nothing to load */
};

struct ferry_bulk_packet {
	uint16_t	device;
	uint16_t	flags;
	uint32_t	bytes;
	uint64_t	index;
};

/* Stream decoder, of the header. */
FERRY_CHECKED int ferry_bulk_packet_decode(struct ferry_rd *r,
					   struct ferry_bulk_packet *p,
					   struct ferry_err *e);
void ferry_bulk_packet_encode(struct ferry_wr *w,
			      const struct ferry_bulk_packet *p);

/* Is it one, by its first 4 octets? */
bool ferry_bulk_packet_is(const uint8_t first[4]);

#endif
