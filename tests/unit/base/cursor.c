/* SPDX-License-Identifier: MIT */
/* Cursors: big-endian, in bounds, and bad for good. */
#include "help.h"

#include "base/cursor.h"

static void integers_are_big_endian(void **state)
{
	static const uint8_t want[] = {
		0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a,
		0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0xff, 0xfe,
	};
	uint8_t buf[sizeof(want)];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_rd r = ferry_rd_over(buf, sizeof(buf));

	(void)state;
	ferry_wr_u8(&w, 0x01);
	ferry_wr_be16(&w, 0x0203);
	ferry_wr_be32(&w, 0x04050607);
	ferry_wr_be64(&w, 0x08090a0b0c0d0e0f);
	ferry_wr_be16(&w, 0xfffe);
	assert_false(w.bad);
	assert_int_equal(ferry_wr_left(&w), 0);
	assert_int_equal(ferry_wr_used(&w), sizeof(want));
	assert_memory_equal(buf, want, sizeof(want));

	assert_int_equal(ferry_rd_u8(&r), 0x01);
	assert_int_equal(ferry_rd_be16(&r), 0x0203);
	assert_int_equal(ferry_rd_be32(&r), 0x04050607);
	assert_int_equal(ferry_rd_be64(&r), 0x08090a0b0c0d0e0f);
	assert_int_equal(ferry_rd_be16(&r), 0xfffe);
	assert_false(r.bad);
	assert_int_equal(ferry_rd_left(&r), 0);
}

static void reading_past_the_end_yields_zero_and_moves_nothing(void **state)
{
	static const uint8_t seven[7] = { 1, 2, 3, 4, 5, 6, 7 };
	struct ferry_rd r = ferry_rd_over(seven, sizeof(seven));

	(void)state;
	assert_int_equal(ferry_rd_be64(&r), 0);
	assert_true(r.bad);
	assert_int_equal(r.lack, 1);
	assert_int_equal(ferry_rd_left(&r), 7);
	/* What would fit does not count any more: bad is for good. */
	assert_int_equal(ferry_rd_u8(&r), 0);
	assert_null(ferry_rd_bytes(&r, 1));
	assert_null(ferry_rd_bytes(&r, 100));
	assert_int_equal(r.lack, 1);
	assert_int_equal(ferry_rd_left(&r), 7);
}

static void writing_past_the_end_writes_nothing(void **state)
{
	uint8_t buf[8] = { 0 };
	struct ferry_wr w = ferry_wr_over(buf, 7);

	(void)state;
	ferry_wr_be64(&w, UINT64_MAX);
	assert_true(w.bad);
	ferry_wr_u8(&w, 1);
	ferry_wr_bytes(&w, "x", 1);
	ferry_wr_zeroes(&w, 1);
	assert_null(ferry_wr_room(&w, 1));
	assert_int_equal(ferry_wr_used(&w), 0);
	for (size_t i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], 0);
}

static void a_length_that_wraps_is_too_long(void **state)
{
	uint8_t buf[4] = { 0 };
	struct ferry_rd r = ferry_rd_over(buf, sizeof(buf));
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	assert_null(ferry_rd_bytes(&r, SIZE_MAX));
	assert_true(r.bad);
	assert_null(ferry_wr_room(&w, SIZE_MAX));
	assert_true(w.bad);
}

static void nothing_fits_into_nothing(void **state)
{
	uint8_t buf[1];
	struct ferry_rd r = ferry_rd_over(buf, 0);
	struct ferry_wr w = ferry_wr_over(buf, 0);

	(void)state;
	assert_non_null(ferry_rd_bytes(&r, 0));
	ferry_wr_bytes(&w, NULL, 0);
	ferry_wr_zeroes(&w, 0);
	assert_false(r.bad);
	assert_false(w.bad);
}

static void octets_and_zeroes_are_written_as_they_are(void **state)
{
	uint8_t buf[6] = { 9, 9, 9, 9, 9, 9 };
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	ferry_wr_bytes(&w, "ab", 2);
	ferry_wr_zeroes(&w, 3);
	assert_memory_equal(buf, "ab\0\0\0\t", 6);
	assert_int_equal(ferry_wr_left(&w), 1);
}

static void strings_of_every_length_come_back(void **state)
{
	(void)state;
	for (size_t n = 0; n <= 255; n++) {
		char text[256] = "", got[256];
		uint8_t buf[256];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_rd r;

		memset(text, 'a', n);
		ferry_wr_str8(&w, text);
		assert_false(w.bad);
		assert_int_equal(ferry_wr_used(&w), n + 1);
		r = ferry_rd_over(buf, n + 1);
		assert_int_equal(ferry_rd_str8(&r, got), n);
		assert_string_equal(got, text);

		/* One octet short is short. */
		r = ferry_rd_over(buf, n);
		assert_int_equal(ferry_rd_str8(&r, got), 0);
		assert_string_equal(got, "");
		assert_true(r.bad);
	}
}

static void a_string_too_long_for_its_length_is_bad(void **state)
{
	char text[257] = "";
	uint8_t buf[512];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	memset(text, 'a', 256);
	ferry_wr_str8(&w, text);
	assert_true(w.bad);
	assert_int_equal(ferry_wr_used(&w), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_are_big_endian),
		cmocka_unit_test(
			reading_past_the_end_yields_zero_and_moves_nothing),
		cmocka_unit_test(writing_past_the_end_writes_nothing),
		cmocka_unit_test(a_length_that_wraps_is_too_long),
		cmocka_unit_test(nothing_fits_into_nothing),
		cmocka_unit_test(octets_and_zeroes_are_written_as_they_are),
		cmocka_unit_test(strings_of_every_length_come_back),
		cmocka_unit_test(a_string_too_long_for_its_length_is_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
