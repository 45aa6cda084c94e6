/* SPDX-License-Identifier: MIT */
/*
 * `ferry dump` over any octets, taken for each kind of input.  It ends with 0
 * or with a sentence, it says the same in whatever pieces they come, and what
 * it tells is well formed and lies inside of the input.
 */
#include "fuzz.h"

#include <stdlib.h>

#include "streams.h"
#include "wire/text.h"

#define PIECE	61	/* cuts records at other places each time */

/* What was told, as a number, and whether it was well formed. */
struct told {
	uint64_t	sum;
	unsigned	lists;
	bool		open;
	bool		each_page;
};

static void add(struct told *t, uint64_t v)
{
	t->sum = (t->sum ^ v) * 0x100000001b3u;
}

static void on_begin(void *arg, const struct ferry_dump_where *w,
		     const char *record, const char *what)
{
	struct told *t = arg;

	FUZZ_CHECK(!t->open && w->depth <= 1);
	t->open = true;
	/* A run of pages is told when something follows it; captures weave
	 * their streams in the order in which records end. */
	add(t, w->offset);
	add(t, (uint64_t)*record);
	add(t, what ? (uint64_t)*what : 0);
}

static void check_key(const struct told *t, const char *key)
{
	FUZZ_CHECK(t->open && !key == !!t->lists);
}

static void on_number(void *arg, const char *key, uint64_t value)
{
	check_key(arg, key);
	add(arg, value);
}

static void on_text(void *arg, const char *key, const char *value)
{
	FERRY_AUTO_FREE char *copy = strdup(value);

	check_key(arg, key);
	FUZZ_CHECK(copy);
	ferry_text_clean(copy);
	FUZZ_CHECK(!strcmp(copy, value));
	add(arg, strlen(value));
}

static void on_list(void *arg, const char *key)
{
	struct told *t = arg;

	check_key(t, key);
	FUZZ_CHECK(++t->lists <= 2);
}

static void on_list_end(void *arg)
{
	FUZZ_CHECK(((struct told *)arg)->lists--);
}

static void on_end(void *arg, uint64_t bytes, uint64_t times)
{
	struct told *t = arg;

	FUZZ_CHECK(t->open && !t->lists && times);
	t->open = false;
	add(t, bytes);
}

static const struct ferry_dump_ops ops = {
	on_begin, on_number, on_number, on_text, on_list, on_list_end, on_end,
};

static int run(const uint8_t *data, size_t bytes, size_t piece,
	       enum ferry_dump_kind kind, struct told *t, struct ferry_err *e)
{
	const struct ferry_dump_params p = {
		.ops = &ops, .arg = t, .kind = kind,
		.each_page = t->each_page,
	};
	struct ferry_dump *d = ferry_dump_new(&p, e);
	int rc = 0;

	FUZZ_CHECK(d);
	for (size_t at = 0; !rc && at < bytes; at += piece)
		rc = ferry_dump_feed(d, data + at,
				     bytes - at < piece ? bytes - at : piece,
				     e);
	if (!rc)
		rc = ferry_dump_finish(d, e);
	if (rc)
		FUZZ_CHECK(ferry_dump_fault(d).offset <= bytes);
	ferry_dump_free(d);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const uint8_t nothing[1];

	if (!bytes)
		data = nothing;		/* libFuzzer has NULL */
	for (int k = FERRY_DUMP_AUTO; k <= FERRY_DUMP_CAPTURE; k++) {
		enum ferry_dump_kind kind = (enum ferry_dump_kind)k;
		struct ferry_err e1 = { 0 }, e2 = { 0 };
		struct told t1 = { .each_page = bytes % 2 };
		struct told t2 = t1;
		int rc1 = run(data, bytes, bytes + 1, kind, &t1, &e1);
		int rc2 = run(data, bytes, PIECE, kind, &t2, &e2);

		FUZZ_CHECK(rc1 == rc2);
		FUZZ_CHECK(!rc1 || (e1.code && e1.msg[0]));
		FUZZ_CHECK(!strcmp(e1.msg, e2.msg));
		FUZZ_CHECK(rc1 || t1.sum == t2.sum);
	}
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	FERRY_AUTO_FREE uint8_t *data = malloc(STREAM_MAX);

	FUZZ_CHECK(data);
	for (size_t i = 0; i < FERRY_LEN(stream_rows); i++) {
		struct ferry_wr w = ferry_wr_over(data, STREAM_MAX);

		stream_rows[i].make(&w);
		FUZZ_CHECK(!w.bad);
		emit(data, ferry_wr_used(&w));
	}
	emit(stream_vmdesc, sizeof(stream_vmdesc) - 1);
}
