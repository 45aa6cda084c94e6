/* SPDX-License-Identifier: MIT */
#include "wire/vfio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

static void every_item_has_its_octets(void **state)
{
	static const struct ferry_vfio_item rows[] = {
		{ FERRY_VFIO_END, 0 }, { FERRY_VFIO_SETUP, 0 },
		{ FERRY_VFIO_INIT_SENT, 0 }, { FERRY_VFIO_DATA, 0 },
		{ FERRY_VFIO_DATA, UINT64_MAX },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t octets[FERRY_VFIO_ITEM_MAX];
		struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
		struct ferry_vfio_item got;
		struct ferry_err e = { 0 };
		size_t n;

		ferry_vfio_item_encode(&w, &rows[i]);
		n = ferry_wr_used(&w);
		for (size_t cut = 0; cut <= n; cut++) {
			struct ferry_rd r = ferry_rd_over(octets, cut);
			int rc = ferry_vfio_item_decode(&r, &got, &e);

			assert_int_equal(rc, cut < n ? FERRY_DECODE_MORE :
						       FERRY_DECODE_DONE);
		}
		assert_int_equal(got.word, rows[i].word);
		assert_int_equal(got.bytes, rows[i].bytes);
	}
}

/* Their length cannot be known. */
static void other_words_are_refused(void **state)
{
	static const uint64_t rows[] = {
		0, FERRY_VFIO_CONFIG, FERRY_VFIO_INIT_SENT + 1,
		FERRY_VFIO_END - 1, UINT64_MAX,
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t octets[16] = { 0 };
		struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
		struct ferry_rd r = ferry_rd_over(octets, sizeof(octets));
		struct ferry_vfio_item got;
		struct ferry_err e = { 0 };

		ferry_wr_be64(&w, rows[i]);
		assert_int_equal(ferry_vfio_item_decode(&r, &got, &e),
				 FERRY_DECODE_WRONG);
		assert_non_null(strstr(e.msg, "is not known here"));
	}
}

static void a_packet_says_its_number_and_whether_it_is_the_last(void **state)
{
	static const struct {
		uint32_t version, index, flags;
		bool ok;
	} rows[] = {
		{ 0, 0, 0, true }, { 0, 77, 1, true },
		{ 0, FERRY_VFIO_PACKETS_MAX - 1, 1, true },
		{ 0, FERRY_VFIO_PACKETS_MAX, 1, false },
		{ 1, 0, 0, false }, { 0, 0, 2, false }, { 0, 0, 3, false },
		{ 0, 0, 0x01000000, false },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t octets[FERRY_VFIO_PACKET_WIRE];
		struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
		struct ferry_vfio_packet p;

		ferry_wr_be32(&w, rows[i].version);
		ferry_wr_be32(&w, rows[i].index);
		ferry_wr_be32(&w, rows[i].flags);
		assert_int_equal(ferry_vfio_packet_decode(octets, &p),
				 rows[i].ok);
		if (!rows[i].ok)
			continue;
		assert_int_equal(p.index, rows[i].index);
		assert_int_equal(p.last, rows[i].flags);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_item_has_its_octets),
		cmocka_unit_test(other_words_are_refused),
		cmocka_unit_test(
			a_packet_says_its_number_and_whether_it_is_the_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
