/* SPDX-License-Identifier: MIT */
#include "wire/section.h"

#include "wire-test.h"

static int section(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_section_decode(r, out, e);
}

static int footer(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	(void)out;
	return ferry_footer_decode(r, 7, e);
}

static int body(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_body_decode(r, out, e);
}

static void every_header_has_its_octets(void **state)
{
	static const struct {
		struct ferry_section s;
		const char *hex;
	} rows[] = {
		{ { .type = FERRY_SECTION_EOF }, "00" },
		{ { .type = FERRY_SECTION_START, .id = 2, .name = "ram",
		    .version = 4 },
		  "01 00000002 03 'ram' 00000000 00000004" },
		{ { .type = FERRY_SECTION_PART, .id = 2 }, "02 00000002" },
		{ { .type = FERRY_SECTION_END, .id = 2 }, "03 00000002" },
		{ { .type = FERRY_SECTION_FULL, .id = 0x20, .instance = 1,
		    .name = "globalstate", .version = 1 },
		  "04 00000020 0b 'globalstate' 00000001 00000001" },
		{ { .type = FERRY_SECTION_VMDESCRIPTION, .bytes = 0 },
		  "06 00000000" },
		{ { .type = FERRY_SECTION_VMDESCRIPTION,
		    .bytes = FERRY_VMDESC_BYTES_MAX }, "06 01000000" },
		{ { .type = FERRY_SECTION_COMMAND, .command = 0x4601,
		    .bytes = 65535 }, "08 4601 ffff" },
		{ { .type = FERRY_SECTION_FOOTER, .id = 2 }, "7e 00000002" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		const struct ferry_section *s = &rows[i].s;
		uint8_t buf[FERRY_SECTION_HEAD_MAX];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_section got;

		ferry_section_encode(&w, s);
		assert_octets(&w, rows[i].hex);
		assert_int_equal(ferry_wr_used(&w), ferry_section_bytes(s));
		assert_streams((struct stream){ section, &got }, buf,
			       ferry_wr_used(&w), 0);
		assert_int_equal(got.type, s->type);
		assert_int_equal(got.id, s->id);
		assert_string_equal(got.name, s->name);
		assert_int_equal(got.instance, s->instance);
		assert_int_equal(got.version, s->version);
		assert_int_equal(got.command, s->command);
		assert_int_equal(got.bytes, s->bytes);
	}
}

static void the_longest_name_fits(void **state)
{
	struct ferry_section s = { .type = FERRY_SECTION_FULL }, got;
	uint8_t buf[FERRY_SECTION_HEAD_MAX];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	memset(s.name, 'n', FERRY_NAME_MAX);
	ferry_section_encode(&w, &s);
	assert_false(w.bad);
	assert_int_equal(ferry_wr_used(&w), sizeof(buf));
	assert_streams((struct stream){ section, &got }, buf, sizeof(buf), 0);
	assert_string_equal(got.name, s.name);
}

static void what_cannot_be_said_is_not_written(void **state)
{
	const struct ferry_section no[] = {
		{ .type = FERRY_SECTION_SUBSECTION },
		{ .type = 9 },
		{ .type = FERRY_SECTION_COMMAND, .bytes = 65536 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(no); i++) {
		uint8_t buf[64];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

		ferry_section_encode(&w, &no[i]);
		assert_true(w.bad);
	}
}

static void hostile_headers_are_refused(void **state)
{
	static const struct hostile rows[] = {
		{ "a subsection by itself", "05" },
		{ "a second configuration", "07" },
		{ "no such section", "09" },
		{ "no such section", "ff" },
		{ "START without a name", "01 00000001 00" },
		{ "NUL in a name", "04 00000001 02 6100" },
		{ "VMDESCRIPTION without bound", "06 01000001" },
	};
	struct ferry_section got;

	(void)state;
	assert_hostile((struct stream){ section, &got }, rows,
		       FERRY_LEN(rows));
}

static void a_footer_belongs_to_its_section(void **state)
{
	static const struct hostile rows[] = {
		{ "another octet", "7f" },
		{ "another section", "7e 00000008" },
	};
	uint8_t buf[FERRY_FOOTER_WIRE];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	ferry_footer_encode(&w, 7);
	assert_octets(&w, "7e 00000007");
	assert_streams((struct stream){ footer, NULL }, buf, sizeof(buf), 0);
	assert_hostile((struct stream){ footer, NULL }, rows, FERRY_LEN(rows));
}

static void a_body_tells_its_size_within_bounds(void **state)
{
	static const struct hostile rows[] = {
		{ "more than a package", "04000001" },
		{ "all there is", "ffffffff" },
	};
	uint8_t buf[FERRY_BODY_WIRE];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	uint32_t bytes;

	(void)state;
	ferry_body_encode(&w, FERRY_PACKAGE_BYTES_MAX);
	assert_octets(&w, "04000000");
	assert_streams((struct stream){ body, &bytes }, buf, sizeof(buf), 0);
	assert_int_equal(bytes, FERRY_PACKAGE_BYTES_MAX);
	assert_hostile((struct stream){ body, &bytes }, rows, FERRY_LEN(rows));
}

static void types_have_names(void **state)
{
	(void)state;
	assert_string_equal(ferry_section_type_name(0x7e), "FOOTER");
	assert_string_equal(ferry_section_type_name(5), "SUBSECTION");
	assert_string_equal(ferry_section_type_name(77), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_header_has_its_octets),
		cmocka_unit_test(the_longest_name_fits),
		cmocka_unit_test(what_cannot_be_said_is_not_written),
		cmocka_unit_test(hostile_headers_are_refused),
		cmocka_unit_test(a_footer_belongs_to_its_section),
		cmocka_unit_test(a_body_tells_its_size_within_bounds),
		cmocka_unit_test(types_have_names),
	};

	return cmocka_run_group_tests_name("wire-section", tests, NULL, NULL);
}
