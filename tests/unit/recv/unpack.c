/* SPDX-License-Identifier: MIT */
/*
 * Packets that are compressed: what send/squeeze.h makes comes out of
 * recv/unpack.h, and nothing comes out that is not exactly what it should be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/limits.h"
#include "recv/unpack.h"
#include "send/squeeze.h"
#include "wire/multifd.h"

#define PAGE	((size_t)FERRY_PAGE_BYTES)
#define MOST	FERRY_PACKET_PAGES_MAX
#define BITS	FERRY_SQUEEZE_WINDOW_BITS

static uint8_t plain[MOST * FERRY_PAGE_BYTES], got[sizeof(plain)];

enum content { ZEROES, TEXT, NOISE, CONTENTS };

static void fill(enum content what, uint32_t seed, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		seed = seed * 1664525u + 1013904223u;
		plain[i] = what == ZEROES ? 0 :
			   what == NOISE ? (uint8_t)(seed >> 24) :
			   (uint8_t)"one page is like another"[i % 24];
		if (what == TEXT && i % 64 == 0)
			plain[i] = (uint8_t)(seed >> 24);
	}
}

static const struct { uint32_t method; int level; } ways[] = {
	{ FERRY_PACKET_ZLIB, 0 }, { FERRY_PACKET_ZLIB, 1 },
	{ FERRY_PACKET_ZLIB, 9 }, { FERRY_PACKET_ZSTD, 0 },
	{ FERRY_PACKET_ZSTD, 1 }, { FERRY_PACKET_ZSTD, 9 },
	{ FERRY_PACKET_ZSTD, 20 },
};

/* A few packets of one stream, which begins anew now and then, or goes on in
 * another gear. */
static void trip(uint32_t method, int level)
{
	static const unsigned pages[] = { 1, 128, 3, 64, 127, 2 };
	struct ferry_err e = { 0 };
	struct ferry_squeeze *q = ferry_squeeze_open(method, level, &e);
	struct ferry_unpack *u = ferry_unpack_open(method, BITS);

	assert_non_null(q);
	assert_non_null(u);
	assert_int_equal(ferry_unpack_method(u), method);
	for (unsigned i = 0; i < 6 * CONTENTS; i++) {
		size_t bytes = pages[i % 6] * PAGE;
		struct iovec in[2] = {
			{ plain, PAGE }, { plain + PAGE, bytes - PAGE },
		};
		struct iovec out;

		fill(i % CONTENTS, i, bytes);
		if (i % 5 == 4) {
			ferry_squeeze_restart(q);
			ferry_unpack_restart(u);
		}
		if (ferry_squeeze_has_fast(q))
			ferry_squeeze_shift(q, i / 3 & 1);
		assert_int_equal(ferry_squeeze_packet(q, in, bytes > PAGE ? 2 :
						      1, &out, &e), 0);
		assert_true(out.iov_len > 0 && out.iov_len <= 2 * bytes + 4096);
		assert_true(ferry_unpack_packet(u, out.iov_base, out.iov_len,
						got, bytes));
		assert_memory_equal(got, plain, bytes);
	}
	ferry_squeeze_close(q);
	ferry_unpack_close(u);
}

static void what_is_squeezed_comes_out_as_it_was(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		trip(ways[i].method, ways[i].level);
	ferry_squeeze_close(NULL);
	ferry_unpack_close(NULL);
}

static void what_compresses_gets_smaller(void **state)
{
	struct ferry_err e = { 0 };
	struct iovec in = { plain, sizeof(plain) }, out;

	(void)state;
	fill(TEXT, 1, sizeof(plain));
	for (unsigned i = 0; i < 2; i++) {
		struct ferry_squeeze *q = ferry_squeeze_open(i ?
			FERRY_PACKET_ZSTD : FERRY_PACKET_ZLIB, 1, &e);

		assert_non_null(q);
		assert_int_equal(ferry_squeeze_packet(q, &in, 1, &out, &e), 0);
		assert_true(out.iov_len < sizeof(plain) / 4);
		ferry_squeeze_close(q);
	}
}

/* ---- what nobody would send that means well ---------------------------------- */

enum harm {
	CUT_SHORT, CUT_TO_ONE, ONE_OCTET_MORE, ONE_CHANGED, TOO_FEW_PAGES,
	TOO_MANY_PAGES, A_PACKET_LEFT_OUT, NONSENSE, THE_OTHER_METHOD, HARMS
};

static size_t harmed(enum harm h, uint8_t *data, size_t bytes, size_t *pages)
{
	switch (h) {
	case CUT_SHORT:
		return bytes - 8;
	case CUT_TO_ONE:
		return 1;
	case ONE_OCTET_MORE:
		data[bytes] = 0x55;
		return bytes + 1;
	case ONE_CHANGED:
		data[0] ^= 0x5a;
		return bytes;
	case TOO_FEW_PAGES:
		--*pages;
		return bytes;
	case TOO_MANY_PAGES:
		++*pages;
		return bytes;
	case NONSENSE:
		memset(data, 0xa5, bytes);
		return bytes;
	case A_PACKET_LEFT_OUT:
	case THE_OTHER_METHOD:
	case HARMS:
		break;
	}
	return bytes;
}

static void try_harm(uint32_t method, enum harm h)
{
	static uint8_t data[2 * sizeof(plain)];
	struct ferry_err e = { 0 };
	struct ferry_squeeze *q = ferry_squeeze_open(method, 1, &e);
	struct ferry_unpack *u = ferry_unpack_open(h != THE_OTHER_METHOD ?
		method : method == FERRY_PACKET_ZLIB ? FERRY_PACKET_ZSTD :
		FERRY_PACKET_ZLIB, BITS);
	struct iovec in = { plain, 16 * PAGE }, out;
	size_t pages = 16, bytes;
	bool taken;

	fill(TEXT, 7, in.iov_len);
	assert_int_equal(ferry_squeeze_packet(q, &in, 1, &out, &e), 0);
	if (h == A_PACKET_LEFT_OUT)	/* what it refers to is not known */
		assert_int_equal(ferry_squeeze_packet(q, &in, 1, &out, &e), 0);
	memcpy(data, out.iov_base, out.iov_len);
	bytes = harmed(h, data, out.iov_len, &pages);
	taken = ferry_unpack_packet(u, data, bytes, got, pages * PAGE);
	/* zstd may keep the octet, and stumbles over it in the next packet. */
	if (taken && h == ONE_OCTET_MORE) {
		assert_int_equal(ferry_squeeze_packet(q, &in, 1, &out, &e), 0);
		taken = ferry_unpack_packet(u, out.iov_base, out.iov_len, got,
					    pages * PAGE);
	}
	if (taken)
		fail_msg("method %u, harm %d: taken", method, (int)h);
	ferry_squeeze_close(q);
	ferry_unpack_close(u);
}

static void what_was_tampered_with_is_damaged(void **state)
{
	(void)state;
	for (int h = 0; h < HARMS; h++) {
		try_harm(FERRY_PACKET_ZLIB, (enum harm)h);
		try_harm(FERRY_PACKET_ZSTD, (enum harm)h);
	}
}

/* A thousand times as much as there is room for, in a packet that is short. */
static void a_bomb_is_damaged(void **state)
{
	size_t bomb_bytes = 64u << 20, bytes;
	uint8_t *bomb = calloc(1, bomb_bytes), *packed = malloc(bomb_bytes);
	struct ferry_unpack *u;
	uLongf n = bomb_bytes;

	(void)state;
	assert_true(bomb && packed);
	assert_int_equal(compress2(packed, &n, bomb, bomb_bytes, 9), Z_OK);
	u = ferry_unpack_open(FERRY_PACKET_ZLIB, BITS);
	assert_false(ferry_unpack_packet(u, packed, n, got, sizeof(got)));
	ferry_unpack_close(u);

	bytes = ZSTD_compress(packed, bomb_bytes, bomb, bomb_bytes, 1);
	assert_false(ZSTD_isError(bytes));
	u = ferry_unpack_open(FERRY_PACKET_ZSTD, BITS);
	assert_false(ferry_unpack_packet(u, packed, bytes, got, sizeof(got)));
	ferry_unpack_close(u);
	free(bomb);
	free(packed);
}

/* A frame that says that it looks back 128 MiB. */
static void more_memory_than_allowed_is_refused(void **state)
{
	static uint8_t packed[2 * sizeof(plain)];
	ZSTD_CCtx *c = ZSTD_createCCtx();
	ZSTD_inBuffer in = { plain, sizeof(plain), 0 };
	ZSTD_outBuffer out = { packed, sizeof(packed), 0 };
	struct ferry_unpack *small = ferry_unpack_open(FERRY_PACKET_ZSTD, BITS);
	struct ferry_unpack *large = ferry_unpack_open(FERRY_PACKET_ZSTD,
						FERRY_UNPACK_QEMU_BITS);

	(void)state;
	fill(TEXT, 3, sizeof(plain));
	ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog,
			       (int)FERRY_UNPACK_QEMU_BITS);
	assert_int_equal(ZSTD_compressStream2(c, &out, &in, ZSTD_e_flush), 0);
	assert_false(ferry_unpack_packet(small, packed, out.pos, got,
					 sizeof(got)));
	assert_true(ferry_unpack_packet(large, packed, out.pos, got,
					sizeof(got)));
	assert_memory_equal(got, plain, sizeof(plain));
	ferry_unpack_close(small);
	ferry_unpack_close(large);
	ZSTD_freeCCtx(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_squeezed_comes_out_as_it_was),
		cmocka_unit_test(what_compresses_gets_smaller),
		cmocka_unit_test(what_was_tampered_with_is_damaged),
		cmocka_unit_test(a_bomb_is_damaged),
		cmocka_unit_test(more_memory_than_allowed_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
