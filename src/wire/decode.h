/* SPDX-License-Identifier: MIT */
/*
 * How decoders end.
 *
 * A *record* decoder is given all octets of its record (a command's payload, a
 * package) and returns 0 or -1; octets left over are wrong.
 *
 * A *stream* decoder is given what has arrived so far and returns an
 * enum ferry_decoded.  Only DONE consumes; after MORE the cursor's `lack` is
 * how many more octets are needed at least: ask for them, decode again from
 * the start.  A value that is wrong is reported as soon as it is there.
 *
 * Pure: no I/O, no allocation (but for ferry_hello), any thread.
 */
#ifndef FERRY_WIRE_DECODE_H
#define FERRY_WIRE_DECODE_H

#include "base/cursor.h"
#include "base/err.h"

enum ferry_decoded {
	FERRY_DECODE_WRONG	= -1,	/* *e says why */
	FERRY_DECODE_MORE	= 0,	/* not all there yet */
	FERRY_DECODE_DONE	= 1,
};

/* What a stream decoder returns: `from` is the cursor as it was given, rc is
 * -1 when a value was wrong. */
static inline int ferry_decode_end(struct ferry_rd *r, struct ferry_rd from,
				   int rc)
{
	if (!rc && !r->bad)
		return FERRY_DECODE_DONE;

	from.lack = r->bad ? r->lack : 0;
	*r = from;
	return rc ? FERRY_DECODE_WRONG : FERRY_DECODE_MORE;
}

/* What a record decoder returns: 0 when exactly all octets were used. */
static inline int ferry_decode_whole(const struct ferry_rd *r,
				     const char *what, struct ferry_err *e)
{
	if (r->bad)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s: %zu octets too short", what,
				     r->lack);
	if (ferry_rd_left(r))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s: %zu octets too long", what,
				     ferry_rd_left(r));
	return 0;
}

#endif
