/* SPDX-License-Identifier: MIT */
/*
 * Packed rings: one table of descriptors that both sides go around in, each
 * with a bit that turns over when it passes the end (the wrap counter).  A
 * buffer is one or more descriptors in a row; its number stands in the last.
 *
 * What was used is shown by the flags of the first descriptor that was put
 * since the last time, stored after all the others.
 */
#include "vu/be/slot.h"

#include <stdatomic.h>
#include <stddef.h>

#include "vu/be/inflight.h"

struct desc {
	uint64_t		gpa;
	uint32_t		bytes;
	uint16_t		id;
	_Atomic uint16_t	flags;
};

/* Where a side says when it wants to hear of the other. */
struct event {
	uint16_t	at;		/* bit 15: wrap counter */
	_Atomic uint16_t flags;
};

#define AVAIL		(1u << 7)
#define USED		(1u << 15)
#define WRAP		(1u << 15)	/* of event.at, and of a base */

enum { EVENT_ALWAYS, EVENT_NEVER, EVENT_AT };

static int packed_map(struct ferry_vb_ring *r, struct ferry_err *e)
{
	const struct ferry_vb_ring_at *at = &r->where;

	if (ferry_vb_ring_part(r, "descriptors", at->desc,
			       sizeof(struct desc) * r->size, 16, &r->desc,
			       e) ||
	    ferry_vb_ring_part(r, "driver event area", at->avail,
			       sizeof(struct event), 4, &r->avail, e) ||
	    ferry_vb_ring_part(r, "device event area", at->used,
			       sizeof(struct event), 4, &r->used, e))
		return -1;
	return 0;
}

static bool packed_touch(struct ferry_vb_ring *r)
{
	return ferry_vb_touch(r->touch, r->desc,
			      sizeof(struct desc) * r->size) &&
	       ferry_vb_touch(r->touch, r->avail, sizeof(struct event)) &&
	       ferry_vb_touch(r->touch, r->used, sizeof(struct event));
}

/* A queue that stands still owes nothing, so both places are one; DPDK's
 * front-end leaves out the other (bits 16 to 31).  What a dead process owed is
 * in the region of requests in flight, which comes after this. */
static void packed_start(struct ferry_vb_ring *r, uint32_t base)
{
	r->used_at = r->avail_at = base & 0x7fff;
	r->used_wrap = r->avail_wrap = base & WRAP;
	r->shown_first = NULL;
	r->unshown_descs = 0;
	if (r->avail_at >= r->size)
		ferry_vb_ring_wrong(r, "it is to begin behind its end");
}

static uint32_t packed_base(const struct ferry_vb_ring *r)
{
	uint32_t avail = r->avail_at | (r->avail_wrap ? WRAP : 0);
	uint32_t used = r->used_at | (r->used_wrap ? WRAP : 0);

	return avail | used << 16;
}

static struct desc *desc_at(struct ferry_vb_ring *r, uint32_t at)
{
	return (struct desc *)r->desc + at;
}

static bool packed_more(struct ferry_vb_ring *r)
{
	uint16_t flags = atomic_load_explicit(&desc_at(r, r->avail_at)->flags,
					      memory_order_acquire);

	return !!(flags & AVAIL) == r->avail_wrap &&
	       !!(flags & USED) != r->avail_wrap;
}

static struct ferry_vb_desc read_desc(const volatile struct desc *d)
{
	return (struct ferry_vb_desc){
		.gpa = d->gpa, .bytes = d->bytes, .flags = d->flags,
		.next = d->id,
	};
}

/* left: how many descriptors the buffer may still have, all of its tables
 * together: those of no octets are no segments, so nothing else bounds them. */
static int add_indirect(struct ferry_vb_ring *r, uint32_t id,
			const struct ferry_vb_desc *d, uint32_t *left)
{
	uint32_t entries;
	const struct desc *table = ferry_vb_ring_indirect(r, d, &entries);

	if (!table)
		return -1;
	if (entries > *left)
		return ferry_vb_ring_wrong(r, "a buffer's indirect tables have"
					   " more than 32768 descriptors");
	*left -= entries;
	for (uint32_t i = 0; i < entries; i++) {
		struct ferry_vb_desc one = read_desc(&table[i]);

		if (one.flags & FERRY_VB_DESC_INDIRECT)
			return ferry_vb_ring_wrong(r, "an indirect table inside"
						   " of another");
		if (ferry_vb_slot_add(r, id, &one))
			return -1;
	}
	return 0;
}

static int add(struct ferry_vb_ring *r, uint32_t id,
	       const struct ferry_vb_desc *d, uint32_t *left)
{
	return d->flags & FERRY_VB_DESC_INDIRECT ?
	       add_indirect(r, id, d, left) : ferry_vb_slot_add(r, id, d);
}

/* `n` descriptors from `at` on are the buffer `id`. */
static int fill(struct ferry_vb_ring *r, uint32_t id, uint32_t at, uint32_t n)
{
	uint32_t left = FERRY_VHOST_QUEUE_SIZE_MAX;

	if (ferry_vb_slot_open(r, id))
		return -1;
	for (uint32_t i = 0; i < n; i++) {
		struct ferry_vb_desc d =
			read_desc(desc_at(r, (at + i) % r->size));

		if (add(r, id, &d, &left))
			return -1;
	}
	r->slot[id].chain = (uint16_t)n;
	return 0;
}

/* How many descriptors the buffer at avail_at has, and its number. */
static uint32_t measure(struct ferry_vb_ring *r, uint32_t *id)
{
	for (uint32_t n = 0; n < r->size; n++) {
		struct ferry_vb_desc d =
			read_desc(desc_at(r, (r->avail_at + n) % r->size));

		if (d.flags & FERRY_VB_DESC_NEXT)
			continue;
		*id = d.next;
		return n + 1;
	}
	return 0;
}

static void step(uint16_t *at, bool *wrap, uint32_t n, uint32_t size)
{
	uint32_t to = *at + n;

	if (to >= size) {
		to -= size;
		*wrap = !*wrap;
	}
	*at = (uint16_t)to;
}

static int packed_take(struct ferry_vb_ring *r, uint32_t *id)
{
	uint32_t n;

	if (!packed_more(r))
		return 0;
	n = measure(r, id);
	if (!n)
		return ferry_vb_ring_wrong(r, "a chain of descriptors has no"
					   " end");
	if (fill(r, *id, r->avail_at, n))
		return -1;
	step(&r->avail_at, &r->avail_wrap, n, r->size);
	return 1;
}

static int packed_retake(struct ferry_vb_ring *r, uint32_t id)
{
	uint32_t n, left = FERRY_VHOST_QUEUE_SIZE_MAX;
	const struct ferry_vb_desc *d =
		ferry_vb_inflight_descs(r->inflight, id, &n);

	if (ferry_vb_slot_open(r, id))
		return -1;
	for (uint32_t i = 0; i < n; i++)
		if (add(r, id, &d[i], &left))
			return -1;
	r->slot[id].chain = (uint16_t)n;
	return 0;
}

static void packed_untake(struct ferry_vb_ring *r, uint32_t id)
{
	uint32_t n = r->slot[id].chain;

	if (r->avail_at < n) {
		r->avail_at = (uint16_t)(r->avail_at + r->size - n);
		r->avail_wrap = !r->avail_wrap;
	} else {
		r->avail_at = (uint16_t)(r->avail_at - n);
	}
}

static void packed_put(struct ferry_vb_ring *r, uint32_t id, uint32_t bytes)
{
	struct desc *d = desc_at(r, r->used_at);
	uint16_t flags = (uint16_t)(r->used_wrap ? AVAIL | USED : 0);

	if (bytes)
		flags |= FERRY_VB_DESC_WRITE;
	d->id = (uint16_t)id;
	d->bytes = bytes;
	if (r->shown_first) {
		atomic_store_explicit(&d->flags, flags, memory_order_release);
	} else {
		r->shown_first = d;
		r->first_flags = flags;
	}
	ferry_vb_ring_log(r, r->used_at * sizeof(*d), sizeof(*d));
	r->unshown_descs = (uint16_t)(r->unshown_descs + r->slot[id].chain);
	step(&r->used_at, &r->used_wrap, r->slot[id].chain, r->size);
}

static void packed_show(struct ferry_vb_ring *r)
{
	struct desc *d = r->shown_first;

	atomic_store_explicit(&d->flags, r->first_flags, memory_order_release);
	ferry_vb_ring_log(r, (uint64_t)((uint8_t *)d - (uint8_t *)r->desc),
			  sizeof(*d));
	r->shown_first = NULL;
}

static bool packed_wants_call(struct ferry_vb_ring *r)
{
	const volatile struct event *ev = r->avail;
	uint16_t descs = r->unshown_descs;
	uint16_t flags, at;

	r->unshown_descs = 0;
	/* The driver writes its wish, then looks at the flags; we the
	 * reverse. */
	atomic_thread_fence(memory_order_seq_cst);
	flags = ev->flags;
	if (flags != EVENT_AT || !(r->features & FERRY_VIRTIO_F_EVENT_IDX))
		return flags != EVENT_NEVER;
	at = ev->at & 0x7fff;
	if (!!(ev->at & WRAP) != r->used_wrap)
		at = (uint16_t)(at - r->size);
	return ferry_vb_event_between(at, r->used_at,
				      (uint16_t)(r->used_at - descs));
}

static void packed_want_kicks(struct ferry_vb_ring *r, bool want)
{
	struct event *ev = r->used;
	bool at = r->features & FERRY_VIRTIO_F_EVENT_IDX;

	if (want && at)
		ev->at = (uint16_t)(r->avail_at | (r->avail_wrap ? WRAP : 0));
	if ((want && at) || want != r->kicks) {
		atomic_store_explicit(&ev->flags, !want ? EVENT_NEVER :
				      at ? EVENT_AT : EVENT_ALWAYS,
				      memory_order_release);
		if (r->where.logged)
			ferry_vb_dirty_mark(r->dirty,
				ferry_vb_memory_gpa_of(r->memory, ev),
				sizeof(*ev));
	}
	/* The driver sees the wish, or we see what it made available. */
	atomic_thread_fence(memory_order_seq_cst);
	r->kicks = want;
}

/* ---- after another process ---------------------------------------------- */

bool ferry_vb_packed_is_available(struct ferry_vb_ring *r, uint16_t at,
				  bool wrap)
{
	uint16_t flags = atomic_load(&desc_at(r, at)->flags);

	return !!(flags & AVAIL) == wrap && !!(flags & USED) != wrap;
}

struct ferry_vb_desc ferry_vb_packed_taken(struct ferry_vb_ring *r,
					   uint32_t back)
{
	return read_desc(desc_at(r, (r->avail_at + r->size - back) % r->size));
}

/* The driver sees one after the other: what stands as used behind the first
 * would be taken as that as soon as the first is. */
static void make_available(struct ferry_vb_ring *r, uint16_t at, bool wrap)
{
	struct desc *d = desc_at(r, at);
	uint16_t flags = atomic_load(&d->flags);

	if (!!(flags & AVAIL) != wrap || !!(flags & USED) != wrap)
		return;
	atomic_store(&d->flags, (uint16_t)(flags ^ USED));
	ferry_vb_ring_log(r, at * sizeof(*d), sizeof(*d));
}

void ferry_vb_packed_go_on(struct ferry_vb_ring *r, uint32_t taken)
{
	r->avail_at = r->used_at;
	r->avail_wrap = r->used_wrap;
	for (uint32_t i = 0; i < taken; i++) {
		make_available(r, r->avail_at, r->avail_wrap);
		step(&r->avail_at, &r->avail_wrap, 1, r->size);
	}
}

const struct ferry_vb_ring_ops ferry_vb_packed_ops = {
	.name = "packed",
	.map = packed_map,
	.touch = packed_touch,
	.start = packed_start,
	.base = packed_base,
	.more = packed_more,
	.take = packed_take,
	.retake = packed_retake,
	.untake = packed_untake,
	.put = packed_put,
	.show = packed_show,
	.wants_call = packed_wants_call,
	.want_kicks = packed_want_kicks,
};
