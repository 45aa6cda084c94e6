/* SPDX-License-Identifier: MIT */
#include "wire/xbzrle.h"

#include "wire-test.h"

static void fill(uint8_t *page, unsigned seed)
{
	for (size_t i = 0; i < FERRY_PAGE_BYTES; i++) {
		seed = seed * 1103515245 + 12345;
		page[i] = (uint8_t)(seed >> 16);
	}
}

static void a_counter_costs_four_octets(void **state)
{
	uint8_t old[FERRY_PAGE_BYTES] = { 0 }, now[FERRY_PAGE_BYTES] = { 0 };
	uint8_t to[16], out[FERRY_PAGE_BYTES];
	struct ferry_wr w;

	(void)state;
	now[0] = 0xaf;
	now[1] = 0x04;
	w = ferry_wr_over(to, sizeof(to));
	w.p += ferry_xbzrle_encode(old, now, to, sizeof(to));
	assert_octets(&w, "00 02 af 04");
	assert_int_equal(ferry_xbzrle_decode(to, 4, old, out), 0);
	assert_memory_equal(out, now, sizeof(now));
}

static void lengths_of_two_octets_come_low_seven_bits_first(void **state)
{
	uint8_t old[FERRY_PAGE_BYTES] = { 0 }, now[FERRY_PAGE_BYTES] = { 0 };
	uint8_t to[16];
	struct ferry_wr w = ferry_wr_over(to, sizeof(to));

	(void)state;
	now[300] = 1;
	now[4095] = 2;
	w.p += ferry_xbzrle_encode(old, now, to, sizeof(to));
	assert_octets(&w, "ac02 01 01  d21d 01 02");
}

static void any_change_survives(void **state)
{
	uint8_t old[FERRY_PAGE_BYTES], now[FERRY_PAGE_BYTES];
	uint8_t to[2 * FERRY_PAGE_BYTES], out[FERRY_PAGE_BYTES];
	unsigned seed = 1;

	(void)state;
	for (unsigned round = 0; round < 400; round++) {
		int n;

		fill(old, round);
		memcpy(now, old, sizeof(now));
		for (unsigned k = 0; k < round % 40 * (round % 7); k++) {
			seed = seed * 1103515245 + 12345;
			now[seed >> 8 & 4095] ^= (uint8_t)(seed >> 20);
		}
		if (round == 399)
			fill(now, 12345);	/* all of it */
		n = ferry_xbzrle_encode(old, now, to, sizeof(to));
		assert_true(n >= 0);
		assert_int_equal(!n, !memcmp(old, now, sizeof(now)));
		if (n) {
			assert_int_equal(ferry_xbzrle_decode(to, (size_t)n,
							     old, out), 0);
			assert_memory_equal(out, now, sizeof(now));
		}
	}
}

static void what_does_not_fit_is_told(void **state)
{
	uint8_t old[FERRY_PAGE_BYTES] = { 0 }, now[FERRY_PAGE_BYTES];
	uint8_t to[FERRY_PAGE_BYTES];

	(void)state;
	memset(now, 1, sizeof(now));
	assert_int_equal(ferry_xbzrle_encode(old, now, to, sizeof(to)),
			 -ENOSPC);
	assert_int_equal(ferry_xbzrle_encode(old, old, to, 0), 0);
}

static void a_whole_page_may_change(void **state)
{
	uint8_t old[FERRY_PAGE_BYTES] = { 0 }, out[FERRY_PAGE_BYTES];
	uint8_t in[3 + FERRY_PAGE_BYTES];

	(void)state;
	unhex("00 8020", in, 3);
	fill(in + 3, 9);
	assert_int_equal(ferry_xbzrle_decode(in, sizeof(in), old, out), 0);
	assert_memory_equal(out, in + 3, sizeof(out));
}

static void hostile_payloads_are_refused(void **state)
{
	static const struct hostile rows[] = {
		{ "nothing", "" },
		{ "half a length", "80" },
		{ "no run", "00" },
		{ "three octets of length", "808001 01 00" },
		{ "empty run", "00 00" },
		{ "empty run at the end", "00 01 aa 01 00" },
		{ "run cut short", "00 05 aabbccdd" },
		{ "second skip of nothing", "00 01 aa 00 01 bb" },
		{ "skip to the end, then one", "8020 01 aa" },
		{ "skip past the end", "8120 01 aa" },
		{ "last octet, then more", "ff1f 02 aabb" },
		{ "a skip too many", "ff1f 01 aa 01 01 bb" },
	};
	uint8_t old[FERRY_PAGE_BYTES] = { 0 }, out[FERRY_PAGE_BYTES];

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t in[64];
		size_t n = unhex(rows[i].hex, in, sizeof(in));

		if (ferry_xbzrle_decode(in, n, old, out) != -EBADMSG)
			fail_msg("%s", rows[i].why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_counter_costs_four_octets),
		cmocka_unit_test(
			lengths_of_two_octets_come_low_seven_bits_first),
		cmocka_unit_test(any_change_survives),
		cmocka_unit_test(what_does_not_fit_is_told),
		cmocka_unit_test(a_whole_page_may_change),
		cmocka_unit_test(hostile_payloads_are_refused),
	};

	return cmocka_run_group_tests_name("wire-xbzrle", tests, NULL, NULL);
}
