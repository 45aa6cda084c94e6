/* SPDX-License-Identifier: MIT */
/*
 * Filling a slot with what a chain of descriptors points to: what is done for
 * each of millions of buffers a second, and therefore stands where it can be
 * compiled into its callers, split.c and packed.c.
 *
 * Threads: the queue's.
 */
#ifndef FERRY_VU_BE_SLOT_H
#define FERRY_VU_BE_SLOT_H

#include "vu/be/ring.h"

/* Room for more segments, up to ..SEGMENTS_MAX; -1: the chain is broken. */
FERRY_CHECKED int ferry_vb_slot_grow(struct ferry_vb_ring *r,
				     struct ferry_vb_slot *s);

/* Empty slot id.  -1: the driver made it available twice. */
FERRY_CHECKED static inline int ferry_vb_slot_open(struct ferry_vb_ring *r,
						   uint32_t id)
{
	struct ferry_vb_slot *s;

	if (id >= r->size)
		return ferry_vb_ring_wrong(r, "a buffer's number is not in the"
					   " ring");
	s = &r->slot[id];
	if (s->busy)
		return ferry_vb_ring_wrong(r, "a buffer was made available"
					   " twice");
	s->outs = s->ins = 0;
	s->out_bytes = s->in_bytes = 0;
	return 0;
}

static inline int ferry_vb_slot_add_run(struct ferry_vb_ring *r,
					struct ferry_vb_slot *s, uint8_t *at,
					uint64_t bytes)
{
	if (s->outs + s->ins == s->segments_max && ferry_vb_slot_grow(r, s))
		return -1;
	s->segment[s->outs + s->ins] = (struct iovec){ at, bytes };
	return 0;
}

/* Append what d points to.  -1: wrong. */
FERRY_CHECKED static inline int
ferry_vb_slot_add(struct ferry_vb_ring *r, uint32_t id,
		  const struct ferry_vb_desc *d)
{
	struct ferry_vb_slot *s = &r->slot[id];
	uint64_t gpa = d->gpa, left = d->bytes;

	if (!(d->flags & FERRY_VB_DESC_WRITE) && s->ins)
		return ferry_vb_ring_wrong(r, "a buffer has a part to read"
					   " behind one to write");
	while (left) {
		uint8_t *at;
		uint64_t n = ferry_vb_memory_guest(r->memory, gpa, left, &at);

		if (!n)
			return ferry_vb_ring_wrong(r, "a buffer lies outside of"
						   " the guest's memory");
		if (ferry_vb_slot_add_run(r, s, at, n))
			return -1;
		if (d->flags & FERRY_VB_DESC_WRITE) {
			s->ins++;
			s->in_bytes += n;
		} else {
			s->outs++;
			s->out_bytes += n;
		}
		gpa += n;
		left -= n;
	}
	return 0;
}

#endif
