/* SPDX-License-Identifier: MIT */
#include "wire/recvmap.h"

#include "wire-test.h"

static int head(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_recvmap_head_decode(r, *(uint64_t *)out, e);
}

static int end(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	(void)out;
	return ferry_recvmap_end_decode(r, e);
}

static void sizes_are_rounded_up_to_words(void **state)
{
	static const struct {
		uint64_t pages, words;
	} rows[] = {
		{ 1, 1 }, { 64, 1 }, { 65, 2 }, { 16384, 256 },
		{ 1ull << 34, 1ull << 28 }, { UINT64_MAX, 1ull << 58 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++)
		assert_int_equal(ferry_recvmap_words(rows[i].pages),
				 rows[i].words);
}

static void a_map_is_size_words_and_mark(void **state)
{
	const uint64_t words[] = { 0x8000000000000001, 0x22 };
	uint64_t pages = 70, got[2];
	uint8_t buf[32];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_err e;
	struct ferry_rd r;

	(void)state;
	ferry_recvmap_head_encode(&w, pages);
	ferry_recvmap_words_encode(&w, words, 2);
	ferry_recvmap_end_encode(&w);
	assert_octets(&w, "00000000 00000010"
		      "01000000 00000080 22000000 00000000"
		      "01234567 89abcdef");

	assert_streams((struct stream){ head, &pages }, buf, 8, 0);
	r = ferry_rd_over(buf + 8, 16);
	assert_int_equal(ferry_recvmap_words_decode(&r, pages, 0, got, 2, &e),
			 0);
	assert_memory_equal(got, words, sizeof(words));
	assert_streams((struct stream){ end, NULL }, buf + 24, 8, 0);

	/* In pieces: the second word alone. */
	r = ferry_rd_over(buf + 16, 8);
	assert_int_equal(ferry_recvmap_words_decode(&r, pages, 1, got, 1, &e),
			 0);
	assert_int_equal(got[0], words[1]);
}

static void a_map_of_another_size_is_refused(void **state)
{
	static const struct hostile rows[] = {
		{ "none", "00000000 00000000" },
		{ "one word less", "00000000 00000008" },
		{ "not rounded", "00000000 00000009" },
		{ "one word more", "00000000 00000018" },
		{ "huge", "ffffffff fffffff0" },
	}, marks[] = {
		{ "no mark", "00000000 00000000" },
		{ "little-endian mark", "efcdab89 67452301" },
	};
	uint64_t pages = 70;

	(void)state;
	assert_hostile((struct stream){ head, &pages }, rows, FERRY_LEN(rows));
	assert_hostile((struct stream){ end, NULL }, marks, FERRY_LEN(marks));
}

static void hostile_words_are_refused(void **state)
{
	static const struct {
		const char *why, *hex;
		uint64_t pages, first;
		size_t n;
	} rows[] = {
		{ "page 70 of 70", "0000000000000000 4000000000000000",
		  70, 0, 2 },
		{ "the last bit", "0000000000000080", 70, 1, 1 },
		{ "page 64 of 64", "0100000000000000", 64, 1, 1 },
		{ "far past", "0100000000000000", 64, 9, 1 },
		{ "cut", "00000000000000", 64, 0, 1 },
		{ "more", "000000000000000000", 64, 0, 1 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t buf[64];
		struct ferry_rd r = ferry_rd_over(buf,
			unhex(rows[i].hex, buf, sizeof(buf)));
		uint64_t words[8];
		struct ferry_err e;

		if (!ferry_recvmap_words_decode(&r, rows[i].pages,
						rows[i].first, words,
						rows[i].n, &e))
			fail_msg("%s", rows[i].why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_rounded_up_to_words),
		cmocka_unit_test(a_map_is_size_words_and_mark),
		cmocka_unit_test(a_map_of_another_size_is_refused),
		cmocka_unit_test(hostile_words_are_refused),
	};

	return cmocka_run_group_tests_name("wire-recvmap", tests, NULL, NULL);
}
