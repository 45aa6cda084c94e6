/* SPDX-License-Identifier: MIT */
/*
 * RAM records: | be64 address | flags | str8 name unless CONTINUE | tail |
 */
#include "wire/ram.h"

#include <inttypes.h>

#include "wire/text.h"

#define FLAGS		((uint64_t)FERRY_PAGE_BYTES - 1)

/* The octets between a page record's name and its payload. */
enum tail {
	TAIL_NONE,		/* not a page record, or nothing */
	TAIL_FILL,		/* ZERO:		u8 0 */
	TAIL_XBZRLE,		/* XBZRLE:		u8 1, be16 n */
	TAIL_COMPRESSED,	/* COMPRESS_PAGE:	be32 n */
};

static const uint8_t tail_bytes[] = {
	[TAIL_NONE] = 0, [TAIL_FILL] = 1,
	[TAIL_XBZRLE] = 3, [TAIL_COMPRESSED] = 4,
};

static const struct row {
	uint32_t	kind;
	bool		page;		/* has a name, or CONTINUE */
	bool		zero_addr;	/* addr must be 0 */
	uint8_t		tail;
	const char	*name;
} rows[] = {
	{ FERRY_RAM_PAGE, true, false, TAIL_NONE, "PAGE" },
	{ FERRY_RAM_ZERO, true, false, TAIL_FILL, "ZERO" },
	{ FERRY_RAM_XBZRLE, true, false, TAIL_XBZRLE, "XBZRLE" },
	{ FERRY_RAM_COMPRESS_PAGE, true, false, TAIL_COMPRESSED,
	  "COMPRESS_PAGE" },
	{ FERRY_RAM_EOS, false, true, TAIL_NONE, "EOS" },
	{ FERRY_RAM_MEM_SIZE, false, false, TAIL_NONE, "MEM_SIZE" },
	{ FERRY_RAM_MULTIFD_FLUSH, false, true, TAIL_NONE, "MULTIFD_FLUSH" },
	{ FERRY_RAM_HOOK, false, false, TAIL_NONE, "HOOK" },
	{ FERRY_RAM_FULL, false, false, TAIL_NONE, "FULL" },
};

static const struct row *row_of(uint32_t kind)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].kind == kind)
			return &rows[i];
	return NULL;
}

const char *ferry_ram_kind_name(uint32_t kind)
{
	const struct row *row = row_of(kind);

	return row ? row->name : "unknown";
}

static int wrong(struct ferry_err *e, const struct ferry_ram_record *rec,
		 const char *what)
{
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "RAM: %s 0x%" PRIx64 ": %s",
			     ferry_ram_kind_name(rec->kind), rec->addr, what);
}

static int tail_decode(struct ferry_rd *r, enum tail tail,
		       struct ferry_ram_record *rec, struct ferry_err *e)
{
	uint32_t mark = 0, most = 0;

	switch (tail) {
	case TAIL_NONE:
		rec->payload_bytes =
			rec->kind == FERRY_RAM_PAGE ? FERRY_PAGE_BYTES : 0;
		return 0;
	case TAIL_FILL:
		if (ferry_rd_u8(r))
			return wrong(e, rec, "filled with other than zero");
		return 0;
	case TAIL_XBZRLE:
		mark = ferry_rd_u8(r);
		if (!r->bad && mark != 1)
			return wrong(e, rec, "unknown encoding");
		rec->payload_bytes = ferry_rd_be16(r);
		most = FERRY_PAGE_BYTES;
		break;
	case TAIL_COMPRESSED:
		rec->payload_bytes = ferry_rd_be32(r);
		most = FERRY_RAM_COMPRESSED_MAX;
		break;
	}
	if (!r->bad && (!rec->payload_bytes || rec->payload_bytes > most))
		return wrong(e, rec, "payload is empty or too long");
	return 0;
}

static int word_decode(struct ferry_rd *r, uint32_t legal,
		       struct ferry_ram_record *rec, const struct row **row,
		       struct ferry_err *e)
{
	uint64_t word = ferry_rd_be64(r);

	if (r->bad)
		return 0;
	rec->kind = (uint32_t)(word & FLAGS & ~(uint64_t)FERRY_RAM_CONTINUE);
	rec->same_block = word & FERRY_RAM_CONTINUE;
	rec->addr = word & ~FLAGS;

	*row = row_of(rec->kind);
	if (!*row)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "RAM: no record has flags 0x%03x",
				     (unsigned)(word & FLAGS));
	if (!(legal & rec->kind) ||
	    rec->kind & (FERRY_RAM_FULL | FERRY_RAM_HOOK))
		return wrong(e, rec, "not legal here");
	if (!(*row)->page && rec->same_block)
		return wrong(e, rec, "CONTINUE where there is no page");
	if ((*row)->zero_addr && rec->addr)
		return wrong(e, rec, "has an address");
	return 0;
}

static int record_decode(struct ferry_rd *r, uint32_t legal,
			 struct ferry_ram_record *rec, struct ferry_err *e)
{
	const struct row *row = NULL;

	if (word_decode(r, legal, rec, &row, e))
		return -1;
	if (r->bad || !row->page)
		return 0;
	if (!rec->same_block && !ferry_text_read_name(r, rec->name))
		return wrong(e, rec, "bad block name");
	return tail_decode(r, (enum tail)row->tail, rec, e);
}

int ferry_ram_decode(struct ferry_rd *r, uint32_t legal,
		     struct ferry_ram_record *rec, struct ferry_err *e)
{
	struct ferry_rd from = *r;

	rec->kind = 0;
	rec->payload_bytes = 0;
	rec->addr = 0;
	rec->same_block = false;
	rec->name[0] = '\0';
	return ferry_decode_end(r, from, record_decode(r, legal, rec, e));
}

int ferry_ram_check_in(const struct ferry_ram_record *rec,
		       const struct ferry_block_shape *block,
		       struct ferry_err *e)
{
	if (rec->addr < block->bytes &&
	    block->bytes - rec->addr >= FERRY_PAGE_BYTES)
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "RAM: %s: %s 0x%" PRIx64
			     " is past its end, 0x%" PRIx64,
			     ferry_ram_kind_name(rec->kind),
			     FERRY_SHOW(block->name), rec->addr, block->bytes);
}

void ferry_ram_page_encode(struct ferry_wr *w, uint32_t kind,
			   const char *name, uint64_t offset,
			   uint32_t payload_bytes)
{
	const struct row *row = row_of(kind);

	if (!row || !row->page || offset & FLAGS) {
		w->bad = true;
		return;
	}
	ferry_wr_be64(w, offset | kind | (name ? 0 : FERRY_RAM_CONTINUE));
	if (name)
		ferry_wr_str8(w, name);

	switch ((enum tail)row->tail) {
	case TAIL_NONE:
		break;
	case TAIL_FILL:
		ferry_wr_u8(w, 0);
		break;
	case TAIL_XBZRLE:
		ferry_wr_u8(w, 1);
		ferry_wr_be16(w, (uint16_t)payload_bytes);
		break;
	case TAIL_COMPRESSED:
		ferry_wr_be32(w, payload_bytes);
		break;
	}
}

size_t ferry_ram_page_bytes(uint32_t kind, const char *name)
{
	const struct row *row = row_of(kind);

	if (!row)
		return 0;
	return 8 + (name ? 1 + strlen(name) : 0) + tail_bytes[row->tail];
}

void ferry_ram_mark_encode(struct ferry_wr *w, uint32_t kind, uint64_t addr)
{
	ferry_wr_be64(w, addr | kind);
}
