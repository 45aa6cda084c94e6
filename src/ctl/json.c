/* SPDX-License-Identifier: MIT */
/*
 * Members by name and type, so that callers need no json-c type checks.
 */
#include "ctl/json.h"

#include <stdio.h>

void ferry_json_add_str(struct json_object *o, const char *key,
			const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

void ferry_json_add_u64(struct json_object *o, const char *key,
			uint64_t value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
}

void ferry_json_add_decimal(struct json_object *o, const char *key,
			    double value)
{
	char text[352];		/* of the largest double, 309 digits */

	snprintf(text, sizeof(text), "%.3f", value);
	json_object_object_add(o, key, json_object_new_double_s(value, text));
}

void ferry_json_add_bool(struct json_object *o, const char *key, bool value)
{
	json_object_object_add(o, key, json_object_new_boolean(value));
}

static struct json_object *member(const struct json_object *o, const char *key,
				  enum json_type type)
{
	struct json_object *v = NULL;

	if (!o || !json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, type))
		return NULL;
	return v;
}

const char *ferry_json_str(const struct json_object *o, const char *key)
{
	struct json_object *v = member(o, key, json_type_string);

	return v ? json_object_get_string(v) : NULL;
}

uint64_t ferry_json_u64(const struct json_object *o, const char *key,
			uint64_t absent)
{
	struct json_object *v = member(o, key, json_type_int);
	struct json_object *f = member(o, key, json_type_double);
	double x = f ? json_object_get_double(f) : -1;

	if (v)
		return json_object_get_uint64(v);
	return x >= 0 && x < 0x1p63 ? (uint64_t)x : absent;
}

bool ferry_json_bool(const struct json_object *o, const char *key,
		     bool absent)
{
	struct json_object *v = member(o, key, json_type_boolean);

	return v ? json_object_get_boolean(v) : absent;
}

struct json_object *ferry_json_obj(const struct json_object *o,
				   const char *key)
{
	return member(o, key, json_type_object);
}

const char *ferry_json_text(struct json_object *o)
{
	return json_object_to_json_string_ext(o,
					      JSON_C_TO_STRING_PLAIN |
					      JSON_C_TO_STRING_NOSLASHESCAPE);
}
