/* SPDX-License-Identifier: MIT */
/*
 * A main stream behind its configuration: sections, commands, RAM bodies with
 * their block list; and packages.  The first octet picks what was agreed.
 */
#include "fuzz.h"

#include "wire/command.h"
#include "wire/package.h"
#include "wire/ram.h"
#include "wire/ramlist.h"
#include "wire/ranges.h"
#include "wire/section.h"

enum agreed {
	ADVISED = 1, GPA = 2, MAPPED = 4, POSTCOPY = 8, FROM_FERRY = 16,
};

static int section_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_section_decode(r, out, e);
}

static void section_encode(struct ferry_wr *w, const void *in)
{
	size_t before = ferry_wr_used(w);

	ferry_section_encode(w, in);
	FUZZ_CHECK(ferry_wr_used(w) - before == ferry_section_bytes(in));
}

static int precopy_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_ram_decode(r, FERRY_RAM_IN_PRECOPY |
				   FERRY_RAM_COMPRESS_PAGE, out, e);
}

static int postcopy_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_ram_decode(r, FERRY_RAM_IN_POSTCOPY, out, e);
}

static void record_encode(struct ferry_wr *w, const void *in)
{
	const struct ferry_ram_record *rec = in;

	if (rec->kind & (FERRY_RAM_EOS | FERRY_RAM_MEM_SIZE |
			 FERRY_RAM_MULTIFD_FLUSH))
		ferry_ram_mark_encode(w, rec->kind, rec->addr);
	else
		ferry_ram_page_encode(w, rec->kind,
				      rec->same_block ? NULL : rec->name,
				      rec->addr, rec->payload_bytes);
}

/* One entry, decoded with a list of its own. */
struct entry {
	struct ferry_ramlist		l;
	struct ferry_ramlist_block	b;
};

static uint32_t page_bytes(void *arg, const char *name)
{
	(void)arg;
	return name[0] == 'h' ? FERRY_HUGE_BYTES : FERRY_PAGE_BYTES;
}

/* The list is set in check_again()'s copy too: it is empty there. */
static struct ferry_ramlist agreed_list;

static int entry_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	struct entry *x = out;

	x->l = agreed_list;
	return ferry_ramlist_decode(r, &x->l, &x->b, e);
}

static void entry_encode(struct ferry_wr *w, const void *in)
{
	const struct entry *x = in;

	ferry_ramlist_encode(w, &x->l, &x->b);
}

static const struct fuzz_codec section = {
	sizeof(struct ferry_section), true, section_decode, section_encode
};
static const struct fuzz_codec precopy = {
	sizeof(struct ferry_ram_record), true, precopy_decode, record_encode
};
static const struct fuzz_codec postcopy = {
	sizeof(struct ferry_ram_record), true, postcopy_decode, record_encode
};
static const struct fuzz_codec entry = {
	sizeof(struct entry), true, entry_decode, entry_encode
};

/* Octets not read yet, and what was agreed. */
struct input {
	const uint8_t	*p;
	size_t		 left;
	unsigned	 agreed;
};

static bool skip(struct input *in, size_t n)
{
	if (!n || n > in->left)
		return false;
	in->p += n;
	in->left -= n;
	return true;
}

static bool block_list(struct input *in, uint64_t total)
{
	struct ferry_ramlist l;
	struct entry x;

	if (ferry_ramlist_init(&l, total, NULL))
		return false;
	l.gpa = in->agreed & GPA;
	l.mapped = in->agreed & MAPPED;
	l.page_bytes = in->agreed & ADVISED ? page_bytes : NULL;
	while (!ferry_ramlist_done(&l)) {
		agreed_list = l;
		if (!skip(in, fuzz_stream(&entry, in->p, in->left, &x)))
			return false;
		l = x.l;
		FUZZ_CHECK(l.blocks <= FERRY_BLOCKS_MAX &&
			   l.seen_bytes <= l.total_bytes);
	}
	return true;
}

static bool ram_body(struct input *in)
{
	const struct fuzz_codec *c = in->agreed & POSTCOPY ? &postcopy
							    : &precopy;
	const struct ferry_block_shape block = { "ram", 1 << 20, 4096 };
	struct ferry_ram_record rec;

	do {
		if (!skip(in, fuzz_stream(c, in->p, in->left, &rec)))
			return false;
		FUZZ_CHECK(rec.payload_bytes <= FERRY_RAM_COMPRESSED_MAX);
		if (!ferry_ram_check_in(&rec, &block, NULL))
			FUZZ_CHECK(rec.addr <= block.bytes - FERRY_PAGE_BYTES);
		if (rec.kind == FERRY_RAM_MEM_SIZE &&
		    !block_list(in, rec.addr))
			return false;
		if (rec.payload_bytes && !skip(in, rec.payload_bytes))
			return false;
	} while (rec.kind != FERRY_RAM_EOS);
	return true;
}

static bool footer(struct input *in, uint32_t id)
{
	struct ferry_rd r = ferry_rd_over(in->p, in->left);

	return ferry_footer_decode(&r, id, NULL) == FERRY_DECODE_DONE &&
	       skip(in, FERRY_FOOTER_WIRE);
}

static bool command(struct input *in, const struct ferry_section *s)
{
	enum ferry_dialect peer = in->agreed & FROM_FERRY ?
		FERRY_DIALECT_FERRY : FERRY_DIALECT_QEMU;
	struct ferry_package p;
	struct ferry_rd r;
	uint32_t v;

	if (ferry_command_check(s, peer, NULL) || s->bytes > in->left)
		return false;
	r = ferry_rd_over(in->p, s->bytes);
	in->p += s->bytes;
	in->left -= s->bytes;
	if (s->command != FERRY_COMMAND_PACKAGED)
		return true;
	if (ferry_command_u32_decode(&r, s->command, &v, NULL))
		return false;
	if (!ferry_package_peel(in->p, v < in->left ? v : in->left, peer, &p,
				NULL))
		FUZZ_CHECK(p.devices >= in->p && p.device_bytes <= in->left &&
			   p.pings <= FERRY_PACKAGE_PINGS_MAX);
	return true;
}

static bool one_section(struct input *in)
{
	struct ferry_section s;

	if (!skip(in, fuzz_stream(&section, in->p, in->left, &s)))
		return false;
	switch (s.type) {
	case FERRY_SECTION_COMMAND:
		return command(in, &s);
	case FERRY_SECTION_START:
	case FERRY_SECTION_PART:
	case FERRY_SECTION_END:
		return ram_body(in) && footer(in, s.id);
	default:
		return true;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input in = { .p = data + 1, .left = bytes - 1 };
	struct ferry_package p;

	if (!bytes)
		return 0;
	in.agreed = data[0];
	if (!ferry_package_peel(in.p, in.left, FERRY_DIALECT_QEMU, &p, NULL))
		FUZZ_CHECK(p.listen && p.device_bytes <= in.left);
	while (one_section(&in))
		;
	return 0;
}

static void ram_begin(struct ferry_wr *w, uint8_t type)
{
	const struct ferry_section s = {
		.type = type, .id = 2, .name = "ram", .version = 4,
	};

	ferry_section_encode(w, &s);
}

static void start(struct ferry_wr *w, unsigned agreed)
{
	const struct ferry_ramlist_block block[] = {
		{ .name = "ram", .bytes = 1 << 20, .page_bytes = 4096,
		  .mapped = { 0x1000, 0x2000 } },
		{ .name = "huge", .bytes = 4 << 20, .gpa = 1 << 20,
		  .page_bytes = FERRY_HUGE_BYTES,
		  .mapped = { 0x1000, 0x2000 } },
	};
	struct ferry_ramlist l;

	if (ferry_ramlist_init(&l, 5 << 20, NULL))
		abort();
	l.gpa = agreed & GPA;
	l.mapped = agreed & MAPPED;
	l.page_bytes = agreed & ADVISED ? page_bytes : NULL;
	ram_begin(w, FERRY_SECTION_START);
	ferry_ram_mark_encode(w, FERRY_RAM_MEM_SIZE, l.total_bytes);
	for (size_t i = 0; i < FERRY_LEN(block); i++)
		ferry_ramlist_encode(w, &l, &block[i]);
	ferry_ram_mark_encode(w, FERRY_RAM_MULTIFD_FLUSH, 0);
	ferry_ram_mark_encode(w, FERRY_RAM_EOS, 0);
	ferry_footer_encode(w, 2);
}

static void part(struct ferry_wr *w)
{
	ram_begin(w, FERRY_SECTION_PART);
	ferry_ram_page_encode(w, FERRY_RAM_ZERO, "ram", 0x1000, 0);
	ferry_ram_page_encode(w, FERRY_RAM_PAGE, NULL, 0x2000, 0);
	ferry_wr_zeroes(w, FERRY_PAGE_BYTES);
	ferry_ram_page_encode(w, FERRY_RAM_XBZRLE, "huge", 0x3000, 4);
	ferry_wr_bytes(w, "\x00\x02\xaf\x04", 4);
	ferry_ram_page_encode(w, FERRY_RAM_COMPRESS_PAGE, NULL, 0x4000, 3);
	ferry_wr_bytes(w, "abc", 3);
	ferry_ram_mark_encode(w, FERRY_RAM_EOS, 0);
	ferry_footer_encode(w, 2);
}

static void package(struct ferry_wr *w)
{
	ferry_command_u32_encode(w, FERRY_COMMAND_PACKAGED, 30);
	ferry_command_encode(w, FERRY_COMMAND_POSTCOPY_LISTEN);
	ferry_wr_bytes(w, "ab", 2);
	ferry_command_u32_encode(w, FERRY_COMMAND_PING, 3);
	ferry_command_u32_encode(w, FERRY_COMMAND_PING, 0x42);
	ferry_command_encode(w, FERRY_COMMAND_POSTCOPY_RUN);
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	static uint8_t buf[16384];

	for (unsigned agreed = 0; agreed < 32; agreed++) {
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		const struct ferry_section s = { .type = FERRY_SECTION_EOF };

		ferry_wr_u8(&w, (uint8_t)agreed);
		ferry_command_encode(&w, FERRY_COMMAND_OPEN_RETURN_PATH);
		if (!(agreed & POSTCOPY)) {
			start(&w, agreed);
			part(&w);
		}
		package(&w);
		ferry_section_encode(&w, &s);
		emit(buf, ferry_wr_used(&w));

		w = ferry_wr_over(buf, sizeof(buf));
		ferry_wr_u8(&w, (uint8_t)agreed);
		package(&w);
		memmove(buf + 1, buf + 10, ferry_wr_used(&w) - 10);
		emit(buf, ferry_wr_used(&w) - 9);
	}
}
