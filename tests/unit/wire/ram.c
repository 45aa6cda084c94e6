/* SPDX-License-Identifier: MIT */
#include "wire/ram.h"

#include "wire-test.h"

#define ANY	(FERRY_RAM_IN_PRECOPY | FERRY_RAM_COMPRESS_PAGE | \
		 FERRY_RAM_FULL | FERRY_RAM_HOOK)

static int record(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_ram_decode(r, ANY, out, e);
}

static int in_postcopy(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_ram_decode(r, FERRY_RAM_IN_POSTCOPY, out, e);
}

static void page_records_have_their_octets(void **state)
{
	static const struct {
		uint32_t kind;
		const char *name;
		uint64_t offset;
		uint32_t given, payload;
		const char *hex;
	} rows[] = {
		{ FERRY_RAM_PAGE, "pc.ram", 0x2000, 0, 4096,
		  "00000000 00002008 06 'pc.ram'" },
		{ FERRY_RAM_PAGE, NULL, 0xfffffffff000, 0, 4096,
		  "0000ffff fffff028" },
		{ FERRY_RAM_ZERO, "r", 0, 0, 0, "00000000 00000002 01 'r' 00" },
		{ FERRY_RAM_ZERO, NULL, 0x1000, 0, 0,
		  "00000000 00001022 00" },
		{ FERRY_RAM_XBZRLE, "r", 0x1000, 4, 4,
		  "00000000 00001040 01 'r' 01 0004" },
		{ FERRY_RAM_XBZRLE, NULL, 0x1000, 4096, 4096,
		  "00000000 00001060 01 1000" },
		{ FERRY_RAM_COMPRESS_PAGE, NULL, 0, 77, 77,
		  "00000000 00000120 0000004d" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t buf[FERRY_RAM_HEAD_MAX];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_ram_record got;

		ferry_ram_page_encode(&w, rows[i].kind, rows[i].name,
				      rows[i].offset, rows[i].given);
		assert_octets(&w, rows[i].hex);
		assert_int_equal(ferry_wr_used(&w),
				 ferry_ram_page_bytes(rows[i].kind,
						      rows[i].name));
		assert_streams((struct stream){ record, &got }, buf,
			       ferry_wr_used(&w), 0);
		assert_int_equal(got.kind, rows[i].kind);
		assert_int_equal(got.addr, rows[i].offset);
		assert_int_equal(got.payload_bytes, rows[i].payload);
		assert_int_equal(got.same_block, !rows[i].name);
		assert_string_equal(got.name, rows[i].name ? rows[i].name : "");
	}
}

static void marks_are_their_word_alone(void **state)
{
	static const struct {
		uint32_t kind;
		uint64_t addr;
		const char *hex;
	} rows[] = {
		{ FERRY_RAM_EOS, 0, "00000000 00000010" },
		{ FERRY_RAM_MULTIFD_FLUSH, 0, "00000000 00000200" },
		{ FERRY_RAM_MEM_SIZE, 0x4000000, "00000000 04000004" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t buf[FERRY_RAM_MARK_WIRE];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_ram_record got;

		ferry_ram_mark_encode(&w, rows[i].kind, rows[i].addr);
		assert_octets(&w, rows[i].hex);
		assert_streams((struct stream){ record, &got }, buf,
			       sizeof(buf), 0);
		assert_int_equal(got.kind, rows[i].kind);
		assert_int_equal(got.addr, rows[i].addr);
		assert_int_equal(got.payload_bytes, 0);
	}
}

static void hostile_records_are_refused(void **state)
{
	static const struct hostile rows[] = {
		{ "no kind at all", "00000000 00001000" },
		{ "CONTINUE alone", "00000000 00001020" },
		{ "two kinds", "00000000 0000100a" },
		{ "two kinds with CONTINUE", "00000000 0000102a" },
		{ "unknown flag", "00000000 00000400" },
		{ "FULL, though asked for", "00000000 00000001" },
		{ "HOOK, though asked for", "00000000 00000080" },
		{ "EOS at an address", "00000000 00001010" },
		{ "EOS with CONTINUE", "00000000 00000030" },
		{ "MEM_SIZE with CONTINUE", "00000000 00001024" },
		{ "FLUSH at an address", "00000000 00001200" },
		{ "page without a name", "00000000 00001008 00" },
		{ "NUL in a name", "00000000 00001008 02 6100" },
		{ "filled with 0xcc", "00000000 00001022 cc" },
		{ "xbzrle of another kind", "00000000 00001060 02" },
		{ "empty xbzrle", "00000000 00001060 01 0000" },
		{ "xbzrle longer than a page", "00000000 00001060 01 1001" },
		{ "nothing compressed", "00000000 00001120 00000000" },
		{ "compressed too long", "00000000 00001120 00002001" },
		{ "compressed much too long", "00000000 00001120 ffffffff" },
	};
	struct ferry_ram_record got;

	(void)state;
	assert_hostile((struct stream){ record, &got }, rows, FERRY_LEN(rows));
}

static void precopy_records_are_refused_in_postcopy(void **state)
{
	static const struct hostile rows[] = {
		{ "MEM_SIZE", "00000000 00001004" },
		{ "XBZRLE", "00000000 00001060" },
		{ "FLUSH", "00000000 00000200" },
		{ "COMPRESS_PAGE", "00000000 00001120" },
	};
	struct ferry_ram_record got;

	(void)state;
	assert_hostile((struct stream){ in_postcopy, &got }, rows,
		       FERRY_LEN(rows));
}

static void a_page_lies_inside_its_block(void **state)
{
	const struct ferry_block_shape b = { "ram", 0x3000, 4096 };
	static const struct {
		uint64_t addr;
		int rc;
	} rows[] = {
		{ 0, 0 }, { 0x2000, 0 }, { 0x3000, -1 }, { 0x4000, -1 },
		{ 0xfffffffffffff000, -1 },
	};
	struct ferry_err e;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_ram_record rec = {
			.kind = FERRY_RAM_PAGE, .addr = rows[i].addr,
		};

		assert_int_equal(ferry_ram_check_in(&rec, &b, &e), rows[i].rc);
	}
}

static void the_encoder_refuses_what_is_no_page(void **state)
{
	uint8_t buf[64];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	ferry_ram_page_encode(&w, FERRY_RAM_PAGE, NULL, 0x123, 0);
	assert_true(w.bad);
	w = ferry_wr_over(buf, sizeof(buf));
	ferry_ram_page_encode(&w, FERRY_RAM_EOS, NULL, 0, 0);
	assert_true(w.bad);
}

static void kinds_have_names(void **state)
{
	(void)state;
	assert_string_equal(ferry_ram_kind_name(FERRY_RAM_XBZRLE), "XBZRLE");
	assert_string_equal(ferry_ram_kind_name(3), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(page_records_have_their_octets),
		cmocka_unit_test(marks_are_their_word_alone),
		cmocka_unit_test(hostile_records_are_refused),
		cmocka_unit_test(precopy_records_are_refused_in_postcopy),
		cmocka_unit_test(a_page_lies_inside_its_block),
		cmocka_unit_test(the_encoder_refuses_what_is_no_page),
		cmocka_unit_test(kinds_have_names),
	};

	return cmocka_run_group_tests_name("wire-ram", tests, NULL, NULL);
}
