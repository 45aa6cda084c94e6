/* SPDX-License-Identifier: MIT */
/*
 * zlib and zstd, read.  A packet that would give more than it may leaves the
 * rest inside the stream, where the next packet would find it: so one octet
 * more is always asked for.
 */
#include "recv/unpack.h"

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "wire/multifd.h"

struct ferry_unpack {
	uint32_t	 method;
	z_stream	 zlib;
	ZSTD_DStream	*zstd;
	uint8_t		 more;		/* what shall not come */
};

static ZSTD_DStream *open_zstd(unsigned window_bits)
{
	ZSTD_DStream *z = ZSTD_createDStream();

	if (z)
		ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax,
				       (int)window_bits);
	return z;
}

struct ferry_unpack *ferry_unpack_open(uint32_t method, unsigned window_bits)
{
	struct ferry_unpack *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->method = method;
	if (method == FERRY_PACKET_ZLIB ? inflateInit(&u->zlib) == Z_OK :
	    (u->zstd = open_zstd(window_bits)) != NULL)
		return u;
	free(u);
	return NULL;
}

void ferry_unpack_close(struct ferry_unpack *u)
{
	if (!u)
		return;
	if (u->method == FERRY_PACKET_ZLIB)
		inflateEnd(&u->zlib);
	else
		ZSTD_freeDStream(u->zstd);
	free(u);
}

uint32_t ferry_unpack_method(const struct ferry_unpack *u)
{
	return u->method;
}

void ferry_unpack_restart(struct ferry_unpack *u)
{
	if (u->method == FERRY_PACKET_ZLIB)
		inflateReset(&u->zlib);
	else
		ZSTD_DCtx_reset(u->zstd, ZSTD_reset_session_only);
}

/* Of inflate()'s data_type: behind a block that is not the last, at the end of
 * an octet, as a flush leaves it. */
#define BEHIND_A_FLUSH	128

static bool unpack_zlib(struct ferry_unpack *u, const void *data, size_t bytes,
			void *out, size_t out_bytes)
{
	z_stream *z = &u->zlib;

	z->next_in = (Bytef *)data;
	z->avail_in = (uInt)bytes;
	z->next_out = out;
	z->avail_out = (uInt)out_bytes;
	/* The end of a flush comes behind the last octet that goes out. */
	while (z->avail_in) {
		uInt in = z->avail_in, left = z->avail_out;

		if (inflate(z, Z_SYNC_FLUSH) != Z_OK ||
		    (z->avail_in == in && z->avail_out == left))
			return false;
	}
	if (z->avail_out || z->data_type != BEHIND_A_FLUSH)
		return false;
	z->next_out = &u->more;
	z->avail_out = 1;
	return inflate(z, Z_SYNC_FLUSH) == Z_BUF_ERROR;
}

/* Until nothing moves any more. */
static bool run_zstd(ZSTD_DStream *z, ZSTD_outBuffer *out, ZSTD_inBuffer *in)
{
	size_t at, had;

	do {
		at = in->pos;
		had = out->pos;
		if (ZSTD_isError(ZSTD_decompressStream(z, out, in)))
			return false;
	} while (in->pos != at || out->pos != had);
	return true;
}

static bool unpack_zstd(struct ferry_unpack *u, const void *data, size_t bytes,
			void *out, size_t out_bytes)
{
	ZSTD_inBuffer in = { data, bytes, 0 };
	ZSTD_outBuffer to = { out, out_bytes, 0 };
	ZSTD_outBuffer over = { &u->more, 1, 0 };

	if (!run_zstd(u->zstd, &to, &in) || to.pos < to.size)
		return false;
	return run_zstd(u->zstd, &over, &in) && !over.pos && in.pos == in.size;
}

bool ferry_unpack_packet(struct ferry_unpack *u, const void *data,
			 size_t bytes, void *out, size_t out_bytes)
{
	return u->method == FERRY_PACKET_ZLIB ?
	       unpack_zlib(u, data, bytes, out, out_bytes) :
	       unpack_zstd(u, data, bytes, out, out_bytes);
}
