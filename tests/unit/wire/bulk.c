/* SPDX-License-Identifier: MIT */
#include "wire/bulk.h"

#include "wire-test.h"

static int decode(struct ferry_rd *r, void *out, struct ferry_err *err)
{
	return ferry_bulk_packet_decode(r, out, err);
}

static void a_packet_has_its_octets(void **state)
{
	static const struct {
		struct ferry_bulk_packet p;
		const char *hex;
	} rows[] = {
		{ { 0, 0, 0, 0 }, "'FBLK' 0000 0000 00000000 00000000"
		  "0000000000000000" },
		{ { 63, 0x103, 262144, 0x1122334455667788 },
		  "'FBLK' 003f 0103 00040000 00000000 1122334455667788" },
		{ { 1, 0x300, 0, UINT64_MAX }, "'FBLK' 0001 0300 00000000"
		  "00000000 ffffffffffffffff" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t buf[FERRY_BULK_WIRE];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_bulk_packet got;

		ferry_bulk_packet_encode(&w, &rows[i].p);
		assert_octets(&w, rows[i].hex);
		assert_true(ferry_bulk_packet_is(buf));
		assert_streams((struct stream){ decode, &got }, buf,
			       sizeof(buf), 0);
		assert_int_equal(got.device, rows[i].p.device);
		assert_int_equal(got.flags, rows[i].p.flags);
		assert_int_equal(got.bytes, rows[i].p.bytes);
		assert_int_equal(got.index, rows[i].p.index);
	}
}

static void hostile_packets_are_refused(void **state)
{
#define INDEX " 0000000000000000"
	static const struct hostile rows[] = {
		{ "another magic", "'FBLJ' 0000 0000 00000000 00000000"
		  INDEX },
		{ "a packet of pages", "11223344 00000001 00000000 00000000"
		  INDEX },
		{ "device 64", "'FBLK' 0040 0000 00000000 00000000" INDEX },
		{ "flag 4", "'FBLK' 0000 0004 00000000 00000000" INDEX },
		{ "flag 0x400", "'FBLK' 0000 0400 00000000 00000000" INDEX },
		{ "too many octets", "'FBLK' 0000 0000 00040001 00000000"
		  INDEX },
		{ "4 GiB", "'FBLK' 0000 0000 ffffffff 00000000" INDEX },
		{ "a last one with octets", "'FBLK' 0000 0200 00000001"
		  "00000000" INDEX },
		{ "reserved", "'FBLK' 0000 0000 00000000 00000001" INDEX },
	};
	struct ferry_bulk_packet got;

	(void)state;
	assert_hostile((struct stream){ decode, &got }, rows,
		       FERRY_LEN(rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_packet_has_its_octets),
		cmocka_unit_test(hostile_packets_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
