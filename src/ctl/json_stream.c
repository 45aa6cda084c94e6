/* SPDX-License-Identifier: MIT */
/*
 * JSON out of a byte stream whose sender is not trusted.
 *
 * json-c's tokener is incremental, but has three gaps that are closed here: it
 * keeps whatever it is given (so octets per value are counted), it cannot
 * check UTF-8 across two calls (so that is done here), and after an error it
 * does not know where to go on (we: after the next newline).
 *
 * Limits: bytes per value as given, depth FERRY_JSON_DEPTH_MAX.
 */
#include "ctl/json.h"

#include <string.h>

#include "base/cleanup.h"

int ferry_json_stream_init(struct ferry_json_stream *s, size_t max,
			   struct ferry_err *e)
{
	*s = (struct ferry_json_stream){ .max = max };
	s->tok = json_tokener_new_ex(FERRY_JSON_DEPTH_MAX);
	if (!s->tok)
		return ferry_err_set(e, FERRY_E_NOMEM, 0, "JSON reader");
	json_tokener_set_flags(s->tok, JSON_TOKENER_STRICT |
			       JSON_TOKENER_ALLOW_TRAILING_CHARS);
	return 0;
}

void ferry_json_stream_fini(struct ferry_json_stream *s)
{
	if (s->tok)
		json_tokener_free(s->tok);
	s->tok = NULL;
}

/* The first octets that narrow what their first continuation may be. */
static void utf8_lead(struct ferry_json_stream *s, uint8_t c)
{
	s->utf8_more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
	s->utf8_low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	s->utf8_high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
}

/* How many of the octets are UTF-8; state is kept for the next piece. */
static size_t utf8_prefix(struct ferry_json_stream *s, const char *data,
			  size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)data[i];

		if (s->utf8_more) {
			if (c < s->utf8_low || c > s->utf8_high)
				return i;
			s->utf8_more--;
			s->utf8_low = 0x80;
			s->utf8_high = 0xbf;
		} else if (c >= 0x80) {
			if (c < 0xc2 || c > 0xf4)
				return i;
			utf8_lead(s, c);
		}
	}
	return n;
}

static size_t space_prefix(const char *data, size_t n)
{
	size_t i = 0;

	while (i < n && memchr(" \t\r\n", data[i], 4))
		i++;
	return i;
}

static void start_over(struct ferry_json_stream *s)
{
	json_tokener_reset(s->tok);
	s->used = 0;
	s->utf8_more = 0;
}

static enum ferry_json_next bad(struct ferry_json_stream *s,
				struct ferry_err *e, const char *why)
{
	start_over(s);
	s->skipping = true;
	ferry_err_set(e, FERRY_E_PROTO, 0, "JSON parse error, %s", why);
	return FERRY_JSON_BAD;
}

/* One piece of one value; white space before it is gone. */
static enum ferry_json_next parse(struct ferry_json_stream *s,
				  const char *data, size_t n, size_t *used,
				  struct json_object **value,
				  struct ferry_err *e)
{
	size_t room = s->max - s->used;
	size_t some = n < room ? n : room;
	enum json_tokener_error code;
	size_t fine;

	if (!some) {
		*used = 0;
		start_over(s);
		s->skipping = true;
		ferry_err_set(e, FERRY_E_PROTO, 0,
			      "JSON value is larger than %zu bytes", s->max);
		return FERRY_JSON_BAD;
	}

	*value = json_tokener_parse_ex(s->tok, data, (int)some);
	code = json_tokener_get_error(s->tok);
	*used = code == json_tokener_continue ?
			some : json_tokener_get_parse_end(s->tok);

	fine = utf8_prefix(s, data, *used);
	if (fine < *used) {
		*used = fine;
		json_object_put(ferry_steal(value));
		return bad(s, e, "not UTF-8");
	}
	if (code == json_tokener_continue) {
		s->used += some;
		return FERRY_JSON_MORE;
	}
	if (code != json_tokener_success)
		return bad(s, e, json_tokener_error_desc(code));

	start_over(s);
	return FERRY_JSON_VALUE;
}

/* Octets up to and including the newline that ends the skipping. */
static size_t skip(struct ferry_json_stream *s, const char *data, size_t n)
{
	const char *end = memchr(data, '\n', n);

	if (!end)
		return n;
	s->skipping = false;
	return (size_t)(end - data) + 1;
}

enum ferry_json_next
ferry_json_stream_feed(struct ferry_json_stream *s, const char *data, size_t n,
		       size_t *used, struct json_object **value,
		       struct ferry_err *e)
{
	enum ferry_json_next next;
	size_t before = 0, took = 0;

	*value = NULL;
	if (s->skipping)
		before = skip(s, data, n);
	if (!s->skipping && !s->used)
		before += space_prefix(data + before, n - before);
	*used = before;
	if (before == n)
		return FERRY_JSON_MORE;

	next = parse(s, data + before, n - before, &took, value, e);
	*used += took;
	return next;
}
