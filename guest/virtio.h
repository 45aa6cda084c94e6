/* SPDX-License-Identifier: MIT */
/*
 * Virtio devices over MMIO, by polling: no interrupts; packed rings where they
 * are offered, else split ones.  One vCPU drives all of them.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"

#define VIRTIO_NET	1u
#define VIRTIO_BLK	2u
#define VIRTIO_F_VERSION_1	(1ull << 32)
#define VIRTIO_F_PACKED		(1ull << 34)

#define VIRTQ_SIZE	256u
#define VIRTQ_NEXT	1u		/* flags of a descriptor */
#define VIRTQ_WRITE	2u

struct virtq_desc {
	uint64_t	address;
	uint32_t	bytes;
	uint16_t	flags, next;
};

struct virtq_avail {
	uint16_t	flags;
	volatile uint16_t index;
	uint16_t	ring[VIRTQ_SIZE];
};

struct virtq_used {
	volatile uint16_t flags, index;
	volatile struct { uint32_t id, bytes; } ring[VIRTQ_SIZE];
};

/* A packed ring: where we make available, where we look for what is used, and
 * in which lap; of each chain, its descriptors. */
struct packed {
	volatile struct packed_desc *ring;	/* NULL: it is a split one */
	uint16_t	at, seen;
	bool		lap, seen_lap;
	uint16_t	length[VIRTQ_SIZE];
};

/* Descriptors are the user's to lay out. */
struct virtq {
	volatile uint32_t *notify;
	uint32_t	number;
	uint16_t	size;		/* at most VIRTQ_SIZE */
	uint16_t	made, told;	/* available; of these, shown */
	uint16_t	seen;		/* used */
	struct virtq_desc *desc;
	struct virtq_avail *avail;
	struct virtq_used *used;
	struct packed	packed;
};

struct virtio {
	volatile uint32_t *regs;
	uint64_t	features;	/* taken */
};

/* The n-th device of this type; false: there is none. */
bool virtio_find(struct virtio *v, uint32_t type, unsigned n);

/* Reset it, take of what it offers no more than `want`.  NULL, or what went
 * wrong. */
const char *virtio_begin(struct virtio *v, uint64_t want);
const char *virtio_queue(struct virtio *v, struct virtq *q, uint32_t number,
			 struct pool *pool);
void virtio_go(struct virtio *v);

uint32_t virtio_config(const struct virtio *v, unsigned at);

/* Make the chain that begins with this descriptor available; and let the
 * device see what was made so. */
void virtq_make(struct virtq *q, uint16_t head);
void virtq_show(struct virtq *q);

/* The next chain that the device is done with; false: there is none. */
bool virtq_done(struct virtq *q, uint16_t *head, uint32_t *bytes);

#endif
