/* SPDX-License-Identifier: MIT */
/* The description of device state: what is added up, and what is refused. */
#include "parked.h"

#include "park/vmdesc.h"

#define DEVICE(rest)	"{\"devices\": [{\"name\": \"d\", " \
			"\"instance_id\": 7, " rest "}]}"

static void a_body_is_the_sum_of_what_is_in_it(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} rows[] = {
		{ DEVICE("\"size\": 12"), 12 },
		{ DEVICE("\"fields\": []"), 0 },
		{ DEVICE("\"fields\": [{\"size\": 2}, {\"size\": 3}]"), 5 },
		{ DEVICE("\"fields\": [{\"array_len\": 4, \"size\": 3}]"),
		  12 },
		/* The size of a struct says it all. */
		{ DEVICE("\"fields\": [{\"struct\": {\"fields\": [{\"size\": "
			 "9}]}, \"size\": 3}]"), 3 },
		{ DEVICE("\"subsections\": [{\"vmsd_name\": \"d/ab\", "
			 "\"fields\": [{\"size\": 1}]}]"), 1 + 1 + 4 + 4 + 1 },
		{ DEVICE("\"subsections\": [{\"vmsd_name\": \"a\", "
			 "\"subsections\": [{\"vmsd_name\": \"bc\"}]}]"),
		  1 + 1 + 1 + 4 + 1 + 1 + 2 + 4 },
		{ DEVICE("\"x\": [1.5e3, -2, true, null, \"\\u0041\\n\", "
			 "{}], \"size\": 1"), 1 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_err e = { 0 };
		struct ferry_vmdesc v;
		uint64_t bytes = UINT64_MAX;

		assert_ok(ferry_vmdesc_parse(rows[i].text,
					     strlen(rows[i].text), &v, &e));
		assert_false(ferry_vmdesc_find(&v, "d", 6, &bytes));
		assert_false(ferry_vmdesc_find(&v, "e", 7, &bytes));
		assert_true(ferry_vmdesc_find(&v, "d", 7, &bytes));
		assert_int_equal(bytes, rows[i].bytes);
		ferry_vmdesc_fini(&v);
	}
}

static void assert_refused(const char *text, size_t n, const char *why)
{
	FERRY_AUTO_FREE char *exact = malloc(n ? n : 1);
	struct ferry_err e = { 0 };
	struct ferry_vmdesc v;

	assert_non_null(exact);
	memcpy(exact, text, n);
	if (!ferry_vmdesc_parse(exact, n, &v, &e))
		fail_msg("%s: not refused", why);
	if (!strstr(e.msg, "malformed at its octet") || v.wrong_at > n)
		fail_msg("%s: %s", why, e.msg);
}

static void what_is_no_description_is_refused(void **state)
{
	static const char *const rows[] = {
		"[]", "{} {}", "{\"devices\": {}}", "{\"devices\": [1]}",
		"{\"a\" 1}", "{\"a\": }", "{\"a\": 1,}", "{a: 1}",
		"{\"a\": \"\\x\"}", "{\"a\": \"\\u12g4\"}", "{\"a\": \"\n\"}",
		DEVICE("\"size\": -1"), DEVICE("\"size\": \"1\""),
		DEVICE("\"size\": 99999999999999999999"),
		DEVICE("\"fields\": [{\"size\": 9999999999999, "
		       "\"array_len\": 9999999999999}]"),
		DEVICE("\"fields\": [{\"size\": 18446744073709551615}, "
		       "{\"size\": 1}]"),
	};
	static char deep[4096];
	const char *whole = DEVICE("\"fields\": [{\"size\": 2}]");

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++)
		assert_refused(rows[i], strlen(rows[i]), rows[i]);
	for (size_t n = 0; n < strlen(whole); n++)
		assert_refused(whole, n, "cut short");
	memcpy(deep, "{\"a\":", 5);
	memset(deep + 5, '[', sizeof(deep) - 5);
	assert_refused(deep, sizeof(deep), "too deep");
	assert_refused("{}\0", 3, "a NUL behind it");
}

static void more_devices_than_there_can_be_are_refused(void **state)
{
	FERRY_AUTO_FREE char *text = malloc(8192);
	size_t n = (size_t)sprintf(text, "{\"devices\":[{}");

	(void)state;
	for (unsigned i = 1; i < FERRY_SECTIONS_MAX; i++)
		n += (size_t)sprintf(text + n, ",{}");
	{
		struct ferry_err e = { 0 };
		struct ferry_vmdesc v;

		memcpy(text + n, "]}", 2);
		assert_ok(ferry_vmdesc_parse(text, n + 2, &v, &e));
		ferry_vmdesc_fini(&v);
	}
	memcpy(text + n, ",{}]}", 5);
	assert_refused(text, n + 5, "one too many");
}

/* Three sections: two devices, and one that is not named. */
static void a_description_covers_sections_octet_for_octet(void **state)
{
	static const uint8_t first[] = "\4\0\0\0\1\1d\0\0\0\7\0\0\0\1"
				       "AB\x7e\0\0\0\1";
	static const uint8_t more[] = "\4\0\0\0\2\1d\0\0\0\7\0\0\0\1"
				      "AB\x7e\0\0\0\2"
				      "\4\0\0\0\3\1e\0\0\0\7\0\0\0\1"
				      "\x7e\0\0\0\3";
	const char *text = DEVICE("\"size\": 2");
	struct ferry_vmdesc v = { 0 };
	struct ferry_err e = { 0 };

	(void)state;
	assert_ok(ferry_vmdesc_parse(text, strlen(text), &v, &e));
	for (size_t n = 0; n < sizeof(first); n++)
		assert_int_equal(ferry_vmdesc_covers(&v, first, n),
				 n == 0 || n == sizeof(first) - 1);
	for (size_t n = 0; n < sizeof(more); n++)
		assert_int_equal(ferry_vmdesc_covers(&v, more, n),
				 n == 0 || n == 22);
	ferry_vmdesc_fini(&v);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_body_is_the_sum_of_what_is_in_it),
		cmocka_unit_test(what_is_no_description_is_refused),
		cmocka_unit_test(more_devices_than_there_can_be_are_refused),
		cmocka_unit_test(a_description_covers_sections_octet_for_octet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
