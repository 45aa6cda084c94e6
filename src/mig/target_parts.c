/* SPDX-License-Identifier: MIT */
/*
 * Devices whose state comes in parts (a QEMU's VFIO, wire/vfio.h): sections on
 * main that go on, and from QEMU 10.0 on packets on its multifd channels.  All
 * of it is handed on as it came, a piece at a time, and none is kept in memory;
 * what is looked at is where sections and packets end, and that in the end all
 * packets are there: nothing on main says so.
 *
 * Threads: the reader; packets by the lanes.  parts->lock is taken inside no
 *          other; the target's and the lanes' are taken inside it.
 */
#include "mig/target_impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "send/speak.h"
#include "wire/text.h"
#include "wire/vfio.h"

#define LOOK_NS		(20 * FERRY_NS_PER_MS)

void ferry_parts_init(struct ferry_target *t)
{
	struct ferry_parts *p = &t->adopted.parts;

	pthread_mutex_init(&p->lock, NULL);
	ferry_cond_init(&p->changed);
}

void ferry_parts_forget(struct ferry_target *t)
{
	struct ferry_parts *p = &t->adopted.parts;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->devices; i++)
		ferry_bitmap_fini(&p->device[i].came);
	p->devices = 0;
	p->no_more = false;
	pthread_mutex_unlock(&p->lock);
	p->used = p->kind = 0;
}

void ferry_parts_fini(struct ferry_target *t)
{
	struct ferry_parts *p = &t->adopted.parts;

	ferry_parts_forget(t);
	free(p->buf);
	p->buf = NULL;
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
}

/* Caller holds the lock, or is the reader, who alone adds any. */
static struct ferry_parts_device *by_section(struct ferry_parts *p,
					     uint32_t section)
{
	for (unsigned i = 0; i < p->devices; i++)
		if (p->device[i].section == section)
			return &p->device[i];
	return NULL;
}

static struct ferry_parts_device *by_name(struct ferry_parts *p,
					  const char *name, uint32_t instance)
{
	for (unsigned i = 0; i < p->devices; i++)
		if (p->device[i].instance == instance &&
		    !strcmp(p->device[i].name, name))
			return &p->device[i];
	return NULL;
}

bool ferry_parts_has(struct ferry_target *t, const struct ferry_section *s)
{
	if (!t->vm->adopt || t->dialect != FERRY_DIALECT_QEMU)
		return false;
	return s->type == FERRY_SECTION_START ?
	       strcmp(s->name, FERRY_RAM_SECTION_NAME) != 0 :
	       by_section(&t->adopted.parts, s->id) != NULL;
}

/* ---- main ------------------------------------------------------------------ */

static int flush(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_parts *p = &t->adopted.parts;
	const struct ferry_kept k = { .kind = p->kind, .bytes = p->used };

	if (!p->used)
		return 0;
	p->used = 0;
	return t->vm->adopt->keep(t->vm->opaque, &k, p->buf, e);
}

/* Room for n octets of what comes next; NULL with *e. */
static uint8_t *room(struct ferry_target *t, uint32_t kind, uint32_t n,
		     struct ferry_err *e)
{
	struct ferry_parts *p = &t->adopted.parts;

	if (!p->buf)
		p->buf = malloc(FERRY_KEPT_PIECE_BYTES);
	if (!p->buf) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "device state");
		return NULL;
	}
	if ((p->kind != kind || n > FERRY_KEPT_PIECE_BYTES - p->used) &&
	    flush(t, e))
		return NULL;
	p->kind = kind;
	p->used += n;
	return p->buf + p->used - n;
}

static int keep(struct ferry_target *t, uint32_t kind,
		const struct ferry_wr *w, struct ferry_err *e)
{
	uint32_t n = (uint32_t)ferry_wr_used(w);
	uint8_t *at = room(t, kind, n, e);

	if (!at)
		return -1;
	memcpy(at, w->start, n);
	return 0;
}

static int keep_data(struct ferry_target *t, uint32_t kind, uint64_t bytes,
		     struct ferry_err *e)
{
	while (bytes) {
		uint32_t n = bytes < (64u << 10) ? (uint32_t)bytes : 64u << 10;
		uint8_t *at = room(t, kind, n, e);

		if (!at || ferry_inbuf_read(&t->main_in, at, n, e))
			return -1;
		bytes -= n;
	}
	return 0;
}

static int decode_item(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	return ferry_vfio_item_decode(rd, arg, e);
}

/* Up to END. */
static int keep_items(struct ferry_target *t, uint32_t kind,
		      struct ferry_err *e)
{
	struct ferry_vfio_item item;

	for (;;) {
		uint8_t octets[FERRY_VFIO_ITEM_MAX];
		struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

		if (ferry_inbuf_decode(&t->main_in, decode_item, &item, e))
			return -1;
		ferry_vfio_item_encode(&w, &item);
		if (keep(t, kind, &w, e) ||
		    keep_data(t, kind, item.bytes, e))
			return -1;
		if (item.word == FERRY_VFIO_END)
			return 0;
	}
}

/* What it is, and what cannot be told later. */
static int check_start(struct ferry_target *t, const struct ferry_section *s,
		       struct ferry_err *e)
{
	struct ferry_parts *p = &t->adopted.parts;
	const uint8_t *at = ferry_inbuf_need(&t->main_in, 8, e);
	struct ferry_rd rd = ferry_rd_over(at, at ? 8 : 0);

	if (!at)
		return -1;
	if (ferry_rd_be64(&rd) >> 16 != FERRY_VFIO_END >> 16)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "section %s version %u is not known here",
				     FERRY_SHOW(s->name), s->version);
	if (t->in.body.advised)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "device %s "
				     "sends its state in parts, which does not "
				     "go with postcopy: switch postcopy-ram "
				     "off at the source", FERRY_SHOW(s->name));
	if (s->id == FERRY_RAM_SECTION_ID || by_section(p, s->id) ||
	    by_name(p, s->name, s->instance) ||
	    p->devices == FERRY_KEPT_DEVICES_MAX)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "section %s "
				     "cannot be kept: number %" PRIu32,
				     FERRY_SHOW(s->name), s->id);
	return 0;
}

static void add_device(struct ferry_parts *p, const struct ferry_section *s)
{
	struct ferry_parts_device *d;

	pthread_mutex_lock(&p->lock);
	d = &p->device[p->devices++];
	*d = (struct ferry_parts_device){
		.section = s->id, .instance = s->instance,
	};
	memcpy(d->name, s->name, sizeof(d->name));
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static int keep_section(struct ferry_target *t, const struct ferry_section *s,
			struct ferry_err *e)
{
	uint32_t kind = s->type == FERRY_SECTION_END ? FERRY_KEPT_END :
						       FERRY_KEPT_BEGIN;
	struct ferry_parts_device *d = by_section(&t->adopted.parts, s->id);
	uint8_t octets[FERRY_SECTION_HEAD_MAX];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	if (d->ended)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "it ended before");
	ferry_section_encode(&w, s);
	if (keep(t, kind, &w, e) || keep_items(t, kind, e) ||
	    ferry_stream_footer(&t->main_in, s->id, e))
		return -1;
	w = ferry_wr_over(octets, sizeof(octets));
	ferry_footer_encode(&w, s->id);
	d->ended = s->type == FERRY_SECTION_END;
	return keep(t, kind, &w, e);
}

int ferry_parts_section(struct ferry_target *t, const struct ferry_section *s,
			struct ferry_err *e)
{
	if (s->type == FERRY_SECTION_START) {
		if (check_start(t, s, e))
			return -1;
		add_device(&t->adopted.parts, s);
	}
	if (!keep_section(t, s, e))
		return 0;
	return ferry_err_wrap(e, "device state in section %" PRIu32, s->id);
}

int ferry_parts_switch(struct ferry_target *t, struct ferry_err *e)
{
	const struct ferry_kept k = { .kind = FERRY_KEPT_SWITCH };

	if (!t->vm->adopt || !t->adopted.parts.devices)
		return 0;
	return flush(t, e) ? -1 : t->vm->adopt->keep(t->vm->opaque, &k, NULL,
						      e);
}

static void close_list(struct ferry_parts *p)
{
	pthread_mutex_lock(&p->lock);
	p->no_more = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

int ferry_parts_ends(struct ferry_target *t, struct ferry_err *e)
{
	const uint8_t *next;
	struct ferry_section s = { 0 };

	close_list(&t->adopted.parts);
	while (t->adopted.parts.devices &&
	       (next = ferry_inbuf_need(&t->main_in, 1, e)) &&
	       *next == FERRY_SECTION_END) {
		if (ferry_stream_section(&t->main_in, &s, e))
			return -1;
		if (!ferry_parts_has(t, &s))
			return ferry_err_set(e, FERRY_E_PROTO, 0, "section %"
					     PRIu32 " ends, and never began",
					     s.id);
		if (ferry_parts_section(t, &s, e))
			return -1;
	}
	return 0;
}

/* ---- packets; the lanes ------------------------------------------------------- */

/* A lane may be ahead of main. */
static struct ferry_parts_device *await_device(struct ferry_target *t,
		const struct ferry_device_packet *p, struct ferry_err *e)
{
	struct ferry_parts *parts = &t->adopted.parts;
	uint64_t until = ferry_now_ns() + FERRY_NS_PER_MS *
			 ferry_patience_ms(&t->params);
	struct ferry_parts_device *d;

	pthread_mutex_lock(&parts->lock);
	while (!(d = by_name(parts, p->name, p->instance)) &&
	       !parts->no_more && ferry_now_ns() < until &&
	       !ferry_lanes_over(&t->adopted.lanes))
		ferry_cond_wait_until(&parts->changed, &parts->lock,
				      ferry_now_ns() + LOOK_NS);
	pthread_mutex_unlock(&parts->lock);
	if (!d)
		ferry_err_set(e, FERRY_E_PROTO, 0, "device state on a multifd "
			      "channel of %s, which has no section",
			      FERRY_SHOW(p->name));
	return d;
}

/* Caller holds the lock. */
static int count(struct ferry_parts_device *d,
		 const struct ferry_vfio_packet *v, struct ferry_err *e)
{
	if (!d->came.word && ferry_bitmap_init(&d->came,
					       FERRY_VFIO_PACKETS_MAX, e))
		return -1;
	if ((d->of && (v->last || v->index >= d->of)) ||
	    (v->last && ferry_bitmap_next_set(&d->came, v->index) <
	     d->came.bits))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "device state of %s: "
				     "packet %" PRIu32 " is behind the last",
				     FERRY_SHOW(d->name), v->index);
	if (ferry_bitmap_set(&d->came, v->index))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "device state of %s: "
				     "packet %" PRIu32 " came twice",
				     FERRY_SHOW(d->name), v->index);
	if (v->last)
		d->of = v->index + 1;
	return 0;
}

static int look_at(struct ferry_parts_device *d, const uint8_t *payload,
		   uint32_t bytes, struct ferry_vfio_packet *v,
		   struct ferry_err *e)
{
	if (bytes >= FERRY_VFIO_PACKET_WIRE &&
	    ferry_vfio_packet_decode(payload, v))
		return 0;
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "device state of %s on "
			     "a multifd channel is not supported here",
			     FERRY_SHOW(d->name));
}

/* It counts when all of it is kept. */
static int note(struct ferry_target *t, struct ferry_parts_device *d,
		const struct ferry_vfio_packet *v, struct ferry_err *e)
{
	struct ferry_parts *p = &t->adopted.parts;
	int rc;

	pthread_mutex_lock(&p->lock);
	rc = count(d, v, e);
	if (!rc)
		d->packets++;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

int ferry_parts_packet(void *target, unsigned lane,
		       const struct ferry_device_packet *p,
		       struct ferry_inbuf *in, uint8_t *buf,
		       struct ferry_err *e)
{
	struct ferry_target *t = target;
	struct ferry_parts_device *d = await_device(t, p, e);
	struct ferry_kept k = { .kind = FERRY_KEPT_PACKET, .channel = lane };
	struct ferry_vfio_packet v = { 0 };
	struct ferry_wr w = ferry_wr_over(buf, FERRY_KEPT_PIECE_BYTES);
	uint32_t left = p->payload_bytes, n;

	if (!d)
		return -1;
	ferry_device_packet_encode(&w, p);
	do {
		uint32_t space = FERRY_KEPT_PIECE_BYTES -
				 (uint32_t)ferry_wr_used(&w);

		n = left < space ? left : space;
		if (ferry_inbuf_read(in, w.p, n, e) ||
		    (k.kind == FERRY_KEPT_PACKET &&
		     look_at(d, w.p, n, &v, e)))
			return -1;
		k.bytes = (uint32_t)ferry_wr_used(&w) + n;
		if (t->vm->adopt->keep(t->vm->opaque, &k, buf, e))
			return -1;
		left -= n;
		k.kind = FERRY_KEPT_MORE;
		w = ferry_wr_over(buf, FERRY_KEPT_PIECE_BYTES);
	} while (left);
	return note(t, d, &v, e);
}

/* ---- the end ------------------------------------------------------------------ */

/* The device's configuration comes last: on main as a section of its own, which
 * is in the tail, or in the last packet. */
static bool is_in_tail(struct ferry_target *t,
		       const struct ferry_parts_device *d)
{
	struct ferry_section s = {
		.type = FERRY_SECTION_FULL, .id = d->section,
	};
	uint8_t octets[FERRY_SECTION_HEAD_MAX];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	memcpy(s.name, d->name, sizeof(s.name));
	ferry_section_encode(&w, &s);
	return memmem(t->loader.devices, t->loader.device_bytes, octets,
		      ferry_wr_used(&w) - 8);	/* instance, version */
}

static bool is_whole(struct ferry_target *t,
		     const struct ferry_parts_device *d)
{
	if (d->of)
		return d->packets == d->of;
	return !d->packets && is_in_tail(t, d);
}

static bool has_failed(struct ferry_target *t)
{
	bool failed;

	pthread_mutex_lock(&t->lock);
	failed = t->end.why.code;
	pthread_mutex_unlock(&t->lock);
	return failed;
}

/* All packets of d; they come without a word on main. */
static int await_packets(struct ferry_target *t, struct ferry_parts_device *d,
			 struct ferry_err *e)
{
	struct ferry_parts *p = &t->adopted.parts;
	uint64_t silent_ns = FERRY_NS_PER_MS * ferry_patience_ms(&t->params);
	uint64_t until = ferry_now_ns() + silent_ns;
	uint32_t seen = 0;
	bool whole;

	pthread_mutex_lock(&p->lock);
	while (!(whole = is_whole(t, d)) && ferry_now_ns() < until &&
	       !ferry_lanes_over(&t->adopted.lanes) && !has_failed(t)) {
		if (d->packets != seen) {
			seen = d->packets;
			until = ferry_now_ns() + silent_ns;
		}
		ferry_cond_wait_until(&p->changed, &p->lock,
				      ferry_now_ns() + LOOK_NS);
	}
	pthread_mutex_unlock(&p->lock);
	return whole ? 0 :
	       ferry_err_set(e, FERRY_E_PROTO, 0, "not all of the state of %s "
			     "came: %" PRIu32 " packets", FERRY_SHOW(d->name),
			     seen);
}

int ferry_parts_await(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_parts *p = &t->adopted.parts;

	for (unsigned i = 0; i < p->devices; i++) {
		struct ferry_parts_device *d = &p->device[i];

		if (!d->ended)
			return ferry_err_set(e, FERRY_E_PROTO, 0, "the state of "
					     "%s began and did not end",
					     FERRY_SHOW(d->name));
		if (await_packets(t, d, e))
			return -1;
	}
	return flush(t, e);
}
