/* SPDX-License-Identifier: MIT */
/*
 * | str8 name | be64 bytes | [be64 page] | [be64 gpa] | [mapped-ram header] |
 */
#include "wire/ramlist.h"

#include <inttypes.h>

#include "wire/text.h"

int ferry_ramlist_init(struct ferry_ramlist *l, uint64_t total_bytes,
		       struct ferry_err *e)
{
	*l = (struct ferry_ramlist){ .total_bytes = total_bytes };
	if (!total_bytes || total_bytes % FERRY_PAGE_BYTES)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "MEM_SIZE: 0x%" PRIx64 " octets of memory",
				     total_bytes);
	return 0;
}

static int size_check(const struct ferry_ramlist *l,
		      const struct ferry_ramlist_block *b,
		      struct ferry_err *e)
{
	if (b->bytes && b->bytes % FERRY_PAGE_BYTES == 0 &&
	    b->bytes <= FERRY_BLOCK_BYTES_MAX &&
	    b->bytes <= l->total_bytes - l->seen_bytes &&
	    l->blocks < FERRY_BLOCKS_MAX)
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "MEM_SIZE: block %" PRIu32 " \"%s\" of 0x%" PRIx64
			     " octets, 0x%" PRIx64 " are left of the total",
			     l->blocks, FERRY_SHOW(b->name), b->bytes,
			     l->total_bytes - l->seen_bytes);
}

/*
 * Is a page size stated?  Octets that are not one are the next entry's name,
 * which begins with its length, or a record, whose flags are no page size: so
 * no more than needed is waited for, but those eight.
 */
static int page_guess(struct ferry_rd *r, const struct ferry_ramlist *l,
		      struct ferry_ramlist_block *b)
{
	struct ferry_rd ahead = *r;
	uint64_t next;

	b->page_bytes = FERRY_PAGE_BYTES;
	if (!(l->page_sizes & ~(uint64_t)FERRY_PAGE_BYTES))
		return 0;
	next = ferry_rd_be64(&ahead);
	if (ahead.bad) {
		*r = ahead;
		return 0;
	}
	if (next == FERRY_PAGE_BYTES || next & (next - 1) ||
	    !(next & l->page_sizes) || b->bytes % next)
		return 0;
	*r = ahead;
	b->page_bytes = (uint32_t)next;
	return 0;
}

/* There only for a block of huge pages, which the reader must have too. */
static int page_decode(struct ferry_rd *r, const struct ferry_ramlist *l,
		       struct ferry_ramlist_block *b, struct ferry_err *e)
{
	uint32_t own = l->page_bytes ? l->page_bytes(l->arg, b->name)
				     : FERRY_PAGE_BYTES;
	uint64_t stated;

	if (l->page_sizes)
		return page_guess(r, l, b);
	b->page_bytes = own;
	if (!own)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "memory block \"%s\" is unknown here",
				     FERRY_SHOW(b->name));
	if (own == FERRY_PAGE_BYTES)
		return 0;
	stated = ferry_rd_be64(r);
	if (!r->bad && (stated != own || b->bytes % own))
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "memory block \"%s\": pages of %" PRIu64
				     " octets on the source, %" PRIu32 " here",
				     FERRY_SHOW(b->name), stated, own);
	return 0;
}

static int entry_decode(struct ferry_rd *r, const struct ferry_ramlist *l,
			struct ferry_ramlist_block *b, struct ferry_err *e)
{
	int got;

	if (!ferry_text_read_name(r, b->name))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "MEM_SIZE: block %" PRIu32 ": bad name",
				     l->blocks);
	b->bytes = ferry_rd_be64(r);
	if (r->bad)
		return 0;
	if (size_check(l, b, e) || page_decode(r, l, b, e))
		return -1;
	b->gpa = l->gpa ? ferry_rd_be64(r) : 0;
	if (!l->mapped || r->bad)
		return 0;

	got = ferry_mapped_decode(r, b->bytes, &b->mapped, e);
	if (got == FERRY_DECODE_MORE)
		r->bad = true;		/* its lack stands */
	return got < 0 ? ferry_err_wrap(e, "%s", FERRY_SHOW(b->name)) : 0;
}

int ferry_ramlist_decode(struct ferry_rd *r, struct ferry_ramlist *l,
			 struct ferry_ramlist_block *b, struct ferry_err *e)
{
	struct ferry_rd from = *r;
	int rc;

	*b = (struct ferry_ramlist_block){ 0 };
	rc = ferry_decode_end(r, from, entry_decode(r, l, b, e));
	if (rc == FERRY_DECODE_DONE) {
		l->seen_bytes += b->bytes;
		l->blocks++;
	}
	return rc;
}

static bool states_page(const struct ferry_ramlist *l,
			const struct ferry_ramlist_block *b)
{
	return l->page_bytes && b->page_bytes != FERRY_PAGE_BYTES;
}

void ferry_ramlist_encode(struct ferry_wr *w, const struct ferry_ramlist *l,
			  const struct ferry_ramlist_block *b)
{
	ferry_wr_str8(w, b->name);
	ferry_wr_be64(w, b->bytes);
	if (states_page(l, b))
		ferry_wr_be64(w, b->page_bytes);
	if (l->gpa)
		ferry_wr_be64(w, b->gpa);
	if (l->mapped)
		ferry_mapped_encode(w, &b->mapped);
}

size_t ferry_ramlist_bytes(const struct ferry_ramlist *l,
			   const struct ferry_ramlist_block *b)
{
	return 1 + strlen(b->name) + 8 + (states_page(l, b) ? 8 : 0) +
	       (l->gpa ? 8 : 0) + (l->mapped ? FERRY_MAPPED_WIRE : 0);
}
