/* SPDX-License-Identifier: MIT */
#include "wire/rp.h"

#include "wire-test.h"

static int of_ferry(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_rp_decode(r, FERRY_DIALECT_FERRY, out, e);
}

static int of_qemu(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_rp_decode(r, FERRY_DIALECT_QEMU, out, e);
}

static void every_message_has_its_octets(void **state)
{
	static const struct {
		struct ferry_rp m;
		const char *hex;
	} rows[] = {
		{ { .type = FERRY_RP_SHUT }, "0001 0004 00000000" },
		{ { .type = FERRY_RP_SHUT, .value = 1 },
		  "0001 0004 00000001" },
		{ { .type = FERRY_RP_PONG, .value = 0x42 },
		  "0002 0004 00000042" },
		{ { .type = FERRY_RP_REQ_PAGES_ID, .name = "pc.ram",
		    .span = { 0x200000, 0x1000 } },
		  "0003 0013 00000000 00200000 00001000 06 'pc.ram'" },
		{ { .type = FERRY_RP_REQ_PAGES, .span = { 0, 1 << 30 } },
		  "0004 000c 00000000 00000000 40000000" },
		{ { .type = FERRY_RP_REQ_PAGES,
		    .span = { 0xffffffffffffe000, 0x1000 } },
		  "0004 000c ffffffff ffffe000 00001000" },
		{ { .type = FERRY_RP_RECV_BITMAP, .name = "pc.ram" },
		  "0005 0007 06 'pc.ram'" },
		{ { .type = FERRY_RP_RESUME_ACK, .value = 1 },
		  "0006 0004 00000001" },
		{ { .type = FERRY_RP_LOADED }, "4601 0004 00000000" },
		{ { .type = FERRY_RP_RUNNING }, "4602 0004 00000000" },
		{ { .type = FERRY_RP_REASON, .reason = "no memory" },
		  "4603 000b 0009 'no memory'" },
		{ { .type = FERRY_RP_SYNCED, .value = 12 },
		  "4604 0004 0000000c" },
		{ { .type = FERRY_RP_BULK_CREDIT, .value = 63,
		    .wide = 0x123456789a },
		  "4610 000c 0000003f 0000001234 56789a" },
		{ { .type = FERRY_RP_BULK_READY, .value = 1 },
		  "4611 0004 00000001" },
		{ { .type = FERRY_RP_BULK_LOADED, .wide = 1 },
		  "4612 000c 00000000 0000000000000001" },
		{ { .type = FERRY_RP_LOST, .value = 3 << 16 | 7 },
		  "4640 0004 0003 0007" },
		{ { .type = FERRY_RP_FAULTS, .faults = { 1, 2, 3 } },
		  "4641 000c 00000001 00000002 00000003" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		const struct ferry_rp *m = &rows[i].m;
		uint8_t buf[FERRY_RP_MAX];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_rp got;

		ferry_rp_encode(&w, m);
		assert_octets(&w, rows[i].hex);
		assert_int_equal(ferry_wr_used(&w), ferry_rp_bytes(m));
		assert_streams((struct stream){ of_ferry, &got }, buf,
			       ferry_wr_used(&w), 0);
		assert_int_equal(got.type, m->type);
		assert_int_equal(got.value, m->value);
		assert_int_equal(got.wide, m->wide);
		assert_memory_equal(&got.faults, &m->faults,
				    sizeof(got.faults));
		assert_int_equal(got.span.start, m->span.start);
		assert_int_equal(got.span.bytes, m->span.bytes);
		assert_string_equal(got.name, m->name);
		assert_string_equal(got.reason, m->reason);
	}
}

static void switchover_ack_is_of_qemu(void **state)
{
	struct ferry_rp m = { .type = FERRY_RP_SWITCHOVER_ACK }, got;
	uint8_t buf[FERRY_RP_MAX];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	ferry_rp_encode(&w, &m);
	assert_octets(&w, "0007 0000");
	assert_streams((struct stream){ of_qemu, &got }, buf, 4, 0);
}

static void a_reason_is_cut_and_cleaned(void **state)
{
	struct ferry_rp m = { .type = FERRY_RP_REASON }, got;
	uint8_t buf[FERRY_RP_MAX];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	memset(m.reason, '\x1b', FERRY_REASON_BYTES_MAX);
	ferry_rp_encode(&w, &m);
	assert_false(w.bad);
	assert_streams((struct stream){ of_ferry, &got }, buf,
		       ferry_wr_used(&w), 0);
	assert_int_equal(strlen(got.reason), FERRY_REASON_BYTES_MAX);
	assert_null(strchr(got.reason, '\x1b'));
	assert_int_equal(got.reason[7], '?');
}

static void hostile_messages_are_refused(void **state)
{
	static const struct hostile rows[] = {
		{ "credit for device 64", "4610 000c 00000040"
		  "0000000000000000" },
		{ "credit without a limit", "4610 0004 00000000" },
		{ "device 64 is ready", "4611 0004 00000040" },
		{ "device 64 is loaded", "4612 000c 00000040"
		  "0000000000000000" },
		{ "type 0", "0000" },
		{ "type 8", "0008" },
		{ "SWITCHOVER_ACK of a ferry", "0007" },
		{ "RENOUNCED, not yet", "4605" },
		{ "type 0x4607", "4607" },
		{ "longer than any", "0001 0201" },
		{ "short SHUT", "0001 0003 000000" },
		{ "long SHUT", "0001 0005 0000000000" },
		{ "empty PONG", "0002 0000" },
		{ "RESUME_ACK of 0", "0006 0004 00000000" },
		{ "RESUME_ACK of 2", "0006 0004 00000002" },
		{ "LOADED of 1", "4601 0004 00000001" },
		{ "RUNNING of 1", "4602 0004 00000001" },
		{ "SYNCED of 0", "4604 0004 00000000" },
		{ "request of nothing",
		  "0004 000c 00000000 00000000 00000000" },
		{ "odd start", "0004 000c 00000000 00000001 00001000" },
		{ "odd size", "0004 000c 00000000 00000000 00001001" },
		{ "too much", "0004 000c 00000000 00000000 40001000" },
		{ "wraps", "0004 000c ffffffff fffff000 00002000" },
		{ "short request", "0004 000b 00000000 00000000 000010" },
		{ "request by no name",
		  "0003 000d 00000000 00000000 00001000 00" },
		{ "request by a cut name",
		  "0003 000e 00000000 00000000 00001000 02 'a'" },
		{ "request by a name and more",
		  "0003 000f 00000000 00000000 00001000 01 'ab'" },
		{ "bad span, good name",
		  "0003 000e 00000000 00000001 00001000 01 'a'" },
		{ "bitmap of no block", "0005 0001 00" },
		{ "bitmap of NUL", "0005 0003 02 6100" },
		{ "LOST of main", "4640 0004 0001 0000" },
		{ "LOST of no channel", "4640 0004 0003 0008" },
		{ "LOST of data 64", "4640 0004 0002 0040" },
		{ "short FAULTS", "4641 000b 00000001 00000001 000000" },
		{ "reason cut", "4603 0003 0002 'a'" },
		{ "reason and more", "4603 0004 0001 'ab'" },
		{ "reason without a size", "4603 0000" },
	}, foreign[] = {
		{ "LOADED of a QEMU", "4601" },
		{ "REASON of a QEMU", "4603" },
	};
	struct ferry_rp got;

	(void)state;
	assert_hostile((struct stream){ of_ferry, &got }, rows,
		       FERRY_LEN(rows));
	assert_hostile((struct stream){ of_qemu, &got }, foreign,
		       FERRY_LEN(foreign));
}

static void messages_have_names(void **state)
{
	(void)state;
	assert_string_equal(ferry_rp_name(4), "REQ_PAGES");
	assert_string_equal(ferry_rp_name(0x4605), "RENOUNCED");
	assert_string_equal(ferry_rp_name(9), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_has_its_octets),
		cmocka_unit_test(switchover_ack_is_of_qemu),
		cmocka_unit_test(a_reason_is_cut_and_cleaned),
		cmocka_unit_test(hostile_messages_are_refused),
		cmocka_unit_test(messages_have_names),
	};

	return cmocka_run_group_tests_name("wire-rp", tests, NULL, NULL);
}
