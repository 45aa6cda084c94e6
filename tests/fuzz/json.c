/* SPDX-License-Identifier: MIT */
/*
 * What a client of QMP says, in any pieces: | octets of each piece | text |.
 * One value at a time, then the form of a request and its arguments.
 */
#include "fuzz.h"

#include "ctl/json.h"
#include "ctl/qmp.h"

#define VALUE_MAX	4096u

static const struct ferry_qmp_command command = {
	.name = "migrate", .args = {
		{ "uri", FERRY_QMP_STR, true }, { "n", FERRY_QMP_INT, true },
		{ "resume", FERRY_QMP_BOOL, true },
		{ "list", FERRY_QMP_ARRAY, true },
	},
};

static void request(struct json_object *o)
{
	struct ferry_qmp_request r = { 0 };
	struct ferry_err e = { 0 };

	for (int oob = 0; oob < 2; oob++) {
		if (ferry_qmp_request_split(o, oob, &r, &e)) {
			FUZZ_CHECK(e.code && e.msg[0]);
			continue;
		}
		FUZZ_CHECK(r.command && (oob || !r.oob));
		if (!ferry_qmp_check_args(&command, r.args, &e) && r.args)
			(void)ferry_json_str(r.args, "uri");
	}
	FUZZ_CHECK(strlen(ferry_json_text(o)) > 0);
}

/* It may stand still, when a number has ended or something is bad, and once. */
static void feed(struct ferry_json_stream *s, const char *text, size_t n)
{
	unsigned still = 0;

	while (n) {
		struct json_object *value = NULL;
		struct ferry_err e = { 0 };
		size_t used = 0;
		enum ferry_json_next next =
			ferry_json_stream_feed(s, text, n, &used, &value, &e);

		FUZZ_CHECK(used <= n && (used || next != FERRY_JSON_MORE));
		still = used ? 0 : still + 1;
		FUZZ_CHECK(still < 3);
		FUZZ_CHECK((next == FERRY_JSON_BAD) == (e.code != 0));
		if (next == FERRY_JSON_VALUE && value)
			request(value);
		json_object_put(value);
		text += used;
		n -= used;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	size_t piece = bytes ? data[0] + 1u : 1, at = 1;
	struct ferry_json_stream s;
	struct ferry_err e;

	FUZZ_CHECK(!ferry_json_stream_init(&s, VALUE_MAX, &e));
	for (; at < bytes; at += piece) {
		size_t n = bytes - at < piece ? bytes - at : piece;

		feed(&s, (const char *)data + at, n);
	}
	ferry_json_stream_fini(&s);
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	static const char *const texts[] = {
		"\377{\"execute\": \"qmp_capabilities\"}\n"
			"{\"execute\":\"migrate\",\"id\":[1,null],"
			"\"arguments\":{\"uri\":\"tcp:a:1\",\"n\":-3,"
			"\"resume\":true,\"list\":[]}}",
		"\3{\"exec-oob\":\"x\",\"id\":\"\\u00e9\\ud83d\\ude00\"}",
		"\20[[[[1.5e-3]]]] \"\303\251\" nul\n{}",
		"\1{\"execute\":7}{\"execute\":\"a\",\"arguments\":[]}",
	};

	for (size_t i = 0; i < FERRY_LEN(texts); i++)
		emit(texts[i], strlen(texts[i]));
}
