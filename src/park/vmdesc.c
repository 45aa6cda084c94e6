/* SPDX-License-Identifier: MIT */
/*
 * A walk over JSON that builds nothing: descriptions are large (one field of
 * one device is an object), may come from anyone, and only sums are wanted.
 *
 * A body is its fields, each `size` octets `array_len` times, then its
 * subsections: an octet, the name and its length, a version, and their own
 * fields.  What a field of structs holds is in its size already.
 */
#include "park/vmdesc.h"

#include <stdlib.h>
#include <string.h>

#include "wire/section.h"

#define DEPTH_MAX	64u

struct text {
	const char	*start;
	const char	*p;
	const char	*end;
	unsigned	 depth;
	struct ferry_vmdesc *v;
};

typedef int member_fn(struct text *t, const char *key, void *arg);
typedef int element_fn(struct text *t, void *arg);

static int value_skip(struct text *t);

static void space_skip(struct text *t)
{
	while (t->p < t->end && strchr(" \t\r\n", *t->p) && *t->p)
		t->p++;
}

/* The next character that matters, not consumed; 0 at the end. */
static char peek(struct text *t)
{
	space_skip(t);
	return t->p < t->end ? *t->p : '\0';
}

static int take(struct text *t, char c)
{
	if (peek(t) != c || !c)
		return -1;
	t->p++;
	return 0;
}

/* What \uXXXX stands for is not needed: a name that has it is not found. */
static int escape_read(struct text *t, char *c)
{
	static const char from[] = "\"\\/bfnrtu", to[] = "\"\\/\b\f\n\r\t?";
	const char *at;

	if (t->p == t->end || !*t->p)
		return -1;
	at = strchr(from, *t->p++);
	if (!at)
		return -1;
	*c = to[at - from];
	if (*at != 'u')
		return 0;
	for (int i = 0; i < 4; i++, t->p++)
		if (t->p == t->end || !*t->p ||
		    !strchr("0123456789abcdefABCDEF", *t->p))
			return -1;
	return 0;
}

/* What is longer than a name is cut. */
static int string_read(struct text *t, char out[FERRY_NAME_MAX + 1])
{
	size_t n = 0;

	if (take(t, '"'))
		return -1;
	while (t->p < t->end && *t->p != '"') {
		char c = *t->p++;

		if ((unsigned char)c < 0x20 ||
		    (c == '\\' && escape_read(t, &c)))
			return -1;
		if (n < FERRY_NAME_MAX)
			out[n++] = c;
	}
	out[n] = '\0';
	return take(t, '"');
}

static int number_read(struct text *t, uint64_t *v)
{
	*v = 0;
	if (peek(t) < '0' || *t->p > '9')
		return -1;
	for (; t->p < t->end && *t->p >= '0' && *t->p <= '9'; t->p++)
		if (__builtin_mul_overflow(*v, 10, v) ||
		    __builtin_add_overflow(*v, (uint64_t)(*t->p - '0'), v))
			return -1;
	return 0;
}

/* A number that does not matter: any sign, fraction, exponent; or a word. */
static int plain_skip(struct text *t)
{
	const char *from = t->p;

	while (t->p < t->end && *t->p &&
	       strchr("+-.0123456789abcdefghijklmnopqrstuvwxyzE", *t->p))
		t->p++;
	return t->p > from ? 0 : -1;
}

static int object_walk(struct text *t, member_fn *member, void *arg)
{
	char key[FERRY_NAME_MAX + 1];
	int rc = 0;

	if (take(t, '{') || ++t->depth > DEPTH_MAX)
		return -1;
	if (peek(t) != '}') {
		do {
			rc = string_read(t, key) || take(t, ':') ||
			     member(t, key, arg);
		} while (!rc && !take(t, ','));
	}
	t->depth--;
	return rc ? -1 : take(t, '}');
}

static int array_walk(struct text *t, element_fn *element, void *arg)
{
	int rc = 0;

	if (take(t, '[') || ++t->depth > DEPTH_MAX)
		return -1;
	if (peek(t) != ']') {
		do {
			rc = element(t, arg);
		} while (!rc && !take(t, ','));
	}
	t->depth--;
	return rc ? -1 : take(t, ']');
}

static int member_skip(struct text *t, const char *key, void *arg)
{
	(void)key;
	(void)arg;
	return value_skip(t);
}

static int element_skip(struct text *t, void *arg)
{
	(void)arg;
	return value_skip(t);
}

static int value_skip(struct text *t)
{
	char text[FERRY_NAME_MAX + 1];

	switch (peek(t)) {
	case '{':
		return object_walk(t, member_skip, NULL);
	case '[':
		return array_walk(t, element_skip, NULL);
	case '"':
		return string_read(t, text);
	}
	return plain_skip(t);
}

/* ---- what is wanted of it ------------------------------------------ */

struct field {
	uint64_t	size;
	uint64_t	times;
};

static int field_member(struct text *t, const char *key, void *arg)
{
	struct field *f = arg;

	if (!strcmp(key, "size"))
		return number_read(t, &f->size);
	if (!strcmp(key, "array_len"))
		return number_read(t, &f->times);
	return value_skip(t);
}

static int field_element(struct text *t, void *arg)
{
	struct field f = { .times = 1 };
	uint64_t *sum = arg, bytes;

	return object_walk(t, field_member, &f) ||
	       __builtin_mul_overflow(f.size, f.times, &bytes) ||
	       __builtin_add_overflow(*sum, bytes, sum) ? -1 : 0;
}

/* A device or a subsection. */
struct body {
	char		name[FERRY_NAME_MAX + 1];
	char		vmsd[FERRY_NAME_MAX + 1];
	uint64_t	instance;
	uint64_t	size;		/* of a device that states no fields */
	uint64_t	sum;
};

static int body_member(struct text *t, const char *key, void *arg);

/* u8 0x05, str8 name, be32 version, and its own. */
static int subsection_element(struct text *t, void *arg)
{
	struct body b = { 0 };
	uint64_t *sum = arg;

	return object_walk(t, body_member, &b) ||
	       __builtin_add_overflow(*sum, b.sum, sum) ||
	       __builtin_add_overflow(*sum, 1 + 1 + strlen(b.vmsd) + 4, sum) ?
	       -1 : 0;
}

static int body_member(struct text *t, const char *key, void *arg)
{
	struct body *b = arg;

	if (!strcmp(key, "name"))
		return string_read(t, b->name);
	if (!strcmp(key, "vmsd_name"))
		return string_read(t, b->vmsd);
	if (!strcmp(key, "instance_id"))
		return number_read(t, &b->instance);
	if (!strcmp(key, "size"))
		return number_read(t, &b->size);
	if (!strcmp(key, "fields"))
		return array_walk(t, field_element, &b->sum);
	if (!strcmp(key, "subsections"))
		return array_walk(t, subsection_element, &b->sum);
	return value_skip(t);
}

static int device_element(struct text *t, void *arg)
{
	struct ferry_vmdesc *v = arg;
	struct ferry_vmdesc_device *d;
	struct body b = { 0 };

	if (v->devices == FERRY_SECTIONS_MAX || object_walk(t, body_member, &b))
		return -1;
	d = &v->device[v->devices++];
	memcpy(d->name, b.name, sizeof(d->name));
	d->instance = (uint32_t)b.instance;
	d->bytes = b.sum ? b.sum : b.size;
	return 0;
}

static int top_member(struct text *t, const char *key, void *arg)
{
	if (!strcmp(key, "devices"))
		return array_walk(t, device_element, arg);
	return value_skip(t);
}

int ferry_vmdesc_parse(const void *text, size_t bytes, struct ferry_vmdesc *v,
		       struct ferry_err *e)
{
	struct text t = { .start = text, .p = text };

	t.end = t.p + bytes;
	*v = (struct ferry_vmdesc){
		.device = calloc(FERRY_SECTIONS_MAX, sizeof(*v->device)),
	};
	if (!v->device)
		return ferry_err_set(e, FERRY_E_NOMEM, errno,
				     "VM description");
	if (!object_walk(&t, top_member, v)) {
		space_skip(&t);
		if (t.p == t.end)
			return 0;
	}
	ferry_vmdesc_fini(v);
	v->wrong_at = (size_t)(t.p - t.start);
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "the VM description is malformed at its octet "
			     "%zu", v->wrong_at);
}

void ferry_vmdesc_fini(struct ferry_vmdesc *v)
{
	free(v->device);
	*v = (struct ferry_vmdesc){ 0 };
}

bool ferry_vmdesc_find(const struct ferry_vmdesc *v, const char *name,
		       uint32_t instance, uint64_t *bytes)
{
	for (size_t i = 0; i < v->devices; i++) {
		if (v->device[i].instance != instance ||
		    strcmp(v->device[i].name, name))
			continue;
		*bytes = v->device[i].bytes;
		return true;
	}
	return false;
}

static bool skip_section(const struct ferry_vmdesc *v, struct ferry_rd *r)
{
	struct ferry_section s = { 0 };
	struct ferry_err ignored;
	uint64_t bytes;

	if (ferry_section_decode(r, &s, &ignored) != FERRY_DECODE_DONE ||
	    s.type != FERRY_SECTION_FULL ||
	    !ferry_vmdesc_find(v, s.name, s.instance, &bytes) ||
	    bytes > ferry_rd_left(r))
		return false;
	ferry_rd_bytes(r, (size_t)bytes);
	return ferry_footer_decode(r, s.id, &ignored) == FERRY_DECODE_DONE;
}

bool ferry_vmdesc_covers(const struct ferry_vmdesc *v, const void *sections,
			 size_t bytes)
{
	struct ferry_rd r = ferry_rd_over(sections, bytes);

	while (ferry_rd_left(&r))
		if (!skip_section(v, &r))
			return false;
	return true;
}
