/* SPDX-License-Identifier: MIT */
/*
 * Loading bulk devices: one thread each, "ferry-bulk-i", which takes the next
 * packet when it is here, loads it without the lock, and grants another.
 */
#include "dev/bulk_in.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define LOOK_NS	(20 * FERRY_NS_PER_MS)	/* at one that is not ready */

void ferry_bulk_in_init(struct ferry_bulk_in *in,
			const struct ferry_bulk_list *list,
			const struct ferry_bulk_in_ops *ops, void *arg)
{
	*in = (struct ferry_bulk_in){ .list = list, .ops = ops, .arg = arg };
	pthread_mutex_init(&in->lock, NULL);
	ferry_cond_init(&in->changed);
}

void ferry_bulk_in_forget(struct ferry_bulk_in *in)
{
	for (uint32_t i = 0; i < in->loaders; i++) {
		ferry_bulk_queue_fini(&in->loader[i].queue);
		ferry_bulk_fini(&in->loader[i].handle);
	}
	pthread_mutex_lock(&in->lock);
	free(in->loader);
	in->loader = NULL;
	in->loaders = in->loaded = 0;
	in->closed = in->may_end = false;
	in->why = (struct ferry_err){ 0 };
	pthread_mutex_unlock(&in->lock);
}

void ferry_bulk_in_fini(struct ferry_bulk_in *in)
{
	ferry_bulk_in_forget(in);
	pthread_cond_destroy(&in->changed);
	pthread_mutex_destroy(&in->lock);
}

static int grow(struct ferry_bulk_in *in, struct ferry_err *e)
{
	/* Once for all: threads and queues point into it. */
	if (!in->loader)
		in->loader = calloc(in->list->devs, sizeof(*in->loader));
	return in->loader ? 0 : ferry_err_set(e, FERRY_E_NOMEM, errno,
					      "bulk devices");
}

int ferry_bulk_in_add(struct ferry_bulk_in *in, const char *name,
		      uint32_t instance, uint32_t version,
		      struct ferry_err *e)
{
	const struct ferry_bulk_dev *dev = ferry_bulk_find(in->list, name,
							   instance);
	struct ferry_bulk_loader *l;
	int rc = -1;

	if (!dev || in->loaders == in->list->devs)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "bulk device %s/%" PRIu32 ": there is "
				     "none here", name, instance);
	pthread_mutex_lock(&in->lock);
	if (!grow(in, e)) {
		l = &in->loader[in->loaders];
		l->in = in;
		l->dev = dev;
		l->number = in->loaders;
		l->version = version;
		ferry_bulk_queue_init(&l->queue, dev->name);
		rc = ferry_bulk_init(&l->handle, e);
		in->loaders += !rc;
	}
	pthread_mutex_unlock(&in->lock);
	return rc;
}

/* ---- what arrives --------------------------------------------------------- */

int ferry_bulk_in_room(struct ferry_bulk_in *in,
		       const struct ferry_bulk_packet *p, uint8_t **at,
		       struct ferry_err *e)
{
	int rc;

	pthread_mutex_lock(&in->lock);
	if (p->device < in->loaders)
		rc = ferry_bulk_queue_room(&in->loader[p->device].queue, p, at,
					   e);
	else
		rc = ferry_err_set(e, FERRY_E_PROTO, 0, "a packet of bulk "
				   "device %u, of %" PRIu32, p->device,
				   in->loaders);
	pthread_mutex_unlock(&in->lock);
	return rc;
}

void ferry_bulk_in_put(struct ferry_bulk_in *in,
		       const struct ferry_bulk_packet *p)
{
	pthread_mutex_lock(&in->lock);
	ferry_bulk_queue_put(&in->loader[p->device].queue, p);
	pthread_cond_broadcast(&in->changed);
	pthread_mutex_unlock(&in->lock);
}

/* ---- a device's thread ---------------------------------------------------- */

static int grant(struct ferry_bulk_loader *l, struct ferry_err *e)
{
	uint64_t limit = 0;
	bool tell;

	pthread_mutex_lock(&l->in->lock);
	tell = ferry_bulk_queue_grant(&l->queue, &limit);
	pthread_mutex_unlock(&l->in->lock);
	return tell ? l->in->ops->grant(l->in->arg, l->number, limit, e) : 0;
}

static int look_if_ready(struct ferry_bulk_loader *l, struct ferry_err *e)
{
	if (l->stats.ready || !l->dev->ops.ready(l->dev->opaque))
		return 0;
	pthread_mutex_lock(&l->in->lock);
	l->stats.ready = 1;
	pthread_mutex_unlock(&l->in->lock);
	return l->in->ops->ready(l->in->arg, l->number, e);
}

enum got { GOT_PACKET, GOT_NOTHING, GOT_CLOSED };

/* The next packet; nothing for a while where readiness is to be looked at. */
static enum got next(struct ferry_bulk_loader *l, struct ferry_bulk_place *p)
{
	struct ferry_bulk_in *in = l->in;
	uint64_t until = l->stats.ready ? UINT64_MAX :
			 ferry_now_ns() + LOOK_NS;
	enum got got = GOT_NOTHING;

	pthread_mutex_lock(&in->lock);
	do {
		if (in->closed)
			got = GOT_CLOSED;
		else if (ferry_bulk_queue_take(&l->queue, p))
			got = GOT_PACKET;
	} while (got == GOT_NOTHING &&
		 ferry_cond_wait_until(&in->changed, &in->lock, until));
	pthread_mutex_unlock(&in->lock);
	return got;
}

static void note_load(struct ferry_bulk_loader *l, uint64_t since, bool pause,
		      uint32_t bytes)
{
	pthread_mutex_lock(&l->in->lock);
	if (pause) {
		l->stats.load_ns += ferry_now_ns() - since;
		l->stats.pause_bytes += bytes;
	} else {
		l->stats.precopy_bytes += bytes;
	}
	pthread_mutex_unlock(&l->in->lock);
}

/* A device's trouble is not that of the link, whatever it calls it. */
static int blame(const struct ferry_bulk_dev *d, const char *what,
		 struct ferry_err *e)
{
	if (!e->code || ferry_err_is_link(e))
		e->code = FERRY_E_DEVICE;
	return ferry_err_wrap(e, "%s bulk device %s/%" PRIu32, what, d->name,
			      d->instance);
}

static int load(struct ferry_bulk_loader *l, const struct ferry_bulk_place *p,
		struct ferry_err *e)
{
	const struct ferry_bulk_dev *d = l->dev;
	uint64_t since = ferry_now_ns();

	if (d->ops.load_buffer(d->opaque, &l->handle, l->queue.next - 1,
			       p->flags & FERRY_BULK_PACKET_OWN, p->data,
			       p->bytes, e))
		return blame(l->dev, "load", e);
	note_load(l, since, p->flags & FERRY_BULK_PACKET_STOPPED, p->bytes);
	return 0;
}

/* False when it is over. */
static bool may_end(struct ferry_bulk_in *in)
{
	bool may;

	pthread_mutex_lock(&in->lock);
	while (!in->may_end && !in->closed)
		pthread_cond_wait(&in->changed, &in->lock);
	may = !in->closed;
	pthread_mutex_unlock(&in->lock);
	return may;
}

static int end(struct ferry_bulk_loader *l, struct ferry_err *e)
{
	const struct ferry_bulk_dev *d = l->dev;
	uint64_t since = ferry_now_ns();

	if (d->ops.load_end(d->opaque, &l->handle, e))
		return blame(l->dev, "load", e);
	note_load(l, since, true, 0);
	return 0;
}

/* 0: whole, or it is over (*over). */
static int load_all(struct ferry_bulk_loader *l, bool *over,
		    struct ferry_err *e)
{
	struct ferry_bulk_place p = { 0 };
	bool last = false;

	while (!last) {
		enum got got = next(l, &p);
		int rc = 0;

		*over = got == GOT_CLOSED;
		if (*over)
			return 0;
		if (got == GOT_PACKET) {
			last = p.flags & FERRY_BULK_PACKET_LAST;
			rc = last ? 0 : load(l, &p, e);
			free(p.data);
		}
		if (rc || look_if_ready(l, e) || grant(l, e))
			return -1;
	}
	*over = !may_end(l->in);
	return *over ? 0 : end(l, e);
}

static void set_state(struct ferry_bulk_loader *l, enum ferry_bulk_state state)
{
	struct ferry_bulk_in *in = l->in;

	pthread_mutex_lock(&in->lock);
	l->stats.state = state;
	in->loaded += state == FERRY_BULK_STATE_LOADED;
	pthread_cond_broadcast(&in->changed);
	pthread_mutex_unlock(&in->lock);
}

static void note_failure(struct ferry_bulk_loader *l,
			 const struct ferry_err *why)
{
	struct ferry_bulk_in *in = l->in;
	bool late;

	pthread_mutex_lock(&in->lock);
	late = in->closed;
	if (!in->why.code)
		in->why = *why;
	pthread_mutex_unlock(&in->lock);
	set_state(l, FERRY_BULK_STATE_FAILED);
	if (!late)
		in->ops->failed(in->arg, why);
}

static int begin(struct ferry_bulk_loader *l, struct ferry_err *e)
{
	const struct ferry_bulk_dev *d = l->dev;

	if (d->ops.load_begin(d->opaque, &l->handle, l->version, e))
		return blame(l->dev, "load", e);
	return look_if_ready(l, e) || grant(l, e) ? -1 : 0;
}

static void loader_main(void *arg)
{
	struct ferry_bulk_loader *l = arg;
	struct ferry_err err = { 0 };
	bool over = false;

	set_state(l, FERRY_BULK_STATE_ACTIVE);
	if (begin(l, &err) || load_all(l, &over, &err)) {
		note_failure(l, &err);
		return;
	}
	if (over)
		return;
	/* Said before it counts: LOADED comes behind it. */
	if (l->in->ops->loaded(l->in->arg, l->number, l->stats.load_ns, &err))
		note_failure(l, &err);
	else
		set_state(l, FERRY_BULK_STATE_LOADED);
}

/* ---- all of them ---------------------------------------------------------- */

int ferry_bulk_in_start(struct ferry_bulk_in *in, struct ferry_err *e)
{
	for (uint32_t i = 0; i < in->loaders; i++) {
		struct ferry_bulk_loader *l = &in->loader[i];
		char name[16];

		snprintf(name, sizeof(name), "ferry-bulk-%u", i & 0xff);
		l->begun = true;
		if (ferry_thread_start(&l->thread, name, loader_main, l, e))
			return -1;
	}
	return 0;
}

static void join(struct ferry_bulk_in *in)
{
	for (uint32_t i = 0; i < in->loaders; i++)
		ferry_thread_join(&in->loader[i].thread);
}

int ferry_bulk_in_finish(struct ferry_bulk_in *in, struct ferry_err *e)
{
	int rc = 0;

	pthread_mutex_lock(&in->lock);
	in->may_end = true;
	pthread_cond_broadcast(&in->changed);
	while (in->loaded < in->loaders && !in->closed && !in->why.code)
		pthread_cond_wait(&in->changed, &in->lock);
	if (in->why.code) {
		*e = in->why;
		rc = -1;
	} else if (in->loaded < in->loaders) {
		rc = ferry_err_set(e, FERRY_E_CANCELLED, 0, "gave up loading "
				   "bulk devices");
	}
	pthread_mutex_unlock(&in->lock);
	return rc;
}

bool ferry_bulk_in_is_done(struct ferry_bulk_in *in)
{
	bool done;

	pthread_mutex_lock(&in->lock);
	done = in->loaders && in->loaded == in->loaders;
	pthread_mutex_unlock(&in->lock);
	return done;
}

static int step_all(struct ferry_bulk_in *in, enum ferry_bulk_step step,
		    struct ferry_err *e)
{
	for (uint32_t i = 0; i < in->loaders; i++) {
		const struct ferry_bulk_dev *d = in->loader[i].dev;

		if (d->ops.step(d->opaque, step, e))
			return blame(d, "start", e);
	}
	return 0;
}

int ferry_bulk_in_run(struct ferry_bulk_in *in, struct ferry_err *e)
{
	return step_all(in, FERRY_BULK_PREPARE, e) ||
	       step_all(in, FERRY_BULK_RUN, e) ? -1 : 0;
}

void ferry_bulk_in_close(struct ferry_bulk_in *in)
{
	pthread_mutex_lock(&in->lock);
	if (!in->closed)
		for (uint32_t i = 0; i < in->loaders; i++)
			ferry_bulk_raise(&in->loader[i].handle);
	in->closed = true;
	pthread_cond_broadcast(&in->changed);
	pthread_mutex_unlock(&in->lock);
}

void ferry_bulk_in_stop(struct ferry_bulk_in *in)
{
	ferry_bulk_in_close(in);
	join(in);
	for (uint32_t i = 0; i < in->loaders; i++) {
		struct ferry_bulk_loader *l = &in->loader[i];
		struct ferry_err ignored = { 0 };

		if (l->begun)
			(void)!l->dev->ops.step(l->dev->opaque,
						FERRY_BULK_CANCEL, &ignored);
		l->begun = false;
	}
}

void ferry_bulk_in_settle(struct ferry_bulk_in *in)
{
	join(in);
	for (uint32_t i = 0; i < in->loaders; i++)
		in->loader[i].begun = false;
}

static const struct ferry_bulk_loader *
loader_of(const struct ferry_bulk_in *in, const struct ferry_bulk_dev *dev)
{
	for (uint32_t i = 0; i < in->loaders; i++)
		if (in->loader[i].dev == dev)
			return &in->loader[i];
	return NULL;
}

int ferry_bulk_in_stats(struct ferry_bulk_in *in, unsigned index,
			struct ferry_bulk_stats *out)
{
	const struct ferry_bulk_loader *l;
	struct ferry_bulk_stats all = { 0 };

	if (index >= in->list->devs)
		return -1;
	pthread_mutex_lock(&in->lock);
	l = loader_of(in, &in->list->dev[index]);
	if (l)
		all = l->stats;
	pthread_mutex_unlock(&in->lock);
	ferry_bulk_name_stats(&in->list->dev[index], &all, out);
	return 0;
}
