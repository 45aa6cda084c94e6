/* SPDX-License-Identifier: MIT */
#include "wire/multifd.h"

#include "wire-test.h"

static struct ferry_err e;

static int init(struct ferry_rd *r, void *out, struct ferry_err *err)
{
	return ferry_multifd_init_decode(r, 2, out, err);
}

static int plain(struct ferry_rd *r, void *out, struct ferry_err *err)
{
	return ferry_packet_decode(r, 0, out, err);
}

static int zlib(struct ferry_rd *r, void *out, struct ferry_err *err)
{
	return ferry_packet_decode(r, FERRY_PACKET_ZLIB, out, err);
}

static int device(struct ferry_rd *r, void *out, struct ferry_err *err)
{
	return ferry_device_packet_decode(r, out, err);
}

static void a_channel_opens_with_its_number(void **state)
{
	static const struct hostile rows[] = {
		{ "other magic", "11223345" },
		{ "version 2", "11223344 00000002" },
		{ "no such channel", "11223344 00000001"
		  "00000000 00000000 00000000 00000000 02" },
	};
	struct ferry_multifd_init i = { .uuid = { 1, [15] = 2 }, .id = 1 };
	struct ferry_multifd_init got;
	uint8_t buf[FERRY_MULTIFD_INIT_WIRE];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	ferry_multifd_init_encode(&w, &i);
	assert_octets(&w, "11223344 00000001"
		      "01000000 00000000 00000000 00000002 01"
		      "00000000000000 0000000000000000 0000000000000000"
		      "0000000000000000 0000000000000000");
	assert_streams((struct stream){ init, &got }, buf, sizeof(buf), 0);
	assert_int_equal(got.id, 1);
	assert_memory_equal(got.uuid, i.uuid, 16);
	assert_hostile((struct stream){ init, &got }, rows, FERRY_LEN(rows));
}

static void a_packet_fills_its_1344_octets(void **state)
{
	struct ferry_packet p = {
		.normal_pages = 2, .zero_pages = 1, .payload_bytes = 8192,
		.packet_num = 5, .name = "pc.ram",
		.offset = { 0x1000, 0x3000, 0x200000 },
	}, got;
	uint8_t buf[FERRY_PACKET_WIRE], want[FERRY_PACKET_WIRE] = { 0 };
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	unhex("11223344 00000001 00000000 00000080 00000002 00002000"
	      "00000000 00000005 00000001", want, 64);
	unhex("'pc.ram'", want + 64, 6);
	unhex("00000000 00001000 00000000 00003000 00000000 00200000",
	      want + 320, 24);
	ferry_packet_encode(&w, &p);
	assert_false(w.bad);
	assert_int_equal(ferry_wr_used(&w), sizeof(want));
	assert_memory_equal(buf, want, sizeof(want));

	assert_streams((struct stream){ plain, &got }, buf, sizeof(buf), 0);
	assert_int_equal(got.normal_pages, 2);
	assert_int_equal(got.zero_pages, 1);
	assert_int_equal(got.payload_bytes, 8192);
	assert_int_equal(got.packet_num, 5);
	assert_string_equal(got.name, "pc.ram");
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(got.offset[i], p.offset[i]);
}

static void a_full_packet_round_trips(void **state)
{
	struct ferry_packet p = {
		.flags = FERRY_PACKET_SYNC, .normal_pages = 100,
		.zero_pages = 28, .payload_bytes = 409600,
		.packet_num = UINT64_MAX,
	}, got;
	uint8_t buf[FERRY_PACKET_WIRE];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_rd r = ferry_rd_over(buf, sizeof(buf));

	(void)state;
	memset(p.name, 'n', FERRY_NAME_MAX);
	for (uint64_t i = 0; i < FERRY_PACKET_PAGES_MAX; i++)
		p.offset[i] = i << 12;
	ferry_packet_encode(&w, &p);
	assert_false(w.bad);
	assert_int_equal(ferry_packet_decode(&r, 0, &got, &e), 1);
	assert_memory_equal(got.offset, p.offset, sizeof(p.offset));
	assert_string_equal(got.name, p.name);
	assert_int_equal(got.flags, FERRY_PACKET_SYNC);

	p.zero_pages++;
	w = ferry_wr_over(buf, sizeof(buf));
	ferry_packet_encode(&w, &p);
	assert_true(w.bad);
	p.zero_pages = 0;
	p.normal_pages = FERRY_PACKET_PAGES_MAX + 1;
	w = ferry_wr_over(buf, sizeof(buf));
	ferry_packet_encode(&w, &p);
	assert_true(w.bad);
}

/* QEMU 7.2: SYNC without pages keeps the size, block and offsets of the
 * packet before; there is no payload. */
static void what_is_stale_is_not_looked_at(void **state)
{
	uint8_t buf[FERRY_PACKET_WIRE];
	struct ferry_rd r = ferry_rd_over(buf, sizeof(buf));
	struct ferry_packet got;

	(void)state;
	memset(buf, 0xee, sizeof(buf));
	unhex("11223344 00000001 00000001 00000080 00000000 00042000"
	      "00000000 00000007 00000000", buf, 40);
	assert_int_equal(ferry_packet_decode(&r, 0, &got, &e), 1);
	assert_int_equal(got.flags, FERRY_PACKET_SYNC);
	assert_int_equal(got.payload_bytes, 0);
	assert_string_equal(got.name, "");
	assert_int_equal(got.packet_num, 7);
}

static void a_sync_packet_may_have_room_for_nothing(void **state)
{
	struct ferry_packet p = { .flags = FERRY_PACKET_SYNC,
				  .packet_num = 3 }, got;
	uint8_t buf[FERRY_PACKET_WIRE], want[FERRY_PACKET_WIRE] = { 0 };
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	unhex("11223344 00000001 00000001 00000000 00000000 00000000"
	      "00000000 00000003", want, 32);
	ferry_packet_encode(&w, &p);
	assert_memory_equal(buf, want, sizeof(want));
	assert_streams((struct stream){ plain, &got }, buf, sizeof(buf), 0);
}

/* A good packet with one field overwritten. */
static void hostile_packets_are_refused(void **state)
{
	static const struct {
		const char *why;
		size_t at;
		const char *hex;
	} rows[] = {
		{ "other magic", 0, "11223345" },
		{ "version 0", 4, "00000000" },
		{ "unknown flag", 8, "00000080" },
		{ "two methods", 8, "00000006" },
		{ "a method that was not agreed", 8, "00000002" },
		{ "device state", 8, "00000040" },
		{ "device state with SYNC", 8, "00000041" },
		{ "more room than any", 12, "00000081" },
		{ "more pages than room", 12, "00000001" },
		{ "far too many pages", 16, "ffffffff" },
		{ "counts that wrap", 16, "00000001 00001000"
		  "00000000 00000005 ffffffff" },
		{ "payload too short", 20, "00001000" },
		{ "no payload", 20, "00000000" },
		{ "no block name", 64, "00" },
		{ "odd page", 320, "00000000 00001001" },
		{ "odd zero page", 336, "00000000 00001001" },
	};
	struct ferry_packet p = {
		.normal_pages = 2, .zero_pages = 1, .payload_bytes = 8192,
		.packet_num = 5, .name = "pc.ram",
		.offset = { 0x1000, 0x3000, 0x200000 },
	}, got;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t buf[FERRY_PACKET_WIRE];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_rd r = ferry_rd_over(buf, sizeof(buf));

		ferry_packet_encode(&w, &p);
		unhex(rows[i].hex, buf + rows[i].at, sizeof(buf) - rows[i].at);
		if (ferry_packet_decode(&r, 0, &got, &e) != -1)
			fail_msg("%s", rows[i].why);
	}
}

static void a_name_without_an_end_is_refused(void **state)
{
	struct ferry_packet p = { .zero_pages = 1, .name = "a" }, got;
	uint8_t buf[FERRY_PACKET_WIRE];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_rd r = ferry_rd_over(buf, sizeof(buf));

	(void)state;
	ferry_packet_encode(&w, &p);
	memset(buf + 64, 'a', 256);
	assert_int_equal(ferry_packet_decode(&r, 0, &got, &e), -1);
}

static void compressed_payloads_are_bounded(void **state)
{
	static const struct {
		uint32_t bytes;
		int rc;
	} rows[] = {
		{ 0, -1 }, { 1, 1 }, { 8192, 1 }, { 12288, 1 }, { 12289, -1 },
		{ UINT32_MAX, -1 },
	};
	struct ferry_packet p = { .flags = FERRY_PACKET_ZLIB,
				  .normal_pages = 1, .name = "a" }, got;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t buf[FERRY_PACKET_WIRE];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_rd r = ferry_rd_over(buf, sizeof(buf));

		p.payload_bytes = rows[i].bytes;
		ferry_packet_encode(&w, &p);
		assert_int_equal(zlib(&r, &got, &e), rows[i].rc);
	}
}

static void pages_are_held_to_the_block(void **state)
{
	const struct ferry_block_shape b = { "a", 0x3000, 4096 };
	struct ferry_packet p = { .normal_pages = 1, .zero_pages = 1,
				  .name = "a", .offset = { 0, 0x2000 } };

	(void)state;
	assert_int_equal(ferry_packet_check_in(&p, &b, &e), 0);
	p.offset[1] = 0x3000;
	assert_int_equal(ferry_packet_check_in(&p, &b, &e), -1);
	p.offset[1] = 0xfffffffffffff000;
	assert_int_equal(ferry_packet_check_in(&p, &b, &e), -1);
	p.zero_pages = 0;
	assert_int_equal(ferry_packet_check_in(&p, &b, &e), 0);
}

static void device_packets_are_told_by_their_flag(void **state)
{
	static const struct hostile rows[] = {
		{ "other magic", "11223345" },
		{ "other flags", "11223344 00000001 00000041" },
	};
	struct ferry_device_packet p = { .instance = 2, .payload_bytes = 9,
					 .name = "vfio" }, got;
	uint8_t buf[FERRY_DEVICE_PACKET_WIRE];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_rd r = ferry_rd_over(buf, sizeof(buf));
	uint32_t flags;
	size_t lack;

	(void)state;
	ferry_device_packet_encode(&w, &p);
	assert_false(w.bad);
	assert_int_equal(ferry_wr_used(&w), sizeof(buf));
	assert_int_equal(ferry_packet_peek(&r, &flags, &lack, &e), 1);
	assert_int_equal(flags, FERRY_PACKET_DEVICE_STATE);
	assert_ptr_equal(r.p, buf);
	assert_streams((struct stream){ device, &got }, buf, sizeof(buf), 0);
	assert_int_equal(got.instance, 2);
	assert_int_equal(got.payload_bytes, 9);
	assert_string_equal(got.name, "vfio");
	assert_hostile((struct stream){ device, &got }, rows,
		       FERRY_LEN(rows));

	r = ferry_rd_over(buf, 7);
	assert_int_equal(ferry_packet_peek(&r, &flags, &lack, &e), 0);
	assert_int_equal(lack, 1);
	memset(buf + 272, 0xff, 4);
	r = ferry_rd_over(buf, sizeof(buf));
	assert_int_equal(device(&r, &got, &e), -1);

	p.name[1] = '\0';		/* a name of one octet */
	w = ferry_wr_over(buf, sizeof(buf));
	ferry_device_packet_encode(&w, &p);
	r = ferry_rd_over(buf, sizeof(buf));
	assert_int_equal(device(&r, &got, &e), 1);
	assert_string_equal(got.name, "v");
	buf[12] = 0;
	r = ferry_rd_over(buf, sizeof(buf));
	assert_int_equal(device(&r, &got, &e), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_channel_opens_with_its_number),
		cmocka_unit_test(a_packet_fills_its_1344_octets),
		cmocka_unit_test(a_full_packet_round_trips),
		cmocka_unit_test(what_is_stale_is_not_looked_at),
		cmocka_unit_test(a_sync_packet_may_have_room_for_nothing),
		cmocka_unit_test(hostile_packets_are_refused),
		cmocka_unit_test(a_name_without_an_end_is_refused),
		cmocka_unit_test(compressed_payloads_are_bounded),
		cmocka_unit_test(pages_are_held_to_the_block),
		cmocka_unit_test(device_packets_are_told_by_their_flag),
	};

	return cmocka_run_group_tests_name("wire-multifd", tests, NULL, NULL);
}
