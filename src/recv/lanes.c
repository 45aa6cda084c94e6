/* SPDX-License-Identifier: MIT */
/*
 * The lanes.
 */
#include "recv/lanes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "recv/scatter.h"
#include "wire/text.h"

#define PAYLOAD_MAX	((size_t)FERRY_PACKET_PAGES_MAX * FERRY_PAGE_BYTES)

int ferry_lanes_init(struct ferry_lanes *l, unsigned n, struct ferry_err *e)
{
	pthread_mutex_init(&l->lock, NULL);
	ferry_cond_init(&l->changed);
	l->lane = calloc(n ? n : 1, sizeof(*l->lane));
	if (!l->lane)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "multifd");
	l->n = n;
	return 0;
}

void ferry_lanes_fini(struct ferry_lanes *l)
{
	if (!l->lane)
		return;
	ferry_lanes_stop(l);
	free(l->lane);
	l->lane = NULL;
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->lock);
}

/* ---- one lane ----------------------------------------------------------------- */

static bool await_open(struct ferry_lanes *l)
{
	bool open;

	pthread_mutex_lock(&l->lock);
	while (!l->opened && !l->closed)
		pthread_cond_wait(&l->changed, &l->lock);
	open = !l->closed;
	pthread_mutex_unlock(&l->lock);
	return open;
}

/* What comes behind SYNC is not read before main has seen them all. */
static bool pass_mark(struct ferry_multifd_lane *k)
{
	struct ferry_lanes *l = k->all;
	bool open;

	pthread_mutex_lock(&l->lock);
	k->synced++;
	pthread_cond_broadcast(&l->changed);
	while (l->released < k->synced && !l->closed)
		pthread_cond_wait(&l->changed, &l->lock);
	open = !l->closed;
	pthread_mutex_unlock(&l->lock);
	return open;
}

static int decode_packet(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	struct ferry_multifd_lane *k = arg;
	int rc = ferry_packet_peek(rd, &k->flags, &rd->lack, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	if (k->flags & FERRY_PACKET_DEVICE_STATE)
		return ferry_device_packet_decode(rd, &k->device, e);
	return ferry_packet_decode(rd, FERRY_UNPACK_METHODS, &k->packet, e);
}

static int unpack(struct ferry_multifd_lane *k, struct ferry_err *e)
{
	const struct ferry_packet *p = &k->packet;
	uint32_t method = p->flags & FERRY_PACKET_METHODS;

	if (!k->unpack)
		k->unpack = ferry_unpack_open(method, FERRY_UNPACK_QEMU_BITS);
	if (!k->unpack)
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "channel %s",
				     k->chan->name);
	if (method != ferry_unpack_method(k->unpack) ||
	    !ferry_unpack_packet(k->unpack, k->packed, p->payload_bytes,
				 k->pages, (size_t)p->normal_pages *
				 FERRY_PAGE_BYTES))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "channel %s: a "
				     "compressed packet is damaged",
				     k->chan->name);
	return 0;
}

static int read_payload(struct ferry_multifd_lane *k, struct ferry_err *e)
{
	const struct ferry_packet *p = &k->packet;

	if (!(p->flags & FERRY_PACKET_METHODS))
		return ferry_inbuf_read(&k->in, k->pages, p->payload_bytes, e);
	if (!p->normal_pages)
		return 0;
	return ferry_inbuf_read(&k->in, k->packed, p->payload_bytes, e) ||
	       unpack(k, e) ? -1 : 0;
}

/* Also a SYNC may carry pages (QEMU 7.2). */
static int take_pages(struct ferry_multifd_lane *k, struct ferry_err *e)
{
	const struct ferry_packet *p = &k->packet;
	struct ferry_block_shape shape;
	struct ferry_mem_block *b;

	if (!p->normal_pages && !p->zero_pages)
		return 0;
	b = ferry_mem_by_name(k->all->place->mem, p->name);
	if (!b)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "pages of block %s, which there is not",
				     FERRY_SHOW(p->name));
	shape = (struct ferry_block_shape){ b->name, b->bytes, b->page_bytes };
	if (ferry_packet_check_in(p, &shape, e) || read_payload(k, e))
		return -1;
	return ferry_scatter(&k->placer, b, p, k->pages, e);
}

static int take(struct ferry_multifd_lane *k, struct ferry_err *e)
{
	struct ferry_lanes *l = k->all;

	return k->flags & FERRY_PACKET_DEVICE_STATE ?
	       l->device(l->arg, (unsigned)(k - l->lane), &k->device, &k->in,
			 k->packed, e) : take_pages(k, e);
}

static int read_lane(struct ferry_multifd_lane *k, struct ferry_err *e)
{
	while (!ferry_inbuf_decode(&k->in, decode_packet, k, e) && !take(k, e))
		if (k->flags & FERRY_PACKET_SYNC && !pass_mark(k))
			return 0;
	return -1;
}

static void lane_main(void *arg)
{
	struct ferry_multifd_lane *k = arg;
	struct ferry_lanes *l = k->all;
	struct ferry_err err = { 0 };

	if (!await_open(l) || !read_lane(k, &err))
		return;
	pthread_mutex_lock(&l->lock);
	k->broken = true;
	k->why = err;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	if (!ferry_err_is_link(&err))
		l->failed(l->arg, &err);
}

/* ---- coming and going ---------------------------------------------------------- */

struct init {
	unsigned channels;
	struct ferry_multifd_init is;
};

static int decode_init(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	struct init *i = arg;

	return ferry_multifd_init_decode(rd, i->channels, &i->is, e);
}

/* Caller holds the lock. */
static int begin_lane(struct ferry_lanes *l, struct ferry_multifd_lane *k,
		      struct ferry_inbuf *in, struct ferry_err *e)
{
	char name[32];

	if (l->closed || k->chan)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "channel %s is not "
				     "wanted now", in->chan->name);
	*k = (struct ferry_multifd_lane){ .all = l };
	ferry_placer_init(&k->placer, l->place);
	k->packed = malloc(FERRY_LANE_BUF_BYTES);
	if (!k->packed || posix_memalign((void **)&k->pages, FERRY_PAGE_BYTES,
					 PAYLOAD_MAX)) {
		free(k->packed);
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "channel %s: "
				     "buffers", in->chan->name);
	}
	k->chan = in->chan;
	k->in = *in;
	snprintf(name, sizeof(name), "ferry-lane%td", k - l->lane);
	if (ferry_thread_start(&k->thread, name, lane_main, k, e)) {
		free(k->packed);
		free(k->pages);
		k->chan = NULL;
		return -1;
	}
	*in = (struct ferry_inbuf){ 0 };
	pthread_cond_broadcast(&l->changed);
	return 0;
}

int ferry_lanes_admit(struct ferry_lanes *l, struct ferry_inbuf *in,
		      struct ferry_err *e)
{
	struct init init = { .channels = l->n };
	int rc;

	if (ferry_inbuf_decode(in, decode_init, &init, e))
		return -1;
	ferry_chan_set_name(in->chan, "multifd %u", init.is.id);
	pthread_mutex_lock(&l->lock);
	rc = begin_lane(l, &l->lane[init.is.id], in, e);
	if (!rc)
		memcpy(l->uuid, init.is.uuid, sizeof(l->uuid));
	pthread_mutex_unlock(&l->lock);
	return rc;
}

bool ferry_lanes_over(struct ferry_lanes *l)
{
	bool over = true;

	pthread_mutex_lock(&l->lock);
	for (unsigned i = 0; i < l->n && !l->closed; i++)
		over = over && (!l->lane[i].chan || l->lane[i].broken);
	pthread_mutex_unlock(&l->lock);
	return over;
}

bool ferry_lanes_uuid(struct ferry_lanes *l, uint8_t uuid[16])
{
	static const uint8_t none[16];

	pthread_mutex_lock(&l->lock);
	memcpy(uuid, l->uuid, sizeof(l->uuid));
	pthread_mutex_unlock(&l->lock);
	return memcmp(uuid, none, sizeof(none)) != 0;
}

bool ferry_lanes_all_here(struct ferry_lanes *l)
{
	bool all = true;

	pthread_mutex_lock(&l->lock);
	for (unsigned i = 0; i < l->n; i++)
		all = all && l->lane[i].chan;
	pthread_mutex_unlock(&l->lock);
	return all;
}

void ferry_lanes_open(struct ferry_lanes *l)
{
	pthread_mutex_lock(&l->lock);
	l->opened = true;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

static uint64_t read_so_far(const struct ferry_multifd_lane *k)
{
	return k->chan ? atomic_load(&k->chan->read_bytes) : 0;
}

/* Until the lane has read its next SYNC, is broken, or silent. */
static int await_lane(struct ferry_lanes *l, unsigned i, uint32_t silence_ms,
		      struct ferry_err *e)
{
	struct ferry_multifd_lane *k = &l->lane[i];
	bool alive = true;

	while (k->synced == l->released && !k->broken && !l->closed && alive) {
		uint64_t before = read_so_far(k);
		uint64_t until = ferry_now_ns() + silence_ms * FERRY_NS_PER_MS;

		alive = ferry_cond_wait_until(&l->changed, &l->lock, until) ||
			read_so_far(k) != before;
	}
	if (k->synced > l->released)
		return 0;
	if (k->broken) {
		*e = k->why;
		return -1;
	}
	if (l->closed)
		return ferry_err_set(e, FERRY_E_CANCELLED, 0,
				     "gave up waiting for multifd channels");
	return ferry_err_set(e, FERRY_E_TIMEOUT, 0, k->chan ?
			     "channel multifd %u: silent for %u ms" :
			     "channel multifd %u has not come for %u ms: is "
			     "multifd set at the source, with as many "
			     "channels?", i, silence_ms);
}

int ferry_lanes_sync(struct ferry_lanes *l, uint32_t silence_ms,
		     struct ferry_err *e)
{
	int rc = 0;

	pthread_mutex_lock(&l->lock);
	for (unsigned i = 0; !rc && i < l->n; i++)
		rc = await_lane(l, i, silence_ms, e);
	if (!rc) {
		l->released++;
		pthread_cond_broadcast(&l->changed);
	}
	pthread_mutex_unlock(&l->lock);
	return rc;
}

static void end_lane(struct ferry_multifd_lane *k)
{
	if (!k->chan)
		return;
	k->chan->ops->shutdown(k->chan);
	ferry_thread_join(&k->thread);
	ferry_unpack_close(k->unpack);
	ferry_inbuf_fini(&k->in);
	ferry_placer_fini(&k->placer);
	free(k->pages);
	free(k->packed);
	ferry_chan_close(k->chan);
	k->chan = NULL;
}

void ferry_lanes_stop(struct ferry_lanes *l)
{
	pthread_mutex_lock(&l->lock);
	l->closed = true;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; i < l->n; i++)
		end_lane(&l->lane[i]);
	pthread_mutex_lock(&l->lock);
	l->closed = l->opened = false;
	l->released = 0;
	memset(l->uuid, 0, sizeof(l->uuid));
	pthread_mutex_unlock(&l->lock);
}
