/* SPDX-License-Identifier: MIT */
#include "wire/command.h"

#include "wire-test.h"

static struct ferry_err e;

/* The payload behind a section that an encoder wrote, its header checked. */
static struct ferry_rd payload(const struct ferry_wr *w, uint16_t command)
{
	struct ferry_rd r = ferry_rd_over(w->start, ferry_wr_used(w));
	struct ferry_section s;

	assert_false(w->bad);
	assert_int_equal(ferry_section_decode(&r, &s, &e), 1);
	assert_int_equal(s.type, FERRY_SECTION_COMMAND);
	assert_int_equal(s.command, command);
	assert_int_equal(s.bytes, ferry_rd_left(&r));
	assert_int_equal(ferry_command_check(&s, FERRY_DIALECT_FERRY, &e), 0);
	return r;
}

static void commands_without_payload_are_their_number(void **state)
{
	uint8_t buf[FERRY_COMMAND_WIRE];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	ferry_command_encode(&w, FERRY_COMMAND_POSTCOPY_RUN);
	assert_octets(&w, "08 0005 0000");
}

static void commands_of_one_number_round_trip(void **state)
{
	static const struct {
		enum ferry_command c;
		uint32_t v;
		const char *hex;
	} rows[] = {
		{ FERRY_COMMAND_PING, 0x42, "08 0002 0004 00000042" },
		{ FERRY_COMMAND_PING, UINT32_MAX, "08 0002 0004 ffffffff" },
		{ FERRY_COMMAND_PACKAGED, 1, "08 0007 0004 00000001" },
		{ FERRY_COMMAND_PACKAGED, FERRY_PACKAGE_BYTES_MAX,
		  "08 0007 0004 04000000" },
		{ FERRY_COMMAND_BARRIER, 7, "08 4602 0004 00000007" },
		{ FERRY_COMMAND_FINISH, 9, "08 4604 0004 00000009" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t buf[FERRY_COMMAND_U32_WIRE];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_rd r;
		uint32_t v;

		ferry_command_u32_encode(&w, rows[i].c, rows[i].v);
		assert_octets(&w, rows[i].hex);
		r = payload(&w, (uint16_t)rows[i].c);
		assert_int_equal(ferry_command_u32_decode(&r,
			(uint16_t)rows[i].c, &v, &e), 0);
		assert_int_equal(v, rows[i].v);
	}
}

static void hostile_numbers_are_refused(void **state)
{
	static const struct {
		const char *why;
		uint16_t c;
		const char *hex;
	} rows[] = {
		{ "short", FERRY_COMMAND_PING, "000000" },
		{ "long", FERRY_COMMAND_PING, "0000000000" },
		{ "empty package", FERRY_COMMAND_PACKAGED, "00000000" },
		{ "huge package", FERRY_COMMAND_PACKAGED, "04000001" },
		{ "barrier 0", FERRY_COMMAND_BARRIER, "00000000" },
		{ "finish 0", FERRY_COMMAND_FINISH, "00000000" },
		{ "not a number", FERRY_COMMAND_POSTCOPY_RUN, "00000000" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t buf[16];
		struct ferry_rd r = ferry_rd_over(buf,
			unhex(rows[i].hex, buf, sizeof(buf)));
		uint32_t v;

		if (!ferry_command_u32_decode(&r, rows[i].c, &v, &e))
			fail_msg("%s", rows[i].why);
	}
}

static void headers_are_held_to_the_table(void **state)
{
	static const struct {
		const char *why;
		uint16_t command;
		uint32_t bytes;
		enum ferry_dialect peer;
		int rc;
	} rows[] = {
		{ "a PING", 2, 4, FERRY_DIALECT_QEMU, 0 },
		{ "a PING of a ferry", 2, 4, FERRY_DIALECT_FERRY, 0 },
		{ "ADVISE of nothing", 3, 0, FERRY_DIALECT_QEMU, 0 },
		{ "SWITCHOVER_START of QEMU", 11, 0, FERRY_DIALECT_QEMU, 0 },
		{ "OPEN_RETURN_PATH", 1, 0, FERRY_DIALECT_QEMU, 0 },
		{ "LISTEN", 4, 0, FERRY_DIALECT_QEMU, 0 },
		{ "the longest discard", 6, 65535, FERRY_DIALECT_QEMU, 0 },
		{ "the shortest", 6, 20, FERRY_DIALECT_QEMU, 0 },
		{ "RESUME", 9, 0, FERRY_DIALECT_QEMU, 0 },
		{ "the longest name", 10, 256, FERRY_DIALECT_QEMU, 0 },
		{ "the longest ABORT", 0x4603, 482, FERRY_DIALECT_FERRY, 0 },
		{ "HEARD", 0x4606, 0, FERRY_DIALECT_FERRY, 0 },
		{ "HEARD of QEMU", 0x4606, 0, FERRY_DIALECT_QEMU, -1 },
		{ "HEARD with payload", 0x4606, 1, FERRY_DIALECT_FERRY, -1 },
		{ "command 0", 0, 0, FERRY_DIALECT_QEMU, -1 },
		{ "command 12", 12, 0, FERRY_DIALECT_QEMU, -1 },
		{ "ferry's 0x4605", 0x4605, 4, FERRY_DIALECT_FERRY, -1 },
		{ "COLO", 8, 0, FERRY_DIALECT_QEMU, -1 },
		{ "ABORT of QEMU", 0x4603, 2, FERRY_DIALECT_QEMU, -1 },
		{ "SWITCHOVER_START of a ferry", 11, 0, FERRY_DIALECT_FERRY,
		  -1 },
		{ "a short PING", 2, 3, FERRY_DIALECT_QEMU, -1 },
		{ "RUN with payload", 5, 1, FERRY_DIALECT_QEMU, -1 },
		{ "discard of nothing", 6, 19, FERRY_DIALECT_QEMU, -1 },
		{ "RECV_BITMAP of no block", 10, 1, FERRY_DIALECT_QEMU, -1 },
		{ "RECV_BITMAP too long", 10, 257, FERRY_DIALECT_QEMU, -1 },
		{ "a long ABORT", 0x4603, 483, FERRY_DIALECT_FERRY, -1 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_section s = {
			.type = FERRY_SECTION_COMMAND,
			.command = rows[i].command, .bytes = rows[i].bytes,
		};

		if (ferry_command_check(&s, rows[i].peer, &e) != rows[i].rc)
			fail_msg("%s", rows[i].why);
	}
}

static void advise_round_trips(void **state)
{
	uint8_t buf[FERRY_ADVISE_WIRE];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_advise a = { .ram = true, .page_sizes = 0x201000 }, got;
	struct ferry_rd r;

	(void)state;
	ferry_advise_encode(&w, &a);
	assert_octets(&w, "08 0003 0010 00000000 00201000 00000000 00001000");
	r = payload(&w, FERRY_COMMAND_POSTCOPY_ADVISE);
	assert_int_equal(ferry_advise_decode(&r, &got, &e), 0);
	assert_true(got.ram);
	assert_int_equal(got.page_sizes, 0x201000);

	w = ferry_wr_over(buf, sizeof(buf));
	a.ram = false;
	ferry_advise_encode(&w, &a);
	assert_octets(&w, "08 0003 0000");
	r = payload(&w, FERRY_COMMAND_POSTCOPY_ADVISE);
	assert_int_equal(ferry_advise_decode(&r, &got, &e), 0);
	assert_false(got.ram);
}

static void hostile_advice_is_refused(void **state)
{
	static const struct hostile rows[] = {
		{ "one octet", "00" },
		{ "short", "00000000 00001000 00000000 000010" },
		{ "long", "00000000 00001000 00000000 00001000 00" },
		{ "other pages", "00000000 00001000 00000000 00002000" },
		{ "no pages", "00000000 00000000 00000000 00001000" },
		{ "odd pages", "00000000 00001001 00000000 00001000" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t buf[32];
		struct ferry_rd r = ferry_rd_over(buf,
			unhex(rows[i].hex, buf, sizeof(buf)));
		struct ferry_advise a;

		if (!ferry_advise_decode(&r, &a, &e))
			fail_msg("%s", rows[i].why);
	}
}

static void recv_bitmap_names_a_block(void **state)
{
	uint8_t buf[64];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	char name[FERRY_NAME_MAX + 1];
	struct ferry_rd r;

	(void)state;
	ferry_recv_bitmap_encode(&w, "pc.ram");
	assert_octets(&w, "08 000a 0007 06 'pc.ram'");
	assert_int_equal(ferry_wr_used(&w), ferry_recv_bitmap_bytes("pc.ram"));
	r = payload(&w, FERRY_COMMAND_RECV_BITMAP);
	assert_int_equal(ferry_recv_bitmap_decode(&r, name, &e), 0);
	assert_string_equal(name, "pc.ram");

	r = ferry_rd_over("\x02" "a", 2);	/* cut */
	assert_int_equal(ferry_recv_bitmap_decode(&r, name, &e), -1);
	r = ferry_rd_over("\x01" "ab", 3);	/* more */
	assert_int_equal(ferry_recv_bitmap_decode(&r, name, &e), -1);
	r = ferry_rd_over("\x02" "a", 3);	/* NUL */
	assert_int_equal(ferry_recv_bitmap_decode(&r, name, &e), -1);
}

static void an_abort_says_why_and_is_safe_to_show(void **state)
{
	uint8_t buf[600];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	char reason[FERRY_REASON_BYTES_MAX + 1], longest[1000];
	struct ferry_rd r;

	(void)state;
	ferry_abort_encode(&w, "disk\nfull");
	assert_octets(&w, "08 4603 000b 0009 'disk' 0a 'full'");
	assert_int_equal(ferry_wr_used(&w), ferry_abort_bytes("disk\nfull"));
	r = payload(&w, FERRY_COMMAND_ABORT);
	assert_int_equal(ferry_abort_decode(&r, reason, &e), 0);
	assert_string_equal(reason, "disk?full");

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	w = ferry_wr_over(buf, sizeof(buf));
	ferry_abort_encode(&w, longest);
	assert_int_equal(ferry_wr_used(&w), ferry_abort_bytes(longest));
	r = payload(&w, FERRY_COMMAND_ABORT);
	assert_int_equal(ferry_abort_decode(&r, reason, &e), 0);
	assert_int_equal(strlen(reason), FERRY_REASON_BYTES_MAX);

	r = ferry_rd_over("\x01\xe1", 2);	/* 481 octets */
	assert_int_equal(ferry_abort_decode(&r, reason, &e), -1);
	r = ferry_rd_over("\0\2a", 3);		/* cut */
	assert_int_equal(ferry_abort_decode(&r, reason, &e), -1);
	r = ferry_rd_over("\0\1ab", 4);		/* more */
	assert_int_equal(ferry_abort_decode(&r, reason, &e), -1);
}

static void every_command_has_a_name(void **state)
{
	(void)state;
	for (uint16_t c = 1; c <= 11; c++)
		assert_string_not_equal(ferry_command_name(c), "unknown");
	for (uint16_t c = 0x4601; c <= 0x4604; c++)
		assert_string_not_equal(ferry_command_name(c), "unknown");
	assert_string_equal(ferry_command_name(12), "unknown");
	assert_string_equal(ferry_command_name(FERRY_COMMAND_FINISH),
			    "FINISH");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_without_payload_are_their_number),
		cmocka_unit_test(commands_of_one_number_round_trip),
		cmocka_unit_test(hostile_numbers_are_refused),
		cmocka_unit_test(headers_are_held_to_the_table),
		cmocka_unit_test(advise_round_trips),
		cmocka_unit_test(hostile_advice_is_refused),
		cmocka_unit_test(recv_bitmap_names_a_block),
		cmocka_unit_test(an_abort_says_why_and_is_safe_to_show),
		cmocka_unit_test(every_command_has_a_name),
	};

	return cmocka_run_group_tests_name("wire-command", tests, NULL, NULL);
}
