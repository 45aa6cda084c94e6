/* SPDX-License-Identifier: MIT */
#include "wire/verify.h"

#include "base/sum.h"
#include "wire-test.h"

static struct ferry_err e;

static int decode(const uint8_t *data, size_t n, struct ferry_verify *v)
{
	struct ferry_rd r = ferry_rd_over(data, n);

	return ferry_verify_decode(&r, v, &e);
}

static void sums_come_as_they_were_sent(void **state)
{
	static const uint32_t sums[] = { 1, 0xfedcba98, FERRY_PAGE_SUM_ZERO };
	struct ferry_verify v;
	uint8_t buf[64];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	uint32_t sum;

	(void)state;
	ferry_verify_encode(&w, "ram", 7, sums, 3);
	assert_octets(&w, "08 4605 0018 03 'ram' 0000000000000007"
		      "00000001 fedcba98 48c689ba");
	assert_int_equal(ferry_wr_used(&w), ferry_verify_bytes("ram", 3));
	assert_int_equal(decode(buf + 5, ferry_wr_used(&w) - 5, &v), 0);
	assert_string_equal(v.name, "ram");
	assert_int_equal(v.first, 7);
	assert_int_equal(v.pages, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_true(ferry_verify_next(&v, &sum));
		assert_int_equal(sum, sums[i]);
	}
	assert_false(ferry_verify_next(&v, &sum));
}

static void the_most_fit_behind_the_longest_name(void **state)
{
	static uint32_t sums[FERRY_VERIFY_PAGES_MAX + 1];
	static uint8_t buf[70000];
	char name[FERRY_NAME_MAX + 1] = "";
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_verify v;

	(void)state;
	memset(name, 'n', FERRY_NAME_MAX);
	ferry_verify_encode(&w, name, 0, sums, FERRY_VERIFY_PAGES_MAX);
	assert_false(w.bad);
	assert_true(ferry_wr_used(&w) - 5 <= FERRY_COMMAND_BYTES_MAX);
	assert_int_equal(decode(buf + 5, ferry_wr_used(&w) - 5, &v), 0);
	assert_int_equal(v.pages, FERRY_VERIFY_PAGES_MAX);

	w = ferry_wr_over(buf, sizeof(buf));
	ferry_verify_encode(&w, name, 0, sums, FERRY_VERIFY_PAGES_MAX + 1);
	assert_true(w.bad);
	w = ferry_wr_over(buf, sizeof(buf));
	ferry_verify_encode(&w, name, 0, sums, 0);
	assert_true(w.bad);
}

static void hostile_payloads_are_refused(void **state)
{
	static const struct hostile rows[] = {
		{ "nothing", "" },
		{ "no name", "00 0000000000000000 00000001" },
		{ "NUL in a name", "02 6100 0000000000000000 00000001" },
		{ "name cut", "09 'r'" },
		{ "page cut", "01 'r' 00000000000000" },
		{ "no sum", "01 'r' 0000000000000000" },
		{ "half a sum", "01 'r' 0000000000000000 0000" },
		{ "a sum and an octet", "01 'r' 0000000000000000"
		  "00000001 00" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_verify v;
		uint8_t buf[128];
		size_t n = unhex(rows[i].hex, buf, sizeof(buf));

		if (!decode(buf, n, &v))
			fail_msg("%s", rows[i].why);
	}
}

static void pages_outside_of_the_block_are_refused(void **state)
{
	static const struct {
		uint64_t first;
		uint32_t pages;
		int rc;
	} rows[] = {
		{ 0, 100, 0 }, { 99, 1, 0 }, { 0, 101, -1 }, { 99, 2, -1 },
		{ 100, 1, -1 }, { UINT64_MAX, 1, -1 }, { UINT64_MAX, 2, -1 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_verify v = { .name = "ram",
			.first = rows[i].first, .pages = rows[i].pages };

		assert_int_equal(ferry_verify_check_in(&v, 100, &e),
				 rows[i].rc);
	}
}

static void a_page_of_zeroes_has_the_sum_that_is_said(void **state)
{
	static const uint8_t zero[FERRY_PAGE_BYTES];
	uint8_t page[FERRY_PAGE_BYTES] = { 0 };

	(void)state;
	assert_int_equal(ferry_page_sum(zero), FERRY_PAGE_SUM_ZERO);
	page[FERRY_PAGE_BYTES - 1] = 1;
	assert_int_not_equal(ferry_page_sum(page), FERRY_PAGE_SUM_ZERO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_come_as_they_were_sent),
		cmocka_unit_test(the_most_fit_behind_the_longest_name),
		cmocka_unit_test(hostile_payloads_are_refused),
		cmocka_unit_test(pages_outside_of_the_block_are_refused),
		cmocka_unit_test(a_page_of_zeroes_has_the_sum_that_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
