/* SPDX-License-Identifier: MIT */
/*
 * State of VFIO devices in a QEMU's stream.  On main it comes in sections that
 * go on (START, PART, END) and say no lengths; but each is made of items that
 * begin with a word of their own:
 *
 *   be64 SETUP | be64 DATA, be64 n, n octets | be64 INIT_SENT | be64 END
 *
 * END is the last one of a section.  CONFIG, which says no length either, is no
 * part of these sections.
 *
 * On multifd channels it comes in packets (struct ferry_device_packet), whose
 * payload begins with
 *
 *   be32 version = 0 | be32 index | be32 flags
 *
 * They come in any order; the last one by its index, and no other, has flag 1.
 * Pure, any thread.
 */
#ifndef FERRY_WIRE_VFIO_H
#define FERRY_WIRE_VFIO_H

#include "wire/decode.h"

#define FERRY_VFIO_END		0xffffffffef100001ull
#define FERRY_VFIO_CONFIG	0xffffffffef100002ull
#define FERRY_VFIO_SETUP	0xffffffffef100003ull
#define FERRY_VFIO_DATA		0xffffffffef100004ull
#define FERRY_VFIO_INIT_SENT	0xffffffffef100005ull

/* The word of an item, and of DATA its size. */
#define FERRY_VFIO_ITEM_MAX	16

struct ferry_vfio_item {
	uint64_t	word;
	uint64_t	bytes;		/* of data that follow */
};

/* Stream decoder; refuses words that are not known, and CONFIG. */
FERRY_CHECKED int ferry_vfio_item_decode(struct ferry_rd *r,
					 struct ferry_vfio_item *item,
					 struct ferry_err *e);
void ferry_vfio_item_encode(struct ferry_wr *w,
			    const struct ferry_vfio_item *item);

#define FERRY_VFIO_PACKET_WIRE	12
#define FERRY_VFIO_PACKETS_MAX	(1u << 20)	/* of one device */

struct ferry_vfio_packet {
	uint32_t	index;
	bool		last;
};

/* The first octets of a payload.  False: it is something else. */
bool ferry_vfio_packet_decode(const uint8_t wire[FERRY_VFIO_PACKET_WIRE],
			      struct ferry_vfio_packet *p);

#endif
