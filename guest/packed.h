/* SPDX-License-Identifier: MIT */
/*
 * Packed rings, for virtio.c.
 */
#ifndef GUEST_PACKED_H
#define GUEST_PACKED_H

#include "virtio.h"

struct packed_desc {
	uint64_t	address;
	uint32_t	bytes;
	uint16_t	id, flags;
};

/* The two event areas, where split rings have what is available and used. */
struct packed_events {
	uint16_t	place;
	volatile uint16_t flags;
};

/* Of a queue whose members for split rings are set; `ring` is a page of
 * zeroes.  No interrupts are asked for. */
void packed_init(struct virtq *q, void *ring);

/* As virtq_make(), which is seen at once, and virtq_done(). */
void packed_make(struct virtq *q, uint16_t head);
bool packed_done(struct virtq *q, uint16_t *head, uint32_t *bytes);
bool packed_wants_kick(const struct virtq *q);

#endif
