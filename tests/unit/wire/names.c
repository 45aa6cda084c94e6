/* SPDX-License-Identifier: MIT */
/* Kinds of connections, machine versions, text of peers. */
#include "wire/kind.h"
#include "wire/machine.h"
#include "wire/text.h"

#include "wire-test.h"

static void four_octets_tell_what_a_connection_is(void **state)
{
	static const struct {
		const char *hex;
		enum ferry_conn_kind kind;
	} rows[] = {
		{ "46455252", FERRY_CONN_FERRY },
		{ "5145564d", FERRY_CONN_QEMU_MAIN },
		{ "11223344", FERRY_CONN_QEMU_MULTIFD },
		{ "08000a00", FERRY_CONN_QEMU_RECOVERY },
		{ "46455241", FERRY_CONN_UNKNOWN },	/* an answer */
		{ "'GET '", FERRY_CONN_UNKNOWN },
		{ "00000000", FERRY_CONN_UNKNOWN },
		{ "16030100", FERRY_CONN_UNKNOWN },	/* TLS */
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		uint8_t first[4];

		unhex(rows[i].hex, first, 4);
		assert_int_equal(ferry_conn_kind(first), rows[i].kind);
	}
}

static void the_machine_version_is_the_end_of_its_name(void **state)
{
	static const struct {
		const char *name;
		unsigned major, minor;
		bool ok;
	} rows[] = {
		{ "pc-q35-8.1", 8, 1, true },
		{ "pc-i440fx-11.1", 11, 1, true },
		{ "pc-i440fx-7.2", 7, 2, true },
		{ "a-100.0", 100, 0, true },
		{ "pc", 0, 0, false },
		{ "q35", 0, 0, false },
		{ "pc-q35", 0, 0, false },
		{ "pc-q35-", 0, 0, false },
		{ "pc-q35-8", 0, 0, false },
		{ "pc-q35-8.", 0, 0, false },
		{ "pc-q35-.1", 0, 0, false },
		{ "pc-q35-8.1x", 0, 0, false },
		{ "pc-q35-8.1.2", 0, 0, false },
		{ "pc-q35-99999999999.1", 0, 0, false },
		{ "", 0, 0, false },
		{ "-", 0, 0, false },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_machine m;
		bool ok = ferry_machine_parse(rows[i].name, &m);

		if (ok != rows[i].ok)
			fail_msg("%s", rows[i].name);
		if (!ok)
			continue;
		assert_int_equal(m.major, rows[i].major);
		assert_int_equal(m.minor, rows[i].minor);
	}
}

static void each_machine_has_the_quirks_of_its_age(void **state)
{
	static const struct {
		struct ferry_machine m;
		unsigned quirks;
	} rows[] = {
		{ { 6, 2 }, 31 }, { { 7, 2 }, 31 },
		{ { 8, 0 }, 30 }, { { 8, 1 }, 28 }, { { 8, 2 }, 28 },
		{ { 9, 0 }, 24 }, { { 9, 2 }, 24 },
		{ { 10, 0 }, 16 }, { { 11, 0 }, 16 },
		{ { 11, 1 }, 0 }, { { 12, 0 }, 0 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++)
		assert_int_equal(ferry_machine_quirks(&rows[i].m),
				 rows[i].quirks);
}

static void text_is_printable_afterwards(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "", "" },
		{ "plain ~", "plain ~" },
		{ "a\nb\tc\x1b[2J\x7f", "a?b?c?[2J?" },
		{ "K\xc3\xbc" "che \xe2\x82\xac \xf0\x9f\x9a\xa2",
		  "K\xc3\xbc" "che \xe2\x82\xac \xf0\x9f\x9a\xa2" },
		{ "\xc2\xa0\xc2\xbf\xdf\xbf", "\xc2\xa0\xc2\xbf\xdf\xbf" },
		{ "\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbf",
		  "\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbf" },
		{ "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
		  "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf" },
		{ "\xf5\x80\x80\x80", "????" },
		{ "\xc2\x9b" "2J", "??2J" },		/* C1: CSI */
		{ "\x9b" "2J", "?2J" },
		{ "\xc0\xaf", "??" },			/* overlong */
		{ "\xe0\x80\xaf", "???" },		/* overlong */
		{ "\xed\xa0\x80", "???" },		/* surrogate */
		{ "\xf4\x90\x80\x80", "????" },		/* past U+10FFFF */
		{ "\xe2\x82", "??" },			/* cut */
		{ "\xff\xfe", "??" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		char s[64];

		strcpy(s, rows[i].in);
		ferry_text_clean(s);
		assert_string_equal(s, rows[i].out);
	}
}

static void a_long_name_is_shown_cut(void **state)
{
	char name[FERRY_NAME_MAX + 1];
	const char *shown;

	(void)state;
	memset(name, 'n', FERRY_NAME_MAX);
	name[FERRY_NAME_MAX] = '\0';
	shown = FERRY_SHOW(name);
	assert_int_equal(strlen(shown), FERRY_SHOWN_BYTES - 1);
	assert_string_equal(shown + FERRY_SHOWN_BYTES - 5, "n...");
	name[FERRY_SHOWN_BYTES] = '\0';		/* one too long */
	assert_string_equal(FERRY_SHOW(name) + FERRY_SHOWN_BYTES - 5, "n...");
	name[FERRY_SHOWN_BYTES - 1] = '\0';
	assert_string_equal(FERRY_SHOW(name), name);
	assert_string_equal(FERRY_SHOW("a\x01"), "a?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(four_octets_tell_what_a_connection_is),
		cmocka_unit_test(the_machine_version_is_the_end_of_its_name),
		cmocka_unit_test(each_machine_has_the_quirks_of_its_age),
		cmocka_unit_test(text_is_printable_afterwards),
		cmocka_unit_test(a_long_name_is_shown_cut),
	};

	return cmocka_run_group_tests_name("wire-names", tests, NULL, NULL);
}
