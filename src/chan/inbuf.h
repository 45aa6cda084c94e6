/* SPDX-License-Identifier: MIT */
/*
 * A buffered reader over a channel, for streams whose records have lengths
 * that only decoding tells: ask for n contiguous octets, decode, consume.
 *
 * Threads: the channel's reader.  Memory: one buffer that grows up to `most`.
 */
#ifndef FERRY_CHAN_INBUF_H
#define FERRY_CHAN_INBUF_H

#include "base/cursor.h"
#include "chan/chan.h"

struct ferry_inbuf {
	struct ferry_chan *chan;
	uint8_t		*data;
	size_t		 size;
	size_t		 start, end;	/* unread octets */
	size_t		 most;
	uint64_t	 offset;	/* of `start` in the stream */
	_Atomic uint64_t *counter;	/* octets read; NULL: nobody counts */
};

FERRY_CHECKED int ferry_inbuf_init(struct ferry_inbuf *b,
				   struct ferry_chan *chan, size_t most,
				   struct ferry_err *e);
void ferry_inbuf_fini(struct ferry_inbuf *b);

/*
 * At least n unread octets in one piece, read from the channel as needed but
 * never waiting for more than n.  NULL with *e: FERRY_E_CLOSED at the end of
 * the stream, FERRY_E_PROTO when n > most.
 */
const uint8_t *ferry_inbuf_need(struct ferry_inbuf *b, size_t n,
				struct ferry_err *e);

/* From here on add what is read to *counter, and what has been at once. */
void ferry_inbuf_count(struct ferry_inbuf *b, _Atomic uint64_t *counter);

/* Octets that can be had without reading. */
static inline size_t ferry_inbuf_have(const struct ferry_inbuf *b)
{
	return b->end - b->start;
}

void ferry_inbuf_consume(struct ferry_inbuf *b, size_t n);

/*
 * Decode one record at the head and consume it, reading on for as long as the
 * decoder wants more.  decode() is given all that is there and returns 1 when
 * done (rd->p is behind the record), 0 for more (rd->lack octets at least),
 * -1 with *e.
 */
FERRY_CHECKED int ferry_inbuf_decode(struct ferry_inbuf *b,
				     int (*decode)(void *arg,
						   struct ferry_rd *rd,
						   struct ferry_err *e),
				     void *arg, struct ferry_err *e);

/* n octets to data: first from the buffer, the rest straight from the
 * channel (a long payload is not copied twice). */
FERRY_CHECKED int ferry_inbuf_read(struct ferry_inbuf *b, void *data, size_t n,
				   struct ferry_err *e);

/* One read past the empty buffer, of at least one octet.  Octets, or -1. */
FERRY_CHECKED ssize_t ferry_inbuf_scatter(struct ferry_inbuf *b,
					  const struct iovec *iov, int n,
					  struct ferry_err *e);

/* Octets that were read past the buffer will be read from it, behind what is
 * in it; `most` does not count. */
FERRY_CHECKED int ferry_inbuf_give_back(struct ferry_inbuf *b,
					const void *data, size_t n,
					struct ferry_err *e);

#endif
