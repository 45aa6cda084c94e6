/* SPDX-License-Identifier: MIT */
/* Received maps, in pieces.  First two octets: pages of the block. */
#include "fuzz.h"

#include "wire/recvmap.h"

static uint64_t pages;		/* of this input */

static int head_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	(void)out;
	return ferry_recvmap_head_decode(r, pages, e);
}

static void head_encode(struct ferry_wr *w, const void *in)
{
	(void)in;
	ferry_recvmap_head_encode(w, pages);
}

static int end_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	(void)out;
	return ferry_recvmap_end_decode(r, e);
}

static void end_encode(struct ferry_wr *w, const void *in)
{
	(void)in;
	ferry_recvmap_end_encode(w);
}

static const struct fuzz_codec head = { 1, true, head_decode, head_encode };
static const struct fuzz_codec end = { 1, true, end_decode, end_encode };

/* Pieces of three words. */
static bool words(const uint8_t *data, uint64_t n)
{
	for (uint64_t at = 0; at < n;) {
		size_t piece = n - at < 3 ? (size_t)(n - at) : 3;
		struct ferry_rd r = ferry_rd_over(data + at * 8, piece * 8);
		uint8_t again[24];
		struct ferry_wr w = ferry_wr_over(again, sizeof(again));
		uint64_t word[3];

		if (ferry_recvmap_words_decode(&r, pages, at, word, piece,
					       NULL))
			return false;
		for (size_t i = 0; i < 64 * piece; i++)
			FUZZ_CHECK(at * 64 + i < pages ||
				   !(word[i / 64] >> i % 64 & 1));
		ferry_recvmap_words_encode(&w, word, piece);
		FUZZ_CHECK(!memcmp(again, data + at * 8, piece * 8));
		at += piece;
	}
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	size_t n;
	char none;

	if (bytes < 2)
		return 0;
	pages = (uint64_t)(data[0] << 8 | data[1]);
	data += 2;
	bytes -= 2;
	n = fuzz_stream(&head, data, bytes, &none);
	if (!n || ferry_recvmap_words(pages) * 8 > bytes - n ||
	    !words(data + n, ferry_recvmap_words(pages)))
		return 0;
	n += ferry_recvmap_words(pages) * 8;
	fuzz_stream(&end, data + n, bytes - n, &none);
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	static const uint16_t sizes[] = { 1, 63, 64, 65, 250, 1000 };

	for (size_t i = 0; i < FERRY_LEN(sizes); i++) {
		uint8_t buf[512];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

		ferry_wr_be16(&w, sizes[i]);
		ferry_recvmap_head_encode(&w, sizes[i]);
		for (uint64_t n = ferry_recvmap_words(sizes[i]); n; n--)
			ferry_recvmap_words_encode(&w, &(uint64_t){ 1 }, 1);
		ferry_recvmap_end_encode(&w);
		emit(buf, ferry_wr_used(&w));
	}
}
