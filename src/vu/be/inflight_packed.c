/* SPDX-License-Identifier: MIT */
/*
 * The area of packed rings, whose descriptors are written over by others that
 * are used before them: so it has copies.  For each queue, aligned to 64
 * octets, 32 octets:
 *
 *  0          8     10     12            14         16   18       20   21
 *  | features | version | entries | free | old free | used | old used | wraps | 0
 *
 * and so many entries of 32, linked by `next` as the free list and as chains,
 * of whose `num` the first and the last are known to the first:
 *
 *  0          1   2      4      6     8         16   18      20      24
 *  | in flight | 0 | next | last | num | counter | id | flags | bytes | address |
 *
 * A SIGKILL may come between any two stores:
 *  - in take(), before `free` is stored: what is in the free list is not in
 *    flight, whatever it says;
 *  - in show(), before the driver sees it: the first descriptor that was to be
 *    used is still available: back to what is `old`;
 *  - behind that, in shown(): it is not: what is new counts, and what is in its
 *    free list was used.
 * What is to change together is one store.  A batch that was not shown may have
 * left used descriptors behind its first: they are made available again.
 *
 * Where the ring stands is here, and nowhere else once a process is dead: so
 * the base of SET_VRING_BASE counts only for an area that is new or was ended.
 *
 * The front-end can write the area at any time; it is read at the start only.
 */
#include "vu/be/inflight_queue.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct places {
	uint16_t	used, old_used;
	uint8_t		wrap, old_wrap;
	uint16_t	zero;
};

struct heads {
	uint16_t	free, old_free;
};

struct head {
	uint64_t	features;
	_Atomic uint16_t version;
	uint16_t	entries;
	_Atomic uint32_t heads;		/* struct heads */
	_Atomic uint64_t places;	/* struct places */
	uint64_t	zero;
};

struct entry {
	_Atomic uint8_t	in_flight;
	uint8_t		zero;
	_Atomic uint16_t next;
	uint16_t	last;
	uint16_t	num;
	uint64_t	counter;
	uint16_t	id;
	uint16_t	flags;
	uint32_t	bytes;
	uint64_t	gpa;
};

_Static_assert(sizeof(struct head) == 32 && sizeof(struct entry) == 32 &&
	       sizeof(struct places) == 8 && sizeof(struct heads) == 4,
	       "the specification's layout");

/* A buffer that is out; by its id. */
struct out {
	uint16_t	first, last, num;
	bool		again;		/* it was found */
	uint32_t	copy;		/* in packed.copy, then */
};

struct packed {
	struct ferry_vb_inflight_queue q;
	struct head	*head;
	struct entry	*entry;
	uint64_t	counter;
	struct places	at;
	struct out	*out;		/* `size` of them */
	uint16_t	*next;		/* the links, as they are to be */
	uint16_t	free;
	uint32_t	taken;		/* entries that are not free */
	uint16_t	*batch;		/* ids that were put */
	uint32_t	puts;
	struct ferry_vb_desc *copy;	/* of what was found */
};

static struct packed *of(struct ferry_vb_inflight_queue *q)
{
	return (struct packed *)q;
}

static uint64_t packed_bytes(unsigned queue_size)
{
	return sizeof(struct head) +
	       (uint64_t)queue_size * sizeof(struct entry);
}

static void packed_free(struct ferry_vb_inflight_queue *q)
{
	struct packed *p = of(q);

	free(p->out);
	free(p->next);
	free(p->batch);
	free(p->copy);
	free(p);
}

static struct ferry_vb_inflight_queue *packed_make(uint8_t *at, uint32_t size)
{
	struct packed *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->head = (struct head *)at;
	p->entry = (struct entry *)(at + sizeof(struct head));
	p->out = calloc(size, sizeof(*p->out));
	p->next = calloc(size, sizeof(*p->next));
	p->batch = calloc(size, sizeof(*p->batch));
	p->copy = calloc(size, sizeof(*p->copy));
	if (p->out && p->next && p->batch && p->copy)
		return &p->q;
	packed_free(&p->q);
	return NULL;
}

/* ---- stores ------------------------------------------------------------- */

/* In this order, for whoever looks when we are dead. */
#define store(at, v)	atomic_store_explicit(at, v, memory_order_release)

static void store_heads(struct packed *p, uint16_t now, uint16_t old)
{
	struct heads h = { now, old };
	uint32_t word;

	memcpy(&word, &h, sizeof(word));
	store(&p->head->heads, word);
}

static void store_places(struct packed *p, struct places at)
{
	uint64_t word;

	p->at = at;
	memcpy(&word, &at, sizeof(word));
	store(&p->head->places, word);
}

static struct heads load_heads(struct packed *p)
{
	uint32_t word = atomic_load(&p->head->heads);
	struct heads h;

	memcpy(&h, &word, sizeof(h));
	return h;
}

static struct places load_places(struct packed *p)
{
	uint64_t word = atomic_load(&p->head->places);
	struct places at;

	memcpy(&at, &word, sizeof(at));
	return at;
}

static void link_to(struct packed *p, uint16_t at, uint16_t next)
{
	p->next[at] = next;
	store(&p->entry[at].next, next);
}

/* ---- after a start ------------------------------------------------------ */

static void begin_area(struct packed *p, const struct ferry_vb_ring *r)
{
	uint32_t size = p->q.size;

	store(&p->head->version, 0);
	for (uint32_t i = 0; i < size; i++) {
		p->entry[i].in_flight = 0;
		p->entry[i].next = (uint16_t)(i + 1);
	}
	store_heads(p, 0, 0);
	store_places(p, (struct places){ r->used_at, r->used_at, r->used_wrap,
					 r->used_wrap, 0 });
	p->head->entries = (uint16_t)size;
	store(&p->head->version, FERRY_VB_INFLIGHT_VERSION);
}

/* Which of the two states counts. */
static void settle(struct packed *p, struct ferry_vb_ring *r)
{
	struct places at = load_places(p);
	struct heads h = load_heads(p);
	bool differ = at.used != at.old_used || !at.wrap != !at.old_wrap;

	if (at.used >= p->q.size || at.old_used >= p->q.size) {
		ferry_vb_ring_wrong(r, "the in-flight area says that the ring"
				    " stands behind its end");
		return;
	}
	if (differ && !ferry_vb_packed_is_available(r, at.old_used,
						    at.old_wrap)) {
		h.old_free = h.free;
		at.old_used = at.used;
		at.old_wrap = at.wrap;
	}
	store_heads(p, h.old_free, h.old_free);
	store_places(p, (struct places){ at.old_used, at.old_used, at.old_wrap,
					 at.old_wrap, 0 });
	r->used_at = at.old_used;
	r->used_wrap = at.old_wrap;
}

static void strike_free(struct packed *p)
{
	uint16_t at = load_heads(p).free;

	for (uint32_t n = 0; n < p->q.size && at < p->q.size; n++) {
		p->entry[at].in_flight = 0;
		at = p->entry[at].next;
	}
}

/* The entries of a chain, each once; its id is in the last. */
static bool read_chain(struct packed *p, uint32_t first, bool *seen)
{
	uint16_t at = (uint16_t)first, last = at, num = p->entry[first].num;
	uint32_t copy = p->taken;
	struct out *out;

	if (!num || num > p->q.size - p->taken)
		return false;
	for (uint32_t i = 0; i < num; i++) {
		struct entry *e;

		if (at >= p->q.size || seen[at])
			return false;
		seen[at] = true;
		e = &p->entry[at];
		p->copy[copy + i] = (struct ferry_vb_desc){
			.gpa = e->gpa, .bytes = e->bytes, .flags = e->flags,
			.next = e->id,
		};
		last = at;
		at = p->next[last] = e->next;
	}
	if (p->copy[copy + num - 1u].next >= p->q.size)
		return false;
	out = &p->out[p->copy[copy + num - 1u].next];
	if (out->num)
		return false;
	*out = (struct out){ (uint16_t)first, last, num, true, copy };
	p->q.again[p->q.agains++] = p->copy[copy + num - 1u].next;
	p->taken += num;
	return true;
}

/* All that no chain has, and nothing else. */
static void rebuild_free(struct packed *p, const bool *seen)
{
	uint16_t first = (uint16_t)p->q.size;	/* the end */

	for (uint32_t i = p->q.size; i-- > 0;) {
		if (seen[i])
			continue;
		link_to(p, (uint16_t)i, first);
		first = (uint16_t)i;
	}
	p->free = first;
	store_heads(p, p->free, p->free);
}

/* False: no memory, or it makes no sense. */
static bool find(struct packed *p)
{
	FERRY_AUTO_FREE struct ferry_vb_found *found =
		calloc(p->q.size, sizeof(*found));
	FERRY_AUTO_FREE bool *seen = calloc(p->q.size, sizeof(*seen));
	uint32_t n = 0;

	if (!found || !seen)
		return false;
	for (uint32_t i = 0; i < p->q.size; i++)
		if (p->entry[i].in_flight)
			found[n++] = (struct ferry_vb_found){
				p->entry[i].counter, i,
			};
	ferry_vb_found_sort(found, n);
	for (uint32_t i = 0; i < n; i++)
		if (!read_chain(p, found[i].at, seen))
			return false;
	p->counter = n ? found[n - 1].counter + 1 : 0;
	rebuild_free(p, seen);
	return true;
}

static void packed_start(struct ferry_vb_inflight_queue *q,
			 struct ferry_vb_ring *r)
{
	struct packed *p = of(q);
	bool is_new = atomic_load(&p->head->version) !=
			      FERRY_VB_INFLIGHT_VERSION ||
		      p->head->entries != q->size;

	if (is_new && r->wrong)
		return;
	r->wrong = NULL;	/* the base, which does not count */
	p->taken = p->puts = 0;
	memset(p->out, 0, q->size * sizeof(*p->out));
	if (is_new)
		begin_area(p, r);
	settle(p, r);
	if (r->wrong)
		return;
	strike_free(p);
	if (!find(p)) {
		q->agains = 0;
		ferry_vb_ring_wrong(r, "what the in-flight area says makes no"
				    " sense, or there is no memory for it");
		return;
	}
	if (!is_new)
		ferry_vb_packed_go_on(r, p->taken);
}

/* ---- while it runs ------------------------------------------------------ */

static int packed_take(struct ferry_vb_inflight_queue *q,
		       struct ferry_vb_ring *r, uint32_t id)
{
	struct packed *p = of(q);
	struct out *out = &p->out[id];
	uint32_t n = r->slot[id].chain;
	uint16_t at = p->free;

	if (out->num)		/* its last time was not shown yet */
		return ferry_vb_ring_wrong(r, "a buffer was made available"
					   " twice");
	if (n > q->size - p->taken)
		return ferry_vb_ring_wrong(r, "more descriptors are available"
					   " than the ring has");
	*out = (struct out){ .first = at, .num = (uint16_t)n };
	for (uint32_t i = 0; i < n; i++) {
		struct ferry_vb_desc d = ferry_vb_packed_taken(r, n - i);
		struct entry *e = &p->entry[at];

		e->gpa = d.gpa;
		e->bytes = d.bytes;
		e->flags = d.flags;
		e->id = i + 1 < n ? d.next : (uint16_t)id;
		out->last = at;
		at = p->next[at];
	}
	p->entry[out->first].num = (uint16_t)n;
	p->entry[out->first].last = out->last;
	p->entry[out->first].counter = p->counter++;
	store(&p->entry[out->first].in_flight, 1);
	p->free = at;
	p->taken += n;
	store_heads(p, at, at);
	return 0;
}

static void give_back(struct packed *p, const struct out *out)
{
	link_to(p, out->last, p->free);
	p->free = out->first;
	p->taken -= out->num;
}

static bool packed_untake(struct ferry_vb_inflight_queue *q, uint32_t id)
{
	struct packed *p = of(q);
	struct out *out = &p->out[id];

	if (out->again && q->again_at) {
		q->again_at--;
		return true;
	}
	give_back(p, out);
	store_heads(p, p->free, p->free);
	store(&p->entry[out->first].in_flight, 0);
	out->num = 0;
	return false;
}

static void packed_put(struct ferry_vb_inflight_queue *q, uint32_t id)
{
	struct packed *p = of(q);

	p->batch[p->puts++] = (uint16_t)id;
}

static void packed_show(struct ferry_vb_inflight_queue *q,
			const struct ferry_vb_ring *r)
{
	struct packed *p = of(q);
	struct places at = p->at;
	uint16_t old = p->free;

	for (uint32_t i = 0; i < p->puts; i++)
		give_back(p, &p->out[p->batch[i]]);
	store_heads(p, p->free, old);
	at.old_used = at.used;
	at.old_wrap = at.wrap;
	at.used = r->used_at;
	at.wrap = r->used_wrap;
	store_places(p, at);
}

static void packed_shown(struct ferry_vb_inflight_queue *q,
			 const struct ferry_vb_ring *r)
{
	struct packed *p = of(q);

	for (uint32_t i = 0; i < p->puts; i++) {
		struct out *out = &p->out[p->batch[i]];

		store(&p->entry[out->first].in_flight, 0);
		*out = (struct out){ .num = 0 };
	}
	p->puts = 0;
	store_heads(p, p->free, p->free);
	store_places(p, (struct places){ r->used_at, r->used_at, r->used_wrap,
					 r->used_wrap, 0 });
}

static void packed_end(struct ferry_vb_inflight_queue *q)
{
	struct packed *p = of(q);

	if (!p->taken)
		store(&p->head->version, 0);
}

const struct ferry_vb_desc *
ferry_vb_inflight_descs(const struct ferry_vb_inflight_queue *q, uint32_t id,
			uint32_t *n)
{
	const struct packed *p = (const struct packed *)q;

	*n = p->out[id].num;
	return &p->copy[p->out[id].copy];
}

const struct ferry_vb_inflight_ops ferry_vb_inflight_packed = {
	.bytes = packed_bytes,
	.make = packed_make,
	.free = packed_free,
	.start = packed_start,
	.take = packed_take,
	.untake = packed_untake,
	.put = packed_put,
	.show = packed_show,
	.shown = packed_shown,
	.end = packed_end,
};
