/* SPDX-License-Identifier: MIT */
/*
 * The received map of a block, as it follows the RECV_BITMAP message: size,
 * bits (1 = placed), end mark.  In pieces of whole words, so that no buffer of
 * a large block's size is needed.  The bitmap in a mapped-ram file has the
 * same words.  Pure, any thread.
 */
#ifndef FERRY_WIRE_RECVMAP_H
#define FERRY_WIRE_RECVMAP_H

#include "wire/decode.h"

#define FERRY_RECVMAP_END_MARK	0x0123456789abcdefull
#define FERRY_RECVMAP_HEAD_WIRE	8
#define FERRY_RECVMAP_END_WIRE	8

/* Words of 64 pages, the unit of everything below. */
static inline uint64_t ferry_recvmap_words(uint64_t pages)
{
	return pages / 64 + (pages % 64 != 0);
}

/* Stream decoder: the size must be that of `pages`. */
FERRY_CHECKED int ferry_recvmap_head_decode(struct ferry_rd *r, uint64_t pages,
					    struct ferry_err *e);
void ferry_recvmap_head_encode(struct ferry_wr *w, uint64_t pages);

/*
 * Record decoder: n words from word `first`; nothing else in r.  Bits past
 * the last page must be zero.
 */
FERRY_CHECKED int ferry_recvmap_words_decode(struct ferry_rd *r,
					     uint64_t pages, uint64_t first,
					     uint64_t *word, size_t n,
					     struct ferry_err *e);
void ferry_recvmap_words_encode(struct ferry_wr *w, const uint64_t *word,
				size_t n);

/* Stream decoder. */
FERRY_CHECKED int ferry_recvmap_end_decode(struct ferry_rd *r,
					   struct ferry_err *e);
void ferry_recvmap_end_encode(struct ferry_wr *w);

#endif
