/* SPDX-License-Identifier: MIT */
/*
 * What all tests of codecs share: hex in, exact octets out, streams fed octet
 * by octet, hostile input as a table.
 */
#ifndef FERRY_TESTS_WIRE_TEST_H
#define FERRY_TESTS_WIRE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "base/err.h"
#include "wire/decode.h"

#define WIRE_TEST_BYTES	(128 * 1024)

/* Hex digits, anything else between them ignored; 'text' is octets. */
static inline size_t unhex(const char *hex, uint8_t *out, size_t size)
{
	size_t n = 0;
	int high = -1;

	for (; *hex; hex++) {
		int v = *hex >= '0' && *hex <= '9' ? *hex - '0' :
			*hex >= 'a' && *hex <= 'f' ? *hex - 'a' + 10 : -1;

		if (*hex == '\'') {
			while (*++hex != '\'') {
				assert_true(n < size);
				out[n++] = (uint8_t)*hex;
			}
			continue;
		}
		if (v < 0)
			continue;
		if (high < 0) {
			high = v;
			continue;
		}
		assert_true(n < size);
		out[n++] = (uint8_t)(high << 4 | v);
		high = -1;
	}
	assert_int_equal(high, -1);
	return n;
}

/* The octets written are exactly these. */
static inline void assert_octets(const struct ferry_wr *w, const char *hex)
{
	FERRY_AUTO_FREE uint8_t *want = malloc(WIRE_TEST_BYTES);
	size_t n = unhex(hex, want, WIRE_TEST_BYTES);

	assert_false(w->bad);
	assert_int_equal(ferry_wr_used(w), n);
	assert_memory_equal(w->start, want, n);
}

/* Any stream decoder, called through one type. */
struct stream {
	int	(*decode)(struct ferry_rd *r, void *out, struct ferry_err *e);
	void	*out;
};

/*
 * Every prefix wants more, never more than there is to come; the whole is
 * done and consumes all but `ahead` octets.  Prefixes live in storage of their
 * own size, so that a sanitizer sees a read past them.
 */
static inline void assert_streams(struct stream s, const uint8_t *data,
				  size_t n, size_t ahead)
{
	struct ferry_err e;

	for (size_t i = 0; i <= n; i += n > 8192 && i > 64 && i < n - 64 ?
						97 : 1) {
		FERRY_AUTO_FREE uint8_t *part = malloc(i ? i : 1);
		struct ferry_rd r = ferry_rd_over(part, i);
		int rc;

		memcpy(part, data, i);
		rc = s.decode(&r, s.out, &e);
		if (i == n) {
			if (rc != FERRY_DECODE_DONE)
				fail_msg("not done: %d", rc);
			assert_int_equal(ferry_rd_left(&r), ahead);
			continue;
		}
		if (rc != FERRY_DECODE_MORE)
			fail_msg("prefix of %zu of %zu octets: %d (%s)", i, n,
				 rc, rc < 0 ? e.msg : "");
		assert_ptr_equal(r.p, part);
		assert_false(r.bad);
		assert_in_range(r.lack, 1, n - i);
	}
}

struct hostile {
	const char	*why;
	const char	*hex;
};

/* Each is wrong, says so in words, and consumes nothing. */
static inline void assert_hostile(struct stream s, const struct hostile *rows,
				  size_t n)
{
	uint8_t data[4096];

	for (size_t i = 0; i < n; i++) {
		size_t bytes = unhex(rows[i].hex, data, sizeof(data));
		struct ferry_rd r = ferry_rd_over(data, bytes);
		struct ferry_err e = { 0 };
		int rc = s.decode(&r, s.out, &e);

		if (rc != FERRY_DECODE_WRONG)
			fail_msg("%s: not refused (%d)", rows[i].why, rc);
		if (!e.code || !e.msg[0])
			fail_msg("%s: refused without a word", rows[i].why);
	}
}

#endif
