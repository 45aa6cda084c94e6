/* SPDX-License-Identifier: MIT */
/*
 * Small helpers over json-c, and a reader for a stream of JSON values that
 * comes from a stranger.
 *
 * Threads: json-c counts references without atomics, so one object belongs to
 * one thread at a time.  Memory: add_* give their value to the object; when
 * memory runs out json-c stores null, which a reader sees as "not a string".
 */
#ifndef FERRY_CTL_JSON_H
#define FERRY_CTL_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define FERRY_AUTO_JSON						\
	__attribute__((cleanup(ferry_json_cleanup))) struct json_object

static inline void ferry_json_cleanup(struct json_object **o)
{
	json_object_put(*o);
}

void ferry_json_add_str(struct json_object *o, const char *key,
			const char *value);
void ferry_json_add_u64(struct json_object *o, const char *key,
			uint64_t value);
/* With three decimals: 3078.074, and not 3078.0740000000001. */
void ferry_json_add_decimal(struct json_object *o, const char *key,
			    double value);
void ferry_json_add_bool(struct json_object *o, const char *key, bool value);

/* The member as a string (borrowed), or NULL if absent or not a string. */
const char *ferry_json_str(const struct json_object *o, const char *key);

/* The member as a number or bool, or `absent` when it is not one. */
uint64_t ferry_json_u64(const struct json_object *o, const char *key,
			uint64_t absent);
bool ferry_json_bool(const struct json_object *o, const char *key,
		     bool absent);

/* The member (borrowed) if it is an object, or NULL. */
struct json_object *ferry_json_obj(const struct json_object *o,
				   const char *key);

/* On one line, without spaces; borrowed from the object. */
const char *ferry_json_text(struct json_object *o);

/* ---- stream ------------------------------------------------------------ */

#define FERRY_JSON_DEPTH_MAX	32
#define FERRY_JSON_BYTES_MAX	(256u << 10)	/* one value */

/*
 * Values may follow each other with or without white space, and may arrive in
 * any pieces.  After bad or too large JSON everything up to the next newline
 * is skipped without being kept.
 */
struct ferry_json_stream {
	struct json_tokener *tok;
	size_t		used;		/* octets of the present value */
	size_t		max;		/* bytes per value */
	unsigned	utf8_more;	/* continuation octets to come */
	uint8_t		utf8_low;	/* bounds of the next of them */
	uint8_t		utf8_high;
	bool		skipping;
};

enum ferry_json_next {
	FERRY_JSON_MORE,	/* no value is complete yet */
	FERRY_JSON_VALUE,	/* *value is the caller's; NULL for `null` */
	FERRY_JSON_BAD,		/* *e says what was wrong; go on feeding */
};

FERRY_CHECKED int ferry_json_stream_init(struct ferry_json_stream *s,
					 size_t max, struct ferry_err *e);
void ferry_json_stream_fini(struct ferry_json_stream *s);

/* Takes *used <= n octets and says what they gave; call again with the rest
 * until nothing is left. */
enum ferry_json_next
ferry_json_stream_feed(struct ferry_json_stream *s, const char *data, size_t n,
		       size_t *used, struct json_object **value,
		       struct ferry_err *e);

#endif
