/* SPDX-License-Identifier: MIT */
/*
 * Both kinds of ring, behind a table each.  See virtio_ring.h.
 *
 * Memory is read and written by the kernel (ferry_ram_get, _put): a page that
 * will never come is an error then.  But for the words by which both sides hand
 * over: those must not be torn, so they are read and written at once, where the
 * page is known to be there.
 */
#include "vmm/virtio_ring.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#define PIECES_MAX	64u	/* of a command */

#define DESC_NEXT	1u
#define DESC_WRITE	2u	/* the answer's */
#define DESC_INDIRECT	4u
#define DESC_BYTES	16u

#define NO_INTERRUPT	1u	/* split: the driver's flags; packed: its */
				/* event flags */
#define PACKED_AVAIL	(1u << 7)
#define PACKED_USED	(1u << 15)
#define PACKED_FLAGS_AT	14u

struct split_desc {
	uint64_t	gpa;
	uint32_t	bytes;
	uint16_t	flags;
	uint16_t	next;
};

struct packed_desc {
	uint64_t	gpa;
	uint32_t	bytes;
	uint16_t	id;
	uint16_t	flags;
};

_Static_assert(sizeof(struct split_desc) == DESC_BYTES, "virtio 1.2, 2.7.5");
_Static_assert(sizeof(struct packed_desc) == DESC_BYTES, "virtio 1.2, 2.8.13");

static int wrong(struct ferry_err *e, const char *what)
{
	return ferry_err_set(e, FERRY_E_DEVICE, 0, "the guest's ring makes no "
			     "sense: %s", what);
}

/* ---- words -------------------------------------------------------------- */

/* Its page is there from here on; NULL: it cannot be. */
static _Atomic uint16_t *word_at(const struct ferry_virtio_ring *r,
				 uint64_t gpa, struct ferry_err *e)
{
	uint16_t now;

	if (gpa % sizeof(now)) {
		(void)wrong(e, "an odd address");
		return NULL;
	}
	return ferry_ram_get(r->ram, gpa, &now, sizeof(now), e) ? NULL :
	       ferry_ram_at(r->ram, gpa, sizeof(now));
}

static int load(const struct ferry_virtio_ring *r, uint64_t gpa, uint16_t *v,
		struct ferry_err *e)
{
	_Atomic uint16_t *word = word_at(r, gpa, e);

	if (!word)
		return -1;
	*v = atomic_load_explicit(word, memory_order_acquire);
	return 0;
}

static int store(const struct ferry_virtio_ring *r, uint64_t gpa, uint16_t v,
		 struct ferry_err *e)
{
	_Atomic uint16_t *word = word_at(r, gpa, e);

	if (!word)
		return -1;
	atomic_store_explicit(word, v, memory_order_release);
	ferry_ram_wrote(r->ram, word, sizeof(*word));
	return 0;
}

/* ---- commands ----------------------------------------------------------- */

/* Of what is said, the beginning is kept. */
static int take(const struct ferry_virtio_ring *r,
		struct ferry_virtio_command *c, uint64_t gpa, uint32_t bytes,
		bool answer, struct ferry_err *e)
{
	uint64_t room = c->said_bytes < FERRY_VIRTIO_SAID_MAX ?
			FERRY_VIRTIO_SAID_MAX - c->said_bytes : 0;
	uint64_t n = bytes < room ? bytes : room;

	if (++c->pieces > PIECES_MAX)
		return wrong(e, "a chain of more than 64 pieces");
	if (!answer && c->answers)
		return wrong(e, "what the driver says comes behind room for "
			     "the answer");
	if (!ferry_ram_at(r->ram, gpa, bytes))
		return wrong(e, "a buffer lies outside of memory");
	if (answer) {
		if (!c->answer_bytes)
			c->answer_at = gpa;
		c->answer_bytes += bytes;
		c->answers = true;
		return 0;
	}
	if (n && ferry_ram_get(r->ram, gpa, c->said + c->said_bytes, n, e))
		return -1;
	c->said_bytes += bytes;
	return 0;
}

/* How many descriptors the table has that one points to; 0 with *e. */
static uint32_t indirect_entries(uint32_t bytes, uint16_t flags, bool inside,
				 struct ferry_err *e)
{
	if (!inside && !(flags & DESC_NEXT) && bytes &&
	    bytes % DESC_BYTES == 0)
		return bytes / DESC_BYTES;
	(void)wrong(e, inside ? "a table in a table" : "a table that is none");
	return 0;
}

/* ---- split -------------------------------------------------------------- */

static int split_walk(const struct ferry_virtio_ring *r, uint32_t at,
		      struct ferry_virtio_command *c, struct ferry_err *e)
{
	uint32_t entries = r->q->size;
	uint64_t table = r->q->desc;
	struct split_desc d;
	bool inside = false;

	for (;;) {
		if (at >= entries)
			return wrong(e, "a descriptor that is not in its "
				     "table");
		if (ferry_ram_get(r->ram, table + (uint64_t)at * DESC_BYTES,
				  &d, sizeof(d), e))
			return -1;
		if (d.flags & DESC_INDIRECT) {
			entries = indirect_entries(d.bytes, d.flags, inside,
						   e);
			if (!entries)
				return -1;
			table = d.gpa;
			inside = true;
			at = 0;
			continue;
		}
		if (take(r, c, d.gpa, d.bytes, d.flags & DESC_WRITE, e))
			return -1;
		if (!(d.flags & DESC_NEXT))
			return 0;
		at = d.next;
	}
}

static int split_next(const struct ferry_virtio_ring *r,
		      struct ferry_virtio_command *c, struct ferry_err *e)
{
	const uint16_t at = (uint16_t)r->q->base;
	uint16_t shown;

	if (load(r, r->q->driver + 2, &shown, e))
		return -1;
	if (shown == at)
		return 0;
	if ((uint16_t)(shown - at) > r->q->size)
		return wrong(e, "more buffers are available than it has");
	if (ferry_ram_get(r->ram, r->q->driver + 4 + 2ull * (at % r->q->size),
			  &c->id, sizeof(c->id), e) ||
	    split_walk(r, c->id, c, e))
		return -1;
	return 1;
}

/* Where a kick is asked for, it is asked for the next one. */
static int split_used(const struct ferry_virtio_ring *r,
		      const struct ferry_virtio_command *c, uint32_t bytes,
		      struct ferry_err *e)
{
	const uint16_t at = (uint16_t)r->q->base, next = (uint16_t)(at + 1);
	const uint32_t one[2] = { c->id, bytes };
	const uint64_t ring = r->q->device + 4;

	if (ferry_ram_put(r->ram, ring + 8ull * (at % r->q->size), one,
			  sizeof(one), e) ||
	    store(r, r->q->device + 2, next, e) ||
	    (r->accepted & FERRY_VIRTIO_F_EVENT_IDX &&
	     store(r, ring + 8ull * r->q->size, next, e)))
		return -1;
	r->q->base = next;
	return 0;
}

/* With event indexes the flags say nothing. */
static bool split_calls(const struct ferry_virtio_ring *r)
{
	uint16_t flags;

	return r->accepted & FERRY_VIRTIO_F_EVENT_IDX ||
	       load(r, r->q->driver, &flags, NULL) || !(flags & NO_INTERRUPT);
}

/* ---- packed ------------------------------------------------------------- */

/* Of `base`: the place, and in bit 15 the lap's colour; twice. */
static uint16_t place_of(const struct ferry_virtio_queue *q)
{
	return q->base & 0x7fff;
}

static bool lap_of(const struct ferry_virtio_queue *q)
{
	return q->base & PACKED_USED;
}

static int packed_table(const struct ferry_virtio_ring *r,
			const struct packed_desc *at,
			struct ferry_virtio_command *c, struct ferry_err *e)
{
	const uint32_t n = indirect_entries(at->bytes, at->flags, false, e);
	struct packed_desc d;

	if (!n)
		return -1;
	for (uint32_t i = 0; i < n; i++) {
		if (ferry_ram_get(r->ram, at->gpa + (uint64_t)i * DESC_BYTES,
				  &d, sizeof(d), e))
			return -1;
		if (d.flags & DESC_INDIRECT)
			return wrong(e, "a table in a table");
		if (take(r, c, d.gpa, d.bytes, d.flags & DESC_WRITE, e))
			return -1;
	}
	return 0;
}

static int packed_walk(const struct ferry_virtio_ring *r, uint32_t at,
		       struct ferry_virtio_command *c, struct ferry_err *e)
{
	struct packed_desc d;

	do {
		if (c->slots++ == r->q->size)
			return wrong(e, "a chain that does not end");
		if (ferry_ram_get(r->ram, r->q->desc +
				  (uint64_t)at * DESC_BYTES, &d, sizeof(d),
				  e))
			return -1;
		if (d.flags & DESC_INDIRECT ? packed_table(r, &d, c, e) :
		    take(r, c, d.gpa, d.bytes, d.flags & DESC_WRITE, e))
			return -1;
		at = at + 1 == r->q->size ? 0 : at + 1;
	} while (d.flags & DESC_NEXT);
	c->id = d.id;
	return 0;
}

static int packed_next(const struct ferry_virtio_ring *r,
		       struct ferry_virtio_command *c, struct ferry_err *e)
{
	const uint16_t at = place_of(r->q);
	bool avail, used;
	uint16_t flags;

	if (at >= r->q->size)
		return wrong(e, "it stands behind its end");
	if (load(r, r->q->desc + (uint64_t)at * DESC_BYTES + PACKED_FLAGS_AT,
		 &flags, e))
		return -1;
	avail = flags & PACKED_AVAIL;
	used = flags & PACKED_USED;
	if (avail != lap_of(r->q) || used == lap_of(r->q))
		return 0;
	return packed_walk(r, at, c, e) ? -1 : 1;
}

static int packed_used(const struct ferry_virtio_ring *r,
		       const struct ferry_virtio_command *c, uint32_t bytes,
		       struct ferry_err *e)
{
	struct ferry_virtio_queue *q = r->q;
	const uint64_t desc = q->desc + (uint64_t)place_of(q) * DESC_BYTES;
	const unsigned next = place_of(q) + c->slots;
	const bool laps = next >= q->size;
	struct {
		uint32_t	bytes;
		uint16_t	id;
	} __attribute__((packed)) done = { bytes, c->id };
	uint32_t place;

	if (ferry_ram_put(r->ram, desc + 8, &done, sizeof(done), e) ||
	    store(r, desc + PACKED_FLAGS_AT,
		  (uint16_t)((lap_of(q) ? PACKED_AVAIL | PACKED_USED : 0) |
			     (bytes ? DESC_WRITE : 0)), e))
		return -1;
	place = (laps ? next - q->size : next) |
		(lap_of(q) != laps ? PACKED_USED : 0);
	q->base = place | place << 16;
	return 0;
}

static bool packed_calls(const struct ferry_virtio_ring *r)
{
	uint16_t flags;

	return load(r, r->q->driver + 2, &flags, NULL) ||
	       flags != NO_INTERRUPT;
}

/* ---- either ------------------------------------------------------------- */

static const struct kind {
	int	(*next)(const struct ferry_virtio_ring *r,
			struct ferry_virtio_command *c, struct ferry_err *e);
	int	(*used)(const struct ferry_virtio_ring *r,
			const struct ferry_virtio_command *c, uint32_t bytes,
			struct ferry_err *e);
	bool	(*calls)(const struct ferry_virtio_ring *r);
} split = { split_next, split_used, split_calls },
  packed = { packed_next, packed_used, packed_calls };

static const struct kind *kind_of(const struct ferry_virtio_ring *r)
{
	return r->accepted & FERRY_VIRTIO_F_RING_PACKED ? &packed : &split;
}

int ferry_virtio_ring_next(const struct ferry_virtio_ring *r,
			   struct ferry_virtio_command *c, struct ferry_err *e)
{
	*c = (struct ferry_virtio_command){ 0 };
	/* What was asked for before is seen by who makes one available now. */
	atomic_thread_fence(memory_order_seq_cst);
	return kind_of(r)->next(r, c, e);
}

int ferry_virtio_ring_answer(const struct ferry_virtio_ring *r,
			     const struct ferry_virtio_command *c,
			     uint8_t answer, struct ferry_err *e)
{
	const uint32_t bytes = c->answer_bytes ? sizeof(answer) : 0;

	if (bytes && ferry_ram_put(r->ram, c->answer_at, &answer, bytes, e))
		return -1;
	return kind_of(r)->used(r, c, bytes, e);
}

bool ferry_virtio_ring_calls(const struct ferry_virtio_ring *r)
{
	atomic_thread_fence(memory_order_seq_cst);
	return kind_of(r)->calls(r);
}
