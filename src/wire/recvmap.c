/* SPDX-License-Identifier: MIT */
/*
 * | be64 bytes, a multiple of 8 | little-endian words, bit 0 first | mark |
 */
#include "wire/recvmap.h"

#include <endian.h>
#include <inttypes.h>

int ferry_recvmap_head_decode(struct ferry_rd *r, uint64_t pages,
			      struct ferry_err *e)
{
	struct ferry_rd from = *r;
	uint64_t bytes = ferry_rd_be64(r);
	int rc = 0;

	if (!r->bad && bytes != ferry_recvmap_words(pages) * 8)
		rc = ferry_err_set(e, FERRY_E_PROTO, 0,
				   "received map: %" PRIu64 " octets for %"
				   PRIu64 " pages", bytes, pages);
	return ferry_decode_end(r, from, rc);
}

void ferry_recvmap_head_encode(struct ferry_wr *w, uint64_t pages)
{
	ferry_wr_be64(w, ferry_recvmap_words(pages) * 8);
}

/* Bits of word w that are no pages. */
static uint64_t padding(uint64_t pages, uint64_t w)
{
	if (w < pages / 64)
		return 0;
	return w == pages / 64 ? ~0ull << pages % 64 : ~0ull;
}

int ferry_recvmap_words_decode(struct ferry_rd *r, uint64_t pages,
			       uint64_t first, uint64_t *word, size_t n,
			       struct ferry_err *e)
{
	for (size_t i = 0; i < n; i++) {
		const uint8_t *at = ferry_rd_bytes(r, 8);
		uint64_t le = 0;

		if (at)
			memcpy(&le, at, sizeof(le));
		word[i] = le64toh(le);
		if (word[i] & padding(pages, first + i))
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "received map: bits past page %"
					     PRIu64, pages);
	}
	return ferry_decode_whole(r, "received map", e);
}

void ferry_recvmap_words_encode(struct ferry_wr *w, const uint64_t *word,
				size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t le = htole64(word[i]);

		ferry_wr_bytes(w, &le, sizeof(le));
	}
}

int ferry_recvmap_end_decode(struct ferry_rd *r, struct ferry_err *e)
{
	struct ferry_rd from = *r;
	uint64_t mark = ferry_rd_be64(r);
	int rc = 0;

	if (!r->bad && mark != FERRY_RECVMAP_END_MARK)
		rc = ferry_err_set(e, FERRY_E_PROTO, 0,
				   "received map: ends with 0x%016" PRIx64,
				   mark);
	return ferry_decode_end(r, from, rc);
}

void ferry_recvmap_end_encode(struct ferry_wr *w)
{
	ferry_wr_be64(w, FERRY_RECVMAP_END_MARK);
}
