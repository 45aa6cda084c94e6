/* SPDX-License-Identifier: MIT */
/*
 * Packed rings (virtio 1.2, 2.8), in the terms of the split ones: the table of
 * descriptors is the user's own, and a chain of it is copied into the ring when
 * it is made available.
 */
#include "packed.h"

#include <stddef.h>

#define AVAIL		(1u << 7)
#define USED		(1u << 15)
#define NO_EVENTS	1u

/* What the driver writes in its turn. */
static uint16_t turn(bool lap)
{
	return lap ? AVAIL : USED;
}

void packed_init(struct virtq *q, void *ring)
{
	struct packed *p = &q->packed;

	*p = (struct packed){ .ring = ring, .lap = true, .seen_lap = true };
	q->avail->flags = 0;
	((struct packed_events *)q->avail)->flags = NO_EVENTS;
}

void packed_make(struct virtq *q, uint16_t head)
{
	struct packed *p = &q->packed;
	volatile struct packed_desc *first = &p->ring[p->at];
	uint16_t first_flags = 0, n = 0, at = head, flags;

	do {
		volatile struct packed_desc *d = &p->ring[p->at];

		flags = q->desc[at].flags;
		d->address = q->desc[at].address;
		d->bytes = q->desc[at].bytes;
		d->id = head;
		if (n++)
			d->flags = (uint16_t)(flags | turn(p->lap));
		else
			first_flags = (uint16_t)(flags | turn(p->lap));
		if (++p->at == q->size) {
			p->at = 0;
			p->lap = !p->lap;
		}
		at = q->desc[at].next;
	} while (flags & VIRTQ_NEXT);
	p->length[head] = n;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	first->flags = first_flags;
	q->made++;
}

bool packed_wants_kick(const struct virtq *q)
{
	return ((const struct packed_events *)q->used)->flags != NO_EVENTS;
}

bool packed_done(struct virtq *q, uint16_t *head, uint32_t *bytes)
{
	struct packed *p = &q->packed;
	const volatile struct packed_desc *d = &p->ring[p->seen];
	uint16_t flags = d->flags;

	if (!(flags & AVAIL) != !p->seen_lap || !(flags & USED) != !p->seen_lap)
		return false;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	*head = d->id;
	*bytes = d->bytes;
	p->seen = (uint16_t)(p->seen + p->length[*head % VIRTQ_SIZE]);
	if (p->seen >= q->size) {
		p->seen = (uint16_t)(p->seen - q->size);
		p->seen_lap = !p->seen_lap;
	}
	return true;
}
