/* SPDX-License-Identifier: MIT */
#include "wire/ramlist.h"

#include "wire-test.h"

struct list {
	struct ferry_ramlist		l;
	struct ferry_ramlist_block	b;
};

static int entry(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	struct list *x = out;
	struct ferry_ramlist l = x->l;

	return ferry_ramlist_decode(r, &l, &x->b, e);
}

static uint32_t page_bytes(void *arg, const char *name)
{
	(void)arg;
	if (!strcmp(name, "huge"))
		return 2 << 20;
	return !strcmp(name, "pc.ram") || !strcmp(name, "a") ? 4096 : 0;
}

static void round_trip(struct list *x, const struct ferry_ramlist_block *b,
		       const char *hex)
{
	uint8_t buf[512];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	ferry_ramlist_encode(&w, &x->l, b);
	assert_octets(&w, hex);
	assert_int_equal(ferry_wr_used(&w), ferry_ramlist_bytes(&x->l, b));
	assert_streams((struct stream){ entry, x }, buf, ferry_wr_used(&w), 0);
	assert_string_equal(x->b.name, b->name);
	assert_int_equal(x->b.bytes, b->bytes);
	assert_int_equal(x->b.page_bytes, b->page_bytes);
	assert_int_equal(x->b.gpa, b->gpa);
	assert_int_equal(x->b.mapped.bitmap_offset, b->mapped.bitmap_offset);
	assert_int_equal(x->b.mapped.pages_offset, b->mapped.pages_offset);
}

static void an_entry_has_the_fields_that_were_agreed(void **state)
{
	struct ferry_ramlist_block b = {
		.name = "pc.ram", .bytes = 0x4000000, .page_bytes = 4096,
	};
	struct list x;
	struct ferry_err e;

	(void)state;
	assert_int_equal(ferry_ramlist_init(&x.l, 0x5000000, &e), 0);
	round_trip(&x, &b, "06 'pc.ram' 00000000 04000000");

	x.l.page_bytes = page_bytes;	/* small pages: not stated */
	round_trip(&x, &b, "06 'pc.ram' 00000000 04000000");

	strcpy(b.name, "huge");
	b.page_bytes = 2 << 20;
	round_trip(&x, &b, "04 'huge' 00000000 04000000 00000000 00200000");

	x.l.gpa = true;
	b.gpa = 0x100000000;
	round_trip(&x, &b, "04 'huge' 00000000 04000000 00000000 00200000"
		   "00000001 00000000");

	x.l.page_bytes = NULL;
	x.l.gpa = false;
	x.l.mapped = true;
	b.page_bytes = 4096;
	b.gpa = 0;
	b.mapped = (struct ferry_mapped){ 0x308e, 0x100000 };
	round_trip(&x, &b, "04 'huge' 00000000 04000000"
		   "00000001 00000000 00001000"
		   "00000000 0000308e 00000000 00100000");
}

static void the_list_ends_at_the_total(void **state)
{
	uint8_t buf[64];
	size_t n = unhex("01 'a' 00000000 00002000"
			 "01 'b' 00000000 00001000", buf, sizeof(buf));
	struct ferry_rd r = ferry_rd_over(buf, n);
	struct ferry_ramlist_block b;
	struct ferry_ramlist l;
	struct ferry_err e;

	(void)state;
	assert_int_equal(ferry_ramlist_init(&l, 0x3000, &e), 0);
	assert_int_equal(ferry_ramlist_decode(&r, &l, &b, &e), 1);
	assert_string_equal(b.name, "a");
	assert_false(ferry_ramlist_done(&l));
	assert_int_equal(ferry_ramlist_decode(&r, &l, &b, &e), 1);
	assert_string_equal(b.name, "b");
	assert_true(ferry_ramlist_done(&l));
	assert_int_equal(l.blocks, 2);
	assert_int_equal(ferry_rd_left(&r), 0);
}

static void a_block_may_have_64_tib(void **state)
{
	const struct ferry_ramlist_block b = {
		.name = "a", .bytes = FERRY_BLOCK_BYTES_MAX,
		.page_bytes = 4096,
	};
	struct ferry_err e;
	struct list x;

	(void)state;
	assert_int_equal(ferry_ramlist_init(&x.l, 1ull << 47, &e), 0);
	round_trip(&x, &b, "01 'a' 00004000 00000000");
}

static void hostile_lists_are_refused(void **state)
{
	static const struct hostile plain[] = {
		{ "no name", "00" },
		{ "NUL in a name", "02 6100" },
		{ "empty block", "01 'a' 00000000 00000000" },
		{ "half a page", "01 'a' 00000000 00000800" },
		{ "more than the total", "01 'a' 00000000 00004000" },
		{ "much more", "01 'a' ffffffff fffff000" },
	}, advised[] = {
		{ "unknown block", "01 'z' 00000000 00001000" },
		{ "other pages", "04 'huge' 00000000 00200000"
		  "00000000 40000000" },
		{ "half a huge page", "04 'huge' 00000000 00100000"
		  "00000000 00200000" },
	}, mapped[] = {
		{ "version 2", "01 'a' 00000000 00001000 00000002" },
		{ "other pages", "01 'a' 00000000 00001000 00000001"
		  "00000000 00002000" },
		{ "bitmap behind the pages", "01 'a' 00000000 00001000 00000001"
		  "00000000 00001000 00000000 00002000 00000000 00001000" },
		{ "bitmap runs into the pages", "01 'a' 00000000 00001000"
		  "00000001 00000000 00001000 00000000 00000ffc"
		  "00000000 00001000" },
		{ "pages off their grid", "01 'a' 00000000 00001000 00000001"
		  "00000000 00001000 00000000 00000100 00000000 00001100" },
		{ "pages past the end of all files",
		  "01 'a' 00000000 00001000 00000001 00000000 00001000"
		  "00000000 00000100 7fffffff fffff000" },
		{ "pages wrap", "01 'a' 00000000 00001000 00000001"
		  "00000000 00001000 00000000 00000100 ffffffff fffff000" },
	};
	struct ferry_err e;
	struct list x;

	(void)state;
	assert_int_equal(ferry_ramlist_init(&x.l, 0x3000, &e), 0);
	assert_hostile((struct stream){ entry, &x }, plain, FERRY_LEN(plain));
	x.l.mapped = true;
	assert_hostile((struct stream){ entry, &x }, mapped,
		       FERRY_LEN(mapped));
	x.l.mapped = false;
	x.l.total_bytes = 1 << 30;
	x.l.page_bytes = page_bytes;
	assert_hostile((struct stream){ entry, &x }, advised,
		       FERRY_LEN(advised));

	assert_int_equal(ferry_ramlist_init(&x.l, 0, &e), -1);
	assert_int_equal(ferry_ramlist_init(&x.l, 0x1234, &e), -1);
}

static void a_list_has_at_most_256_blocks(void **state)
{
	struct ferry_ramlist_block b = { .name = "a", .bytes = 4096,
					 .page_bytes = 4096 };
	struct ferry_ramlist l;
	struct ferry_err e;
	uint8_t buf[64];

	(void)state;
	assert_int_equal(ferry_ramlist_init(&l, 1 << 30, &e), 0);
	for (unsigned i = 0; i <= FERRY_BLOCKS_MAX; i++) {
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_ramlist_block got;
		struct ferry_rd r;

		ferry_ramlist_encode(&w, &l, &b);
		r = ferry_rd_over(buf, ferry_wr_used(&w));
		assert_int_equal(ferry_ramlist_decode(&r, &l, &got, &e),
				 i < FERRY_BLOCKS_MAX ? 1 : -1);
	}
}

static void a_mapped_file_is_laid_out_as_qemu_does(void **state)
{
	struct ferry_mapped m = ferry_mapped_layout(0x308e, 64 << 20);

	(void)state;
	assert_int_equal(m.bitmap_offset, 0x308e);
	assert_int_equal(m.pages_offset, 0x100000);
	assert_int_equal(ferry_mapped_bitmap_bytes(64 << 20), 2048);
	assert_int_equal(ferry_mapped_bitmap_bytes(4096), 8);
	m = ferry_mapped_layout(0x100000 - 8, 4096);
	assert_int_equal(m.pages_offset, 0x100000);
	m = ferry_mapped_layout(0x100000 - 7, 4096);
	assert_int_equal(m.pages_offset, 0x200000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_has_the_fields_that_were_agreed),
		cmocka_unit_test(the_list_ends_at_the_total),
		cmocka_unit_test(a_block_may_have_64_tib),
		cmocka_unit_test(hostile_lists_are_refused),
		cmocka_unit_test(a_list_has_at_most_256_blocks),
		cmocka_unit_test(a_mapped_file_is_laid_out_as_qemu_does),
	};

	return cmocka_run_group_tests_name("wire-ramlist", tests, NULL, NULL);
}
