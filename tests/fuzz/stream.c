/* SPDX-License-Identifier: MIT */
/*
 * The promises of stream decoders, checked.
 */
#include "fuzz.h"

#include "wire/decode.h"

/* More than any record's head takes. */
#define OCTETS	8192

/* Whoever refuses says why, and a message is text. */
static void check_error(const struct ferry_err *e)
{
	FUZZ_CHECK(e->code > FERRY_E_OK && e->code <= FERRY_E_NOTCONVERGED);
	FUZZ_CHECK(e->msg[0] && strlen(e->msg) < sizeof(e->msg));
	for (const char *p = e->msg; *p; p++)
		FUZZ_CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
}

/* decode(encode(x)) is x; the octets are equal where there is one form. */
static void check_again(const struct fuzz_codec *c, const void *out,
			const uint8_t *data, size_t used)
{
	static uint8_t once[OCTETS], twice[OCTETS];
	FERRY_AUTO_FREE uint8_t *copy = calloc(1, c->size);
	struct ferry_wr w1 = ferry_wr_over(once, OCTETS - 1);
	struct ferry_wr w2 = ferry_wr_over(twice, OCTETS - 1);
	struct ferry_rd r;
	size_t n;

	c->encode(&w1, out);
	FUZZ_CHECK(!w1.bad);
	n = ferry_wr_used(&w1);
	if (c->canonical)
		FUZZ_CHECK(n == used && !memcmp(once, data, n));

	once[n] = 0;		/* some want to see what follows */
	r = ferry_rd_over(once, n + 1);
	FUZZ_CHECK(c->decode(&r, copy, NULL) == FERRY_DECODE_DONE);
	FUZZ_CHECK(r.p == once + n);
	c->encode(&w2, copy);
	FUZZ_CHECK(!w2.bad && ferry_wr_used(&w2) == n);
	FUZZ_CHECK(!memcmp(once, twice, n));
}

size_t fuzz_stream(const struct fuzz_codec *c, const uint8_t *data,
		   size_t bytes, void *out)
{
	size_t have = 0;

	for (;;) {
		/* Storage of its own size: a sanitizer sees one too far. */
		FERRY_AUTO_FREE uint8_t *part = malloc(have ? have : 1);
		struct ferry_rd r = ferry_rd_over(part, have);
		struct ferry_err e = { 0 };
		int rc;

		if (have)
			memcpy(part, data, have);
		rc = c->decode(&r, out, &e);
		FUZZ_CHECK(!r.bad);
		if (rc == FERRY_DECODE_DONE) {
			size_t used = (size_t)(r.p - part);

			if (c->encode)
				check_again(c, out, part, used);
			return used;
		}
		FUZZ_CHECK(r.p == part);
		if (rc == FERRY_DECODE_WRONG) {
			check_error(&e);
			return 0;
		}
		FUZZ_CHECK(rc == FERRY_DECODE_MORE && r.lack > 0);
		if (r.lack > bytes - have)
			return 0;
		have += r.lack;
	}
}
