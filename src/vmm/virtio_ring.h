/* SPDX-License-Identifier: MIT */
/*
 * A queue that the monitor serves itself: commands, one at a time.  What the
 * driver says is a few octets, the answer is one.  Split and packed rings, with
 * indirect tables.
 *
 * The driver may be hostile and may write while this reads: what is decided on
 * is copied once, a chain has an end, and each address is looked up in RAM.  A
 * ring that makes no sense is an error, behind which it is left alone until the
 * driver resets its device.
 *
 * Where the queue stands is its `base`, in the form of vhost-user's
 * GET_VRING_BASE; commands are answered in their order.
 *
 * Threads: any vCPU's, one at a time.  Waits for pages in postcopy.
 */
#ifndef FERRY_VMM_VIRTIO_RING_H
#define FERRY_VMM_VIRTIO_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "vmm/ram.h"
#include "vmm/virtio_mmio.h"

#define FERRY_VIRTIO_SAID_MAX	8u

struct ferry_virtio_ring {
	const struct ferry_ram		*ram;
	uint64_t			 accepted;	/* features */
	struct ferry_virtio_queue	*q;		/* ready */
};

struct ferry_virtio_command {
	uint8_t		 said[FERRY_VIRTIO_SAID_MAX];	/* its beginning, */
	uint64_t	 said_bytes;			/* of so much */
	uint64_t	 answer_at;	/* guest physical */
	uint64_t	 answer_bytes;	/* room for it; 0: none is wanted */

	/* the ring's: */
	uint16_t	 id;
	uint16_t	 slots;		/* packed: that it takes up */
	unsigned	 pieces;
	bool		 answers;	/* a piece for the answer has come */
};

/* 1: *c is the next one; 0: there is none; -1 with *e: the ring is broken. */
FERRY_CHECKED int ferry_virtio_ring_next(const struct ferry_virtio_ring *r,
					 struct ferry_virtio_command *c,
					 struct ferry_err *e);

/* That one is done. */
FERRY_CHECKED int ferry_virtio_ring_answer(const struct ferry_virtio_ring *r,
					   const struct ferry_virtio_command *c,
					   uint8_t answer, struct ferry_err *e);

/* Is the driver to be interrupted?  When in doubt, yes. */
bool ferry_virtio_ring_calls(const struct ferry_virtio_ring *r);

#endif
