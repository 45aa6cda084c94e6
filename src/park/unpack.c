/* SPDX-License-Identifier: MIT */
/*
 * One stream per lane; each packet is flushed, so that all of its pages come
 * out of it and nothing else does.  By the lane's thread.
 */
#include "park/unpack.h"

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

struct stream {
	uint32_t	 method;
	z_stream	 zlib;
	ZSTD_DStream	*zstd;
};

static void *open_stream(uint32_t method)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->method = method;
	if (method == FERRY_PACKET_ZLIB ? inflateInit(&s->zlib) == Z_OK :
	    (s->zstd = ZSTD_createDStream()) != NULL)
		return s;
	free(s);
	return NULL;
}

static void close_stream(void *stream)
{
	struct stream *s = stream;

	if (s->method == FERRY_PACKET_ZLIB)
		inflateEnd(&s->zlib);
	else
		ZSTD_freeDStream(s->zstd);
	free(s);
}

static bool unpack_zlib(z_stream *z, const void *data, size_t bytes, void *out,
			size_t out_bytes)
{
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
	return !z->avail_out;
}

static bool unpack_zstd(ZSTD_DStream *z, const void *data, size_t bytes,
			void *out, size_t out_bytes)
{
	ZSTD_inBuffer in = { data, bytes, 0 };
	ZSTD_outBuffer to = { out, out_bytes, 0 };

	while (in.pos < in.size) {
		size_t at = in.pos, had = to.pos;

		if (ZSTD_isError(ZSTD_decompressStream(z, &to, &in)) ||
		    (in.pos == at && to.pos == had))
			return false;
	}
	/* What is decoded may still wait to be handed out. */
	while (to.pos < to.size) {
		size_t had = to.pos;

		if (ZSTD_isError(ZSTD_decompressStream(z, &to, &in)) ||
		    to.pos == had)
			return false;
	}
	return true;
}

static bool unpack(void *stream, const void *data, size_t bytes, void *out,
		   size_t out_bytes)
{
	struct stream *s = stream;

	return s->method == FERRY_PACKET_ZLIB ?
	       unpack_zlib(&s->zlib, data, bytes, out, out_bytes) :
	       unpack_zstd(s->zstd, data, bytes, out, out_bytes);
}

const struct ferry_unpack_ops ferry_unpack = {
	.methods = FERRY_PACKET_ZLIB | FERRY_PACKET_ZSTD,
	.open = open_stream,
	.unpack = unpack,
	.close = close_stream,
};
