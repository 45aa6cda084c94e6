/* SPDX-License-Identifier: MIT */
/*
 * RAM records: in the body of the RAM section, and bare on a preempt channel.
 */
#include "park/dump_priv.h"

#include "wire/ram.h"

/* The block of a page record, which may be that of the record before. */
static int block_of(struct ferry_dump_stream *s,
		    const struct ferry_ram_record *rec, struct ferry_err *e)
{
	const struct ferry_dump_block *b;
	struct ferry_block_shape shape;

	if (!rec->same_block)
		memcpy(s->block, rec->name, sizeof(s->block));
	if (!s->block[0])
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "RAM: CONTINUE on the first page of a"
				     " channel");
	if (ferry_dump_block_known(&s->d->vm, s->block, &b, e))
		return -1;
	if (!b)
		return 0;
	shape = ferry_dump_shape(b);
	return ferry_ram_check_in(rec, &shape, e);
}

/* DONE: it was a page, or a mark in rec->kind that was told. */
static int record(struct ferry_dump_stream *s, struct ferry_rd *r,
		  uint32_t legal, struct ferry_ram_record *rec,
		  struct ferry_err *e)
{
	const uint8_t *from = r->p;
	int rc = ferry_ram_decode(r, legal, rec, e);
	uint64_t bytes;

	if (rc != FERRY_DECODE_DONE)
		return rc;
	bytes = (uint64_t)(r->p - from) + rec->payload_bytes;
	if (rec->kind & (FERRY_RAM_EOS | FERRY_RAM_MULTIFD_FLUSH |
			 FERRY_RAM_MEM_SIZE)) {
		ferry_dump_begin(s, s->mark, "RAM",
				 ferry_ram_kind_name(rec->kind));
		if (rec->kind == FERRY_RAM_MEM_SIZE)
			ferry_dump_number(s, "memory", rec->addr);
		ferry_dump_end(s, bytes);
		return rc;
	}
	if (block_of(s, rec, e))
		return FERRY_DECODE_WRONG;
	ferry_dump_page(s, ferry_ram_kind_name(rec->kind), s->block,
			rec->addr, bytes);
	s->skip = rec->payload_bytes;
	return rc;
}

int ferry_dump_ram(struct ferry_dump_stream *s, struct ferry_rd *r,
		   struct ferry_err *e)
{
	struct ferry_dump_vm *vm = &s->d->vm;
	uint32_t legal = FERRY_RAM_IN_PRECOPY | FERRY_RAM_COMPRESS_PAGE;
	struct ferry_ram_record rec;
	int rc;

	if (s->sec.type != FERRY_SECTION_START || vm->listed)
		legal &= ~(uint32_t)FERRY_RAM_MEM_SIZE;
	rc = record(s, r, legal, &rec, e);
	if (rc != FERRY_DECODE_DONE)
		return rc;
	if (rec.kind == FERRY_RAM_EOS)
		return ferry_dump_to_footer(s);
	if (rec.kind != FERRY_RAM_MEM_SIZE)
		return rc;
	if (ferry_ramlist_init(&s->listing.list, rec.addr, e))
		return FERRY_DECODE_WRONG;
	return ferry_dump_next(s, ferry_dump_ramlist, "the list of blocks");
}

int ferry_dump_preempt(struct ferry_dump_stream *s, struct ferry_rd *r,
		       struct ferry_err *e)
{
	struct ferry_ram_record rec;
	int rc;

	ferry_dump_next(s, ferry_dump_preempt, "a page of a preempt channel");
	rc = record(s, r, FERRY_RAM_IN_POSTCOPY, &rec, e);
	s->may_end = rc == FERRY_DECODE_DONE;
	return rc;
}
