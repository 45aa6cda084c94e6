/* SPDX-License-Identifier: MIT */
/*
 * Telling what was found: text is made printable here, once, and neighbouring
 * pages become one record.
 */
#include "park/dump_priv.h"

#include <stdio.h>

#include "wire/text.h"

static const struct ferry_dump_ops *ops(const struct ferry_dump_stream *s)
{
	return s->d->p.ops;
}

static void begin(struct ferry_dump_stream *s, uint64_t offset,
		  const char *record, const char *what)
{
	s->where.offset = offset;
	ops(s)->begin(s->d->p.arg, &s->where, record, what);
}

void ferry_dump_begin(struct ferry_dump_stream *s, uint64_t offset,
		      const char *record, const char *what)
{
	ferry_dump_flush(s);
	begin(s, offset, record, what);
}

void ferry_dump_number(struct ferry_dump_stream *s, const char *key,
		       uint64_t value)
{
	ops(s)->number(s->d->p.arg, key, value);
}

void ferry_dump_hex(struct ferry_dump_stream *s, const char *key,
		    uint64_t value)
{
	ops(s)->hex(s->d->p.arg, key, value);
}

void ferry_dump_text(struct ferry_dump_stream *s, const char *key,
		     const char *value)
{
	char clean[FERRY_FACT_BYTES_MAX + 1];

	snprintf(clean, sizeof(clean), "%s", value);
	ferry_text_clean(clean);
	ops(s)->text(s->d->p.arg, key, clean);
}

void ferry_dump_octets(struct ferry_dump_stream *s, const char *key,
		       const uint8_t *data, size_t n)
{
	char hex[2 * 32 + 1] = "";

	for (size_t i = 0; i < n && i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", data[i]);
	ops(s)->text(s->d->p.arg, key, hex);
}

void ferry_dump_list(struct ferry_dump_stream *s, const char *key)
{
	ops(s)->list(s->d->p.arg, key);
}

void ferry_dump_list_end(struct ferry_dump_stream *s)
{
	ops(s)->list_end(s->d->p.arg);
}

void ferry_dump_end(struct ferry_dump_stream *s, uint64_t bytes)
{
	ops(s)->end(s->d->p.arg, bytes, 1);
}

void ferry_dump_flush(struct ferry_dump_stream *s)
{
	struct ferry_dump_run *run = &s->run;
	double now = s->where.seconds;

	if (!run->kind)
		return;
	s->where.seconds = run->seconds;
	begin(s, run->offset, "RAM", run->kind);
	ferry_dump_text(s, "block", run->block);
	ferry_dump_hex(s, "addr", run->addr);
	ferry_dump_number(s, "pages", run->pages);
	ops(s)->end(s->d->p.arg, run->bytes, run->pages);
	run->kind = NULL;
	s->where.seconds = now;
}

void ferry_dump_page(struct ferry_dump_stream *s, const char *kind,
		     const char *block, uint64_t addr, uint64_t bytes)
{
	struct ferry_dump_run *run = &s->run;

	/* Kinds are static, so the same one is the same pointer. */
	if (s->d->p.each_page || run->kind != kind ||
	    addr != run->addr + run->pages * FERRY_PAGE_BYTES ||
	    strcmp(block, run->block)) {
		ferry_dump_flush(s);
		*run = (struct ferry_dump_run){
			.kind = kind, .offset = s->mark,
			.seconds = s->where.seconds, .addr = addr,
		};
		snprintf(run->block, sizeof(run->block), "%s", block);
	}
	run->pages++;
	run->bytes += bytes;
}
