/* SPDX-License-Identifier: MIT */
/*
 * What split and packed rings have in common: buffers, their segments, and the
 * bounds on them.
 */
#include "vu/be/ring.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "vu/be/inflight.h"
#include "vu/be/slot.h"

#define DESC_BYTES	16
#define SEGMENTS_KEPT	32	/* a slot that had more gives them back */

int ferry_vb_ring_wrong(struct ferry_vb_ring *r, const char *why)
{
	if (!r->wrong)
		r->wrong = why;
	return -1;
}

/* ---- slots -------------------------------------------------------------- */

int ferry_vb_slot_grow(struct ferry_vb_ring *r, struct ferry_vb_slot *s)
{
	uint32_t max = s->segments_max ? 2 * s->segments_max : 8;
	struct iovec *more;

	if (s->segments_max == FERRY_VHOST_SEGMENTS_MAX)
		return ferry_vb_ring_wrong(r, "a buffer has more than 1024"
					   " segments");
	more = realloc(s->segment, max * sizeof(*more));
	if (!more)
		return ferry_vb_ring_wrong(r, "no memory for the segments of a"
					   " buffer");
	s->segment = more;
	s->segments_max = max;
	return 0;
}

static void slot_close(struct ferry_vb_ring *r, struct ferry_vb_slot *s)
{
	assert(s->busy && r->out);
	s->busy = false;
	r->out--;
	if (s->segments_max > SEGMENTS_KEPT) {
		free(s->segment);
		s->segment = NULL;
		s->segments_max = 0;
	}
}

const void *ferry_vb_ring_indirect(struct ferry_vb_ring *r,
				   const struct ferry_vb_desc *d,
				   uint32_t *entries)
{
	uint8_t *at;

	if (!(r->features & FERRY_VIRTIO_F_INDIRECT_DESC)) {
		ferry_vb_ring_wrong(r, "an indirect table that was not agreed"
				    " on");
		return NULL;
	}
	if (!d->bytes || d->bytes % DESC_BYTES ||
	    d->bytes / DESC_BYTES > FERRY_VHOST_QUEUE_SIZE_MAX) {
		ferry_vb_ring_wrong(r, "an indirect table whose size is not"
				    " one");
		return NULL;
	}
	if (ferry_vb_memory_guest(r->memory, d->gpa, d->bytes, &at) !=
	    d->bytes) {
		ferry_vb_ring_wrong(r, "an indirect table outside of the"
				    " guest's memory");
		return NULL;
	}
	if (!ferry_vb_touch(r->touch, at, d->bytes)) {
		ferry_vb_ring_wrong(r, "the guest's memory is gone");
		return NULL;
	}
	*entries = d->bytes / DESC_BYTES;
	return at;
}

int ferry_vb_ring_part(const struct ferry_vb_ring *r, const char *name,
		       uint64_t at, uint64_t bytes, uint64_t align,
		       void **part, struct ferry_err *e)
{
	*part = ferry_vb_memory_user(r->memory, at, bytes);
	if (!*part)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "the ring's %s, %" PRIu64 " octets at"
				     " 0x%" PRIx64 ", are not in the memory",
				     name, bytes, at);
	if ((uintptr_t)*part % align)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "the ring's %s at 0x%" PRIx64
				     " are not aligned to %" PRIu64, name, at,
				     align);
	return 0;
}

/* ---- the ring ----------------------------------------------------------- */

int ferry_vb_ring_init(struct ferry_vb_ring *r, uint32_t size,
		       struct ferry_err *e)
{
	bool packed = r->features & FERRY_VIRTIO_F_RING_PACKED;

	if (!size || size > FERRY_VHOST_QUEUE_SIZE_MAX ||
	    (!packed && size & (size - 1)))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "a ring of %u buffers", size);
	r->slot = calloc(size, sizeof(*r->slot));
	if (!r->slot)
		return ferry_err_set(e, FERRY_E_NOMEM, 0,
				     "a ring of %u buffers", size);
	r->size = size;
	r->ops = packed ? &ferry_vb_packed_ops : &ferry_vb_split_ops;
	return 0;
}

void ferry_vb_ring_fini(struct ferry_vb_ring *r)
{
	for (uint32_t i = 0; r->slot && i < r->size; i++)
		free(r->slot[i].segment);
	free(r->slot);
	r->slot = NULL;
	r->size = 0;
}

int ferry_vb_ring_remap(struct ferry_vb_ring *r, struct ferry_err *e)
{
	return r->ops->map(r, e);
}

int ferry_vb_ring_start(struct ferry_vb_ring *r, uint32_t base,
			struct ferry_err *e)
{
	r->wrong = NULL;
	r->began = false;
	if (r->ops->map(r, e))
		return -1;
	if (!r->ops->touch(r))
		return ferry_err_set(e, FERRY_E_CLOSED, 0,
				     "the guest's memory is gone");
	r->began = true;
	r->unshown = 0;
	r->notified_ok = false;
	r->kicks = false;
	r->ops->start(r, base);
	if (r->inflight)
		ferry_vb_inflight_start(r->inflight, r);
	if (r->wrong)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "%s", r->wrong);
	return 0;
}

bool ferry_vb_ring_owes(const struct ferry_vb_ring *r)
{
	return atomic_load(&r->leaves) && r->inflight && !r->wrong &&
	       !ferry_vb_touch_broken(r->touch) &&
	       ferry_vb_inflight_left(r->inflight);
}

uint32_t ferry_vb_ring_base(const struct ferry_vb_ring *r)
{
	assert(!r->out);
	return r->ops->base(r);
}

void ferry_vb_ring_log(struct ferry_vb_ring *r, uint64_t offset,
		       uint64_t bytes)
{
	if (r->where.logged)
		ferry_vb_dirty_mark(r->dirty, r->where.log + offset, bytes);
}

static bool touch_all(struct ferry_vb_ring *r, const struct ferry_vb_slot *s)
{
	for (uint32_t i = 0; i < s->outs + s->ins; i++)
		if (!ferry_vb_touch(r->touch, s->segment[i].iov_base,
				    s->segment[i].iov_len))
			return false;
	return true;
}

/* What was in flight comes first, in its old order. */
static int take_next(struct ferry_vb_ring *r, uint32_t *id)
{
	int rc;

	if (r->inflight && ferry_vb_inflight_again(r->inflight, id))
		return r->ops->retake(r, *id) ? -1 : 1;
	rc = r->ops->take(r, id);
	if (rc == 1 && r->inflight &&
	    ferry_vb_inflight_take(r->inflight, r, *id))
		return -1;
	return rc;
}

int ferry_vb_ring_pop(struct ferry_vb_ring *r, struct ferry_vhost_buffer *b)
{
	struct ferry_vb_slot *s;
	uint32_t id;
	int rc;

	if (r->wrong)
		return -1;
	rc = take_next(r, &id);
	if (rc <= 0)
		return rc;
	s = &r->slot[id];
	s->busy = true;
	r->out++;
	if (!touch_all(r, s)) {
		slot_close(r, s);
		return ferry_vb_ring_wrong(r, "the guest's memory is gone");
	}

	*b = (struct ferry_vhost_buffer){
		.out = s->segment, .outs = s->outs, .out_bytes = s->out_bytes,
		.in = s->segment + s->outs, .ins = s->ins,
		.in_bytes = s->in_bytes, .id = id,
	};
	return 1;
}

/* The data is written; now its pages are marked. */
static void log_written(struct ferry_vb_ring *r, const struct ferry_vb_slot *s,
			uint64_t bytes)
{
	const struct iovec *in = s->segment + s->outs;

	for (uint32_t i = 0; i < s->ins && bytes; i++) {
		uint64_t n = bytes < in[i].iov_len ? bytes : in[i].iov_len;

		ferry_vb_dirty_mark(r->dirty,
				    ferry_vb_memory_gpa_of(r->memory,
							   in[i].iov_base), n);
		bytes -= n;
	}
}

void ferry_vb_ring_push(struct ferry_vb_ring *r,
			const struct ferry_vhost_buffer *b, uint32_t bytes)
{
	struct ferry_vb_slot *s = &r->slot[b->id];

	assert(b->id < r->size && s->busy && bytes <= s->in_bytes);
	if (r->features & FERRY_VU_VIRTIO_F_LOG_ALL)
		log_written(r, s, bytes);
	if (!r->wrong && !ferry_vb_touch_broken(r->touch)) {
		r->ops->put(r, b->id, bytes);
		r->unshown++;
		if (r->inflight)
			ferry_vb_inflight_put(r->inflight, b->id);
	}
	slot_close(r, s);
}

void ferry_vb_ring_unpop(struct ferry_vb_ring *r,
			 const struct ferry_vhost_buffer *b)
{
	assert(b->id < r->size && r->slot[b->id].busy);
	if (!r->inflight || !ferry_vb_inflight_untake(r->inflight, b->id))
		r->ops->untake(r, b->id);
	slot_close(r, &r->slot[b->id]);
}

bool ferry_vb_ring_flush(struct ferry_vb_ring *r)
{
	if (r->wrong || ferry_vb_touch_broken(r->touch) || !r->unshown)
		return false;
	if (r->inflight)
		ferry_vb_inflight_show(r->inflight, r);
	r->ops->show(r);
	r->unshown = 0;
	if (r->inflight)
		ferry_vb_inflight_shown(r->inflight, r);
	return r->ops->wants_call(r);
}
