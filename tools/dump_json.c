/* SPDX-License-Identifier: MIT */
/*
 * Records for programs: JSON lines, one object each (docs/dump.md).  Text
 * comes clean, so only two characters of it need care.
 */
#include "dump_print.h"

#include <inttypes.h>
#include <stdio.h>

static void quoted(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			putchar('\\');
		putchar(*s);
	}
	putchar('"');
}

static void where(const struct ferry_dump_where *w)
{
	if (w->conn >= 0)
		printf(",\"connection\":%d,\"to\":\"%s\",\"seconds\":%.6f",
		       w->conn, w->back ? "source" : "target", w->seconds);
	printf(",\"offset\":%" PRIu64, w->offset);
}

static void begin(void *arg, const struct ferry_dump_where *w,
		  const char *record, const char *what)
{
	struct ferry_dump_print *p = arg;

	*p = (struct ferry_dump_print){ 0 };
	printf("{\"record\":\"%s\"", record);
	if (what)
		printf(",\"what\":\"%s\"", what);
	where(w);
	if (w->depth)
		printf(",\"depth\":%u", w->depth);
}

static void before(struct ferry_dump_print *p, const char *key)
{
	if (key)
		printf(",\"%s\":", key);
	else if (!p->first)
		putchar(',');
	p->first = false;
}

static void number(void *arg, const char *key, uint64_t value)
{
	before(arg, key);
	printf("%" PRIu64, value);
}

static void text(void *arg, const char *key, const char *value)
{
	before(arg, key);
	quoted(value);
}

static void list(void *arg, const char *key)
{
	struct ferry_dump_print *p = arg;

	before(p, key);
	putchar('[');
	p->first = true;
}

static void list_end(void *arg)
{
	struct ferry_dump_print *p = arg;

	putchar(']');
	p->first = false;
}

static void end(void *arg, uint64_t bytes, uint64_t times)
{
	(void)arg;
	(void)times;
	printf(",\"octets\":%" PRIu64 "}\n", bytes);
}

const struct ferry_dump_ops ferry_dump_as_json = {
	begin, number, number, text, list, list_end, end,
};

void ferry_dump_error_print(const struct ferry_dump_where *w,
			    const char *what)
{
	printf("{\"record\":\"error\"");
	where(w);
	printf(",\"error\":");
	quoted(what);
	puts("}");
}
