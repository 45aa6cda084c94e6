/* SPDX-License-Identifier: MIT */
/*
 * The buffered reader.  A read asks for what is missing and offers the rest of
 * the buffer: readv returns with what is there, so nothing more is waited for.
 */
#include "chan/inbuf.h"

#include <stdlib.h>
#include <string.h>

#include "base/counter.h"

#define FIRST_BYTES	((size_t)32 << 10)

int ferry_inbuf_init(struct ferry_inbuf *b, struct ferry_chan *chan,
		     size_t most, struct ferry_err *e)
{
	size_t size = most < FIRST_BYTES ? most : FIRST_BYTES;

	*b = (struct ferry_inbuf){ .chan = chan, .size = size, .most = most };
	b->data = malloc(size ? size : 1);
	if (!b->data)
		return ferry_err_set(e, FERRY_E_NOMEM, errno,
				     "channel %s: buffer of %zu octets",
				     chan->name, size);
	return 0;
}

void ferry_inbuf_fini(struct ferry_inbuf *b)
{
	free(b->data);
	*b = (struct ferry_inbuf){ 0 };
}

/* Room for n octets in one piece from `start` on; n <= most, the size that it
 * may have. */
static int make_room(struct ferry_inbuf *b, size_t n, size_t most,
		     struct ferry_err *e)
{
	size_t size = b->size;
	uint8_t *data;

	if (n <= b->size - b->start)
		return 0;

	memmove(b->data, b->data + b->start, ferry_inbuf_have(b));
	b->end -= b->start;
	b->start = 0;
	if (n <= size)
		return 0;

	while (size < n)
		size = size <= most / 2 ? size * 2 : most;
	data = realloc(b->data, size);
	if (!data)
		return ferry_err_set(e, FERRY_E_NOMEM, errno,
				     "channel %s: buffer of %zu octets",
				     b->chan->name, size);
	b->data = data;
	b->size = size;
	return 0;
}

void ferry_inbuf_count(struct ferry_inbuf *b, _Atomic uint64_t *counter)
{
	b->counter = counter;
	ferry_count(counter, b->offset + ferry_inbuf_have(b));
}

static ssize_t read_some(struct ferry_inbuf *b, const struct iovec *iov, int n)
{
	ssize_t got = b->chan->ops->readv(b->chan, iov, n);

	if (got > 0 && b->counter)
		ferry_count(b->counter, (uint64_t)got);
	return got;
}

const uint8_t *ferry_inbuf_need(struct ferry_inbuf *b, size_t n,
				struct ferry_err *e)
{
	if (n > b->most) {
		ferry_err_set(e, FERRY_E_PROTO, 0,
			      "channel %s: a record of %zu octets, at most %zu "
			      "are allowed", b->chan->name, n, b->most);
		return NULL;
	}
	if (make_room(b, n, b->most, e))
		return NULL;

	while (ferry_inbuf_have(b) < n) {
		struct iovec iov = { b->data + b->end, b->size - b->end };
		ssize_t got = read_some(b, &iov, 1);

		if (got <= 0) {
			ferry_chan_err(b->chan, "read", got, e);
			return NULL;
		}
		b->end += (size_t)got;
	}
	return b->data + b->start;
}

void ferry_inbuf_consume(struct ferry_inbuf *b, size_t n)
{
	b->start += n;
	b->offset += n;
	if (b->start == b->end)
		b->start = b->end = 0;
}

/* With an empty buffer: n octets to data, and what comes with them into the
 * buffer. */
static int read_past(struct ferry_inbuf *b, uint8_t *data, size_t n,
		     struct ferry_err *e)
{
	while (n > 0) {
		struct iovec iov[2] = { { data, n }, { b->data, b->size } };
		ssize_t got = read_some(b, iov, 2);

		if (got <= 0)
			return ferry_chan_err(b->chan, "read", got, e);
		if ((size_t)got >= n) {
			b->end = (size_t)got - n;
			b->offset += n;
			return 0;
		}
		data += got;
		n -= (size_t)got;
		b->offset += (size_t)got;
	}
	return 0;
}

int ferry_inbuf_decode(struct ferry_inbuf *b,
		       int (*decode)(void *arg, struct ferry_rd *rd,
				     struct ferry_err *e),
		       void *arg, struct ferry_err *e)
{
	size_t need = 1;

	for (;;) {
		const uint8_t *at = ferry_inbuf_need(b, need, e);
		struct ferry_rd rd;
		int rc;

		if (!at)
			return -1;
		rd = ferry_rd_over(at, ferry_inbuf_have(b));
		rc = decode(arg, &rd, e);
		if (rc < 0)
			return -1;
		if (rc) {
			ferry_inbuf_consume(b, (size_t)(rd.p - at));
			return 0;
		}
		need = ferry_inbuf_have(b) + rd.lack;
	}
}

int ferry_inbuf_read(struct ferry_inbuf *b, void *data, size_t n,
		     struct ferry_err *e)
{
	size_t have = ferry_inbuf_have(b);

	if (have > n)
		have = n;
	if (have)
		memcpy(data, b->data + b->start, have);
	ferry_inbuf_consume(b, have);
	return read_past(b, (uint8_t *)data + have, n - have, e);
}

ssize_t ferry_inbuf_scatter(struct ferry_inbuf *b, const struct iovec *iov,
			    int n, struct ferry_err *e)
{
	ssize_t got = read_some(b, iov, n);

	if (got <= 0)
		return ferry_chan_err(b->chan, "read", got, e);
	b->offset += (size_t)got;
	return got;
}

int ferry_inbuf_give_back(struct ferry_inbuf *b, const void *data, size_t n,
			  struct ferry_err *e)
{
	size_t all = ferry_inbuf_have(b) + n;

	if (make_room(b, all, all < b->most ? b->most : all, e))
		return -1;
	memcpy(b->data + b->end, data, n);
	b->end += n;
	b->offset -= n;
	return 0;
}
