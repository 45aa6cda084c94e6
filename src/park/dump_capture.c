/* SPDX-License-Identifier: MIT */
/*
 * A capture: what connections carried in both directions, piece by piece as a
 * proxy saw it (docs/dump.md).
 *
 *   | be double seconds | be16 connection | u8 what | be32 n | n octets |
 *
 * A connection that is cut ends inside of a record.  That is how a recovery
 * begins, so it is told and forgiven if one follows in the capture.
 */
#include "park/dump_priv.h"

#include <inttypes.h>
#include <stdlib.h>

#define HEAD_WIRE		15
#define CONNECTIONS_MAX		1024u

enum what {
	WHAT_TO_TARGET,
	WHAT_TO_SOURCE,
	WHAT_OPEN,
	WHAT_CLOSE,
	WHATS,
};

struct conn {
	uint16_t	number;
	bool		open;
	unsigned	closes;		/* each side may close its half */
	struct ferry_dump_stream to_target, to_source;
};

struct record {
	double		seconds;
	uint16_t	conn;
	uint8_t		what;		/* enum what */
	uint32_t	bytes;
};

struct ferry_dump_capture {
	struct ferry_dump *d;
	struct conn	**conn;
	size_t		 conns;
	uint64_t	 at;		/* in the file */
	uint64_t	 start;		/* of the record */
	uint8_t		 head[HEAD_WIRE];
	size_t		 heads;
	struct record	 rec;
	uint32_t	 left;		/* octets of the record to come */
	struct conn	*to;		/* whom they are for */
	bool		 was_cut;
	struct ferry_err cut;		/* the first, and not recovered yet */
	struct ferry_dump_where cut_at;
};

static struct record record_decode(const uint8_t head[HEAD_WIRE])
{
	struct ferry_rd r = ferry_rd_over(head, HEAD_WIRE);
	struct record rec;
	uint64_t bits = ferry_rd_be64(&r);

	memcpy(&rec.seconds, &bits, sizeof(bits));
	rec.conn = ferry_rd_be16(&r);
	rec.what = ferry_rd_u8(&r);
	rec.bytes = ferry_rd_be32(&r);
	return rec;
}

/* Not a number is not in this range either.  Zeroes are no data without
 * octets, but a disk that lost what was written. */
static bool is_record(const struct record *rec)
{
	return rec->what < WHATS && rec->seconds >= 0 && rec->seconds < 1e15 &&
	       (rec->what >= WHAT_OPEN || rec->bytes);
}

bool ferry_dump_capture_begins(const uint8_t head[HEAD_WIRE])
{
	struct record rec = record_decode(head);

	return is_record(&rec) && rec.what != WHAT_CLOSE &&
	       rec.bytes <= UINT16_MAX * 256u;
}

struct ferry_dump_capture *ferry_dump_capture_new(struct ferry_dump *d,
						  struct ferry_err *e)
{
	struct ferry_dump_capture *c = calloc(1, sizeof(*c));

	if (!c) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "capture");
		return NULL;
	}
	c->d = d;
	return c;
}

void ferry_dump_capture_free(struct ferry_dump_capture *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->conns; i++) {
		ferry_dump_stream_fini(&c->conn[i]->to_target);
		ferry_dump_stream_fini(&c->conn[i]->to_source);
		free(c->conn[i]);
	}
	free(c->conn);
	free(c);
}

/* ---- connections --------------------------------------------------- */

static struct conn *conn_new(struct ferry_dump_capture *c, uint16_t number,
			     struct ferry_err *e)
{
	struct conn **more, *n = NULL;

	if (c->conns < CONNECTIONS_MAX)
		n = calloc(1, sizeof(*n));
	more = n ? realloc(c->conn, (c->conns + 1) * sizeof(struct conn *)) :
		   NULL;
	if (!more) {
		free(n);
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM,
			      "capture: connection number %zu", c->conns + 1);
		return NULL;
	}
	c->conn = more;
	c->conn[c->conns++] = n;
	n->number = number;
	ferry_dump_stream_init(&n->to_target, c->d, ferry_dump_start);
	ferry_dump_stream_init(&n->to_source, c->d, ferry_dump_start);
	return n;
}

static struct conn *conn_find(struct ferry_dump_capture *c, uint16_t number,
			      struct ferry_err *e)
{
	for (size_t i = 0; i < c->conns; i++)
		if (c->conn[i]->number == number)
			return c->conn[i];
	return conn_new(c, number, e);
}

static int fault(struct ferry_dump_capture *c,
		 const struct ferry_dump_stream *s, struct ferry_err *e)
{
	c->d->fault = s->where;
	c->d->fault.offset = s->mark;
	return ferry_err_wrap(e, "connection %d, to the %s, 0x%" PRIx64,
			      s->where.conn,
			      s->where.back ? "source" : "target", s->mark);
}

/* The stream was cut: tell, and remember the first. */
static void cut(struct ferry_dump_capture *c, struct ferry_dump_stream *s,
		struct ferry_err *e)
{
	ferry_dump_begin(s, s->mark, "CUT", NULL);
	ferry_dump_text(s, "why", e->msg);
	ferry_dump_end(s, 0);
	fault(c, s, e);
	if (c->was_cut)
		return;
	c->was_cut = true;
	c->cut = *e;
	c->cut_at = c->d->fault;
}

static int stream_end(struct ferry_dump_capture *c,
		      struct ferry_dump_stream *s, struct ferry_err *e)
{
	struct ferry_err why = { 0 };
	int rc = ferry_dump_stream_finish(s, &why);

	if (rc && why.code == FERRY_E_CLOSED) {
		cut(c, s, &why);
		rc = 0;
	} else if (rc) {
		*e = why;
		fault(c, s, e);
	}
	ferry_dump_stream_fini(s);
	return rc;
}

static int conn_end(struct ferry_dump_capture *c, struct conn *n,
		    struct ferry_err *e)
{
	if (!n->open)
		return 0;
	n->open = false;
	return stream_end(c, &n->to_target, e) ||
	       stream_end(c, &n->to_source, e) ? -1 : 0;
}

static int conn_open(struct ferry_dump_capture *c, struct conn *n,
		     struct ferry_err *e)
{
	if (conn_end(c, n, e))
		return -1;
	ferry_dump_stream_init(&n->to_target, c->d, ferry_dump_start);
	ferry_dump_stream_init(&n->to_source, c->d, ferry_dump_start);
	n->to_target.where.conn = n->to_source.where.conn = n->number;
	n->to_source.where.back = true;
	/* Not every connection says something. */
	n->to_target.may_end = n->to_source.may_end = true;
	n->open = true;
	n->closes = 0;
	return 0;
}

/* ---- records ------------------------------------------------------- */

static int wrong(struct ferry_dump_capture *c, uint64_t at, const char *what,
		 struct ferry_err *e)
{
	c->d->fault = (struct ferry_dump_where){ .conn = -1, .offset = at };
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "0x%" PRIx64 ": the capture: %s", at, what);
}

static void tell(struct ferry_dump_capture *c, const char *record)
{
	struct ferry_dump_stream *s = &c->to->to_target;

	s->where.seconds = c->rec.seconds;
	ferry_dump_begin(s, s->at + s->have, record, NULL);
	ferry_dump_end(s, 0);
}

/* A record's head has come. */
static int record_begin(struct ferry_dump_capture *c, struct ferry_err *e)
{
	c->rec = record_decode(c->head);
	if (!is_record(&c->rec))
		return wrong(c, c->start, "this is no record", e);
	c->left = c->rec.bytes;
	c->to = conn_find(c, c->rec.conn, e);
	if (!c->to)
		return -1;
	if (c->rec.what == WHAT_OPEN || !c->to->open) {
		if (c->rec.what == WHAT_CLOSE)
			return 0;
		if (conn_open(c, c->to, e))
			return -1;
		tell(c, "OPEN");
	}
	if (c->rec.what != WHAT_CLOSE || ++c->to->closes < 2)
		return 0;
	tell(c, "CLOSE");
	return conn_end(c, c->to, e);
}

static int data_feed(struct ferry_dump_capture *c, const uint8_t *data,
		     size_t n, struct ferry_err *e)
{
	struct ferry_dump_stream *s = c->rec.what == WHAT_TO_TARGET ?
		&c->to->to_target : &c->to->to_source;

	/* What comes with OPEN and CLOSE is for people. */
	if (c->rec.what >= WHAT_OPEN)
		return 0;
	s->where.seconds = c->rec.seconds;
	if (ferry_dump_stream_feed(s, data, n, e))
		return fault(c, s, e);
	if (c->d->recovered) {
		c->d->recovered = false;
		c->was_cut = false;
	}
	return 0;
}

int ferry_dump_capture_feed(struct ferry_dump_capture *c, const uint8_t *data,
			    size_t n, struct ferry_err *e)
{
	while (n) {
		size_t k = c->left;
		int rc;

		if (!k) {
			k = HEAD_WIRE - c->heads;
			k = k < n ? k : n;
			memcpy(c->head + c->heads, data, k);
			c->heads += k;
			c->start = c->at + k - c->heads;
			rc = c->heads == HEAD_WIRE ? record_begin(c, e) : 0;
			c->heads %= HEAD_WIRE;
		} else {
			k = k < n ? k : n;
			rc = data_feed(c, data, k, e);
			c->left -= (uint32_t)k;
		}
		if (rc)
			return -1;
		data += k;
		n -= k;
		c->at += k;
	}
	return 0;
}

int ferry_dump_capture_finish(struct ferry_dump_capture *c,
			      struct ferry_err *e)
{
	if (c->heads || c->left)
		return wrong(c, c->at, "it ends inside of a record", e);
	for (size_t i = 0; i < c->conns; i++)
		if (conn_end(c, c->conn[i], e))
			return -1;
	if (!c->was_cut)
		return 0;
	if (e)
		*e = c->cut;
	c->d->fault = c->cut_at;
	return -1;
}
