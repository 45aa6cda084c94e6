/* SPDX-License-Identifier: MIT */
#include "wire/hello.h"

#include <ferry/vm.h>

#include "wire-test.h"

static struct ferry_err e;

static int head(struct ferry_rd *r, void *out, struct ferry_err *err)
{
	return ferry_hello_head_decode(r, out, err);
}

/* A VM of two blocks and two facts. */
static void fill(struct ferry_hello *h)
{
	*h = (struct ferry_hello){ .name = "db1" };
	assert_int_equal(ferry_hello_add_block(h, "ram", 2ull << 30, 4096,
					       0, &e), 0);
	assert_int_equal(ferry_hello_add_block(h, "rom", 4096, 4096,
					       0xfffff000, &e), 0);
	assert_int_equal(ferry_hello_add_fact(h, "vcpus", FERRY_FACT_EQUAL,
					      "2", 1, &e), 0);
	assert_int_equal(ferry_hello_add_fact(h, "cpu", FERRY_FACT_SUBSET,
					      "sse2 avx", 8, &e), 0);
}

static void a_hello_has_its_octets(void **state)
{
	struct ferry_hello h, got;
	uint8_t buf[1024];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_rd r;

	(void)state;
	fill(&h);
	h.has_channels = true;
	h.data = 4;
	h.urgent = 1;
	strcpy(h.software, "ferry 0.1.0");
	ferry_hello_encode(&w, &h);
	assert_octets(&w, "00000095"
		      "0001 0000 00000003 'db1'"
		      "0004 0000 00000006 0004 0001 0000"
		      "0002 0000 00000018 00000000 80000000 00001000"
		      "  00000000 00000000 03 'ram'"
		      "0002 0000 00000018 00000000 00001000 00001000"
		      "  00000000 fffff000 03 'rom'"
		      "0003 0000 0000000a 01 05 'vcpus' 0001 '2'"
		      "0003 0000 0000000f 02 03 'cpu' 0008 'sse2 avx'"
		      "8006 0000 0000000b 'ferry 0.1.0'");
	assert_int_equal(ferry_wr_used(&w), ferry_hello_bytes(&h));

	r = ferry_rd_over(buf + 4, ferry_wr_used(&w) - 4);
	assert_int_equal(ferry_hello_decode(&r, false, &got, &e), 0);
	assert_string_equal(got.name, "db1");
	assert_int_equal(got.blocks, 2);
	assert_string_equal(got.block[1].name, "rom");
	assert_int_equal(got.block[1].gpa, 0xfffff000);
	assert_int_equal(got.block[0].bytes, 2ull << 30);
	assert_int_equal(got.facts, 2);
	assert_string_equal(got.fact[1].value, "sse2 avx");
	assert_true(got.has_channels);
	assert_int_equal(got.data, 4);
	assert_int_equal(got.urgent, 1);
	assert_false(got.has_verdict);
	assert_string_equal(got.software, "ferry 0.1.0");
	assert_int_equal(ferry_hello_check(&h, &got, &e), 0);
	ferry_hello_fini(&h);
	ferry_hello_fini(&got);
}

static void an_answer_carries_a_verdict(void **state)
{
	struct ferry_hello h = {
		.name = "db1", .has_verdict = true,
		.verdict = FERRY_E_MISMATCH, .verdict_text = "no\x1b[2J",
	}, got;
	uint8_t buf[256];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_rd r;

	(void)state;
	ferry_hello_encode(&w, &h);
	assert_octets(&w, "0000001f 0001 0000 00000003 'db1'"
		      "0005 0000 0000000c 00000005 0006 'no' 1b 5b '2J'");
	r = ferry_rd_over(buf + 4, ferry_wr_used(&w) - 4);
	assert_int_equal(ferry_hello_decode(&r, true, &got, &e), 0);
	assert_int_equal(ferry_hello_verdict(&got, &e), -1);
	assert_int_equal(e.code, FERRY_E_MISMATCH);
	assert_string_equal(e.msg, "the target refused: no?[2J");

	got.verdict = FERRY_E_NOTCONVERGED;
	got.verdict_text[0] = '\0';
	assert_int_equal(ferry_hello_verdict(&got, &e), -1);
	assert_int_equal(e.code, FERRY_E_NOTCONVERGED);
	assert_string_equal(e.msg, "the target refused: no reason given");
	got.verdict = 4711;
	assert_int_equal(ferry_hello_verdict(&got, &e), -1);
	assert_int_equal(e.code, FERRY_E_PEER);
	got.verdict = 0;
	assert_int_equal(ferry_hello_verdict(&got, &e), 0);
	ferry_hello_fini(&got);
}

static void an_unknown_item_may_be_optional(void **state)
{
	struct ferry_hello got;
	uint8_t buf[64];
	size_t n = unhex("0001 0000 00000001 'v' 9999 0000 00000002 ffff", buf,
			 sizeof(buf));
	struct ferry_rd r = ferry_rd_over(buf, n);

	(void)state;
	assert_int_equal(ferry_hello_decode(&r, false, &got, &e), 0);
	ferry_hello_fini(&got);

	buf[9] = 0x19;		/* 0x1999: not optional */
	r = ferry_rd_over(buf, n);
	assert_int_equal(ferry_hello_decode(&r, false, &got, &e), -1);
	assert_non_null(strstr(e.msg, "0x1999"));
}

/* Every bound itself is legal. */
static void the_most_of_everything_is_accepted(void **state)
{
	struct ferry_hello h = {
		.name = "v", .has_channels = true,
		.data = FERRY_DATA_CHANNELS_MAX,
		.urgent = FERRY_URGENT_CHANNELS_MAX,
		.device = FERRY_DEVICE_CHANNELS_MAX,
	}, got;
	uint8_t buf[1024];
	struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
	struct ferry_rd r;

	(void)state;
	memset(h.software, 's', FERRY_NAME_MAX);
	assert_int_equal(ferry_hello_add_block(&h, "r", FERRY_BLOCK_BYTES_MAX,
					       FERRY_HUGE_BYTES, 0, &e), 0);
	ferry_hello_encode(&w, &h);
	assert_int_equal(ferry_wr_used(&w), ferry_hello_bytes(&h));
	r = ferry_rd_over(buf + 4, ferry_wr_used(&w) - 4);
	assert_int_equal(ferry_hello_decode(&r, false, &got, &e), 0);
	assert_string_equal(got.software, h.software);
	assert_int_equal(got.data, 64);
	assert_int_equal(got.urgent, 8);
	assert_int_equal(got.device, 64);
	assert_int_equal(got.block[0].bytes, FERRY_BLOCK_BYTES_MAX);
	assert_int_equal(got.block[0].page_bytes, FERRY_HUGE_BYTES);
	ferry_hello_fini(&h);
	ferry_hello_fini(&got);
}

static void hostile_hellos_are_refused(void **state)
{
#define NAME	"0001 0000 00000001 'v' "
#define BLOCK	"0002 0000 00000016 00000000 00001000 00001000" \
		"00000000 00000000 01 'r'"
#define FACT	"0003 0000 00000005 01 01 'f' 0000"
#define BULK	"8010 0000 0000000a 00000000 00000001 01 'b'"
	static const struct hostile rows[] = {
		{ "nothing", "" },
		{ "no name", "0004 0000 00000006 0000 0000 0000" },
		{ "empty name", "0001 0000 00000000" },
		{ "NUL in a name", "0001 0000 00000001 00" },
		{ "two names", NAME NAME },
		{ "half an item", NAME "0002 0000 0000" },
		{ "reserved", "0001 0001 00000001 'v'" },
		{ "item longer than the rest", NAME "8006 0000 00000002 'x'" },
		{ "item of 4 GiB", NAME "8006 0000 ffffffff" },
		{ "verdict in an offer", NAME
		  "0005 0000 00000006 00000000 0000" },
		{ "CHANNELS twice", NAME "0004 0000 00000006 000000000000"
		  "0004 0000 00000006 000000000000" },
		{ "65 data channels", NAME
		  "0004 0000 00000006 0041 0000 0000" },
		{ "9 urgent channels", NAME
		  "0004 0000 00000006 0000 0009 0000" },
		{ "65 device channels", NAME
		  "0004 0000 00000006 0000 0000 0041" },
		{ "CHANNELS cut", NAME "0004 0000 00000005 0000 0000 00" },
		{ "CHANNELS and more", NAME
		  "0004 0000 00000007 0000 0000 0000 00" },
		{ "a block twice", NAME BLOCK BLOCK },
		{ "a block without a name", NAME "0002 0000 00000015"
		  "00000000 00001000 00001000 00000000 00000000 00" },
		{ "an empty block", NAME "0002 0000 00000016"
		  "00000000 00000000 00001000 00000000 00000000 01 'r'" },
		{ "half a page", NAME "0002 0000 00000016"
		  "00000000 00000800 00001000 00000000 00000000 01 'r'" },
		{ "pages of 0", NAME "0002 0000 00000016"
		  "00000000 00001000 00000000 00000000 00000000 01 'r'" },
		{ "pages of 8 KiB", NAME "0002 0000 00000016"
		  "00000000 00002000 00002000 00000000 00000000 01 'r'" },
		{ "more than 64 TiB", NAME "0002 0000 00000016"
		  "00004000 00001000 00001000 00000000 00000000 01 'r'" },
		{ "a block and more", NAME "0002 0000 00000017"
		  "00000000 00001000 00001000 00000000 00000000 01 'r' 00" },
		{ "a fact twice", NAME FACT FACT },
		{ "a fact without a name", NAME "0003 0000 00000004"
		  "01 00 0000" },
		{ "a fact of rule 3", NAME "0003 0000 00000005"
		  "03 01 'f' 0000" },
		{ "NUL in a fact", NAME "0003 0000 00000006"
		  "01 01 'f' 0001 00" },
		{ "a fact cut", NAME "0003 0000 00000005"
		  "01 01 'f' 0001" },
		{ "a bulk device twice", NAME BULK BULK },
		{ "a bulk device without a name", NAME "8010 0000 00000009"
		  "00000000 00000001 00" },
		{ "a bulk device cut", NAME "8010 0000 00000007"
		  "00000000 000001" },
		{ "a bulk device and more", NAME "8010 0000 0000000b"
		  "00000000 00000001 01 'b' 00" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_hello got;
		uint8_t buf[256];
		struct ferry_rd r = ferry_rd_over(buf,
			unhex(rows[i].hex, buf, sizeof(buf)));

		if (!ferry_hello_decode(&r, false, &got, &e))
			fail_msg("%s", rows[i].why);
		assert_null(got.block);
		assert_null(got.fact);
		assert_null(got.bulk);
	}
}

static void bulk_devices_are_compared(void **state)
{
	static const struct {
		struct { const char *name; uint32_t instance, version; }
			source[2], target[2];
		const char *says;
	} rows[] = {
		{ { { "gpu", 0, 1 }, { "nic", 0, 1 } },
		  { { "nic", 0, 1 }, { "gpu", 0, 2 } }, "" },
		{ { { "gpu", 0, 1 } }, { { "gpu", 1, 1 } },
		  "bulk device \"gpu\"/0 exists on the source only" },
		{ { { "gpu", 0, 1 } }, { { "gpu", 0, 1 }, { "nic", 3, 1 } },
		  "bulk device \"nic\"/3 exists on the target only" },
		{ { { "gpu", 4, 2 } }, { { "gpu", 4, 1 } },
		  "bulk device \"gpu\"/4: version 2 of the source is newer "
		  "than the target's 1" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_hello s = { .name = "v" }, t = { .name = "v" };
		struct ferry_err why = { 0 };
		int rc;

		for (size_t k = 0; k < 2; k++) {
			if (rows[i].source[k].name)
				assert_int_equal(ferry_hello_add_bulk(&s,
					rows[i].source[k].name,
					rows[i].source[k].instance,
					rows[i].source[k].version, &e), 0);
			if (rows[i].target[k].name)
				assert_int_equal(ferry_hello_add_bulk(&t,
					rows[i].target[k].name,
					rows[i].target[k].instance,
					rows[i].target[k].version, &e), 0);
		}
		rc = ferry_hello_check(&s, &t, &why);
		assert_string_equal(why.msg, rows[i].says);
		assert_int_equal(rc, rows[i].says[0] ? -1 : 0);
		ferry_hello_fini(&s);
		ferry_hello_fini(&t);
	}
}

static void an_answer_without_verdict_is_refused(void **state)
{
	struct ferry_hello got;
	uint8_t buf[64];
	struct ferry_rd r = ferry_rd_over(buf, unhex(NAME, buf, sizeof(buf)));

	(void)state;
	assert_int_equal(ferry_hello_decode(&r, true, &got, &e), -1);
}

static void sizes_are_bounded(void **state)
{
	static const struct hostile rows[] = {
		{ "nothing", "00000000" },
		{ "more than 1 MiB", "00100001" },
		{ "all there is", "ffffffff" },
	};
	uint8_t buf[4];
	uint32_t bytes;

	(void)state;
	unhex("00100000", buf, 4);
	assert_streams((struct stream){ head, &bytes }, buf, 4, 0);
	assert_int_equal(bytes, FERRY_HELLO_BYTES_MAX);
	assert_hostile((struct stream){ head, &bytes }, rows, FERRY_LEN(rows));
}

/* The largest that a caller may describe, and one more of each. */
static void the_largest_hello_fits_its_bound(void **state)
{
	struct ferry_hello h = { .name = "v" };
	char value[FERRY_FACT_BYTES_MAX + 1];
	char name[FERRY_NAME_MAX + 1];

	(void)state;
	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	memset(name, 'n', sizeof(name) - 1);
	name[FERRY_NAME_MAX] = '\0';
	for (unsigned i = 0; i <= FERRY_BLOCKS_MAX; i++) {
		name[0] = (char)(i / 64 + 33);
		name[1] = (char)(i % 64 + 33);
		assert_int_equal(ferry_hello_add_block(&h, name, 4096, 4096, 0,
						       &e),
				 i < FERRY_BLOCKS_MAX ? 0 : -1);
		if (i > FERRY_FACTS_MAX)
			continue;
		assert_int_equal(ferry_hello_add_fact(&h, name, 1, value,
						      strlen(value), &e),
				 i < FERRY_FACTS_MAX ? 0 : -1);
	}
	assert_in_range(ferry_hello_bytes(&h), 300000, FERRY_HELLO_BYTES_MAX);
	ferry_hello_fini(&h);
}

static void other_name(struct ferry_hello *t)
{
	strcpy(t->name, "db2");
}

static void other_size(struct ferry_hello *t)
{
	t->block[0].bytes = 1ull << 30;
}

static void other_pages(struct ferry_hello *t)
{
	t->block[0].page_bytes = 2 << 20;
}

static void other_address(struct ferry_hello *t)
{
	t->block[1].gpa = 0;
}

static void block_missing(struct ferry_hello *t)
{
	t->blocks--;
}

/* The first of the target's, so that both lists are walked from the start. */
static void block_renamed(struct ferry_hello *t)
{
	strcpy(t->block[0].name, "vga\n");
	t->blocks = 1;
}

static void block_too_many(struct ferry_hello *t)
{
	assert_int_equal(ferry_hello_add_block(t, "vga\n", 16 << 20, 4096, 0,
					       &e), 0);
}

static void other_fact(struct ferry_hello *t)
{
	t->fact[0].value[0] = '4';
}

static void other_rule(struct ferry_hello *t)
{
	t->fact[0].rule = FERRY_FACT_SUBSET;
}

static void features_lacking(struct ferry_hello *t)
{
	strcpy(t->fact[1].value, "avxx sse");
}

static void fact_missing(struct ferry_hello *t)
{
	free(t->fact[--t->facts].value);
}

static void fact_too_many(struct ferry_hello *t)
{
	assert_int_equal(ferry_hello_add_fact(t, "tsc", 1, "", 0, &e), 0);
}

/* One thing is different on the target: what does the sentence say? */
static const struct {
	const char *name;
	void (*make)(struct ferry_hello *t);
	const char *says;
} differences[] = {
	{ "name", other_name,
	  "the source is \"db1\", the target is made for \"db2\"" },
	{ "size", other_size, "memory block \"ram\" has 2048 MiB on the source,"
	  " 1024 MiB on the target" },
	{ "pages", other_pages, "memory block \"ram\" has pages of 4 KiB on"
	  " the source, 2048 KiB on the target" },
	{ "address", other_address, "memory block \"rom\" is at guest address"
	  " 0xfffff000 on the source, 0x0 on the target" },
	{ "missing block", block_missing, "memory block \"rom\" of 0.00390625"
	  " MiB exists on the source only" },
	{ "renamed block", block_renamed,
	  "memory block \"ram\" of 2048 MiB exists on the source only" },
	{ "extra block", block_too_many,
	  "memory block \"vga?\" of 16 MiB exists on the target only" },
	{ "fact", other_fact,
	  "fact \"vcpus\" is \"2\" on the source, \"4\" on the target" },
	{ "rule", other_rule,
	  "fact \"vcpus\" is compared by another rule on the target" },
	{ "features", features_lacking,
	  "fact \"cpu\": the target lacks 2 of the source's: sse2 avx" },
	{ "missing fact", fact_missing,
	  "fact \"cpu\" is stated by the source only" },
	{ "extra fact", fact_too_many,
	  "fact \"tsc\" is stated by the target only" },
};

static void what_does_not_fit_is_said_in_a_sentence(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(differences); i++) {
		struct ferry_hello s, t;

		fill(&s);
		fill(&t);
		assert_int_equal(ferry_hello_check(&s, &t, &e), 0);
		differences[i].make(&t);
		if (!ferry_hello_check(&s, &t, &e))
			fail_msg("%s", differences[i].name);
		assert_int_equal(e.code, FERRY_E_MISMATCH);
		assert_string_equal(e.msg, differences[i].says);
		ferry_hello_fini(&s);
		ferry_hello_fini(&t);
	}
}

/* The walk over the target's own begins with its first. */
static void what_only_the_target_has_is_found_anywhere(void **state)
{
	struct ferry_hello s = { .name = "db1" }, t;

	(void)state;
	fill(&t);
	assert_int_equal(ferry_hello_check(&s, &t, &e), -1);
	assert_non_null(strstr(e.msg, "\"ram\" of 2048 MiB exists on the"
				      " target only"));
	t.blocks = 0;
	assert_int_equal(ferry_hello_check(&s, &t, &e), -1);
	assert_non_null(strstr(e.msg, "\"vcpus\" is stated by the target"));
	ferry_hello_fini(&t);
}

static void the_target_may_have_more_features(void **state)
{
	struct ferry_hello s, t;

	(void)state;
	fill(&s);
	fill(&t);
	strcpy(s.fact[1].value, " avx  ");
	assert_int_equal(ferry_hello_check(&s, &t, &e), 0);
	s.fact[1].value[0] = '\0';
	assert_int_equal(ferry_hello_check(&s, &t, &e), 0);
	ferry_hello_fini(&s);
	ferry_hello_fini(&t);
}

/* The first few missing words are named, and the sentence still ends. */
static void many_lacking_features_are_cut(void **state)
{
	struct ferry_hello s = { .name = "v" }, t = { .name = "v" };
	char words[1024] = "";

	(void)state;
	for (int i = 0; i < 100; i++)
		strcat(words, "feature1 ");
	assert_int_equal(ferry_hello_add_fact(&s, "cpu", FERRY_FACT_SUBSET,
					      words, strlen(words), &e), 0);
	assert_int_equal(ferry_hello_add_fact(&t, "cpu", FERRY_FACT_SUBSET,
					      "", 0, &e), 0);
	assert_int_equal(ferry_hello_check(&s, &t, &e), -1);
	assert_non_null(strstr(e.msg, "lacks 100 of"));
	assert_non_null(strstr(e.msg, "feature1 feature1"));
	assert_in_range(strlen(e.msg), 110, 200);
	ferry_hello_fini(&s);
	ferry_hello_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hello_has_its_octets),
		cmocka_unit_test(an_answer_carries_a_verdict),
		cmocka_unit_test(an_unknown_item_may_be_optional),
		cmocka_unit_test(the_most_of_everything_is_accepted),
		cmocka_unit_test(hostile_hellos_are_refused),
		cmocka_unit_test(bulk_devices_are_compared),
		cmocka_unit_test(an_answer_without_verdict_is_refused),
		cmocka_unit_test(sizes_are_bounded),
		cmocka_unit_test(the_largest_hello_fits_its_bound),
		cmocka_unit_test(what_does_not_fit_is_said_in_a_sentence),
		cmocka_unit_test(what_only_the_target_has_is_found_anywhere),
		cmocka_unit_test(the_target_may_have_more_features),
		cmocka_unit_test(many_lacking_features_are_cut),
	};

	return cmocka_run_group_tests_name("wire-hello", tests, NULL, NULL);
}
