/* SPDX-License-Identifier: MIT */
/*
 * Packets of one bulk device, put in order: a window of places behind what was
 * loaded last.  What a peer may send is what was granted, so a place is always
 * there; all else is refused.
 *
 * Threads: none of its own; the caller's lock is held in each call.
 */
#ifndef FERRY_DEV_BULK_QUEUE_H
#define FERRY_DEV_BULK_QUEUE_H

#include <stdbool.h>

#include "base/err.h"
#include "base/limits.h"
#include "wire/bulk.h"

struct ferry_bulk_place {
	enum { FERRY_PLACE_FREE, FERRY_PLACE_FILLING, FERRY_PLACE_FULL } is;
	uint16_t	 flags;
	uint32_t	 bytes;
	uint8_t		*data;		/* owned; NULL when bytes is 0 */
};

struct ferry_bulk_queue {
	const char	*name;		/* of the device, for messages */
	uint64_t	 next;		/* to be loaded */
	uint64_t	 limit;		/* granted: indices below it */
	uint64_t	 seen;		/* highest index seen, + 1 */
	uint64_t	 end;		/* that of LAST; UINT64_MAX: unknown */
	struct ferry_bulk_place place[FERRY_BULK_WINDOW];
};

void ferry_bulk_queue_init(struct ferry_bulk_queue *q, const char *name);
void ferry_bulk_queue_fini(struct ferry_bulk_queue *q);

/* Room for this packet's octets, to be filled without the lock; put() tells
 * that it is. */
FERRY_CHECKED int ferry_bulk_queue_room(struct ferry_bulk_queue *q,
					const struct ferry_bulk_packet *p,
					uint8_t **at, struct ferry_err *e);
void ferry_bulk_queue_put(struct ferry_bulk_queue *q,
			  const struct ferry_bulk_packet *p);

/* The next one is here: its data is the caller's. */
bool ferry_bulk_queue_take(struct ferry_bulk_queue *q,
			   struct ferry_bulk_place *out);

/* The limit that there is room for; true when it is worth telling. */
bool ferry_bulk_queue_grant(struct ferry_bulk_queue *q, uint64_t *limit);

#endif
