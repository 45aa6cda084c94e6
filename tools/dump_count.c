/* SPDX-License-Identifier: MIT */
/*
 * How many records of which kind.  Their names are static, and few.
 */
#include "dump_print.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool same(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static void begin(void *arg, const struct ferry_dump_where *w,
		  const char *record, const char *what)
{
	struct ferry_dump_count *c = arg;

	(void)w;
	for (c->now = 0; c->now < c->kinds; c->now++)
		if (same(c->kind[c->now].record, record) &&
		    same(c->kind[c->now].what, what))
			return;
	if (c->kinds == FERRY_DUMP_KINDS_MAX) {
		c->now = c->kinds - 1;
		return;
	}
	c->kind[c->kinds++] = (struct ferry_dump_kinds){ record, what, 0, 0 };
}

static void number(void *arg, const char *key, uint64_t value)
{
	(void)arg;
	(void)key;
	(void)value;
}

static void text(void *arg, const char *key, const char *value)
{
	(void)arg;
	(void)key;
	(void)value;
}

static void list(void *arg, const char *key)
{
	(void)arg;
	(void)key;
}

static void list_end(void *arg)
{
	(void)arg;
}

static void end(void *arg, uint64_t bytes, uint64_t times)
{
	struct ferry_dump_count *c = arg;

	c->kind[c->now].times += times;
	c->kind[c->now].bytes += bytes;
}

const struct ferry_dump_ops ferry_dump_as_count = {
	begin, number, number, text, list, list_end, end,
};

void ferry_dump_count_print(const struct ferry_dump_count *c, bool json)
{
	for (size_t i = 0; i < c->kinds; i++) {
		const struct ferry_dump_kinds *k = &c->kind[i];
		char name[64];

		snprintf(name, sizeof(name), "%s%s%s", k->record,
			 k->what ? " " : "", k->what ? k->what : "");
		printf(json ? "{\"record\":\"count\",\"of\":\"%s\","
			      "\"times\":%" PRIu64 ",\"octets\":%" PRIu64 "}\n"
			    : "%-28s %12" PRIu64 " %16" PRIu64 "\n",
		       name, k->times, k->bytes);
	}
}
