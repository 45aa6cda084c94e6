/* SPDX-License-Identifier: MIT */
/*
 * The body of the RAM section, as QEMU writes it: the block list, then one
 * record per page.  Neighbouring pages are gathered and placed as a run; a run
 * never waits for octets that have not arrived, but where nobody waits for it.
 */
#include "recv/ahead.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "wire/ram.h"
#include "wire/text.h"

int ferry_rambody_init(struct ferry_rambody *b, struct ferry_inbuf *in,
		       struct ferry_place *place, struct ferry_err *e)
{
	*b = (struct ferry_rambody){ .in = in };
	ferry_placer_init(&b->placer, place);
	if (posix_memalign((void **)&b->own, FERRY_PAGE_BYTES,
			   (size_t)FERRY_RAMBODY_RUN * FERRY_PAGE_BYTES)) {
		b->own = NULL;
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "RAM section");
	}
	b->pages = b->own;
	return 0;
}

void ferry_rambody_fini(struct ferry_rambody *b)
{
	ferry_helper_fini(&b->helper);
	ferry_placer_fini(&b->placer);
	free(b->own);
	b->own = b->pages = NULL;
}

/* All that has come is placed. */
static int flush(struct ferry_rambody *b, struct ferry_err *e)
{
	uint32_t n = b->n;

	b->n = 0;
	if (ferry_helper_is_there(&b->helper) &&
	    ferry_helper_settle(&b->helper, e))
		return -1;
	return n ? ferry_placer_pages(&b->placer, b->block, b->first, n,
				      b->pages, e) : 0;
}

static uint32_t page_bytes_here(void *arg, const char *name)
{
	struct ferry_rambody *b = arg;
	struct ferry_mem_block *block =
		ferry_mem_by_name(b->placer.place->mem, name);

	return block ? block->page_bytes : 0;
}

struct listed {
	struct ferry_ramlist *list;
	struct ferry_ramlist_block *block;
};

static int decode_listed(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	struct listed *l = arg;

	return ferry_ramlist_decode(rd, l->list, l->block, e);
}

/* It is one of ours, of our size, and new. */
static int check_listed(const struct ferry_mem *mem,
			const struct ferry_ramlist_block *lb, bool *seen,
			struct ferry_err *e)
{
	const struct ferry_mem_block *block = ferry_mem_by_name(mem, lb->name);

	if (!block)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "the source has a memory block %s, which "
				     "there is not here", FERRY_SHOW(lb->name));
	if (block->bytes != lb->bytes)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "block %s has %" PRIu64 " octets at the "
				     "source and %" PRIu64 " here",
				     block->name, lb->bytes, block->bytes);
	if (seen[block->index])
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "block %s is listed twice", block->name);
	seen[block->index] = true;
	return 0;
}

/* Whoever has no blocks of his own takes them as they come. */
static int adopt_list(struct ferry_rambody *b, struct ferry_ramlist *list,
		      struct ferry_err *e)
{
	struct ferry_ramlist_block lb;
	struct listed next = { list, &lb };

	list->page_sizes = b->advised ? b->page_sizes : 0;
	while (!ferry_ramlist_done(list)) {
		if (ferry_inbuf_decode(b->in, decode_listed, &next, e) ||
		    b->hooks.adopt(b->hooks.arg, &lb, e))
			return -1;
	}
	b->listed = true;
	return b->hooks.adopt(b->hooks.arg, NULL, e);
}

static int read_list(struct ferry_rambody *b, uint64_t total_bytes,
		     struct ferry_err *e)
{
	const struct ferry_mem *mem = b->placer.place->mem;
	bool seen[FERRY_BLOCKS_MAX] = { false };
	struct ferry_ramlist_block lb;
	struct ferry_ramlist list;
	struct listed next = { &list, &lb };

	if (b->listed)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "the block list came twice");
	if (ferry_ramlist_init(&list, total_bytes, e))
		return -1;
	if (b->hooks.adopt)
		return adopt_list(b, &list, e);
	list.page_bytes = b->advised ? page_bytes_here : NULL;
	list.arg = b;
	while (!ferry_ramlist_done(&list)) {
		if (ferry_inbuf_decode(b->in, decode_listed, &next, e) ||
		    check_listed(mem, &lb, seen, e))
			return -1;
	}
	for (uint32_t i = 0; i < mem->blocks; i++)
		if (!seen[i])
			return ferry_err_set(e, FERRY_E_MISMATCH, 0,
					     "the source has no memory block "
					     "%s", mem->block[i].name);
	b->listed = true;
	return 0;
}

static struct ferry_mem_block *block_of(struct ferry_rambody *b,
					const struct ferry_ram_record *rec,
					struct ferry_err *e)
{
	struct ferry_block_shape shape;

	if (!rec->same_block)
		b->last = ferry_mem_by_name(b->placer.place->mem, rec->name);
	if (!b->last) {
		ferry_err_set(e, FERRY_E_PROTO, 0, "page of block '%s', which "
			      "there is not", FERRY_SHOW(rec->name));
		return NULL;
	}
	shape = (struct ferry_block_shape){
		b->last->name, b->last->bytes, b->last->page_bytes,
	};
	return ferry_ram_check_in(rec, &shape, e) ? NULL : b->last;
}

/* A run is whole; only long ones are worth the helper's attention. */
static int end_run(struct ferry_rambody *b, struct ferry_err *e)
{
	if (!b->gathers || b->n < FERRY_RAMBODY_RUN)
		return flush(b, e);
	b->n = 0;
	if (!ferry_helper_is_there(&b->helper) &&
	    ferry_helper_start(&b->helper, &b->placer, b->own, e))
		return -1;
	return ferry_helper_give(&b->helper, b->block, b->first,
				 FERRY_RAMBODY_RUN, &b->pages, e);
}

/* Runs end at multiples of what is placed at most: then all but the first and
 * the last are whole pieces of their block. */
static bool ends_run(const struct ferry_rambody *b,
		     const struct ferry_mem_block *block, uint64_t page)
{
	return block != b->block || page != b->first + b->n ||
	       page % FERRY_RAMBODY_RUN == 0;
}

static bool must_not_wait(const struct ferry_rambody *b, size_t n)
{
	return !b->gathers && ferry_inbuf_have(b->in) < n;
}

/* Where a page may wait for octets, those may be foreseen. */
static void note_row(struct ferry_rambody *b,
		     const struct ferry_mem_block *block, uint64_t page)
{
	bool next = block == b->block && page == b->next;

	b->row = next && b->gathers ? b->row + 1 : 0;
	b->next = page + 1;
}

static int take_page(struct ferry_rambody *b, struct ferry_mem_block *block,
		     uint64_t page, struct ferry_err *e)
{
	note_row(b, block, page);
	if (ends_run(b, block, page) && end_run(b, e))
		return -1;
	if (must_not_wait(b, FERRY_PAGE_BYTES) && flush(b, e))
		return -1;
	if (!b->n) {
		b->block = block;
		b->first = page;
	}
	if (b->row && ferry_inbuf_have(b->in) < FERRY_PAGE_BYTES)
		return ferry_ahead_read(b, page, e);
	if (ferry_inbuf_read(b->in, b->pages + (size_t)b->n * FERRY_PAGE_BYTES,
			     FERRY_PAGE_BYTES, e))
		return -1;
	b->n++;
	return 0;
}

static int take_patch(struct ferry_rambody *b, struct ferry_mem_block *block,
		      uint64_t page, size_t bytes, struct ferry_err *e)
{
	struct ferry_rd rd;

	if (flush(b, e) || ferry_stream_payload(b->in, bytes, &rd, e))
		return -1;
	return ferry_placer_patch(&b->placer, block, page, rd.p, bytes, e);
}

static int take_record(struct ferry_rambody *b,
		       const struct ferry_ram_record *rec,
		       struct ferry_err *e)
{
	struct ferry_mem_block *block = block_of(b, rec, e);
	uint64_t page = rec->addr / FERRY_PAGE_BYTES;

	if (!block)
		return -1;
	if (rec->kind == FERRY_RAM_PAGE)
		return take_page(b, block, page, e);
	if (rec->kind == FERRY_RAM_XBZRLE)
		return take_patch(b, block, page, rec->payload_bytes, e);
	if (rec->kind != FERRY_RAM_ZERO)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "%s pages are not supported here",
				     ferry_ram_kind_name(rec->kind));
	return flush(b, e) || ferry_placer_zeroes(&b->placer, block, page, 1,
						  e) ? -1 : 0;
}

struct record {
	struct ferry_rambody *body;
	struct ferry_ram_record *rec;
};

/* What is there must not wait for what is not. */
static int decode_record(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	struct record *r = arg;
	uint32_t legal = r->body->postcopy ? FERRY_RAM_IN_POSTCOPY :
					     FERRY_RAM_IN_PRECOPY;
	int rc = ferry_ram_decode(rd, legal, r->rec, e);

	if (rc == FERRY_DECODE_MORE && !r->body->gathers && flush(r->body, e))
		return FERRY_DECODE_WRONG;
	return rc;
}

static int next_record(struct ferry_rambody *b, struct ferry_ram_record *rec,
		       struct ferry_err *e)
{
	struct record next = { b, rec };

	if (must_not_wait(b, 1) && flush(b, e))
		return -1;
	return ferry_inbuf_decode(b->in, decode_record, &next, e);
}

static int mark(struct ferry_rambody *b, uint32_t kind, struct ferry_err *e)
{
	if (flush(b, e))
		return -1;
	return b->hooks.mark ? b->hooks.mark(b->hooks.arg, kind, e) : 0;
}

static int read_records(struct ferry_rambody *b, struct ferry_err *e)
{
	struct ferry_ram_record rec;

	for (;;) {
		if (next_record(b, &rec, e))
			return -1;
		switch (rec.kind) {
		case FERRY_RAM_EOS:
			return mark(b, rec.kind, e);
		case FERRY_RAM_MEM_SIZE:
			if (read_list(b, rec.addr, e))
				return -1;
			break;
		case FERRY_RAM_MULTIFD_FLUSH:
			if (mark(b, rec.kind, e))
				return -1;
			break;
		default:
			if (take_record(b, &rec, e))
				return -1;
		}
	}
}

/* What has come whole is not lost with what has not. */
int ferry_rambody_read(struct ferry_rambody *b, struct ferry_err *e)
{
	struct ferry_err ignored;

	if (!read_records(b, e))
		return 0;
	(void)!flush(b, &ignored);
	return -1;
}
