/* SPDX-License-Identifier: MIT */
/*
 * One receiver's placer.  Pages of 4 KiB blocks go straight on.  In postcopy a
 * huge page must appear whole: its pieces, which come back to back on one
 * channel, are put together first.
 */
#include "recv/place.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/counter.h"
#include "recv/place_ops.h"
#include "wire/xbzrle.h"

void ferry_placer_init(struct ferry_placer *r, struct ferry_place *place)
{
	*r = (struct ferry_placer){
		.place = place, .way = ferry_sums_way(FERRY_SUMS_MAIN, 1),
	};
}

void ferry_placer_fini(struct ferry_placer *r)
{
	free(r->host);
	r->host = NULL;
}

/* Of pages [first, first + n) the first that is not here is not ours. */
static int not_ours(const struct ferry_place *p,
		    const struct ferry_mem_block *b, uint64_t first,
		    uint64_t n, struct ferry_err *e)
{
	first = ferry_bitmap_next_clear_before(&p->map->here[b->index], first,
					       first + n);
	return ferry_err_set(e, FERRY_E_MISMATCH, 0, "block %s page %" PRIu64
			     ": somebody else wrote to it before it came from "
			     "the source, and the guest may have read that; "
			     "the source still has the page", b->name, first);
}

static int failed(const struct ferry_place *p,
		  const struct ferry_mem_block *b, uint64_t first, uint64_t n,
		  int rc, struct ferry_err *e)
{
	bool full = rc == -ENOMEM || rc == -ENOSPC || rc == -EDQUOT ||
		    rc == -EFBIG;

	if (rc == -EEXIST)
		return not_ours(p, b, first, n, e);
	return ferry_err_set(e, full ? FERRY_E_NOMEM : FERRY_E_IO, -rc,
			     "place block %s page %" PRIu64 "%s", b->name,
			     first, !full ? "" : b->in_file ?
			     ": the image has no room left" :
			     ": its memory has no room left");
}

static bool in_pieces(const struct ferry_placer *r,
		      const struct ferry_mem_block *b)
{
	return b->host_pages > 1 &&
	       atomic_load(&r->place->ops) == &ferry_place_postcopy;
}

static int begin_host_page(struct ferry_placer *r, struct ferry_mem_block *b,
			   uint64_t first, struct ferry_err *e)
{
	if (first % b->host_pages)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "block %s: page %" PRIu64 " does not "
				     "begin a host page", b->name, first);
	if (!r->host && posix_memalign((void **)&r->host, FERRY_PAGE_BYTES,
				       FERRY_HUGE_BYTES))
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM,
				     "a buffer for one host page");
	r->block = b;
	r->first = first;
	r->all_zero = true;
	return 0;
}

static int end_host_page(struct ferry_placer *r, struct ferry_err *e)
{
	const struct ferry_place_ops *ops = atomic_load(&r->place->ops);
	struct ferry_mem_block *b = r->block;
	int rc;

	r->have = 0;
	if (r->all_zero)
		rc = ops->zeroes(r->place, b, r->first, b->host_pages);
	else
		rc = ops->pages(r->place, b, r->first, b->host_pages, r->host);
	return rc ? failed(r->place, b, r->first, b->host_pages, rc, e) : 0;
}

/* The next n pages of a host page; data NULL: zeroes. */
static int add_piece(struct ferry_placer *r, struct ferry_mem_block *b,
		     uint64_t first, uint64_t n, const uint8_t *data,
		     struct ferry_err *e)
{
	uint8_t *at;

	if (!r->have && begin_host_page(r, b, first, e))
		return -1;
	if (b != r->block || first != r->first + r->have)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "block %s: page %" PRIu64 " in the midst "
				     "of host page %" PRIu64 " of block %s",
				     b->name, first, r->first, r->block->name);

	at = r->host + (uint64_t)r->have * FERRY_PAGE_BYTES;
	if (data)
		memcpy(at, data, n * FERRY_PAGE_BYTES);
	else
		memset(at, 0, n * FERRY_PAGE_BYTES);
	r->all_zero = r->all_zero && !data;
	r->have += (uint32_t)n;
	return r->have == b->host_pages ? end_host_page(r, e) : 0;
}

static int add(struct ferry_placer *r, struct ferry_mem_block *b,
	       uint64_t first, uint64_t n, const uint8_t *data,
	       struct ferry_err *e)
{
	while (n) {
		uint64_t left = b->host_pages - first % b->host_pages;
		uint64_t now = n < left ? n : left;

		if (add_piece(r, b, first, now, data, e))
			return -1;
		first += now;
		n -= now;
		data = data ? data + now * FERRY_PAGE_BYTES : NULL;
	}
	return 0;
}

int ferry_placer_pages(struct ferry_placer *r, struct ferry_mem_block *b,
		       uint64_t first, uint64_t n, const uint8_t *data,
		       struct ferry_err *e)
{
	int rc;

	ferry_count(&r->place->normal_pages, n);
	if (r->place->sums)
		ferry_sums_note(r->place->sums, b, first, n, data, r->way);
	if (in_pieces(r, b))
		return add(r, b, first, n, data, e);
	rc = atomic_load(&r->place->ops)->pages(r->place, b, first, n, data);
	return rc ? failed(r->place, b, first, n, rc, e) : 0;
}

int ferry_placer_zeroes(struct ferry_placer *r, struct ferry_mem_block *b,
			uint64_t first, uint64_t n, struct ferry_err *e)
{
	int rc;

	ferry_count(&r->place->zero_pages, n);
	if (r->place->sums)
		ferry_sums_note(r->place->sums, b, first, n, NULL, r->way);
	if (in_pieces(r, b))
		return add(r, b, first, n, NULL, e);
	rc = atomic_load(&r->place->ops)->zeroes(r->place, b, first, n);
	return rc ? failed(r->place, b, first, n, rc, e) : 0;
}

int ferry_placer_patch(struct ferry_placer *r, struct ferry_mem_block *b,
		       uint64_t page, const uint8_t *patch, size_t bytes,
		       struct ferry_err *e)
{
	uint8_t old[FERRY_PAGE_BYTES], now[FERRY_PAGE_BYTES];
	int rc = atomic_load(&r->place->ops)->read(r->place, b, page, old);

	if (!rc)
		rc = ferry_xbzrle_decode(patch, bytes, old, now);
	if (rc == -EBADMSG)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "block %s page %"
				     PRIu64 ": XBZRLE data of %zu octets is "
				     "damaged", b->name, page, bytes);
	if (rc)
		return failed(r->place, b, page, 1, rc, e);
	return ferry_placer_pages(r, b, page, 1, now, e);
}
