/* SPDX-License-Identifier: MIT */
/*
 * The rig's bulk devices.  The state of one is so many blocks, each with a
 * generation that the guest counts up while the VM runs.  A buffer is one
 * block: number, generation, and octets that follow from both.  The target
 * checks each, and that the last of each block was the last there was.
 *
 * They also watch what the engine promises: order, one callback at a time,
 * steps in their place.
 */
#include "rig.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES	3000u	/* of a buffer */
#define AT_ONCE		4u	/* buffers that iterate() hands out */

struct block {
	uint32_t number, generation;
	uint32_t word[BLOCK_BYTES / 4 - 2];
};

static const struct rig_bulk_config *config(const struct rig_bulk *b)
{
	return &b->side->rig->cfg.bulk;
}

static void make(const struct rig_bulk *b, uint32_t number,
		 uint32_t generation, struct block *out)
{
	out->number = number;
	out->generation = generation;
	for (unsigned i = 0; i < BLOCK_BYTES / 4 - 2; i++)
		out->word[i] = b->number * 77 + number * 7919 +
			       generation * 104729 + i;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* One callback at a time; -1 where the test wants this one to fail. */
static int enter(struct rig_bulk *b, unsigned call, struct ferry_err *e)
{
	const struct rig_bulk_config *c = config(b);

	assert(atomic_fetch_add(&b->inside, 1) == 0);
	if (c->fails != call || b->number + 1 != c->devices)
		return 0;
	snprintf(e->msg, sizeof(e->msg), "no %u", call);
	e->code = FERRY_E_CLOSED;	/* not the link's, for all that */
	return -1;
}

static int leave(struct rig_bulk *b, int rc)
{
	atomic_fetch_sub(&b->inside, 1);
	return rc;
}

static int op_step(void *opaque, enum ferry_bulk_step step,
		   struct ferry_err *e)
{
	static const unsigned fails[] = {
		[FERRY_BULK_BEGIN] = RIG_BULK_FAIL_BEGIN,
		[FERRY_BULK_STOP] = RIG_BULK_FAIL_STOP,
		[FERRY_BULK_RUN] = RIG_BULK_FAIL_RUN,
		[FERRY_BULK_CANCEL] = 0,
	};
	struct rig_bulk *b = opaque;
	bool target = b->side->is_target;
	int rc = 0;

	assert(!atomic_load(&b->side->running) || step == FERRY_BULK_BEGIN ||
	       step == FERRY_BULK_CANCEL);
	/* All of them one step, before any the next. */
	for (unsigned i = 0; i < config(b)->devices; i++)
		if (step == FERRY_BULK_STOP)
			assert(b->side->bulk[i].steps &
			       1u << FERRY_BULK_QUIESCE);
		else if (step == FERRY_BULK_RUN)
			assert(b->side->bulk[i].steps &
			       1u << FERRY_BULK_PREPARE);
	if (step < sizeof(fails) / sizeof(fails[0]) && fails[step] &&
	    target == (step == FERRY_BULK_RUN))
		rc = enter(b, fails[step], e);
	else
		rc = enter(b, UINT32_MAX, e);
	b->steps |= 1u << step;
	if (step == FERRY_BULK_STOP || step == FERRY_BULK_RUN)
		b->stands = step == FERRY_BULK_STOP;
	return leave(b, rc);
}

static unsigned dirty_blocks(struct rig_bulk *b)
{
	unsigned n = 0;

	pthread_mutex_lock(&b->lock);
	for (unsigned i = 0; i < config(b)->blocks; i++)
		n += b->dirty[i];
	pthread_mutex_unlock(&b->lock);
	return n;
}

static int op_pending(void *opaque, struct ferry_bulk_pending *p,
		      struct ferry_err *e)
{
	struct rig_bulk *b = opaque;

	assert(p->size == sizeof(*p) && !b->stands);
	p->dirty_bytes = (uint64_t)dirty_blocks(b) * BLOCK_BYTES;
	return leave(b, enter(b, RIG_BULK_FAIL_PENDING, e));
}

/* The next dirty block, from `at` on; false: there is none. */
static bool take_dirty(struct rig_bulk *b, unsigned at, struct block *out)
{
	bool found = false;

	pthread_mutex_lock(&b->lock);
	for (; !found && at < config(b)->blocks; at++) {
		found = b->dirty[at];
		if (found)
			make(b, at, b->generation[at], out);
		b->dirty[at] = 0;
	}
	pthread_mutex_unlock(&b->lock);
	return found;
}

static int hand_out(struct rig_bulk *b, struct ferry_bulk *out, unsigned most,
		    struct ferry_err *e)
{
	struct block block = { 0 };

	for (unsigned n = 0; n < most && take_dirty(b, 0, &block); n++)
		if (ferry_bulk_write(out, &block, sizeof(block), n + 1 == most ?
				     FERRY_BULK_INITIAL : 0, e) &&
		    !config(b)->short_read)
			return -1;
	return 0;
}

static int op_iterate(void *opaque, struct ferry_bulk *out,
		      struct ferry_err *e)
{
	struct rig_bulk *b = opaque;
	int rc = enter(b, RIG_BULK_FAIL_ITERATE, e);

	assert(!b->stands);
	rc = rc || hand_out(b, out, AT_ONCE, e) ? -1 : 0;
	return leave(b, rc ? rc : dirty_blocks(b) > 0);
}

static int op_save(void *opaque, struct ferry_bulk *out, struct ferry_err *e)
{
	struct rig_bulk *b = opaque;
	int rc = enter(b, RIG_BULK_FAIL_SAVE, e);
	struct pollfd p = { .fd = ferry_bulk_fd(out), .events = POLLIN };

	assert(b->stands);
	if (config(b)->hangs && b->number + 1 == config(b)->devices)
		assert(poll(&p, 1, 60000) == 1 && ferry_bulk_is_over(out));
	rc = rc || hand_out(b, out, UINT32_MAX, e) ? -1 : 0;
	if (!rc && ferry_bulk_write(out, "end", 4, FERRY_BULK_CONFIG, e) &&
	    !config(b)->short_read)
		rc = -1;
	return leave(b, rc);
}

static int op_load_begin(void *opaque, struct ferry_bulk *in, uint32_t version,
			 struct ferry_err *e)
{
	struct rig_bulk *b = opaque;

	(void)in;
	assert(version == 7);
	b->next_index = 0;
	b->whole = false;
	b->began_ns = now_ns();
	return leave(b, enter(b, RIG_BULK_FAIL_LOAD_BEGIN, e));
}

static int refuse(struct ferry_err *e, const char *why)
{
	snprintf(e->msg, sizeof(e->msg), "%s", why);
	e->code = FERRY_E_DEVICE;
	return -1;
}

static int load_block(struct rig_bulk *b, const struct block *got,
		      struct ferry_err *e)
{
	struct block want;

	if (got->number >= config(b)->blocks)
		return refuse(e, "no such block");
	make(b, got->number, got->generation, &want);
	if (memcmp(got, &want, sizeof(want)))
		return refuse(e, "a wrong block");
	if (got->generation <= b->generation[got->number])
		return refuse(e, "an old block");
	b->generation[got->number] = got->generation;
	return 0;
}

static int op_load_buffer(void *opaque, struct ferry_bulk *in, uint64_t index,
			  unsigned flags, const void *data, size_t bytes,
			  struct ferry_err *e)
{
	struct rig_bulk *b = opaque;
	int rc = enter(b, RIG_BULK_FAIL_LOAD, e);

	(void)in;
	assert(index == b->next_index++);
	if (b->number == 0 && config(b)->slow_us)
		usleep(config(b)->slow_us);
	if (flags & FERRY_BULK_CONFIG)
		b->whole = bytes == 4 && !memcmp(data, "end", 4);
	else if (!rc)
		rc = bytes == sizeof(struct block) ? load_block(b, data, e) :
						     refuse(e, "half a block");
	return leave(b, rc);
}

static int op_ready(void *opaque)
{
	struct rig_bulk *b = opaque;

	return b->number || now_ns() - b->began_ns >=
			    config(b)->hold_ms * 1000000ull;
}

static int op_load_end(void *opaque, struct ferry_bulk *in,
		       struct ferry_err *e)
{
	struct rig_bulk *b = opaque;
	int rc = enter(b, RIG_BULK_FAIL_END, e);

	(void)in;
	if (!rc && !b->whole)
		rc = refuse(e, "not all of it");
	/* The small state is here, and memory. */
	assert(!memcmp(b->side->device_state, b->side->rig->src.device_state,
		       sizeof(b->side->device_state)));
	if (!rc && memcmp(b->side->mem[0], b->side->rig->src.mem[0], RIG_PAGE))
		atomic_fetch_add(&b->side->rig->torn, 1);
	return leave(b, rc);
}

void rig_bulk_init(struct rig_side *s)
{
	static const struct ferry_bulk_ops ops = {
		.size = sizeof(ops), .step = op_step, .pending = op_pending,
		.iterate = op_iterate, .save = op_save,
		.load_begin = op_load_begin, .load_buffer = op_load_buffer,
		.ready = op_ready, .load_end = op_load_end,
	};
	const struct rig_bulk_config *c = &s->rig->cfg.bulk;

	for (unsigned i = 0; i < c->devices; i++) {
		/* Not in the same order at both ends. */
		unsigned n = s->is_target ? c->devices - 1 - i : i;
		struct rig_bulk *b = &s->bulk[n];

		b->side = s;
		b->number = n;
		pthread_mutex_init(&b->lock, NULL);
		b->generation = calloc(c->blocks, sizeof(*b->generation));
		b->dirty = calloc(c->blocks, 1);
		assert(b->generation && b->dirty);
		for (unsigned k = 0; k < c->blocks && !s->is_target; k++)
			b->generation[k] = b->dirty[k] = 1;
		assert(!ferry_vm_add_bulk(s->vm, "bulk", n, s->is_target ? 8 : 7,
					  &ops, b, NULL));
	}
}

void rig_bulk_fini(struct rig_side *s)
{
	for (unsigned i = 0; i < s->rig->cfg.bulk.devices; i++) {
		free(s->bulk[i].generation);
		free(s->bulk[i].dirty);
		pthread_mutex_destroy(&s->bulk[i].lock);
	}
}

void rig_bulk_again(struct rig *r)
{
	const struct rig_bulk_config *c = &r->cfg.bulk;

	for (unsigned i = 0; i < c->devices; i++) {
		struct rig_bulk *src = &r->src.bulk[i], *dst = &r->dst.bulk[i];

		memset(src->dirty, 1, c->blocks);
		memset(dst->generation, 0,
		       c->blocks * sizeof(*dst->generation));
		src->steps = dst->steps = 0;
	}
}

void rig_bulk_touch(struct rig_side *s, uint64_t turn)
{
	for (unsigned i = 0; i < s->rig->cfg.bulk.devices; i++) {
		struct rig_bulk *b = &s->bulk[i];
		unsigned n = (unsigned)(turn * 5 % config(b)->blocks);

		pthread_mutex_lock(&b->lock);
		b->generation[n]++;
		b->dirty[n] = 1;
		pthread_mutex_unlock(&b->lock);
	}
}

static const char *one_verdict(const struct rig *r, unsigned i)
{
	const struct rig_bulk *src = &r->src.bulk[i], *dst = &r->dst.bulk[i];
	bool moved = r->source_stats.where != FERRY_WHERE_SOURCE;
	unsigned began = src->steps & 1u << FERRY_BULK_BEGIN;
	unsigned stopped = src->steps & 1u << FERRY_BULK_STOP;

	if (src->inside || dst->inside)
		return "a callback of a bulk device has not returned";
	if (!moved && began && !(src->steps & 1u << FERRY_BULK_CANCEL))
		return "a bulk device was not told that it failed";
	if (!moved && stopped && src->stands && !r->cfg.stopped)
		return "a bulk device stands and its VM runs";
	if (r->source_rc)
		return "";
	if (!dst->whole || memcmp(src->generation, dst->generation,
				  r->cfg.bulk.blocks * sizeof(uint32_t)))
		return "a bulk device lacks something at the target";
	if (!(src->steps & 1u << FERRY_BULK_END))
		return "a bulk device was not told that it ended";
	return "";
}

const char *rig_bulk_verdict(struct rig *r)
{
	for (unsigned i = 0; i < r->cfg.bulk.devices; i++)
		if (one_verdict(r, i)[0])
			return one_verdict(r, i);
	return "";
}
