/* SPDX-License-Identifier: MIT */
/*
 * Feeding a stream: octets come in any pieces, steps want whole records.  Most
 * steps run on the caller's octets as they are; only a record that a piece has
 * cut is copied, and what is skipped never is.
 */
#include "park/dump_priv.h"

#include <inttypes.h>
#include <stdlib.h>

#define ROOM_MIN	4096u

void ferry_dump_stream_init(struct ferry_dump_stream *s, struct ferry_dump *d,
			    ferry_dump_step *first)
{
	*s = (struct ferry_dump_stream){
		.d = d, .step = first, .inside = "its beginning",
		.where.conn = -1, .dialect = FERRY_DIALECT_QEMU,
	};
}

static void drop(struct ferry_dump_stream *s, size_t n)
{
	s->have -= n;
	s->d->kept -= n;
	if (s->have)
		memmove(s->buf, s->buf + n, s->have);
}

void ferry_dump_stream_fini(struct ferry_dump_stream *s)
{
	drop(s, s->have);
	free(s->buf);
	s->buf = NULL;
}

/* Room grows with what has come, not with what a header announces. */
static int keep(struct ferry_dump_stream *s, const uint8_t *data, size_t n,
		struct ferry_err *e)
{
	if (!n)
		return 0;
	if (n > FERRY_DUMP_KEPT_MAX - s->d->kept)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s: more than %u octets would have to be"
				     " kept", s->inside, FERRY_DUMP_KEPT_MAX);
	if (n > s->room - s->have) {
		size_t room = s->room ? s->room : ROOM_MIN;
		uint8_t *buf;

		while (room < s->have + n)
			room *= 2;
		buf = realloc(s->buf, room);
		if (!buf)
			return ferry_err_set(e, FERRY_E_NOMEM, errno, "%s",
					     s->inside);
		s->buf = buf;
		s->room = room;
	}
	memcpy(s->buf + s->have, data, n);
	s->have += n;
	s->d->kept += n;
	return 0;
}

static int behind_the_end(const struct ferry_dump_stream *s,
			  struct ferry_err *e)
{
	(void)s;
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "there is more behind the end");
}

/* As many records as p holds; what remains is a part of one. */
static int run(struct ferry_dump_stream *s, const uint8_t *p, size_t n,
	       size_t *used, struct ferry_err *e)
{
	struct ferry_rd r = ferry_rd_over(p, n);
	int rc = FERRY_DECODE_DONE;

	s->window = p;
	while (rc == FERRY_DECODE_DONE && ferry_rd_left(&r)) {
		size_t left = ferry_rd_left(&r);

		if (s->skip) {
			size_t k = s->skip < left ? (size_t)s->skip : left;

			ferry_rd_bytes(&r, k);
			s->skip -= k;
			continue;
		}
		if (s->hold)
			break;
		s->mark = ferry_dump_at(s, &r);
		rc = s->over ? behind_the_end(s, e) : s->step(s, &r, e);
		s->need = rc == FERRY_DECODE_MORE ?
			  ferry_rd_left(&r) + r.lack : 0;
	}
	*used = (size_t)(r.p - p);
	s->at += *used;
	return rc == FERRY_DECODE_WRONG ? -1 : 0;
}

static int feed_kept(struct ferry_dump_stream *s, const uint8_t *data,
		     size_t n, size_t *taken, struct ferry_err *e)
{
	size_t used = 0;

	*taken = s->hold || s->need - s->have > n ? n : s->need - s->have;
	if (keep(s, data, *taken, e))
		return -1;
	if (s->hold || s->have < s->need)
		return 0;
	if (run(s, s->buf, s->have, &used, e))
		return -1;
	drop(s, used);
	return 0;
}

int ferry_dump_stream_feed(struct ferry_dump_stream *s, const uint8_t *data,
			   size_t n, struct ferry_err *e)
{
	while (n) {
		size_t used = 0;

		if (s->have) {
			if (feed_kept(s, data, n, &used, e))
				return -1;
		} else {
			if (run(s, data, n, &used, e))
				return -1;
			if (keep(s, data + used, n - used, e))
				return -1;
			used = n;
		}
		data += used;
		n -= used;
	}
	return 0;
}

static int cut(struct ferry_dump_stream *s, struct ferry_err *e)
{
	uint64_t missing = s->skip;

	if (s->need > s->have)
		missing = s->need - s->have;
	s->mark = s->at + s->have;
	if (s == &s->d->in && s->mark == s->d->p.offset)
		return ferry_err_set(e, FERRY_E_CLOSED, 0, "there is nothing: "
				     "no stream, no capture and no image");
	if (!missing)
		return ferry_err_set(e, FERRY_E_CLOSED, 0,
				     "it ends where more must come: %s",
				     s->inside);
	return ferry_err_set(e, FERRY_E_CLOSED, 0,
			     "it ends inside of: %s; at least %" PRIu64
			     " octets are missing", s->inside, missing);
}

int ferry_dump_stream_finish(struct ferry_dump_stream *s, struct ferry_err *e)
{
	/* When nothing had to be kept there is no buffer. */
	const uint8_t *from = s->buf ? s->buf : (const uint8_t *)"";
	struct ferry_rd r = ferry_rd_over(from, s->have);
	int rc = 0;

	if (s->hold) {
		s->window = from;
		s->mark = s->at;
		rc = s->at_end(s, &r, e) == FERRY_DECODE_DONE ? 0 : -1;
	} else if (s->skip || s->have || !s->may_end) {
		rc = cut(s, e);
	}
	ferry_dump_flush(s);
	return rc;
}
