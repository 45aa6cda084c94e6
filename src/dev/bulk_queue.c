/* SPDX-License-Identifier: MIT */
/*
 * A ring of places.  Index i lies in place i % window; as only window indices
 * from `next` on are granted, no two meet there.
 */
#include "dev/bulk_queue.h"

#include <inttypes.h>
#include <stdlib.h>

/* So many are worth a message. */
#define WORTH	(FERRY_BULK_WINDOW / 4)

void ferry_bulk_queue_init(struct ferry_bulk_queue *q, const char *name)
{
	*q = (struct ferry_bulk_queue){ .name = name, .end = UINT64_MAX };
}

void ferry_bulk_queue_fini(struct ferry_bulk_queue *q)
{
	for (unsigned i = 0; i < FERRY_BULK_WINDOW; i++)
		free(q->place[i].data);
	ferry_bulk_queue_init(q, q->name);
}

static struct ferry_bulk_place *place_of(struct ferry_bulk_queue *q,
					 uint64_t index)
{
	return &q->place[index % FERRY_BULK_WINDOW];
}

static int refuse(const struct ferry_bulk_queue *q,
		  const struct ferry_bulk_packet *p, const char *why,
		  struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_PROTO, 0, "bulk device %s: packet %"
			     PRIu64 " %s", q->name, p->index, why);
}

static int check(struct ferry_bulk_queue *q, const struct ferry_bulk_packet *p,
		 struct ferry_err *e)
{
	bool last = p->flags & FERRY_BULK_PACKET_LAST;

	if (p->index >= q->limit)
		return refuse(q, p, "is more than was granted", e);
	if (last && q->end != UINT64_MAX)
		return refuse(q, p, "is a second last one", e);
	if (p->index >= q->end)
		return refuse(q, p, "comes behind the last one", e);
	if (p->index < q->next ||
	    place_of(q, p->index)->is != FERRY_PLACE_FREE)
		return refuse(q, p, "came twice", e);
	if (last && p->index + 1 < q->seen)
		return refuse(q, p, "is the last one, and a later one has "
			      "come", e);
	return 0;
}

int ferry_bulk_queue_room(struct ferry_bulk_queue *q,
			  const struct ferry_bulk_packet *p, uint8_t **at,
			  struct ferry_err *e)
{
	struct ferry_bulk_place *place = place_of(q, p->index);
	uint8_t *data = NULL;

	if (check(q, p, e))
		return -1;
	if (p->bytes && !(data = malloc(p->bytes)))
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "bulk device "
				     "%s: %" PRIu32 " octets", q->name,
				     p->bytes);
	*place = (struct ferry_bulk_place){
		.is = FERRY_PLACE_FILLING, .flags = p->flags,
		.bytes = p->bytes, .data = data,
	};
	if (p->flags & FERRY_BULK_PACKET_LAST)
		q->end = p->index;
	if (q->seen <= p->index)
		q->seen = p->index + 1;
	*at = data;
	return 0;
}

void ferry_bulk_queue_put(struct ferry_bulk_queue *q,
			  const struct ferry_bulk_packet *p)
{
	place_of(q, p->index)->is = FERRY_PLACE_FULL;
}

bool ferry_bulk_queue_take(struct ferry_bulk_queue *q,
			   struct ferry_bulk_place *out)
{
	struct ferry_bulk_place *place = place_of(q, q->next);

	if (place->is != FERRY_PLACE_FULL)
		return false;
	*out = *place;
	*place = (struct ferry_bulk_place){ .is = FERRY_PLACE_FREE };
	q->next++;
	return true;
}

bool ferry_bulk_queue_grant(struct ferry_bulk_queue *q, uint64_t *limit)
{
	uint64_t room = q->next + FERRY_BULK_WINDOW;

	if (room - q->limit < WORTH || q->end != UINT64_MAX)
		return false;
	q->limit = *limit = room;
	return true;
}
