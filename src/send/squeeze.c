/* SPDX-License-Identifier: MIT */
/*
 * Streams of zlib and zstd: a table of two methods.
 */
#include "send/squeeze.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "wire/multifd.h"

/* Neither needs more for what cannot be compressed. */
#define PLAIN_MAX	((size_t)FERRY_PACKET_PAGES_MAX * FERRY_PAGE_BYTES)
#define OUT_MAX		(PLAIN_MAX + PLAIN_MAX / 8 + 4096)

/* The gears of zstd.  Who is in a hurry looks back no further than what stays
 * in a core's cache; the faster gear is a negative level, which passes over
 * what does not match at once, and codes no literals. */
#define HURRY_LEVEL	2
#define HURRY_BITS	17
#define FAST_LEVEL	(-5)

struct method;

struct ferry_squeeze {
	const struct method *method;
	int		 level;		/* as set */
	bool		 fast;
	bool		 shifts;	/* before the next packet */
	z_stream	 zlib;
	ZSTD_CCtx	*zstd;
	uint8_t		 page[FERRY_PAGE_BYTES];	/* the copy */
	uint8_t		 out[OUT_MAX];
	size_t		 used;		/* of out */
};

struct method {
	uint32_t	 flag;
	const char	*name;
	int		(*open)(struct ferry_squeeze *q);
	void		(*close)(struct ferry_squeeze *q);
	void		(*restart)(struct ferry_squeeze *q);
	/* To what q->fast says, in the midst of a stream.  NULL: it has no
	 * faster gear. */
	int		(*shift)(struct ferry_squeeze *q);
	/* The page in q->page, behind what is in q->out; last: all that went
	 * in comes out. */
	int		(*add)(struct ferry_squeeze *q, bool last);
};

static int zlib_open(struct ferry_squeeze *q)
{
	return deflateInit(&q->zlib, q->level) == Z_OK ? 0 : -1;
}

static void zlib_close(struct ferry_squeeze *q)
{
	deflateEnd(&q->zlib);
}

static void zlib_restart(struct ferry_squeeze *q)
{
	deflateReset(&q->zlib);
}

static int zlib_add(struct ferry_squeeze *q, bool last)
{
	z_stream *z = &q->zlib;
	int rc;

	z->next_in = q->page;
	z->avail_in = sizeof(q->page);
	z->next_out = q->out + q->used;
	z->avail_out = (uInt)(sizeof(q->out) - q->used);
	rc = deflate(z, last ? Z_SYNC_FLUSH : Z_NO_FLUSH);
	q->used = sizeof(q->out) - z->avail_out;
	return rc == Z_OK && !z->avail_in && z->avail_out ? 0 : -1;
}

static int zstd_set(struct ferry_squeeze *q)
{
	bool hurry = q->fast || (q->level > 0 && q->level <= HURRY_LEVEL);

	return ZSTD_isError(ZSTD_CCtx_setParameter(q->zstd,
				ZSTD_c_compressionLevel,
				q->fast ? FAST_LEVEL : q->level)) ||
	       ZSTD_isError(ZSTD_CCtx_setParameter(q->zstd, ZSTD_c_windowLog,
				hurry ? HURRY_BITS :
				(int)FERRY_SQUEEZE_WINDOW_BITS)) ? -1 : 0;
}

static int zstd_open(struct ferry_squeeze *q)
{
	q->zstd = ZSTD_createCCtx();
	if (!q->zstd)
		return -1;
	if (!zstd_set(q))
		return 0;
	ZSTD_freeCCtx(q->zstd);
	return -1;
}

static void zstd_close(struct ferry_squeeze *q)
{
	ZSTD_freeCCtx(q->zstd);
}

static void zstd_restart(struct ferry_squeeze *q)
{
	ZSTD_CCtx_reset(q->zstd, ZSTD_reset_session_only);
	(void)!zstd_set(q);		/* both were, or were refused, before */
}

/* A frame has one level: it ends, and another one follows in its stream. */
static int zstd_shift(struct ferry_squeeze *q)
{
	ZSTD_inBuffer in = { NULL, 0, 0 };
	ZSTD_outBuffer out = { q->out, sizeof(q->out), q->used };

	if (ZSTD_compressStream2(q->zstd, &out, &in, ZSTD_e_end))
		return -1;
	q->used = out.pos;
	return zstd_set(q);
}

static int zstd_add(struct ferry_squeeze *q, bool last)
{
	ZSTD_inBuffer in = { q->page, sizeof(q->page), 0 };
	ZSTD_outBuffer out = { q->out, sizeof(q->out), q->used };
	size_t left;

	do {
		left = ZSTD_compressStream2(q->zstd, &out, &in, last ?
					    ZSTD_e_flush : ZSTD_e_continue);
		if (ZSTD_isError(left) || out.pos == out.size)
			return -1;
	} while (in.pos < in.size || (last && left));
	q->used = out.pos;
	return 0;
}

static const struct method methods[] = {
	{ FERRY_PACKET_ZLIB, "zlib", zlib_open, zlib_close, zlib_restart,
	  NULL, zlib_add },
	{ FERRY_PACKET_ZSTD, "zstd", zstd_open, zstd_close, zstd_restart,
	  zstd_shift, zstd_add },
};

static const struct method *find(uint32_t flag)
{
	for (size_t i = 0; i < FERRY_LEN(methods); i++)
		if (methods[i].flag == flag)
			return &methods[i];
	return NULL;
}

struct ferry_squeeze *ferry_squeeze_open(uint32_t method, int level,
					 struct ferry_err *e)
{
	const struct method *m = find(method);
	struct ferry_squeeze *q = calloc(1, sizeof(*q));

	assert(m);
	if (q) {
		q->method = m;
		q->level = level;
		if (!m->open(q))
			return q;
		free(q);
	}
	ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "%s of level %d", m->name,
		      level);
	return NULL;
}

void ferry_squeeze_close(struct ferry_squeeze *q)
{
	if (!q)
		return;
	q->method->close(q);
	free(q);
}

bool ferry_squeeze_has_fast(const struct ferry_squeeze *q)
{
	return q->method->shift;
}

void ferry_squeeze_shift(struct ferry_squeeze *q, bool fast)
{
	assert(q->method->shift);
	q->shifts = q->fast != fast;
	q->fast = fast;
}

void ferry_squeeze_restart(struct ferry_squeeze *q)
{
	q->method->restart(q);
	q->shifts = false;
}

static int add_page(struct ferry_squeeze *q, const uint8_t *page, bool last)
{
	memcpy(q->page, page, FERRY_PAGE_BYTES);
	return q->method->add(q, last);
}

static int add_pages(struct ferry_squeeze *q, const struct iovec *iov, int n)
{
	for (int i = 0; i < n; i++) {
		const uint8_t *at = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		for (; left; left -= FERRY_PAGE_BYTES, at += FERRY_PAGE_BYTES)
			if (add_page(q, at, i + 1 == n &&
				     left == FERRY_PAGE_BYTES))
				return -1;
	}
	return 0;
}

int ferry_squeeze_packet(struct ferry_squeeze *q, const struct iovec *iov,
			 int n, struct iovec *out, struct ferry_err *e)
{
	bool shifts = q->shifts;

	q->used = 0;
	q->shifts = false;
	if ((shifts && q->method->shift(q)) || add_pages(q, iov, n))
		return ferry_err_set(e, FERRY_E_IO, 0, "%s: a packet cannot "
				     "be made", q->method->name);
	*out = (struct iovec){ q->out, q->used };
	return 0;
}
