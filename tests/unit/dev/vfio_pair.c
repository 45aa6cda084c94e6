/* SPDX-License-Identifier: MIT */
#include "vfio_pair.h"

int pair_keep(void *arg, const void *data, size_t bytes, unsigned flags,
		struct ferry_err *e)
{
	struct pair *p = arg;
	struct piece *at = &p->piece[p->pieces];

	(void)e;
	assert_true(p->pieces < PIECES_MAX);
	at->flags = flags;
	at->bytes = bytes;
	at->data = malloc(bytes + 1);
	memcpy(at->data, data, bytes);
	p->pieces++;
	p->initial += !!(flags & FERRY_BULK_INITIAL);
	return 0;
}

static void note_reset(void *opaque)
{
	struct pair *p = opaque;

	p->was_reset++;
}

struct ferry_vfio_config pair_config(struct pair *p)
{
	struct ferry_vfio_config c = FERRY_VFIO_CONFIG_INIT;

	c.name = "nic";
	c.fd = FAKE_FD;
	c.chunk_bytes = 4096;
	c.was_reset = note_reset;
	c.opaque = p;
	return c;
}

struct ferry_vfio *pair_device(struct pair *p, struct vfio_fake *f)
{
	struct ferry_vfio_config c = pair_config(p);
	struct ferry_err e = { 0 };
	struct ferry_vfio *v = ferry_vfio_new(&c, &vfio_fake_sys, f, &e);

	if (!v)
		fail_msg("%s", e.msg);
	return v;
}

struct pair *pair_new(const struct vfio_fake_config *cfg)
{
	struct pair *p = calloc(1, sizeof(*p));
	struct ferry_err e = { 0 };

	vfio_fake_init(&p->from, cfg);
	vfio_fake_init(&p->to, cfg);
	p->from.vm_runs = true;
	p->out = pair_device(p, &p->from);
	p->in = pair_device(p, &p->to);
	ferry_vfio_bulk_ops(&p->ops);
	assert_false(ferry_bulk_init(&p->out_handle, &e) ||
		     ferry_bulk_init(&p->in_handle, &e));
	p->out_handle.write = pair_keep;
	p->out_handle.arg = p;
	return p;
}

void pair_forget(struct pair *p)
{
	while (p->pieces)
		free(p->piece[--p->pieces].data);
	p->loaded = p->initial = 0;
}

void pair_free(struct pair *p)
{
	assert_string_equal(p->from.odd, "");
	assert_string_equal(p->to.odd, "");
	ferry_vfio_free(p->out);
	ferry_vfio_free(p->in);
	assert_true(vfio_fake_is_tidy(&p->from));
	assert_true(vfio_fake_is_tidy(&p->to));
	vfio_fake_fini(&p->from);
	vfio_fake_fini(&p->to);
	ferry_bulk_fini(&p->out_handle);
	ferry_bulk_fini(&p->in_handle);
	pair_forget(p);
	free(p);
}

/* ---- a course ------------------------------------------------------------- */

int pair_feed(struct pair *p, struct ferry_err *e)
{
	for (; p->loaded < p->pieces; p->loaded++) {
		const struct piece *at = &p->piece[p->loaded];

		if (p->ops.load_buffer(p->in, &p->in_handle, p->loaded,
				       at->flags, at->data, at->bytes, e))
			return -1;
	}
	return 0;
}

int pair_iterate_all(struct pair *p, struct ferry_err *e)
{
	int rc;

	do {
		rc = p->ops.iterate(p->out, &p->out_handle, e);
	} while (rc > 0);
	return rc;
}

int pair_act(struct pair *p, enum act which, struct ferry_err *e)
{
	struct ferry_bulk_pending pending = { .size = sizeof(pending) };

	switch (which) {
	case BEGIN:
		return p->ops.step(p->out, FERRY_BULK_BEGIN, e);
	case LOAD_BEGIN:
		return p->ops.load_begin(p->in, &p->in_handle, 1, e);
	case LOOK:
		return p->ops.pending(p->out, &pending, e);
	case ITERATE:
		return pair_iterate_all(p, e);
	case TOUCH:
		for (unsigned i = 0; i < 9; i++)
			vfio_fake_touch(&p->from, i * 5);
		return 0;
	case FEED:
	case FEED_ALL:
		return pair_feed(p, e);
	case QUIESCE:
		return p->ops.step(p->out, FERRY_BULK_QUIESCE, e);
	case STOP:
		return p->ops.step(p->out, FERRY_BULK_STOP, e);
	case SAVE:
		return p->ops.save(p->out, &p->out_handle, e);
	case LOAD_END:
		return p->ops.load_end(p->in, &p->in_handle, e);
	case END:
		return p->ops.step(p->out, FERRY_BULK_END, e);
	case PREPARE:
		return p->ops.step(p->in, FERRY_BULK_PREPARE, e);
	case RUN:
		return p->ops.step(p->in, FERRY_BULK_RUN, e);
	case ACTS:
		break;
	}
	return -1;
}

/* Until one fails, which it returns. */
enum act pair_course(struct pair *p, enum act end, struct ferry_err *e)
{
	enum act at = BEGIN;

	while (at < end && !pair_act(p, at, e))
		at++;
	return at;
}

/* What the engine does behind a failure, at both ends. */
void pair_cancel(struct pair *p, enum act reached)
{
	static const enum ferry_bulk_step back[] = {
		FERRY_BULK_CANCEL, FERRY_BULK_PREPARE, FERRY_BULK_RUN,
	};
	struct ferry_err ignored;

	for (unsigned i = 0; i < (reached >= QUIESCE ? 3u : 1u); i++)
		(void)!p->ops.step(p->out, back[i], &ignored);
	if (reached >= LOAD_BEGIN)
		(void)!p->ops.step(p->in, FERRY_BULK_CANCEL, &ignored);
}

void pair_expect_moved(struct pair *p, const char *what)
{
	struct ferry_err e = { 0 };
	enum act at = pair_course(p, ACTS, &e);

	if (at != ACTS)
		fail_msg("%s: act %d: %s", what, (int)at, e.msg);
	if (!vfio_fake_same(&p->from, &p->to) ||
	    p->from.state != VFIO_DEVICE_STATE_STOP ||
	    p->to.state != VFIO_DEVICE_STATE_RUNNING)
		fail_msg("%s: states %u and %u", what, (unsigned)p->from.state,
			 (unsigned)p->to.state);
	assert_string_equal(p->from.odd, "");
	assert_string_equal(p->to.odd, "");
}

/* And can do all of it once more. */
void pair_expect_back(struct pair *p, const char *what)
{
	if (p->from.state != VFIO_DEVICE_STATE_RUNNING ||
	    !vfio_fake_is_tidy(&p->from) || !vfio_fake_is_tidy(&p->to))
		fail_msg("%s: state %u, %u open at the source and %u at the "
			 "target", what, (unsigned)p->from.state,
			 p->from.opened - p->from.closed,
			 p->to.opened - p->to.closed);
	pair_forget(p);
	p->from.fail_at = p->to.fail_at = 0;
	p->from.fails_on = p->to.fails_on = false;
	pair_expect_moved(p, what);
}
