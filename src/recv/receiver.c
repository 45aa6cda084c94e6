/* SPDX-License-Identifier: MIT */
/*
 * A receiver.  The payload goes through a buffer that stays in the cache, and
 * from there in runs to where it belongs.
 */
#include "recv/receiver.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "recv/scatter.h"
#include "wire/text.h"

void ferry_marks_init(struct ferry_marks *g)
{
	*g = (struct ferry_marks){ 0 };
	pthread_mutex_init(&g->lock, NULL);
	ferry_cond_init(&g->changed);
}

void ferry_marks_fini(struct ferry_marks *g)
{
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
}

/* One more stretch of waiting; false when nothing was read in it. */
static bool wait_while_read(struct ferry_marks *g, struct ferry_receiver *r,
			    uint32_t silence_ms)
{
	uint64_t before = atomic_load(&r->chan->read_bytes);
	uint64_t until = ferry_now_ns() + silence_ms * FERRY_NS_PER_MS;

	return ferry_cond_wait_until(&g->changed, &g->lock, until) ||
	       atomic_load(&r->chan->read_bytes) != before;
}

int ferry_marks_wait(struct ferry_marks *g, struct ferry_receiver *r,
		     uint32_t sequence, uint32_t silence_ms,
		     struct ferry_err *e)
{
	bool alive = true;
	int rc = 0;

	pthread_mutex_lock(&g->lock);
	while (r->synced < sequence && !r->broken && !r->dropped &&
	       !g->closed && alive)
		alive = wait_while_read(g, r, silence_ms);
	if (r->dropped) {
		rc = 0;
	} else if (r->synced < sequence && r->broken) {
		*e = r->why;
		rc = -1;
	} else if (r->synced < sequence && g->closed) {
		rc = ferry_err_set(e, FERRY_E_CANCELLED, 0,
				   "gave up waiting for the data channels");
	} else if (r->synced < sequence) {
		rc = ferry_err_set(e, FERRY_E_TIMEOUT, 0,
				   "channel %s: silent for %u ms",
				   r->chan->name, silence_ms);
	}
	pthread_mutex_unlock(&g->lock);
	return rc;
}

void ferry_receiver_drop(struct ferry_receiver *r)
{
	pthread_mutex_lock(&r->gate->lock);
	r->dropped = true;
	pthread_cond_broadcast(&r->gate->changed);
	pthread_mutex_unlock(&r->gate->lock);
	r->chan->ops->shutdown(r->chan);
}

bool ferry_receiver_is_dropped(struct ferry_receiver *r)
{
	bool dropped;

	pthread_mutex_lock(&r->gate->lock);
	dropped = r->dropped;
	pthread_mutex_unlock(&r->gate->lock);
	return dropped;
}

unsigned ferry_marks_alive(struct ferry_marks *g,
			   const struct ferry_receiver *r, unsigned n)
{
	unsigned alive = 0;

	pthread_mutex_lock(&g->lock);
	for (unsigned i = 0; i < n; i++)
		alive += !r[i].broken && !r[i].dropped;
	pthread_mutex_unlock(&g->lock);
	return alive;
}

void ferry_marks_close(struct ferry_marks *g)
{
	pthread_mutex_lock(&g->lock);
	g->closed = true;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

void ferry_marks_reopen(struct ferry_marks *g)
{
	pthread_mutex_lock(&g->lock);
	g->closed = false;
	pthread_mutex_unlock(&g->lock);
}

static void gate_synced(struct ferry_receiver *r, uint32_t sequence)
{
	pthread_mutex_lock(&r->gate->lock);
	r->synced = sequence;
	pthread_cond_broadcast(&r->gate->changed);
	pthread_mutex_unlock(&r->gate->lock);
}

static void gate_failed(struct ferry_receiver *r, const struct ferry_err *why)
{
	pthread_mutex_lock(&r->gate->lock);
	r->why = *why;
	r->broken = true;
	pthread_cond_broadcast(&r->gate->changed);
	pthread_mutex_unlock(&r->gate->lock);
}

static int read_head(struct ferry_receiver *r, struct ferry_err *e)
{
	uint64_t begin = ferry_now_ns();
	const uint8_t *at = ferry_inbuf_need(&r->in, FERRY_PACKET_WIRE, e);
	struct ferry_rd rd;

	if (!at)
		return -1;
	if (r->flow)
		ferry_count(&r->flow->blocked_ns, ferry_now_ns() - begin);
	rd = ferry_rd_over(at, FERRY_PACKET_WIRE);
	if (ferry_packet_decode(&rd, r->methods, &r->packet, e) !=
	    FERRY_DECODE_DONE)
		return -1;
	ferry_inbuf_consume(&r->in, FERRY_PACKET_WIRE);
	return 0;
}

/* For the first packet that is compressed. */
static int open_stream(struct ferry_receiver *r, uint32_t method,
		       struct ferry_err *e)
{
	r->packed = malloc((size_t)FERRY_PACKET_PAGES_MAX * FERRY_PAGE_BYTES);
	if (r->packed)
		r->unpack = ferry_unpack_open(method, FERRY_UNPACK_BITS);
	if (!r->unpack)
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM,
				     "channel %s: unpacking", r->chan->name);
	return 0;
}

static int read_packed(struct ferry_receiver *r, uint32_t method,
		       struct ferry_err *e)
{
	const struct ferry_packet *p = &r->packet;
	size_t plain = p->normal_pages * (size_t)FERRY_PAGE_BYTES;

	if (!r->unpack && open_stream(r, method, e))
		return -1;
	if (p->payload_bytes >= plain)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "channel %s: %u "
				     "compressed octets for %u pages",
				     r->chan->name, p->payload_bytes,
				     p->normal_pages);
	if (ferry_inbuf_read(&r->in, r->packed, p->payload_bytes, e))
		return -1;
	if (method != ferry_unpack_method(r->unpack) ||
	    !ferry_unpack_packet(r->unpack, r->packed, p->payload_bytes,
				 r->pages, plain))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "channel %s: a "
				     "compressed packet is damaged",
				     r->chan->name);
	if (r->flow) {
		ferry_count(&r->flow->packed_from, plain);
		ferry_count(&r->flow->packed_to, p->payload_bytes);
	}
	return 0;
}

/* Behind pages that come as they are a stream begins anew. */
static int read_payload(struct ferry_receiver *r, struct ferry_err *e)
{
	const struct ferry_packet *p = &r->packet;
	uint32_t method = p->flags & FERRY_PACKET_METHODS;

	if (!p->normal_pages)
		return 0;
	if (r->flow)
		atomic_store_explicit(&r->flow->method, method,
				      memory_order_relaxed);
	if (method)
		return read_packed(r, method, e);
	if (r->unpack)
		ferry_unpack_restart(r->unpack);
	return ferry_inbuf_read(&r->in, r->pages, p->payload_bytes, e);
}

static void count(struct ferry_receiver *r)
{
	const struct ferry_packet *p = &r->packet;

	if (!r->flow)
		return;
	ferry_count(&r->flow->bytes, FERRY_PACKET_WIRE + p->payload_bytes);
	ferry_count(&r->flow->normal_pages, p->normal_pages);
	ferry_count(&r->flow->zero_pages, p->zero_pages);
}

static int read_pages(struct ferry_receiver *r, struct ferry_err *e)
{
	const struct ferry_packet *p = &r->packet;
	struct ferry_block_shape shape;
	struct ferry_mem_block *b;

	if (read_head(r, e))
		return -1;
	if (p->flags & FERRY_PACKET_SYNC) {
		if (p->normal_pages || p->zero_pages)
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "channel %s: a mark with pages",
					     r->chan->name);
		count(r);
		gate_synced(r, (uint32_t)p->packet_num);
		return 0;
	}
	b = ferry_mem_by_name(r->place->mem, p->name);
	if (!b)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "pages of block %s, which there is not",
				     FERRY_SHOW(p->name));
	shape = (struct ferry_block_shape){ b->name, b->bytes, b->page_bytes };
	if (ferry_packet_check_in(p, &shape, e) || read_payload(r, e))
		return -1;
	count(r);
	r->placer.way = ferry_sums_way(r->number, ferry_packet_pass(p));
	return ferry_scatter(&r->placer, b, p, r->pages, e);
}

static int read_packet(struct ferry_receiver *r, struct ferry_err *e)
{
	const uint8_t *first;

	if (!r->sink)
		return read_pages(r, e);
	first = ferry_inbuf_need(&r->in, 4, e);
	if (!first)
		return -1;
	return r->no_pages || ferry_bulk_packet_is(first) ?
	       ferry_device_read(&r->in, r->sink, e) : read_pages(r, e);
}

static void receiver_main(void *arg)
{
	struct ferry_receiver *r = arg;
	struct ferry_err err = { 0 };

	while (!read_packet(r, &err))
		;
	gate_failed(r, &err);
	r->failed(r->arg, r, &err);
}

int ferry_receiver_start(struct ferry_receiver *r, struct ferry_inbuf *in,
			 struct ferry_err *e)
{
	struct ferry_chan *chan = in->chan;
	char name[16];

	r->chan = chan;
	r->in = *in;
	*in = (struct ferry_inbuf){ 0 };
	ferry_inbuf_count(&r->in, &r->place->received_bytes);
	ferry_placer_init(&r->placer, r->place);
	if (posix_memalign((void **)&r->pages, FERRY_PAGE_BYTES,
			   (size_t)FERRY_PACKET_PAGES_MAX * FERRY_PAGE_BYTES)) {
		r->pages = NULL;
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM,
				     "channel %s: buffer", chan->name);
	}
	snprintf(name, sizeof(name), "ferry-%.9s", chan->name);
	return ferry_thread_start(&r->thread, name, receiver_main, r, e);
}

void ferry_receiver_stop(struct ferry_receiver *r)
{
	if (!r->chan)
		return;
	r->chan->ops->shutdown(r->chan);
	ferry_thread_join(&r->thread);
	ferry_inbuf_fini(&r->in);
	ferry_placer_fini(&r->placer);
	free(r->pages);
	free(r->packed);
	ferry_unpack_close(r->unpack);
	ferry_chan_close(r->chan);
	r->chan = NULL;
}
