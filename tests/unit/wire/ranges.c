/* SPDX-License-Identifier: MIT */
#include "wire/ranges.h"

#include "wire-test.h"

static struct ferry_err e;

static int decode(const uint8_t *data, size_t n, struct ferry_ranges *g)
{
	struct ferry_rd r = ferry_rd_over(data, n);

	return ferry_ranges_decode(&r, FERRY_COMMAND_RAM_DISCARD, g, &e);
}

/* Octets as in QEMU's capture. */
static void a_discard_is_what_qemu_sends(void **state)
{
	static const struct ferry_span spans[] = {
		{ 0x100000, 0x1000 }, { 0x200000, 0x3e00000 },
	};
	const struct ferry_block_shape block = { "pc.ram", 64 << 20, 4096 };
	uint8_t buf[64];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_ranges g;
	struct ferry_span s;

	(void)state;
	ferry_ranges_encode(&w, FERRY_COMMAND_RAM_DISCARD, "pc.ram", spans, 2);
	assert_octets(&w, "08 0006 0029 00 06 'pc.ram' 00"
		      "00000000 00100000 00000000 00001000"
		      "00000000 00200000 00000000 03e00000");
	assert_int_equal(ferry_wr_used(&w), ferry_ranges_bytes("pc.ram", 2));

	assert_int_equal(decode(buf + 5, ferry_wr_used(&w) - 5, &g), 0);
	assert_string_equal(g.name, "pc.ram");
	assert_int_equal(g.count, 2);
	assert_int_equal(ferry_ranges_check_in(&g, &block, &e), 0);
	for (size_t i = 0; i < 2; i++) {
		assert_true(ferry_ranges_next(&g, &s));
		assert_int_equal(s.start, spans[i].start);
		assert_int_equal(s.bytes, spans[i].bytes);
	}
	assert_false(ferry_ranges_next(&g, &s));
}

static void as_many_ranges_as_fit_may_be_sent(void **state)
{
	FERRY_AUTO_FREE uint8_t *buf = malloc(70000);
	FERRY_AUTO_FREE struct ferry_span *spans = NULL;
	size_t n = ferry_ranges_most("ram");
	struct ferry_wr w = ferry_wr_over(buf, 70000);
	struct ferry_ranges g;
	struct ferry_span s;
	size_t seen = 0;

	(void)state;
	spans = calloc(n + 1, sizeof(*spans));
	for (size_t i = 0; i <= n; i++)
		spans[i] = (struct ferry_span){ i << 13, 4096 };
	ferry_ranges_encode(&w, FERRY_COMMAND_ZERO_RANGES, "ram", spans, n);
	assert_false(w.bad);
	assert_in_range(ferry_wr_used(&w), 65536 + 5 - 16, 65535 + 5);
	assert_int_equal(decode(buf + 5, ferry_wr_used(&w) - 5, &g), 0);
	assert_int_equal(g.count, n);
	while (ferry_ranges_next(&g, &s))
		assert_int_equal(s.start, seen++ << 13);
	assert_int_equal(seen, n);

	w = ferry_wr_over(buf, 70000);
	ferry_ranges_encode(&w, FERRY_COMMAND_ZERO_RANGES, "ram", spans,
			    n + 1);
	assert_true(w.bad);
	w = ferry_wr_over(buf, 70000);
	ferry_ranges_encode(&w, FERRY_COMMAND_ZERO_RANGES, "ram", spans, 0);
	assert_true(w.bad);
}

static void hostile_payloads_are_refused(void **state)
{
	static const struct hostile rows[] = {
		{ "nothing", "" },
		{ "version 1", "01 01 'r' 00 00000000 00000000"
		  "00000000 00001000" },
		{ "no block", "00 00 00 00000000 00000000 00000000 00001000" },
		{ "NUL in a name", "00 02 6100 00 00000000 00000000"
		  "00000000 00001000" },
		{ "name cut", "00 09 'r'" },
		{ "no mark behind the name", "00 01 'r'" },
		{ "another mark", "00 01 'r' 01 00000000 00000000"
		  "00000000 00001000" },
		{ "no range", "00 01 'r' 00" },
		{ "half a range", "00 01 'r' 00 00000000 00000000" },
		{ "a range and an octet", "00 01 'r' 00 00000000 00000000"
		  "00000000 00001000 00" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_ranges g;
		uint8_t buf[128];
		size_t n = unhex(rows[i].hex, buf, sizeof(buf));

		if (!decode(buf, n, &g))
			fail_msg("%s", rows[i].why);
	}
}

static void every_range_is_held_to_the_block(void **state)
{
	static const struct {
		const char *why;
		struct ferry_span s;
		uint32_t page_bytes;
		int rc;
	} rows[] = {
		{ "all of it", { 0, 0x400000 }, 4096, 0 },
		{ "all of it, huge", { 0, 0x400000 }, 0x200000, 0 },
		{ "last page", { 0x3ff000, 0x1000 }, 4096, 0 },
		{ "empty", { 0, 0 }, 4096, -1 },
		{ "odd start", { 0x800, 0x1000 }, 4096, -1 },
		{ "odd size", { 0, 0x800 }, 4096, -1 },
		{ "one page past", { 0x400000, 0x1000 }, 4096, -1 },
		{ "half past", { 0x3ff000, 0x2000 }, 4096, -1 },
		{ "wraps", { 0xfffffffffffff000, 0x2000 }, 4096, -1 },
		{ "wraps to nothing", { 0x1000, 0xfffffffffffff000 }, 4096,
		  -1 },
		{ "starts inside a huge page", { 0x1000, 0x200000 },
		  0x200000, -1 },
		{ "half a huge page", { 0, 0x100000 }, 0x200000, -1 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		const struct ferry_block_shape b = {
			"r", 0x400000, rows[i].page_bytes,
		};
		/* The bad one comes last: all are looked at. */
		const struct ferry_span two[] = {
			{ 0, 0x200000 }, rows[i].s,
		};
		uint8_t buf[64];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_ranges g;

		ferry_ranges_encode(&w, FERRY_COMMAND_RAM_DISCARD, "r", two,
				    2);
		assert_int_equal(decode(buf + 5, ferry_wr_used(&w) - 5, &g),
				 0);
		if (ferry_ranges_check_in(&g, &b, &e) != rows[i].rc)
			fail_msg("%s", rows[i].why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_discard_is_what_qemu_sends),
		cmocka_unit_test(as_many_ranges_as_fit_may_be_sent),
		cmocka_unit_test(hostile_payloads_are_refused),
		cmocka_unit_test(every_range_is_held_to_the_block),
	};

	return cmocka_run_group_tests_name("wire-ranges", tests, NULL, NULL);
}
