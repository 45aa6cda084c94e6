/* SPDX-License-Identifier: MIT */
/*
 * What the two layouts of an in-flight area have in common, for inflight*.c.
 */
#ifndef FERRY_VU_BE_INFLIGHT_QUEUE_H
#define FERRY_VU_BE_INFLIGHT_QUEUE_H

#include "vu/be/inflight.h"
#include "vu/be/ring.h"

#define FERRY_VB_INFLIGHT_VERSION	1

struct ferry_vb_inflight_ops {
	/* A queue's octets in the area, before they are rounded up. */
	uint64_t (*bytes)(unsigned queue_size);

	/* Its part of the area is at `at`; NULL: no memory. */
	struct ferry_vb_inflight_queue *(*make)(uint8_t *at, uint32_t size);
	void (*free)(struct ferry_vb_inflight_queue *q);

	/* As in inflight.h. */
	void (*start)(struct ferry_vb_inflight_queue *q,
		      struct ferry_vb_ring *r);
	int (*take)(struct ferry_vb_inflight_queue *q, struct ferry_vb_ring *r,
		    uint32_t id);
	bool (*untake)(struct ferry_vb_inflight_queue *q, uint32_t id);
	void (*put)(struct ferry_vb_inflight_queue *q, uint32_t id);
	void (*show)(struct ferry_vb_inflight_queue *q,
		     const struct ferry_vb_ring *r);
	void (*shown)(struct ferry_vb_inflight_queue *q,
		      const struct ferry_vb_ring *r);
	void (*end)(struct ferry_vb_inflight_queue *q);
};

/* The first member of a layout's own. */
struct ferry_vb_inflight_queue {
	const struct ferry_vb_inflight_ops *ops;
	uint32_t	size;
	uint32_t	again_at, agains;
	uint32_t	*again;		/* ids, in order */
};

extern const struct ferry_vb_inflight_ops ferry_vb_inflight_packed;

/* What was found in flight. */
struct ferry_vb_found {
	uint64_t	counter;
	uint32_t	at;		/* in the area */
};

void ferry_vb_found_sort(struct ferry_vb_found *found, uint32_t n);

#endif
