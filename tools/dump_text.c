/* SPDX-License-Identifier: MIT */
/*
 * Records for people: a line each, key=value.
 *
 *   0x0000000008  CONFIGURATION machine="pc-q35-7.2"  (15)
 *
 * offset, record, fields, octets; in a capture time, connection and direction
 * (> to the target, < to the source) stand before it.
 */
#include "dump_print.h"

#include <inttypes.h>
#include <stdio.h>

static void begin(void *arg, const struct ferry_dump_where *w,
		  const char *record, const char *what)
{
	struct ferry_dump_print *p = arg;

	*p = (struct ferry_dump_print){ 0 };
	if (w->conn >= 0)
		printf("%10.6f %3d %c ", w->seconds, w->conn,
		       w->back ? '<' : '>');
	printf("0x%010" PRIx64 "  %*s%s", w->offset, (int)w->depth * 2, "",
	       record);
	if (what)
		printf(" %s", what);
}

static void before(struct ferry_dump_print *p, const char *key)
{
	if (!key)
		printf("%s", p->first ? "" : ", ");
	else
		printf(" %s=", key);
	p->first = false;
}

static void number(void *arg, const char *key, uint64_t value)
{
	before(arg, key);
	printf("%" PRIu64, value);
}

static void hex(void *arg, const char *key, uint64_t value)
{
	before(arg, key);
	printf("0x%" PRIx64, value);
}

static void text(void *arg, const char *key, const char *value)
{
	before(arg, key);
	printf("\"%s\"", value);
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
	printf("  (%" PRIu64 ")\n", bytes);
}

const struct ferry_dump_ops ferry_dump_as_text = {
	begin, number, hex, text, list, list_end, end,
};
