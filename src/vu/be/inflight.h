/* SPDX-License-Identifier: MIT */
/*
 * Which buffers a backend has out, in memory that survives it.
 *
 * The front-end keeps the area (GET_INFLIGHT_FD, SET_INFLIGHT_FD) and gives it
 * to the next process when this one dies.  That one serves again what was out,
 * in the old order, and repeats nothing that the driver has seen as used.  The
 * layout is the specification's, so that the next process may be another
 * backend, too.
 *
 * Order:   each step is one store that a SIGKILL may come before or after;
 *          inflight.c says at each what the next process makes of it.
 * Threads: area: the control thread, queues held; queue: the queue's thread.
 */
#ifndef FERRY_VU_BE_INFLIGHT_H
#define FERRY_VU_BE_INFLIGHT_H

#include "vu/msg/msg.h"

struct ferry_vb_ring;
struct ferry_vb_desc;
struct ferry_vb_inflight_queue;

/* The area of all queues. */
struct ferry_vb_inflight {
	uint8_t		*map;		/* NULL: none */
	uint64_t	map_bytes;
	uint8_t		*at;
	uint16_t	queues, queue_size;
	bool		packed;
};

/* How large an area for so many queues is. */
uint64_t ferry_vb_inflight_bytes(unsigned queues, unsigned queue_size,
				 bool packed);

/* A new area, empty, in a memfd that the caller closes; fills *f.  -1: *e. */
FERRY_CHECKED int ferry_vb_inflight_make(struct ferry_vu_inflight *f,
					 bool packed, struct ferry_err *e);

/* Use the area that the front-end handed over; fd stays the caller's. */
FERRY_CHECKED int ferry_vb_inflight_open(struct ferry_vb_inflight *in,
					 const struct ferry_vu_inflight *f,
					 int fd, bool packed,
					 struct ferry_err *e);
void ferry_vb_inflight_close(struct ferry_vb_inflight *in);

/* A queue's part for a ring of `size`; NULL: no area, or not for this one.
 * Freed by _queue_free(). */
struct ferry_vb_inflight_queue *
ferry_vb_inflight_queue_new(struct ferry_vb_inflight *in, unsigned index,
			    uint32_t size, bool packed);
void ferry_vb_inflight_queue_free(struct ferry_vb_inflight_queue *q);

/* The ring is mapped and has begun: find what was out, and set where the ring
 * stands behind it.  What makes no sense breaks the ring. */
void ferry_vb_inflight_start(struct ferry_vb_inflight_queue *q,
			     struct ferry_vb_ring *r);

/* The next one that was out before the start, once each. */
bool ferry_vb_inflight_again(struct ferry_vb_inflight_queue *q, uint32_t *id);
/* How many there were; how many of them have not come yet. */
uint32_t ferry_vb_inflight_found(const struct ferry_vb_inflight_queue *q);
uint32_t ferry_vb_inflight_left(const struct ferry_vb_inflight_queue *q);
/* Of a packed ring: the descriptors of one of them, as they were; the ring's
 * may have been written over since.  *n: how many. */
const struct ferry_vb_desc *
ferry_vb_inflight_descs(const struct ferry_vb_inflight_queue *q, uint32_t id,
			uint32_t *n);

/* The ring has taken it and stepped on.  -1: the ring is broken. */
FERRY_CHECKED int ferry_vb_inflight_take(struct ferry_vb_inflight_queue *q,
					 struct ferry_vb_ring *r, uint32_t id);
/* The last one.  True: it was one of ..._again(), and comes so again; the ring
 * has not stepped on for it. */
bool ferry_vb_inflight_untake(struct ferry_vb_inflight_queue *q, uint32_t id);
/* It is among the used; the driver is about to be shown all that are; it was
 * shown them. */
void ferry_vb_inflight_put(struct ferry_vb_inflight_queue *q, uint32_t id);
void ferry_vb_inflight_show(struct ferry_vb_inflight_queue *q,
			    const struct ferry_vb_ring *r);
void ferry_vb_inflight_shown(struct ferry_vb_inflight_queue *q,
			     const struct ferry_vb_ring *r);

/* The ring was stopped, and the front-end hears where it stands: that is what
 * counts from here on, unless something is still in flight. */
void ferry_vb_inflight_end(struct ferry_vb_inflight_queue *q);

#endif
