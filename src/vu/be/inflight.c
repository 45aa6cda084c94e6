/* SPDX-License-Identifier: MIT */
/*
 * The area, and what is in it for split rings (for packed ones:
 * inflight_packed.c).  For each queue, aligned to 64 octets:
 *
 *  0          8     10     12            14        16
 *  | features | version | entries | last put | used idx | entry ...
 *
 *  entry:  0          1     6      8         16
 *          | in flight | 0  | next | counter |
 *
 * A SIGKILL may come between any two stores:
 *  - after take() has counted, before it has set in_flight: the driver's buffer
 *    is not among those in flight, and avail_at was in the dead process only:
 *    the next one takes it from the ring;
 *  - after put(), before show(): the driver has not seen it: in_flight is still
 *    set, so it is served again (the one repetition that the specification has,
 *    of what nobody was told of);
 *  - after show(), before shown(): used idx of the ring and of the area differ:
 *    the last batch, which hangs together by `next`, was seen and is not
 *    repeated.
 */
#include "vu/be/inflight.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "vu/be/inflight_queue.h"

#define ALIGN	64u

struct head {
	uint64_t	features;
	uint16_t	version;
	uint16_t	entries;
	uint16_t	last_put;
	uint16_t	used_idx;
};

struct entry {
	uint8_t		in_flight;
	uint8_t		zero[5];
	uint16_t	next;
	uint64_t	counter;
};

struct split {
	struct ferry_vb_inflight_queue q;
	volatile struct head	*head;
	volatile struct entry	*entry;
	uint64_t		first;		/* counter of this start */
	uint64_t		counter;
	uint16_t		put;		/* not shown yet */
};

static const struct ferry_vb_inflight_ops split_ops;

static const struct ferry_vb_inflight_ops *ops_for(bool packed)
{
	return packed ? &ferry_vb_inflight_packed : &split_ops;
}

static uint64_t queue_bytes(unsigned queue_size, bool packed)
{
	uint64_t bytes = ops_for(packed)->bytes(queue_size);

	return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

uint64_t ferry_vb_inflight_bytes(unsigned queues, unsigned queue_size,
				 bool packed)
{
	return queues * queue_bytes(queue_size, packed);
}

int ferry_vb_inflight_make(struct ferry_vu_inflight *f, bool packed,
			   struct ferry_err *e)
{
	FERRY_AUTO_FD fd = -1;

	f->bytes = ferry_vb_inflight_bytes(f->queues, f->queue_size, packed);
	f->fd_offset = 0;
	fd = memfd_create("ferry-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)f->bytes))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "in-flight area of %" PRIu64 " octets",
				     f->bytes);
	return ferry_steal_fd(&fd);
}

int ferry_vb_inflight_open(struct ferry_vb_inflight *in,
			   const struct ferry_vu_inflight *f, int fd,
			   bool packed, struct ferry_err *e)
{
	uint64_t before = f->fd_offset % FERRY_PAGE_BYTES;
	uint64_t need = ferry_vb_inflight_bytes(f->queues, f->queue_size,
						packed);
	struct stat st;
	void *map;

	if (!need || f->bytes < need || f->fd_offset % ALIGN)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "in-flight area of %" PRIu64 " octets at"
				     " %" PRIu64 " for %u queues of %u",
				     f->bytes, f->fd_offset, f->queues,
				     f->queue_size);
	if (fstat(fd, &st) || (uint64_t)st.st_size < f->fd_offset + need)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "in-flight area: its file does not hold"
				     " %" PRIu64 " octets", need);
	map = mmap(NULL, need + before, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   (off_t)(f->fd_offset - before));
	if (map == MAP_FAILED)
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "in-flight area: mmap");
	ferry_vb_inflight_close(in);
	*in = (struct ferry_vb_inflight){
		.map = map, .map_bytes = need + before,
		.at = (uint8_t *)map + before, .queues = f->queues,
		.queue_size = f->queue_size, .packed = packed,
	};
	return 0;
}

void ferry_vb_inflight_close(struct ferry_vb_inflight *in)
{
	if (in->map)
		munmap(in->map, in->map_bytes);
	in->map = NULL;
}

struct ferry_vb_inflight_queue *
ferry_vb_inflight_queue_new(struct ferry_vb_inflight *in, unsigned index,
			    uint32_t size, bool packed)
{
	struct ferry_vb_inflight_queue *q;

	if (!in->map || index >= in->queues || size > in->queue_size ||
	    packed != in->packed)
		return NULL;
	q = ops_for(packed)->make(in->at + index * queue_bytes(in->queue_size,
							       packed), size);
	if (!q)
		return NULL;
	q->ops = ops_for(packed);
	q->size = size;
	q->again = calloc(size, sizeof(*q->again));
	if (q->again)
		return q;
	ferry_vb_inflight_queue_free(q);
	return NULL;
}

void ferry_vb_inflight_queue_free(struct ferry_vb_inflight_queue *q)
{
	if (!q)
		return;
	free(q->again);
	q->ops->free(q);
}

void ferry_vb_inflight_start(struct ferry_vb_inflight_queue *q,
			     struct ferry_vb_ring *r)
{
	q->again_at = q->agains = 0;
	q->ops->start(q, r);
}

bool ferry_vb_inflight_again(struct ferry_vb_inflight_queue *q, uint32_t *id)
{
	if (q->again_at == q->agains)
		return false;
	*id = q->again[q->again_at++];
	return true;
}

uint32_t ferry_vb_inflight_found(const struct ferry_vb_inflight_queue *q)
{
	return q->agains;
}

uint32_t ferry_vb_inflight_left(const struct ferry_vb_inflight_queue *q)
{
	return q->agains - q->again_at;
}

int ferry_vb_inflight_take(struct ferry_vb_inflight_queue *q,
			   struct ferry_vb_ring *r, uint32_t id)
{
	return q->ops->take(q, r, id);
}

bool ferry_vb_inflight_untake(struct ferry_vb_inflight_queue *q, uint32_t id)
{
	return q->ops->untake(q, id);
}

void ferry_vb_inflight_put(struct ferry_vb_inflight_queue *q, uint32_t id)
{
	q->ops->put(q, id);
}

void ferry_vb_inflight_show(struct ferry_vb_inflight_queue *q,
			    const struct ferry_vb_ring *r)
{
	q->ops->show(q, r);
}

void ferry_vb_inflight_shown(struct ferry_vb_inflight_queue *q,
			     const struct ferry_vb_ring *r)
{
	q->ops->shown(q, r);
}

void ferry_vb_inflight_end(struct ferry_vb_inflight_queue *q)
{
	if (q)
		q->ops->end(q);
}

static int by_counter(const void *a, const void *b)
{
	const struct ferry_vb_found *x = a, *y = b;

	return x->counter < y->counter ? -1 : x->counter > y->counter;
}

void ferry_vb_found_sort(struct ferry_vb_found *found, uint32_t n)
{
	qsort(found, n, sizeof(*found), by_counter);
}

/* ---- split: after a start ----------------------------------------------- */

static uint64_t split_bytes(unsigned queue_size)
{
	return sizeof(struct head) +
	       (uint64_t)queue_size * sizeof(struct entry);
}

static struct ferry_vb_inflight_queue *split_make(uint8_t *at, uint32_t size)
{
	struct split *s = calloc(1, sizeof(*s));

	(void)size;
	if (!s)
		return NULL;
	s->head = (volatile struct head *)at;
	s->entry = (volatile struct entry *)(at + sizeof(struct head));
	return &s->q;
}

static void split_free(struct ferry_vb_inflight_queue *q)
{
	free(q);
}

/* What was shown but not struck off. */
static void strike_batch(struct split *q, uint16_t used_idx)
{
	uint16_t n = (uint16_t)(used_idx - q->head->used_idx);
	uint16_t id = q->head->last_put;

	for (; n && id < q->q.size; n--) {
		uint16_t next = q->entry[id].next;

		q->entry[id].in_flight = 0;
		id = next;
	}
	q->head->used_idx = used_idx;
}

/* Sort what is in flight into q->again. */
static int find(struct split *q)
{
	FERRY_AUTO_FREE struct ferry_vb_found *found =
		calloc(q->q.size, sizeof(*found));
	uint32_t n = 0;

	if (!found)
		return -1;
	for (uint32_t i = 0; i < q->q.size; i++)
		if (q->entry[i].in_flight)
			found[n++] = (struct ferry_vb_found){
				q->entry[i].counter, i };
	ferry_vb_found_sort(found, n);
	for (uint32_t i = 0; i < n; i++)
		q->q.again[i] = found[i].at;
	q->counter = n ? found[n - 1].counter + 1 : 0;
	q->first = q->counter;
	q->q.agains = n;
	return 0;
}

static void begin_area(struct split *q, uint16_t used_idx)
{
	for (uint32_t i = 0; i < q->q.size; i++) {
		q->entry[i].in_flight = 0;
		q->entry[i].counter = 0;
		q->entry[i].next = 0;
	}
	q->head->entries = (uint16_t)q->q.size;
	q->head->used_idx = used_idx;
	q->head->version = FERRY_VB_INFLIGHT_VERSION;
}

static void split_start(struct ferry_vb_inflight_queue *base,
			struct ferry_vb_ring *r)
{
	struct split *q = (struct split *)base;

	q->put = 0;
	if (q->head->version != FERRY_VB_INFLIGHT_VERSION ||
	    q->head->entries != q->q.size)
		begin_area(q, r->used_at);
	strike_batch(q, r->used_at);
	if (find(q)) {
		ferry_vb_ring_wrong(r, "no memory to look at what is in"
				    " flight");
		return;
	}
	if (base->agains)
		r->avail_at = (uint16_t)(r->used_at + base->agains);
}

/* ---- while it runs ------------------------------------------------------ */

static int split_take(struct ferry_vb_inflight_queue *base,
		      struct ferry_vb_ring *r, uint32_t id)
{
	struct split *q = (struct split *)base;

	(void)r;
	q->entry[id].counter = q->counter++;
	q->entry[id].in_flight = 1;
	return 0;
}

/* The front-end can write the area at any time: what it says of a counter leads
 * to no place outside of our own array. */
static bool split_untake(struct ferry_vb_inflight_queue *base, uint32_t id)
{
	struct split *q = (struct split *)base;

	if (q->entry[id].counter < q->first && base->again_at) {
		base->again_at--;
		return true;
	}
	q->entry[id].in_flight = 0;
	return false;
}

static void split_put(struct ferry_vb_inflight_queue *base, uint32_t id)
{
	struct split *q = (struct split *)base;

	q->entry[id].next = q->head->last_put;
	q->head->last_put = (uint16_t)id;
	q->put++;
}

/* The ring itself says what was shown. */
static void split_show(struct ferry_vb_inflight_queue *q,
		       const struct ferry_vb_ring *r)
{
	(void)q, (void)r;
}

static void split_shown(struct ferry_vb_inflight_queue *base,
			const struct ferry_vb_ring *r)
{
	struct split *q = (struct split *)base;
	uint16_t id = q->head->last_put;

	for (; q->put && id < q->q.size; q->put--) {
		q->entry[id].in_flight = 0;
		id = q->entry[id].next;
	}
	q->put = 0;
	q->head->used_idx = r->used_at;
}

/* Nothing: used idx is in the ring. */
static void split_end(struct ferry_vb_inflight_queue *q)
{
	(void)q;
}

static const struct ferry_vb_inflight_ops split_ops = {
	.bytes = split_bytes,
	.make = split_make,
	.free = split_free,
	.start = split_start,
	.take = split_take,
	.untake = split_untake,
	.put = split_put,
	.show = split_show,
	.shown = split_shown,
	.end = split_end,
};
