/* SPDX-License-Identifier: MIT */
/*
 * The octets behind the word of page n, as they are foreseen:
 *
 *   page n | word of n + 1 | page n + 1 | word of n + 2 | ... | word of n + k
 *
 * A piece is a page and the word behind it.
 */
#include "recv/ahead.h"

#include <string.h>

#include "chan/iov.h"
#include "wire/ram.h"

#define PIECE_BYTES	((size_t)FERRY_PAGE_BYTES + FERRY_RAM_MARK_WIRE)

struct ahead {
	struct ferry_inbuf *in;
	uint8_t		*pages;		/* where they go */
	uint64_t	 first;		/* number of the first */
	uint32_t	 n;		/* pieces there is room for */
	uint32_t	 right;		/* pieces that were foreseen right */
	size_t		 got;		/* octets */
	uint8_t		 word[FERRY_RAMBODY_RUN][FERRY_RAM_MARK_WIRE];
};

static bool is_foreseen(const struct ahead *a, uint32_t piece)
{
	uint64_t addr = (a->first + piece + 1) * FERRY_PAGE_BYTES;
	struct ferry_rd rd = ferry_rd_over(a->word[piece],
					   FERRY_RAM_MARK_WIRE);

	return ferry_rd_be64(&rd) ==
	       (addr | FERRY_RAM_PAGE | FERRY_RAM_CONTINUE);
}

/* In the midst of a page of which it is known that it is the one. */
static bool lacks_octets(struct ahead *a)
{
	while (a->right + 1 < a->n &&
	       a->got >= (a->right + 1) * PIECE_BYTES &&
	       is_foreseen(a, a->right))
		a->right++;
	return a->got < a->right * PIECE_BYTES + FERRY_PAGE_BYTES;
}

static int scatter(struct ahead *a, struct ferry_err *e)
{
	struct iovec all[2 * FERRY_RAMBODY_RUN], *iov = all;
	int n = 2 * (int)a->n;

	for (size_t i = 0; i < a->n; i++, iov += 2) {
		iov[0].iov_base = a->pages + i * FERRY_PAGE_BYTES;
		iov[0].iov_len = FERRY_PAGE_BYTES;
		iov[1].iov_base = a->word[i];
		iov[1].iov_len = FERRY_RAM_MARK_WIRE;
	}
	iov = all;
	ferry_iov_advance(&iov, &n, a->got);
	while (lacks_octets(a)) {
		ssize_t got = ferry_inbuf_scatter(a->in, iov, n, e);

		if (got < 0)
			return -1;
		a->got += (size_t)got;
		ferry_iov_advance(&iov, &n, (size_t)got);
	}
	return 0;
}

/* Octets [from, got), to be read again. */
static int give_back(struct ahead *a, size_t from, struct ferry_err *e)
{
	size_t n;

	for (; from < a->got; from += n) {
		size_t piece = from / PIECE_BYTES, at = from % PIECE_BYTES;
		bool page = at < FERRY_PAGE_BYTES;

		n = (page ? FERRY_PAGE_BYTES : PIECE_BYTES) - at;
		n = n < a->got - from ? n : a->got - from;
		if (ferry_inbuf_give_back(a->in, page ?
				a->pages + piece * FERRY_PAGE_BYTES + at :
				a->word[piece] + at - FERRY_PAGE_BYTES, n, e))
			return -1;
	}
	return 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* As many as have come in a row; none behind the end of the block or run. */
static uint32_t pieces(const struct ferry_rambody *b, uint64_t page)
{
	uint64_t room = FERRY_RAMBODY_RUN - page % FERRY_RAMBODY_RUN;

	room = least(room, b->block->pages - page);
	return (uint32_t)least(room, b->row + 1);
}

int ferry_ahead_read(struct ferry_rambody *b, uint64_t page,
		     struct ferry_err *e)
{
	size_t have = ferry_inbuf_have(b->in);
	struct ahead a;
	int rc;

	a.in = b->in;
	a.pages = b->pages + (size_t)b->n * FERRY_PAGE_BYTES;
	a.first = page;
	a.n = pieces(b, page);
	a.right = 0;
	a.got = have < FERRY_PAGE_BYTES ? have : FERRY_PAGE_BYTES;
	if (ferry_inbuf_read(b->in, a.pages, a.got, e))
		return -1;
	rc = scatter(&a, e);
	b->n += a.right + !rc;
	b->next += a.right;
	b->row = a.got > (a.right + 1) * PIECE_BYTES ? 0 : b->row + a.right;
	return rc ? -1 : give_back(&a, a.right * PIECE_BYTES +
				   FERRY_PAGE_BYTES, e);
}
