/* SPDX-License-Identifier: MIT */
/*
 * Compressed packets: | method | be16 octets that come out | be16 octets | those
 * | the next ...  What comes out is as long as was said, and memory is bounded
 * by the window.
 */
#include "fuzz.h"

#include <zlib.h>
#include <zstd.h>

#include "recv/unpack.h"
#include "wire/multifd.h"

#define OUT_MAX		(16u << 10)
#define WINDOW_BITS	17u

static uint32_t method_of(const uint8_t *data, size_t bytes)
{
	return bytes && *data & 1 ? FERRY_PACKET_ZSTD : FERRY_PACKET_ZLIB;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	FERRY_AUTO_FREE uint8_t *out = malloc(OUT_MAX);
	uint32_t method = method_of(data, bytes);
	struct ferry_unpack *u = ferry_unpack_open(method, WINDOW_BITS);
	struct ferry_rd r = ferry_rd_over(data, bytes);
	bool good = true;

	FUZZ_CHECK(out && u && ferry_unpack_method(u) == method);
	(void)!ferry_rd_u8(&r);
	while (good && ferry_rd_left(&r)) {
		size_t room = ferry_rd_be16(&r) % OUT_MAX;
		size_t n = ferry_rd_be16(&r);
		const uint8_t *packet;

		if (n > ferry_rd_left(&r))
			n = ferry_rd_left(&r);
		packet = ferry_rd_bytes(&r, n);
		if (r.bad)
			break;
		good = ferry_unpack_packet(u, packet, n, out, room);
		if (!good && room % 2) {
			ferry_unpack_restart(u);
			good = true;
		}
	}
	ferry_unpack_close(u);
	return 0;
}

static size_t zlib_packet(uint8_t *to, size_t most, const uint8_t *data,
			  size_t bytes)
{
	z_stream z = { 0 };

	FUZZ_CHECK(deflateInit(&z, 1) == Z_OK);
	z.next_in = (Bytef *)data;
	z.avail_in = (uInt)bytes;
	z.next_out = to;
	z.avail_out = (uInt)most;
	FUZZ_CHECK(deflate(&z, Z_SYNC_FLUSH) == Z_OK);
	deflateEnd(&z);
	return most - z.avail_out;
}

static size_t zstd_packet(uint8_t *to, size_t most, const uint8_t *data,
			  size_t bytes)
{
	ZSTD_CStream *z = ZSTD_createCStream();
	ZSTD_outBuffer out = { to, most, 0 };
	ZSTD_inBuffer in = { data, bytes, 0 };

	FUZZ_CHECK(z && !ZSTD_isError(ZSTD_initCStream(z, 1)) &&
		   !ZSTD_compressStream2(z, &out, &in, ZSTD_e_flush));
	ZSTD_freeCStream(z);
	return out.pos;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	static const uint16_t sizes[] = { 4096, 1, 8192, 333 };
	static uint8_t page[8192], packed[16384], seed[32768];

	for (size_t i = 0; i < sizeof(page); i++)
		page[i] = (uint8_t)(i * i >> 5);
	for (size_t i = 0; i < 2 * FERRY_LEN(sizes); i++) {
		uint16_t bytes = sizes[i / 2];
		struct ferry_wr w = ferry_wr_over(seed, sizeof(seed));
		size_t n = i % 2 ?
			zstd_packet(packed, sizeof(packed), page, bytes) :
			zlib_packet(packed, sizeof(packed), page, bytes);

		ferry_wr_u8(&w, (uint8_t)(i % 2));
		ferry_wr_be16(&w, bytes);
		ferry_wr_be16(&w, (uint16_t)n);
		ferry_wr_bytes(&w, packed, n);
		FUZZ_CHECK(!w.bad);
		emit(seed, ferry_wr_used(&w));
	}
}
