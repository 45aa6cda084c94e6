/* SPDX-License-Identifier: MIT */
/*
 * Messages as other front-ends and backends write them, and messages that
 * nobody should.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vu/msg/sock.h"

#define PAYLOAD_ROOM	(FERRY_VU_PAYLOAD_MAX + 8)

/* As seen between a QEMU and a dpdk-testpmd. */
static const struct {
	const char		*hex;
	enum ferry_vu_form	form;
	struct ferry_vu_msg	m;
} seen[] = {
	{ "010000000100000000000000", FERRY_VU_NONE,
	  { .h = { 1, 1, 0 } } },
	{ "010000000500000008000000cbe7667c0d000000", FERRY_VU_U64,
	  { .h = { 1, 5, 8 }, .u64 = 0xd7c66e7cb } },
	{ "100000000100000008000000bf0d010000000000", FERRY_VU_U64,
	  { .h = { 16, 1, 8 }, .u64 = 0x10dbf } },
	{ "06000000010000001000000000200000000000000000000000000000",
	  FERRY_VU_LOG, { .h = { 6, 1, 16 }, .log = { 8192, 0 } } },
	{ "0b00000005000000080000000100000019020000", FERRY_VU_STATE,
	  { .h = { 11, 5, 8 }, .state = { 1, 537 } } },
	{ "0500000001000000280000000100000000000000000000000000000000000010"
	  "0000000000f0ff6b2b7f00000000000000000000", FERRY_VU_MEM,
	  { .h = { 5, 1, 40 },
	    .mem = { 1, { { 0, 0x10000000, 0x7f2b6bfff000, 0 } } } } },
	{ "2a00000001000000080000000100000000000000", FERRY_VU_TRANSFER,
	  { .h = { 42, 1, 8 }, .transfer = { 1, 0 } } },
};

static size_t from_hex(const char *hex, uint8_t *octets)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++)
		sscanf(hex + 2 * i, "%2hhx", &octets[i]);
	return n;
}

static void messages_of_others_are_read_and_written_alike(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(seen); i++) {
		uint8_t octets[PAYLOAD_ROOM] = { 0 }, again[PAYLOAD_ROOM];
		size_t n = from_hex(seen[i].hex, octets);
		struct ferry_vu_msg m = { 0 };

		assert_int_equal(ferry_vu_header_decode(octets, &m.h, NULL),
				 0);
		assert_memory_equal(&m.h, &seen[i].m.h, sizeof(m.h));
		assert_int_equal(n, 12 + m.h.bytes);
		assert_int_equal(ferry_vu_payload_decode(octets + 12,
							 seen[i].form, &m,
							 NULL), 0);
		assert_memory_equal(&m, &seen[i].m, sizeof(m));
		ferry_vu_header_encode(again, &m.h);
		assert_int_equal(ferry_vu_payload_encode(again + 12,
							 seen[i].form, &m),
				 m.h.bytes);
		assert_memory_equal(again, octets, n);
	}
}

static const struct {
	const char		*name, *hex;
	enum ferry_vu_form	form;
} wrong[] = {
	{ "version 2", "010000000200000000000000", FERRY_VU_NONE },
	{ "unknown flags", "010000001100000000000000", FERRY_VU_NONE },
	{ "a huge payload", "0100000001000000ffffffff", FERRY_VU_NONE },
	{ "a payload where there is none",
	  "0100000001000000080000000000000000000000", FERRY_VU_NONE },
	{ "a short u64", "020000000100000004000000ffffffff", FERRY_VU_U64 },
	{ "a memory table of 4 octets", "05000000010000000400000001000000",
	  FERRY_VU_MEM },
	{ "9 regions", "0500000001000000080000000900000000000000",
	  FERRY_VU_MEM },
	{ "a region that is not there",
	  "0500000001000000080000000100000000000000", FERRY_VU_MEM },
	{ "an empty region",
	  "0500000001000000280000000100000000000000000000000000000000000000"
	  "0000000000f0ff6b2b7f00000000000000000000", FERRY_VU_MEM },
	{ "a region that wraps in the guest",
	  "050000000100000028000000010000000000000000f0ffffffffffff00000010"
	  "0000000000f0ff6b2b7f00000000000000000000", FERRY_VU_MEM },
	{ "a region that wraps in the file",
	  "0500000001000000280000000100000000000000000000000000000000000010"
	  "0000000000f0ff6b2b7f000000f0ffffffffff7f", FERRY_VU_MEM },
	{ "an empty log",
	  "06000000010000001000000000000000000000000000000000000000",
	  FERRY_VU_LOG },
	{ "a log that wraps",
	  "0600000001000000100000000020000000000000ffffffffffffff7f",
	  FERRY_VU_LOG },
	{ "flags of an address",
	  "09000000010000002800000000000000020000000000000000000000000000"
	  "0000000000000000000000000000000000000000", FERRY_VU_ADDR },
	{ "a configuration of 257 octets",
	  "18000000010000000c000000000000000101000000000000",
	  FERRY_VU_CONFIG },
	{ "a configuration that wraps",
	  "18000000010000000c000000ffffffff0100000000000000",
	  FERRY_VU_CONFIG },
	{ "a configuration without its data",
	  "18000000010000000c000000000000000100000000000000",
	  FERRY_VU_CONFIG },
	{ "a direction of 2", "2a00000001000000080000000200000000000000",
	  FERRY_VU_TRANSFER },
	{ "a phase of 1", "2a00000001000000080000000000000001000000",
	  FERRY_VU_TRANSFER },
	{ "an area in 8 octets", "1f00000001000000080000000000000000000000",
	  FERRY_VU_INFLIGHT },
};

static void what_nobody_should_write_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(wrong); i++) {
		uint8_t octets[PAYLOAD_ROOM] = { 0 };
		struct ferry_err e = { 0 };
		struct ferry_vu_msg m = { 0 };

		from_hex(wrong[i].hex, octets);
		if (!ferry_vu_header_decode(octets, &m.h, &e) &&
		    !ferry_vu_payload_decode(octets + 12, wrong[i].form, &m,
					     &e))
			fail_msg("%s was taken", wrong[i].name);
		assert_int_equal(e.code, FERRY_E_PROTO);
	}
}

static void each_request_has_one_name(void **state)
{
	(void)state;
	for (uint32_t a = 0; a < 64; a++)
		for (uint32_t b = 0; b < a; b++)
			if (ferry_vu_row(a) && ferry_vu_row(b))
				assert_string_not_equal(ferry_vu_name(a),
							ferry_vu_name(b));
	assert_string_equal(ferry_vu_name(28), "POSTCOPY_ADVISE");
	assert_string_equal(ferry_vu_name(99), "unknown request");
}

/* ---- over a socket ------------------------------------------------------- */

static void pair(struct ferry_vu_sock s[2])
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				    fd), 0);
	s[0] = (struct ferry_vu_sock){ fd[0], -1 };
	s[1] = (struct ferry_vu_sock){ fd[1], -1 };
}

static void descriptors_come_with_their_message(void **state)
{
	uint8_t payload[FERRY_VU_PAYLOAD_MAX];
	struct ferry_vu_msg m = { .h = { FERRY_VU_SET_MEM_TABLE, 1, 0 } };
	int give[8] = { 0, 1, 2, 0, 1, 2, 0, 1 };
	struct ferry_vu_header h;
	struct ferry_vu_sock s[2];
	struct ferry_vu_fds got;

	(void)state;
	pair(s);
	for (unsigned n = 0; n <= 8; n++) {
		assert_int_equal(ferry_vu_send(&s[0], &m, FERRY_VU_MEM, give,
					       n, NULL), 0);
		assert_int_equal(ferry_vu_recv(&s[1], &h, payload, &got, NULL),
				 1);
		assert_int_equal(got.n, n);
		ferry_vu_fds_close(&got);
	}
	close(s[0].fd);
	assert_int_equal(ferry_vu_recv(&s[1], &h, payload, &got, NULL), 0);
	close(s[1].fd);
}

static void a_message_may_come_octet_by_octet(void **state)
{
	uint8_t octets[20], payload[FERRY_VU_PAYLOAD_MAX];
	struct ferry_vu_header h;
	struct ferry_vu_sock s[2];
	struct ferry_vu_fds got;

	(void)state;
	pair(s);
	from_hex(seen[2].hex, octets);
	for (unsigned i = 0; i < sizeof(octets); i++)
		assert_int_equal(write(s[0].fd, octets + i, 1), 1);
	assert_int_equal(ferry_vu_recv(&s[1], &h, payload, &got, NULL), 1);
	assert_int_equal(h.request, 16);
	assert_memory_equal(payload, octets + 12, 8);
	assert_int_equal(write(s[0].fd, octets, 15), 15);
	close(s[0].fd);
	assert_int_equal(ferry_vu_recv(&s[1], &h, payload, &got, NULL), -1);
	close(s[1].fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_of_others_are_read_and_written_alike),
		cmocka_unit_test(what_nobody_should_write_is_refused),
		cmocka_unit_test(each_request_has_one_name),
		cmocka_unit_test(descriptors_come_with_their_message),
		cmocka_unit_test(a_message_may_come_octet_by_octet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
