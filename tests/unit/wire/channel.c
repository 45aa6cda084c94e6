/* SPDX-License-Identifier: MIT */
#include "wire/channel.h"

#include "wire-test.h"

static struct ferry_err e;

#define SESSION	{ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 }
#define SESSION_HEX "00010203 04050607 08090a0b 0c0d0e0f"

static int offer(struct ferry_rd *r, void *out, struct ferry_err *err)
{
	return ferry_channel_decode(r, false, out, err);
}

static int answer(struct ferry_rd *r, void *out, struct ferry_err *err)
{
	return ferry_channel_decode(r, true, out, err);
}

static void a_header_is_48_octets(void **state)
{
	struct ferry_channel_head h = {
		.type = FERRY_CHANNEL_DATA, .index = 3, .session = SESSION,
		.features = 0x7f, .mandatory = 0x01,
	}, got;
	uint8_t buf[FERRY_CHANNEL_WIRE];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	ferry_channel_encode(&w, &h);
	assert_octets(&w, "46455252 0001 0030 0002 0003 00000000" SESSION_HEX
		      "00000000 0000007f 00000000 00000001");
	assert_streams((struct stream){ offer, &got }, buf, sizeof(buf), 0);
	assert_false(got.answer);
	assert_int_equal(got.type, FERRY_CHANNEL_DATA);
	assert_int_equal(got.index, 3);
	assert_memory_equal(got.session, h.session, sizeof(h.session));
	assert_int_equal(got.features, 0x7f);
	assert_int_equal(got.mandatory, 1);
}

static void an_answer_has_its_own_magic(void **state)
{
	struct ferry_channel_head h = {
		.answer = true, .type = FERRY_CHANNEL_MAIN,
		.session = SESSION, .features = 1ull << 63,
	}, got;
	uint8_t buf[FERRY_CHANNEL_WIRE];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	ferry_channel_encode(&w, &h);
	assert_octets(&w, "46455241 0001 0030 0001 0000 00000000" SESSION_HEX
		      "80000000 00000000 00000000 00000000");
	assert_streams((struct stream){ answer, &got }, buf, sizeof(buf), 0);
	assert_true(got.answer);
	assert_int_equal(got.features, 1ull << 63);
}

static void a_bound_header_has_a_mac_behind_it(void **state)
{
	struct ferry_channel_head h = {
		.type = FERRY_CHANNEL_DATA, .session = SESSION,
		.features = FERRY_FEATURE_BOUND,
	}, got;
	uint8_t buf[FERRY_CHANNEL_BOUND_WIRE], other[FERRY_MAC_BYTES];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));

	(void)state;
	memset(h.mac, 0xe7, sizeof(h.mac));
	ferry_channel_encode(&w, &h);
	assert_int_equal(ferry_wr_used(&w), ferry_channel_bytes(&h));
	assert_streams((struct stream){ offer, &got }, buf, sizeof(buf), 0);
	assert_true(ferry_mac_same(got.mac, h.mac));
	for (size_t i = 0; i < sizeof(other); i++) {
		memcpy(other, h.mac, sizeof(other));
		other[i] ^= 1;
		assert_false(ferry_mac_same(other, h.mac));
	}
}

static void what_a_later_version_appends_is_skipped(void **state)
{
	uint8_t buf[FERRY_CHANNEL_HEADER_MAX] = { 0 };
	struct ferry_channel_head got;
	size_t n = unhex("46455252 0001 0034 0001 0000 00000000" SESSION_HEX
			 "00000000 00000000 00000000 00000000 deadbeef",
			 buf, sizeof(buf));

	(void)state;
	assert_streams((struct stream){ offer, &got }, buf, n, 0);
	unhex("1000", buf + 6, 2);
	assert_streams((struct stream){ offer, &got }, buf, sizeof(buf), 0);
}

static void the_last_channel_of_each_type_is_one(void **state)
{
	static const struct {
		uint16_t type, last;
	} rows[] = {
		{ FERRY_CHANNEL_MAIN, 0 }, { FERRY_CHANNEL_DATA, 63 },
		{ FERRY_CHANNEL_URGENT, 7 }, { FERRY_CHANNEL_DEVICE, 63 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		const struct ferry_channel_head h = {
			.type = rows[i].type, .index = rows[i].last,
			.session = SESSION,
		};
		uint8_t buf[FERRY_CHANNEL_WIRE];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_channel_head got;

		ferry_channel_encode(&w, &h);
		assert_streams((struct stream){ offer, &got }, buf,
			       sizeof(buf), 0);
		assert_int_equal(got.index, rows[i].last);
	}
}

static void hostile_headers_are_refused(void **state)
{
#define TAIL	SESSION_HEX "00000000 00000001 00000000 00000001"
	static const struct hostile rows[] = {
		{ "a QEMU", "5145564d" },
		{ "an answer", "46455241" },
		{ "version 0", "46455252 0000" },
		{ "version 2", "46455252 0002" },
		{ "too small", "46455252 0001 002f" },
		{ "too large", "46455252 0001 1001" },
		{ "type 0", "46455252 0001 0030 0000 0000 00000000" },
		{ "type 5", "46455252 0001 0030 0005 0000 00000000" },
		{ "second main", "46455252 0001 0030 0001 0001 00000000" },
		{ "data 64", "46455252 0001 0030 0002 0040 00000000" },
		{ "urgent 8", "46455252 0001 0030 0003 0008 00000000" },
		{ "device 64", "46455252 0001 0030 0004 0040 00000000" },
		{ "reserved", "46455252 0001 0030 0001 0000 00000001" },
		{ "no session", "46455252 0001 0030 0001 0000 00000000"
		  "00000000 00000000 00000000 00000000" },
		{ "mandatory but not offered",
		  "46455252 0001 0030 0001 0000 00000000" SESSION_HEX
		  "00000000 00000001 00000000 00000002" },
		{ "bound without a MAC",
		  "46455252 0001 004f 0001 0000 00000000" SESSION_HEX
		  "00000000 00000401 00000000 00000400" },
	}, answers[] = {
		{ "an offer", "46455252" },
		{ "on data", "46455241 0001 0030 0002 0000 00000000" },
		{ "mandatory", "46455241 0001 0030 0001 0000 00000000" TAIL },
	};
	struct ferry_channel_head got;

	(void)state;
	assert_hostile((struct stream){ offer, &got }, rows, FERRY_LEN(rows));
	assert_hostile((struct stream){ answer, &got }, answers,
		       FERRY_LEN(answers));
}

static void a_mandatory_feature_that_is_missing_is_named(void **state)
{
	struct ferry_channel_head h = { .features = 0x70, .mandatory = 0x10 };
	uint64_t taken;

	(void)state;
	assert_int_equal(ferry_channel_take(&h, 0x3f, &taken, &e), 0);
	assert_int_equal(taken, 0x30);
	assert_int_equal(ferry_channel_take(&h, 0x2f, &taken, &e), -1);
	assert_int_equal(e.code, FERRY_E_MISMATCH);
	assert_non_null(strstr(e.msg, "bit 4 (resend)"));

	h.features = h.mandatory = 1ull << 40;
	assert_int_equal(ferry_channel_take(&h, FERRY_FEATURES_KNOWN, &taken,
					    &e), -1);
	assert_non_null(strstr(e.msg, "bit 40"));
}

static void an_answer_belongs_to_its_offer(void **state)
{
	const struct ferry_channel_head o = {
		.session = SESSION, .features = 7, .mandatory = 1,
	};
	static const struct {
		const char *why;
		struct ferry_channel_head a;
		int rc;
	} rows[] = {
		{ "all taken", { .session = SESSION, .features = 7 }, 0 },
		{ "the mandatory", { .session = SESSION, .features = 1 }, 0 },
		{ "none taken", { .session = SESSION }, -1 },
		{ "too many", { .session = SESSION, .features = 9 }, -1 },
		{ "another session", { .session = { 1 }, .features = 7 }, -1 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++)
		if (ferry_channel_check(&o, &rows[i].a, &e) != rows[i].rc)
			fail_msg("%s", rows[i].why);
}

static void features_and_types_have_names(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(ferry_feature_name(i) != NULL,
				 FERRY_FEATURES_KNOWN >> i & 1);
	assert_string_equal(ferry_channel_type_name(FERRY_CHANNEL_URGENT),
			    "urgent");
	assert_string_equal(ferry_channel_type_name(0), "unknown");
	assert_string_equal(ferry_channel_type_name(5), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_is_48_octets),
		cmocka_unit_test(an_answer_has_its_own_magic),
		cmocka_unit_test(a_bound_header_has_a_mac_behind_it),
		cmocka_unit_test(what_a_later_version_appends_is_skipped),
		cmocka_unit_test(the_last_channel_of_each_type_is_one),
		cmocka_unit_test(hostile_headers_are_refused),
		cmocka_unit_test(a_mandatory_feature_that_is_missing_is_named),
		cmocka_unit_test(an_answer_belongs_to_its_offer),
		cmocka_unit_test(features_and_types_have_names),
	};

	return cmocka_run_group_tests_name("wire-channel", tests, NULL, NULL);
}
