/* SPDX-License-Identifier: MIT */
/*
 * A virtqueue in guest memory, seen from the device: chains out, chains in.
 * Virtio 1.2, "Split Virtqueues" and "Packed Virtqueues".
 *
 * What the driver wrote is read once and then checked.  Nothing it writes can
 * make this loop, reach outside of its memory, or hand out more than it has:
 * such a ring is broken, with a sentence, and stays so until it starts again.
 *
 * The common half (slots, segments, chains of descriptors) is ring.c; what the
 * two layouts do differently is behind `ops` (split.c, packed.c).
 *
 * Threads: the queue's thread, or its owner while that is held.
 */
#ifndef FERRY_VU_BE_RING_H
#define FERRY_VU_BE_RING_H

#include <stdbool.h>
#include <sys/uio.h>

#include <ferry/vhost.h>

#include "vu/be/dirty.h"
#include "vu/be/memory.h"
#include "vu/be/touch.h"

#define FERRY_VIRTIO_F_INDIRECT_DESC	(1ull << 28)
#define FERRY_VIRTIO_F_EVENT_IDX	(1ull << 29)
#define FERRY_VIRTIO_F_VERSION_1	(1ull << 32)
#define FERRY_VIRTIO_F_RING_PACKED	(1ull << 34)

/*
 * A buffer that is out; slot numbers are the buffers' ids.  What is counted up
 * one by one and then read at once stands apart: a load over two fresh stores
 * has to wait for both to reach the cache.
 */
struct ferry_vb_slot {
	struct iovec	*segment;	/* outs, then ins */
	uint64_t	out_bytes;
	uint32_t	outs;
	uint32_t	segments_max;
	uint64_t	in_bytes;
	uint32_t	ins;
	uint16_t	chain;		/* packed: descriptors it takes */
	bool		busy;
};

/* Where a ring is: as the front-end said it. */
struct ferry_vb_ring_at {
	uint64_t	desc, avail, used;	/* in the front-end's memory */
	uint64_t	log;		/* gpa of used, or of desc if packed */
	bool		logged;
};

struct ferry_vb_inflight_queue;

struct ferry_vb_ring {
	const struct ferry_vb_ring_ops *ops;
	uint32_t		size;
	uint64_t		features;
	struct ferry_vb_ring_at	where;
	const struct ferry_vb_memory *memory;
	struct ferry_vb_dirty	*dirty;
	struct ferry_vb_touch	*touch;
	struct ferry_vb_inflight_queue *inflight;	/* NULL: not tracked */

	void			*desc, *avail, *used;	/* mapped */
	struct ferry_vb_slot	*slot;		/* `size` of them */
	uint32_t		out;		/* slots that are busy */
	bool			began;		/* where it stands is known */
	bool			kicks;		/* the driver is to kick us */
	_Atomic bool		leaves;		/* somebody else goes on */

	uint16_t		avail_at, used_at;	/* next to take, to put */
	uint32_t		unshown;	/* put since the last show() */
	uint16_t		notified;	/* used_at at the last notification */
	bool			notified_ok;	/* there was one */

	/* Split only. */
	uint16_t		known;		/* available, when last looked */

	/* Packed only. */
	bool			avail_wrap, used_wrap;
	void			*shown_first;	/* its flags show the rest */
	uint16_t		first_flags;
	uint16_t		unshown_descs;

	const char		*wrong;		/* not NULL: broken, and why */
};

struct ferry_vb_ring_ops {
	const char *name;

	/* Map the parts, all of each in one region; 0, or -1 with *e. */
	int (*map)(struct ferry_vb_ring *r, struct ferry_err *e);

	/* Wait for all of its pages.  False: broken. */
	bool (*touch)(struct ferry_vb_ring *r);

	/* Read where the driver and we are, once mapped (a guest memory read).
	 * base: of SET_VRING_BASE. */
	void (*start)(struct ferry_vb_ring *r, uint32_t base);

	/* Where GET_VRING_BASE says that we are: its num. */
	uint32_t (*base)(const struct ferry_vb_ring *r);

	/* A chain may be there.  Takes nothing. */
	bool (*more)(struct ferry_vb_ring *r);

	/* Fill slot *id with the next chain and step on.  1, 0: none, -1:
	 * r->wrong is set. */
	int (*take)(struct ferry_vb_ring *r, uint32_t *id);

	/* Fill slot id with that chain again: it was in flight when another
	 * process had this ring.  0, or -1: r->wrong is set. */
	int (*retake)(struct ferry_vb_ring *r, uint32_t id);

	/* Undo the last take(). */
	void (*untake)(struct ferry_vb_ring *r, uint32_t id);

	/* Put slot id among the used; the driver does not see it before
	 * show(). */
	void (*put)(struct ferry_vb_ring *r, uint32_t id, uint32_t bytes);

	/* Show what was put. */
	void (*show)(struct ferry_vb_ring *r);

	/* After show(): does the driver want to be notified of it? */
	bool (*wants_call)(struct ferry_vb_ring *r);

	/* Ask the driver (not) to kick when it makes more available. */
	void (*want_kicks)(struct ferry_vb_ring *r, bool want);
};

extern const struct ferry_vb_ring_ops ferry_vb_split_ops;
extern const struct ferry_vb_ring_ops ferry_vb_packed_ops;

/*
 * size: 1 to ..QUEUE_SIZE_MAX, a power of two if split.  The pointers of *r
 * (memory, dirty, touch, inflight), features and where are set before.
 */
FERRY_CHECKED int ferry_vb_ring_init(struct ferry_vb_ring *r, uint32_t size,
				     struct ferry_err *e);
void ferry_vb_ring_fini(struct ferry_vb_ring *r);

/* Map and begin; waits for its pages in postcopy.  0, or -1 with *e. */
FERRY_CHECKED int ferry_vb_ring_start(struct ferry_vb_ring *r, uint32_t base,
				      struct ferry_err *e);

/* What another process had begun is to be done before this one says where the
 * queue stands: who goes on there does not know of it. */
bool ferry_vb_ring_owes(const struct ferry_vb_ring *r);

/* With r->out 0: for GET_VRING_BASE. */
uint32_t ferry_vb_ring_base(const struct ferry_vb_ring *r);

/* The memory has moved, or the log's flag: map again where it is. */
FERRY_CHECKED int ferry_vb_ring_remap(struct ferry_vb_ring *r,
				      struct ferry_err *e);

/* As ferry_vhost_queue_pop(), _push(), _unpop(); flush says whether to
 * notify. */
int ferry_vb_ring_pop(struct ferry_vb_ring *r, struct ferry_vhost_buffer *b);
void ferry_vb_ring_push(struct ferry_vb_ring *r,
			const struct ferry_vhost_buffer *b, uint32_t bytes);
void ferry_vb_ring_unpop(struct ferry_vb_ring *r,
			 const struct ferry_vhost_buffer *b);
bool ferry_vb_ring_flush(struct ferry_vb_ring *r);

/* ---- for split.c and packed.c, with slot.h ------------------------------- */

/* A descriptor, read. */
struct ferry_vb_desc {
	uint64_t	gpa;
	uint32_t	bytes;
	uint16_t	flags;
	uint16_t	next;		/* packed: id */
};

enum {
	FERRY_VB_DESC_NEXT	= 1,
	FERRY_VB_DESC_WRITE	= 2,
	FERRY_VB_DESC_INDIRECT	= 4,
};

/* The chain is broken: returns -1. */
int ferry_vb_ring_wrong(struct ferry_vb_ring *r, const char *why);

/* Where a part of the ring is, all of it in one region, aligned; or -1. */
FERRY_CHECKED int ferry_vb_ring_part(const struct ferry_vb_ring *r,
				     const char *name, uint64_t at,
				     uint64_t bytes, uint64_t align,
				     void **part, struct ferry_err *e);

/* A table of d->bytes in guest memory, whole, and how many entries it has;
 * NULL: wrong.  The table may not lie across two regions. */
const void *ferry_vb_ring_indirect(struct ferry_vb_ring *r,
				   const struct ferry_vb_desc *d,
				   uint32_t *entries);

/* `bytes` octets of the ring, of its used part if `logged`, were written at
 * this offset of what where.log names. */
void ferry_vb_ring_log(struct ferry_vb_ring *r, uint64_t offset,
		       uint64_t bytes);

/* ---- packed.c, for inflight_packed.c ------------------------------------- */

/* The driver has made the descriptor at `at` available in that turn, and was
 * not shown that it was used. */
bool ferry_vb_packed_is_available(struct ferry_vb_ring *r, uint16_t at,
				  bool wrap);

/* One of those that were taken last; 1: the very last. */
struct ferry_vb_desc ferry_vb_packed_taken(struct ferry_vb_ring *r,
					   uint32_t back);

/* So many descriptors behind used_at were taken by the process before. */
void ferry_vb_packed_go_on(struct ferry_vb_ring *r, uint32_t taken);

/* The driver's event index asks for a notification between two counts. */
static inline bool ferry_vb_event_between(uint16_t event, uint16_t now,
					  uint16_t before)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

#endif
