/* SPDX-License-Identifier: MIT */
/*
 * Cursors over octets: the only way a codec touches wire bytes.
 *
 * Integers are big-endian, as in QEMU's protocol.  A read or write that does
 * not fit sets `bad`, yields zero, and moves nothing; codecs check `bad` once,
 * at the end.  A reader whose data may still grow (a stream) tells "short"
 * from "wrong" by `bad`: running out of octets is the only thing that sets it,
 * and `lack` then says how many octets the first short read was missing.
 *
 * Threads: one cursor, one thread.  Memory: borrowed from the caller.
 */
#ifndef FERRY_BASE_CURSOR_H
#define FERRY_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct ferry_rd {
	const uint8_t	*p;
	const uint8_t	*end;
	bool		 bad;
	size_t		 lack;
};

struct ferry_wr {
	uint8_t		*start;
	uint8_t		*p;
	uint8_t		*end;
	bool		 bad;
};

static inline struct ferry_rd ferry_rd_over(const void *data, size_t bytes)
{
	const uint8_t *p = data;

	return (struct ferry_rd){ .p = p, .end = p + bytes };
}

static inline struct ferry_wr ferry_wr_over(void *data, size_t bytes)
{
	uint8_t *p = data;

	return (struct ferry_wr){ .start = p, .p = p, .end = p + bytes };
}

static inline size_t ferry_rd_left(const struct ferry_rd *r)
{
	return (size_t)(r->end - r->p);
}

static inline size_t ferry_wr_left(const struct ferry_wr *w)
{
	return (size_t)(w->end - w->p);
}

static inline size_t ferry_wr_used(const struct ferry_wr *w)
{
	return (size_t)(w->p - w->start);
}

/* The next n octets, or NULL (and bad) when there are fewer. */
static inline const uint8_t *ferry_rd_bytes(struct ferry_rd *r, size_t n)
{
	const uint8_t *at = r->p;

	if (r->bad)
		return NULL;
	if (ferry_rd_left(r) < n) {
		r->lack = n - ferry_rd_left(r);
		r->bad = true;
		return NULL;
	}
	r->p += n;
	return at;
}

static inline uint64_t ferry_rd_be(struct ferry_rd *r, size_t n)
{
	const uint8_t *at = ferry_rd_bytes(r, n);
	uint64_t v = 0;

	for (size_t i = 0; at && i < n; i++)
		v = v << 8 | at[i];
	return v;
}

static inline uint8_t ferry_rd_u8(struct ferry_rd *r)
{
	return (uint8_t)ferry_rd_be(r, 1);
}

static inline uint16_t ferry_rd_be16(struct ferry_rd *r)
{
	return (uint16_t)ferry_rd_be(r, 2);
}

static inline uint32_t ferry_rd_be32(struct ferry_rd *r)
{
	return (uint32_t)ferry_rd_be(r, 4);
}

static inline uint64_t ferry_rd_be64(struct ferry_rd *r)
{
	return ferry_rd_be(r, 8);
}

/* Room for n octets, or NULL (and bad) when it does not fit. */
static inline uint8_t *ferry_wr_room(struct ferry_wr *w, size_t n)
{
	uint8_t *at = w->p;

	if (w->bad || ferry_wr_left(w) < n) {
		w->bad = true;
		return NULL;
	}
	w->p += n;
	return at;
}

static inline void ferry_wr_bytes(struct ferry_wr *w, const void *data,
				  size_t n)
{
	uint8_t *at = ferry_wr_room(w, n);

	if (at && n)
		memcpy(at, data, n);
}

static inline void ferry_wr_zeroes(struct ferry_wr *w, size_t n)
{
	uint8_t *at = ferry_wr_room(w, n);

	if (at && n)
		memset(at, 0, n);
}

static inline void ferry_wr_be(struct ferry_wr *w, uint64_t v, size_t n)
{
	uint8_t *at = ferry_wr_room(w, n);

	for (size_t i = n; at && i > 0; i--, v >>= 8)
		at[i - 1] = (uint8_t)v;
}

static inline void ferry_wr_u8(struct ferry_wr *w, uint8_t v)
{
	ferry_wr_be(w, v, 1);
}

static inline void ferry_wr_be16(struct ferry_wr *w, uint16_t v)
{
	ferry_wr_be(w, v, 2);
}

static inline void ferry_wr_be32(struct ferry_wr *w, uint32_t v)
{
	ferry_wr_be(w, v, 4);
}

static inline void ferry_wr_be64(struct ferry_wr *w, uint64_t v)
{
	ferry_wr_be(w, v, 8);
}

/*
 * str8: one octet length, then that many octets, no NUL.  Reading copies into
 * buf (256 octets always fit any str8) and terminates it.  A NUL inside is
 * kept as read; codecs that need a C string check with strlen.
 * Returns the length.
 */
static inline size_t ferry_rd_str8(struct ferry_rd *r, char buf[256])
{
	size_t n = ferry_rd_u8(r);
	const uint8_t *at = ferry_rd_bytes(r, n);

	if (!at)
		n = 0;
	else
		memcpy(buf, at, n);
	buf[n] = '\0';
	return n;
}

/* The caller promises strlen(s) <= 255; longer sets bad. */
static inline void ferry_wr_str8(struct ferry_wr *w, const char *s)
{
	size_t n = strlen(s);

	if (n > 255) {
		w->bad = true;
		return;
	}
	ferry_wr_u8(w, (uint8_t)n);
	ferry_wr_bytes(w, s, n);
}

#endif
