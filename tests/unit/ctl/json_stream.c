/* SPDX-License-Identifier: MIT */
/*
 * JSON from a stranger: any pieces, any nonsense.
 */
#include "ctl/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cm.h"

/* What a stream made of some input: values one after the other, "!" for an
 * error. */
struct outcome {
	char text[1024];
	char error[240];
};

static void note(struct outcome *o, const char *text)
{
	size_t n = strlen(o->text);

	snprintf(o->text + n, sizeof(o->text) - n, "%s%s", n ? " " : "", text);
}

static void feed(struct ferry_json_stream *s, const char *data, size_t n,
		 struct outcome *o)
{
	struct json_object *value;
	enum ferry_json_next next;
	struct ferry_err e;
	size_t used;

	while (n) {
		next = ferry_json_stream_feed(s, data, n, &used, &value, &e);
		data += used;
		n -= used;
		if (next == FERRY_JSON_VALUE) {
			note(o, value ? ferry_json_text(value) : "null");
			json_object_put(value);
		} else if (next == FERRY_JSON_BAD) {
			note(o, "!");
			strcpy(o->error, e.msg);
		}
	}
}

static void run(const char *data, size_t n, size_t piece, size_t max,
		struct outcome *o)
{
	struct ferry_json_stream s;

	memset(o, 0, sizeof(*o));
	assert_int_equal(ferry_json_stream_init(&s, max, NULL), 0);
	for (size_t at = 0; at < n; at += piece)
		feed(&s, data + at, n - at < piece ? n - at : piece, o);
	ferry_json_stream_fini(&s);
}

static const struct {
	const char *in, *out;
} good[] = {
	{ "{\"a\":1}\n", "{\"a\":1}" },
	{ "{'a':1}", "{\"a\":1}" },	/* as QEMU */
	{ "{\"a\":1}{\"b\":[2,{}]}", "{\"a\":1} {\"b\":[2,{}]}" },
	{ " \r\n\t{\"a\":1}  \n\n [1] ", "{\"a\":1} [1]" },
	{ "5 \"x\" true null\n", "5 \"x\" true null" },
	{ "{\"a\":\n {\n \"b\": 1 }\n}", "{\"a\":{\"b\":1}}" },
	{ "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\xa2\"",
	  "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\xa2\"" },
	{ "{\"a\":\"}{\\\"\"}{}", "{\"a\":\"}{\\\"\"} {}" },
};

static void values_arrive_whole_in_pieces_of_any_size(void **state)
{
	struct outcome o;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(good); i++) {
		for (size_t piece = 1; piece < 12; piece++) {
			run(good[i].in, strlen(good[i].in), piece, 4096, &o);
			assert_string_equal(o.text, good[i].out);
		}
	}
}

#define BAD(why, s)	{ why, s, sizeof(s) - 1 }

static const struct {
	const char *why, *in;
	size_t n;
} bad[] = {
	BAD("a bare word", "{\"a\": query}"),
	BAD("a wrong bracket", "{\"a\":1]"),
	BAD("a stray bracket", "}"),
	BAD("no key", "{1:2}"),
	BAD("no colon", "{\"a\" 1}"),
	BAD("a comma too many", "{\"a\":1,}"),
	BAD("a comment", "/* x */ {}"),
	BAD("not a number", "[-]"),
	BAD("an octet of zero", "{\"a\":\0}"),
	BAD("a zero in a string", "[\"a\0b\"]"),
	BAD("a bare continuation octet", "\"\x80\""),
	BAD("an overlong encoding", "\"\xc0\xaf\""),
	BAD("a surrogate", "\"\xed\xa0\x80\""),
	BAD("past the last code point", "\"\xf4\x90\x80\x80\""),
	BAD("a cut sequence", "\"\xe2\x82\""),
	BAD("random octets", "\xff\xfe\x01\x02"),
	BAD("HTTP", "GET / HTTP/1.0"),
};

static void after_bad_json_the_next_line_is_understood(void **state)
{
	char line[128];
	struct outcome o;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		memcpy(line, bad[i].in, bad[i].n);
		strcpy(line + bad[i].n, "\n{\"ok\":1}\n");
		for (size_t piece = 1; piece < 12; piece++) {
			run(line, bad[i].n + strlen(line + bad[i].n), piece,
			    4096, &o);
			if (strcmp(o.text, "! {\"ok\":1}"))
				fail_msg("%s, pieces of %zu: %s", bad[i].why,
					 piece, o.text);
			assert_non_null(strstr(o.error, "JSON parse error, "));
		}
	}
}

static void huge_values_are_refused_once_and_skipped(void **state)
{
	size_t n = 100000;
	FERRY_AUTO_FREE char *big = malloc(n + 64);
	struct outcome o;

	(void)state;
	memset(big, 'x', n);
	memcpy(big, "{\"a\":\"", 6);
	strcpy(big + n, "\"}{\"lost\":1}\n{\"ok\":1}\n");
	for (size_t piece = 1; piece < 9000; piece = piece * 3 + 1) {
		run(big, strlen(big), piece, 4096, &o);
		assert_string_equal(o.text, "! {\"ok\":1}");
		assert_non_null(strstr(o.error, "larger than 4096 bytes"));
	}
}

static void a_value_of_just_the_limit_passes(void **state)
{
	char text[66] = "\"";
	struct outcome o;

	(void)state;
	memset(text + 1, 'x', 62);
	strcpy(text + 63, "\"");
	run(text, 64, 7, 64, &o);
	assert_string_equal(o.text, text);
	run(text, 64, 7, 63, &o);
	assert_string_equal(o.text, "!");
}

static void deep_values_are_refused(void **state)
{
	char deep[256];
	struct outcome o;

	(void)state;
	memset(deep, '[', 200);
	strcpy(deep + 200, "\n[1]\n");
	run(deep, strlen(deep), 16, 4096, &o);
	assert_string_equal(o.text, "! [1]");
	assert_non_null(strstr(o.error, "nesting too deep"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_arrive_whole_in_pieces_of_any_size),
		cmocka_unit_test(after_bad_json_the_next_line_is_understood),
		cmocka_unit_test(huge_values_are_refused_once_and_skipped),
		cmocka_unit_test(a_value_of_just_the_limit_passes),
		cmocka_unit_test(deep_values_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
