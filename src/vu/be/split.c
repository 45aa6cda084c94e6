/* SPDX-License-Identifier: MIT */
/*
 * Split rings: a table of descriptors, the heads that the driver made
 * available, the heads that we used.
 *
 * What the driver may write at any time is read through volatile, once.  Loads
 * and stores of the two counts order the rest: acquire avail->idx before its
 * entries, release used->idx after them.
 */
#include "vu/be/slot.h"

#include <stdatomic.h>
#include <stddef.h>

struct desc {
	uint64_t	gpa;
	uint32_t	bytes;
	uint16_t	flags;
	uint16_t	next;
};

struct avail {
	uint16_t		flags;
	_Atomic uint16_t	idx;
	uint16_t		head[];		/* size, then used_event */
};

struct used_one {
	uint32_t	id;
	uint32_t	bytes;
};

struct used {
	uint16_t		flags;
	_Atomic uint16_t	idx;
	struct used_one		one[];		/* size, then avail_event */
};

#define AHEAD		8u	/* buffers, for what is fetched early */
#define AVAIL_NO_CALL	1u	/* avail->flags: the driver needs no calls */
#define USED_NO_KICK	1u	/* used->flags: we need no kicks */

static volatile uint16_t *used_event(struct ferry_vb_ring *r)
{
	volatile struct avail *a = r->avail;

	return &a->head[r->size];
}

static volatile uint16_t *avail_event(struct ferry_vb_ring *r)
{
	volatile struct used *u = r->used;

	return (volatile uint16_t *)&u->one[r->size];
}

static uint16_t avail_idx(struct ferry_vb_ring *r)
{
	struct avail *a = r->avail;

	return atomic_load_explicit(&a->idx, memory_order_acquire);
}

static uint64_t avail_bytes(const struct ferry_vb_ring *r)
{
	return sizeof(struct avail) + 2ull * r->size + 2;
}

static uint64_t used_bytes(const struct ferry_vb_ring *r)
{
	return sizeof(struct used) + sizeof(struct used_one) * r->size + 2;
}

static int split_map(struct ferry_vb_ring *r, struct ferry_err *e)
{
	const struct ferry_vb_ring_at *at = &r->where;

	if (ferry_vb_ring_part(r, "descriptors", at->desc,
			       sizeof(struct desc) * r->size, 16, &r->desc,
			       e) ||
	    ferry_vb_ring_part(r, "available entries", at->avail,
			       avail_bytes(r), 2, &r->avail, e) ||
	    ferry_vb_ring_part(r, "used entries", at->used, used_bytes(r), 4,
			       &r->used, e))
		return -1;
	return 0;
}

static bool split_touch(struct ferry_vb_ring *r)
{
	return ferry_vb_touch(r->touch, r->desc,
			      sizeof(struct desc) * r->size) &&
	       ferry_vb_touch(r->touch, r->avail, avail_bytes(r)) &&
	       ferry_vb_touch(r->touch, r->used, used_bytes(r));
}

static void split_start(struct ferry_vb_ring *r, uint32_t base)
{
	struct used *u = r->used;

	r->avail_at = (uint16_t)base;
	r->known = 0;
	r->used_at = atomic_load_explicit(&u->idx, memory_order_acquire);
}

static uint32_t split_base(const struct ferry_vb_ring *r)
{
	return r->avail_at;
}

static bool split_more(struct ferry_vb_ring *r)
{
	return avail_idx(r) != r->avail_at;
}

static struct ferry_vb_desc read_desc(const volatile struct desc *d)
{
	return (struct ferry_vb_desc){
		.gpa = d->gpa, .bytes = d->bytes, .flags = d->flags,
		.next = d->next,
	};
}

/*
 * Follow a chain through a table.  It cannot be longer than the table, so a
 * loop ends.
 */
static int walk(struct ferry_vb_ring *r, uint32_t id,
		const volatile struct desc *table, uint32_t entries,
		uint32_t at, struct ferry_vb_desc *indirect)
{
	for (uint32_t n = 0; n < entries; n++) {
		struct ferry_vb_desc d;

		if (at >= entries)
			return ferry_vb_ring_wrong(r, "a descriptor's next is"
						   " not in its table");
		d = read_desc(&table[at]);
		if (d.flags & FERRY_VB_DESC_INDIRECT) {
			if (!indirect || d.flags & FERRY_VB_DESC_NEXT)
				return ferry_vb_ring_wrong(r, "an indirect"
					" table inside of another, or with a"
					" next");
			*indirect = d;
			return 0;
		}
		if (ferry_vb_slot_add(r, id, &d))
			return -1;
		if (!(d.flags & FERRY_VB_DESC_NEXT))
			return 0;
		at = d.next;
	}
	return ferry_vb_ring_wrong(r, "a chain of descriptors is a loop");
}

static int split_retake(struct ferry_vb_ring *r, uint32_t id)
{
	struct ferry_vb_desc indirect = { .flags = 0 };
	const void *table;
	uint32_t entries;

	if (ferry_vb_slot_open(r, id) ||
	    walk(r, id, r->desc, r->size, id, &indirect))
		return -1;
	if (!(indirect.flags & FERRY_VB_DESC_INDIRECT))
		return 0;
	table = ferry_vb_ring_indirect(r, &indirect, &entries);
	if (!table)
		return -1;
	return walk(r, id, table, entries, 0, NULL);
}

/* The head of the buffer that is to be taken some time from now is fetched from
 * the driver's cache, while others are worked on, if it is to be read.  It may
 * be nonsense. */
static void prefetch(struct ferry_vb_ring *r)
{
	const volatile struct avail *a = r->avail;
	const volatile struct desc *d = r->desc;
	uint32_t id = a->head[(uint16_t)(r->avail_at + AHEAD) & (r->size - 1)];
	uint8_t *at;

	if (id < r->size && !(d[id].flags & FERRY_VB_DESC_WRITE) &&
	    ferry_vb_memory_guest(r->memory, d[id].gpa, 1, &at)) {
		__builtin_prefetch(at);
		__builtin_prefetch(at + 64);
	}
}

static int split_take(struct ferry_vb_ring *r, uint32_t *id)
{
	const volatile struct avail *a = r->avail;

	/* The count is on a line that the driver keeps writing to. */
	if (!r->known)
		r->known = (uint16_t)(avail_idx(r) - r->avail_at);
	if (!r->known)
		return 0;
	if (r->known > r->size)
		return ferry_vb_ring_wrong(r, "more buffers are available than"
					   " the ring has");
	*id = a->head[r->avail_at & (r->size - 1)];
	if (r->known > AHEAD)
		prefetch(r);
	if (split_retake(r, *id))
		return -1;
	r->avail_at++;
	r->known--;
	return 1;
}

static void split_untake(struct ferry_vb_ring *r, uint32_t id)
{
	(void)id;
	r->avail_at--;
	r->known++;
}

static void split_put(struct ferry_vb_ring *r, uint32_t id, uint32_t bytes)
{
	struct used *u = r->used;
	uint16_t at = r->used_at & (uint16_t)(r->size - 1);

	u->one[at] = (struct used_one){ .id = id, .bytes = bytes };
	ferry_vb_ring_log(r, (uint64_t)((uint8_t *)&u->one[at] - (uint8_t *)u),
			  sizeof(u->one[at]));
	r->used_at++;
}

static void split_show(struct ferry_vb_ring *r)
{
	struct used *u = r->used;

	atomic_store_explicit(&u->idx, r->used_at, memory_order_release);
	ferry_vb_ring_log(r, offsetof(struct used, idx), sizeof(u->idx));
}

static bool split_wants_call(struct ferry_vb_ring *r)
{
	const volatile struct avail *a = r->avail;
	uint16_t before = r->notified;
	bool known = r->notified_ok;

	/* The driver writes its wish, then looks at idx; we the reverse. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!(r->features & FERRY_VIRTIO_F_EVENT_IDX))
		return !(a->flags & AVAIL_NO_CALL);
	r->notified = r->used_at;
	r->notified_ok = true;
	return !known ||
	       ferry_vb_event_between(*used_event(r), r->used_at, before);
}

/* Without event indexes a flag says no; with them an index that lies behind
 * says it, until the counts have gone once around. */
static void split_want_kicks(struct ferry_vb_ring *r, bool want)
{
	volatile struct used *u = r->used;

	if (r->features & FERRY_VIRTIO_F_EVENT_IDX) {
		if (want) {
			*avail_event(r) = r->avail_at;
			ferry_vb_ring_log(r, used_bytes(r) - 2, 2);
		}
	} else if (want != r->kicks) {
		u->flags = (uint16_t)(want ? 0 : USED_NO_KICK);
		ferry_vb_ring_log(r, offsetof(struct used, flags), 2);
	}
	/* The driver sees the wish, or we see what it made available. */
	atomic_thread_fence(memory_order_seq_cst);
	r->kicks = want;
}

const struct ferry_vb_ring_ops ferry_vb_split_ops = {
	.name = "split",
	.map = split_map,
	.touch = split_touch,
	.start = split_start,
	.base = split_base,
	.more = split_more,
	.take = split_take,
	.retake = split_retake,
	.untake = split_untake,
	.put = split_put,
	.show = split_show,
	.wants_call = split_wants_call,
	.want_kicks = split_want_kicks,
};
