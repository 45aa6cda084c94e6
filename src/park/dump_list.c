/* SPDX-License-Identifier: MIT */
/*
 * The list of memory blocks; in a mapped-ram file each entry is followed, at
 * offsets that it states, by a bitmap and the block's pages.
 */
#include "park/dump_priv.h"

#include <inttypes.h>

#include "wire/mapped.h"
#include "wire/recvmap.h"
#include "wire/text.h"

#define WORDS_ONCE	512u

/*
 * A block of huge pages states their size, if postcopy was advised, and which
 * block that is only its owner knows.  The advice names the sizes that occur:
 * where one of them follows a block's size it is this, since an entry without
 * one is followed by a name (not empty) or a record (with flags).
 */
static int look_for_page(struct ferry_dump_stream *s, struct ferry_rd *r)
{
	struct ferry_rd ahead = *r;
	char name[FERRY_NAME_MAX + 1];
	uint64_t page;

	s->listing.page = FERRY_PAGE_BYTES;
	ferry_rd_str8(&ahead, name);
	ferry_rd_be64(&ahead);
	page = ferry_rd_be64(&ahead);
	if (ahead.bad) {
		r->lack = ahead.lack;
		return FERRY_DECODE_MORE;
	}
	if (page > FERRY_PAGE_BYTES && !(page & (page - 1)) &&
	    page & s->d->vm.advised && page <= UINT32_MAX)
		s->listing.page = (uint32_t)page;
	return FERRY_DECODE_DONE;
}

static uint32_t entry_page(void *arg, const char *name)
{
	(void)name;
	return ((const struct ferry_dump_stream *)arg)->listing.page;
}

static void tell(struct ferry_dump_stream *s, uint64_t bytes)
{
	const struct ferry_ramlist_block *b = &s->listing.entry;

	ferry_dump_begin(s, s->mark, "BLOCK", NULL);
	ferry_dump_text(s, "name", b->name);
	ferry_dump_number(s, "size", b->bytes);
	if (b->page_bytes != FERRY_PAGE_BYTES)
		ferry_dump_number(s, "page", b->page_bytes);
	if (s->listing.list.gpa)
		ferry_dump_hex(s, "address", b->gpa);
	if (s->listing.list.mapped) {
		ferry_dump_hex(s, "bitmap_at", b->mapped.bitmap_offset);
		ferry_dump_hex(s, "pages_at", b->mapped.pages_offset);
	}
	ferry_dump_end(s, bytes);
}

static int add(struct ferry_dump_stream *s, struct ferry_err *e)
{
	struct ferry_dump_vm *vm = &s->d->vm;
	struct ferry_dump_block *b = &vm->block[vm->blocks];

	if (ferry_dump_block_find(vm, s->listing.entry.name))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "memory block \"%s\" is listed twice",
				     FERRY_SHOW(s->listing.entry.name));
	/* The decoder counts entries up to FERRY_BLOCKS_MAX. */
	*b = (struct ferry_dump_block){
		.bytes = s->listing.entry.bytes,
		.page_bytes = s->listing.entry.page_bytes,
	};
	memcpy(b->name, s->listing.entry.name, sizeof(b->name));
	vm->blocks++;
	return 0;
}

/* The list goes on, or back to the records of the section. */
static int go_on(struct ferry_dump_stream *s)
{
	if (!ferry_ramlist_done(&s->listing.list))
		return ferry_dump_next(s, ferry_dump_ramlist,
				       "the list of blocks");
	s->d->vm.listed = true;
	return ferry_dump_next(s, ferry_dump_ram, "a RAM record");
}

int ferry_dump_bits(struct ferry_dump_stream *s, struct ferry_rd *r,
		    struct ferry_err *e)
{
	struct ferry_dump_bits *b = &s->bits;
	uint64_t words = ferry_recvmap_words(b->pages);

	while (b->word < words) {
		uint64_t word[WORDS_ONCE], n = words - b->word;
		struct ferry_rd in;
		size_t left = ferry_rd_left(r) / 8;

		n = n < WORDS_ONCE ? n : WORDS_ONCE;
		n = n < left ? n : left;
		if (!n) {
			r->lack = 8 - ferry_rd_left(r);
			return FERRY_DECODE_MORE;
		}
		in = ferry_rd_over(ferry_rd_bytes(r, n * 8), n * 8);
		if (ferry_recvmap_words_decode(&in, b->pages, b->word, word,
					       n, e))
			return FERRY_DECODE_WRONG;
		for (size_t i = 0; i < n; i++)
			b->set += (unsigned)__builtin_popcountll(word[i]);
		b->word += n;
	}
	return FERRY_DECODE_DONE;
}

static int bitmap(struct ferry_dump_stream *s, struct ferry_rd *r,
		  struct ferry_err *e)
{
	const struct ferry_ramlist_block *b = &s->listing.entry;
	int rc = ferry_dump_bits(s, r, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	ferry_dump_begin(s, s->bits.offset, "BITMAP", NULL);
	ferry_dump_text(s, "block", b->name);
	ferry_dump_number(s, "set", s->bits.set);
	ferry_dump_end(s, ferry_mapped_bitmap_bytes(b->bytes));

	ferry_dump_begin(s, b->mapped.pages_offset, "PAGES", NULL);
	ferry_dump_text(s, "block", b->name);
	ferry_dump_end(s, b->bytes);
	s->skip = b->mapped.pages_offset - ferry_dump_at(s, r) + b->bytes;
	go_on(s);
	return rc;
}

/* Both lie behind the header, the pages behind the bitmap: forward only, so
 * that a pipe can be read. */
static int to_bitmap(struct ferry_dump_stream *s, const struct ferry_rd *r,
		     struct ferry_err *e)
{
	const struct ferry_mapped *m = &s->listing.entry.mapped;
	uint64_t here = ferry_dump_at(s, r);

	if (m->bitmap_offset < here)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "memory block \"%s\": its bitmap at 0x%"
				     PRIx64 " lies before its header",
				     FERRY_SHOW(s->listing.entry.name),
				     m->bitmap_offset);
	s->skip = m->bitmap_offset - here;
	s->bits = (struct ferry_dump_bits){
		.offset = m->bitmap_offset,
		.pages = s->listing.entry.bytes / FERRY_PAGE_BYTES,
	};
	return ferry_dump_next(s, bitmap, "a bitmap");
}

int ferry_dump_ramlist(struct ferry_dump_stream *s, struct ferry_rd *r,
		       struct ferry_err *e)
{
	struct ferry_ramlist *l = &s->listing.list;
	uint32_t capabilities = s->d->vm.config.capabilities;
	uint64_t advised = s->d->vm.advised;
	const uint8_t *from = r->p;
	int rc;

	l->gpa = capabilities & FERRY_CONFIG_X_IGNORE_SHARED;
	l->mapped = capabilities & FERRY_CONFIG_MAPPED_RAM;
	l->page_bytes = advised ? entry_page : NULL;
	l->arg = s;
	if (advised) {
		rc = look_for_page(s, r);
		if (rc != FERRY_DECODE_DONE)
			return rc;
	}
	rc = ferry_ramlist_decode(r, l, &s->listing.entry, e);
	if (rc != FERRY_DECODE_DONE)
		return rc;
	tell(s, (uint64_t)(r->p - from));
	if (add(s, e))
		return FERRY_DECODE_WRONG;
	return l->mapped ? to_bitmap(s, r, e) : go_on(s);
}
