/* SPDX-License-Identifier: MIT */
/*
 * The body of the RAM section: the block list against our own blocks, page
 * records, CONTINUE, and that no page waits for what has not arrived.
 */
#include "help.h"

#include "recv/answer.h"
#include "recv/stream.h"
#include "wire/ram.h"
#include "wire/ramlist.h"
#include "wire/xbzrle.h"

#define PAGES	256u	/* 1 MiB */

struct body {
	struct rig	r;
	struct ferry_chan *source;
	struct ferry_inbuf in;
	struct ferry_rambody body;
	struct ferry_wr	w;	/* what the source will have written */
	uint8_t		octets[3 * PAGES * (PAGE + 8)];
	struct ferry_err e;
};

static struct body *start(bool huge)
{
	struct body *b = calloc(1, sizeof(*b));
	struct ferry_chan *end[2];

	assert_non_null(b);
	rig_add(&b->r, MEMFD, PAGES);
	rig_add(&b->r, PRIVATE, PAGES);
	if (huge)
		rig_add_huge_in_name(&b->r, HUGE_PAGES);
	rig_init(&b->r);
	assert_ok(ferry_chan_pair(end, &b->e));
	b->source = end[0];
	ferry_chan_set_name(end[1], "main");
	assert_ok(ferry_inbuf_init(&b->in, end[1], FERRY_STREAM_BUF_BYTES,
				   &b->e));
	assert_ok(ferry_rambody_init(&b->body, &b->in, &b->r.place, &b->e));
	b->w = ferry_wr_over(b->octets, sizeof(b->octets));
	return b;
}

static void finish(struct body *b)
{
	ferry_rambody_fini(&b->body);
	ferry_chan_close(b->in.chan);
	ferry_inbuf_fini(&b->in);
	ferry_chan_close(b->source);
	rig_fini(&b->r);
	free(b);
}

/* ---- what the source writes --------------------------------------------- */

static void mark(struct body *b, uint32_t kind, uint64_t addr)
{
	ferry_ram_mark_encode(&b->w, kind, addr);
}

/* name NULL: CONTINUE. */
static void page(struct body *b, const char *name, uint64_t p, unsigned v)
{
	uint8_t data[PAGE];

	fill_page(data, p, v);
	ferry_ram_page_encode(&b->w, FERRY_RAM_PAGE, name, p * PAGE, 0);
	ferry_wr_bytes(&b->w, data, PAGE);
}

static void zero(struct body *b, const char *name, uint64_t p)
{
	ferry_ram_page_encode(&b->w, FERRY_RAM_ZERO, name, p * PAGE, 0);
}

struct entry {
	const char	*name;
	uint64_t	 bytes;
	uint32_t	 page_bytes;	/* stated when advised */
};

static uint32_t never_called(void *arg, const char *name)
{
	(void)arg;
	(void)name;
	return 0;
}

static void list(struct body *b, const struct entry *entry, unsigned n,
		 uint64_t total)
{
	struct ferry_ramlist l = {
		.page_bytes = b->body.advised ? never_called : NULL,
	};

	mark(b, FERRY_RAM_MEM_SIZE, total);
	for (unsigned i = 0; i < n; i++) {
		struct ferry_ramlist_block lb = {
			.bytes = entry[i].bytes,
			.page_bytes = entry[i].page_bytes ?
				      entry[i].page_bytes : (uint32_t)PAGE,
		};

		snprintf(lb.name, sizeof(lb.name), "%s", entry[i].name);
		ferry_ramlist_encode(&b->w, &l, &lb);
	}
}

struct reader {
	struct ferry_thread thread;
	struct body	*b;
	int		 rc;
};

static void read_in_thread(void *arg)
{
	struct reader *r = arg;

	r->rc = ferry_rambody_read(&r->b->body, &r->b->e);
}

/* Written, the connection closed, and one body read. */
static int read_body(struct body *b)
{
	struct reader r = { .b = b };
	struct ferry_err e;

	assert_false(b->w.bad);
	assert_ok(ferry_thread_start(&r.thread, "reader", read_in_thread, &r,
				     &e));
	(void)!ferry_chan_write(b->source, b->octets, ferry_wr_used(&b->w),
				&e);
	b->source->ops->shutdown(b->source);
	ferry_thread_join(&r.thread);
	return r.rc;
}

static void expect(struct body *b)
{
	if (read_body(b))
		fail_msg("%s", b->e.msg);
}

/* ---- pages -------------------------------------------------------------- */

static void records_become_memory(void **state)
{
	struct body *b = start(false);

	(void)state;
	page(b, "a", 1, 1);
	page(b, NULL, 2, 1);
	zero(b, NULL, 3);
	page(b, NULL, 4, 1);
	page(b, "b", 5, 1);	/* as if it went on */
	page(b, NULL, 6, 1);
	zero(b, "a", 100);
	page(b, NULL, 0, 1);
	mark(b, FERRY_RAM_MULTIFD_FLUSH, 0);
	mark(b, FERRY_RAM_EOS, 0);
	expect(b);
	assert_true(page_is(&b->r, 0, 0, 1) && page_is(&b->r, 0, 1, 1));
	assert_true(page_is(&b->r, 0, 2, 1) && page_is(&b->r, 0, 4, 1));
	assert_true(page_is(&b->r, 1, 5, 1) && page_is(&b->r, 1, 6, 1));
	assert_true(ferry_map_is_zero(&b->r.map, 0, 3));
	assert_true(ferry_map_is_zero(&b->r.map, 0, 100));
	assert_int_equal(ferry_map_missing(&b->r.map), 2 * PAGES - 8);
	finish(b);
}

/* The last one counts: also when a run of both is still being gathered. */
static void a_page_that_comes_twice_is_the_later_one(void **state)
{
	struct body *b = start(false);

	(void)state;
	page(b, "a", 1, 1);
	page(b, NULL, 1, 2);
	page(b, NULL, 2, 1);
	zero(b, NULL, 2);
	mark(b, FERRY_RAM_EOS, 0);
	expect(b);
	assert_true(page_is(&b->r, 0, 1, 2) && page_is(&b->r, 0, 2, -1));
	finish(b);
}

static void continue_goes_across_sections(void **state)
{
	struct body *b = start(false);

	(void)state;
	page(b, "b", 1, 1);
	mark(b, FERRY_RAM_EOS, 0);
	page(b, NULL, 2, 1);
	mark(b, FERRY_RAM_EOS, 0);
	expect(b);
	assert_ok(ferry_rambody_read(&b->body, &b->e));
	assert_true(page_is(&b->r, 1, 2, 1));
	finish(b);
}

static void a_run_longer_than_the_buffer_is_placed(void **state)
{
	struct body *b = start(false);
	unsigned n = FERRY_RAMBODY_RUN + 3;

	(void)state;
	for (unsigned p = 0; p < n; p++)
		page(b, p ? NULL : "a", p, 1);
	mark(b, FERRY_RAM_EOS, 0);
	expect(b);
	for (unsigned p = 0; p < n; p++)
		assert_true(page_is(&b->r, 0, p, 1));
	finish(b);
}

/* Where the stream stops for a while, what has come is memory already. */
static void no_page_waits_for_octets_that_have_not_arrived(void **state)
{
	static const size_t behind[] = { 0, 1, 8, 9, 8 + 100, 8 + PAGE - 1 };

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(behind); i++) {
		struct body *b = start(false);
		struct reader r = { .b = b };
		struct ferry_err e;
		size_t now;

		page(b, "a", 1, 1);
		page(b, NULL, 2, 1);
		now = ferry_wr_used(&b->w) + behind[i];
		page(b, NULL, 3, 1);
		mark(b, FERRY_RAM_EOS, 0);
		assert_ok(ferry_chan_write(b->source, b->octets, now, &e));
		assert_ok(ferry_thread_start(&r.thread, "reader",
					     read_in_thread, &r, &e));
		while (!ferry_map_is_here(&b->r.map, 0, 2))
			usleep(100);
		assert_ok(ferry_chan_write(b->source, b->octets + now,
					   ferry_wr_used(&b->w) - now, &e));
		ferry_thread_join(&r.thread);
		assert_ok(r.rc);
		assert_true(page_is(&b->r, 0, 3, 1));
		finish(b);
	}
}

static struct { uint64_t first, n; } run[8];
static unsigned runs;

static int note_run(struct ferry_place *p, struct ferry_mem_block *b,
		    uint64_t first, uint64_t n, const uint8_t *data)
{
	(void)p;
	(void)b;
	(void)data;
	assert_true(runs < FERRY_LEN(run));
	run[runs].first = first;
	run[runs++].n = n;
	return 0;
}

/* However the stream is cut into pieces on its way. */
static void where_nobody_waits_runs_are_whole(void **state)
{
	static const struct ferry_place_ops ops = { .pages = note_run };
	struct body *b = start(false);

	(void)state;
	runs = 0;
	b->body.gathers = true;
	atomic_store(&b->r.place.ops, &ops);
	for (unsigned p = 60; p < 130; p++)
		page(b, p == 60 ? "a" : NULL, p, 1);
	mark(b, FERRY_RAM_EOS, 0);
	expect(b);
	assert_int_equal(runs, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(run[i].first, i ? 64 * i : 60);
		assert_int_equal(run[i].n, i == 1 ? 64 : i ? 2 : 4);
	}
	finish(b);
}

/* Rows that are foreseen, and everything that ends one. */
static void rows(struct body *b)
{
	for (uint64_t p = 10; p < 30; p++)
		page(b, p == 10 ? "a" : NULL, p, 1);
	for (uint64_t p = 20; p < 23; p++)	/* elsewhere, once more */
		page(b, NULL, p, 2);
	zero(b, NULL, 23);
	for (uint64_t p = 24; p < 28; p++)
		page(b, NULL, p, 2);
	page(b, "b", 28, 1);			/* with its name */
	for (uint64_t p = 29; p < 33; p++)
		page(b, "b", p, 1);
	mark(b, FERRY_RAM_MULTIFD_FLUSH, 0);
	for (uint64_t p = PAGES - 10; p < PAGES; p++)
		page(b, NULL, p, 1);		/* the last of the block */
	page(b, NULL, 0, 1);
	page(b, NULL, 1, 1);
	mark(b, FERRY_RAM_EOS, 0);
}

static bool rows_are_there(struct body *b)
{
	bool ok = page_is(&b->r, 0, 23, -1) && page_is(&b->r, 1, 0, 1) &&
		  page_is(&b->r, 1, 1, 1);

	for (uint64_t p = 10; p < 30; p++)
		ok = ok && (p == 23 || page_is(&b->r, 0, p,
					       p < 20 || p > 27 ? 1 : 2));
	for (uint64_t p = 28; p < 33; p++)
		ok = ok && page_is(&b->r, 1, p, 1);
	for (uint64_t p = PAGES - 10; p < PAGES; p++)
		ok = ok && page_is(&b->r, 1, p, 1);
	return ok && ferry_map_missing(&b->r.map) == 2 * PAGES - 20 - 17;
}

/* In pieces, and what follows the body is there as it came. */
static void what_was_foreseen_wrong_is_read_again(void **state)
{
	static const size_t piece[] = {
		7, 1000, PAGE - 1, PAGE + 8, PAGE + 9, 3 * PAGE + 23, 300000,
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(piece); i++) {
		struct body *b = start(false);
		struct reader r = { .b = b };
		struct ferry_err e;
		size_t n, all;
		char behind[6] = "";

		b->body.gathers = true;
		rows(b);
		ferry_wr_bytes(&b->w, "after", 5);
		all = ferry_wr_used(&b->w);
		assert_ok(ferry_thread_start(&r.thread, "reader",
					     read_in_thread, &r, &e));
		for (size_t at = 0; at < all; at += n) {
			n = all - at < piece[i] ? all - at : piece[i];
			assert_ok(ferry_chan_write(b->source, b->octets + at,
						   n, &e));
			sched_yield();
		}
		ferry_thread_join(&r.thread);
		assert_ok(r.rc);
		assert_true(rows_are_there(b));
		assert_ok(ferry_inbuf_read(&b->in, behind, 5, &e));
		assert_string_equal(behind, "after");
		assert_int_equal(b->in.offset, all);
		finish(b);
	}
}

static void a_row_cut_anywhere_keeps_what_is_whole(void **state)
{
	size_t whole = 2, step = PAGE + 8;

	(void)state;
	for (uint64_t n = 1; n < 12; n++)
		for (size_t more = 0; more < step; more += 1368) {
			struct body *b = start(false);

			b->body.gathers = true;
			for (uint64_t p = 1; p < 20; p++)
				page(b, p == 1 ? "a" : NULL, p, 1);
			b->w.p = b->w.start + whole + n * step + more;
			assert_int_equal(read_body(b), -1);
			assert_int_equal(b->e.code, FERRY_E_CLOSED);
			assert_int_equal(ferry_map_missing(&b->r.map),
					 2 * PAGES - n);
			assert_true(page_is(&b->r, 0, n, 1));
			finish(b);
		}
}

static void write_all(struct body *b, const char *name, unsigned v)
{
	for (uint64_t p = 0; p < PAGES; p++)
		page(b, p ? NULL : name, p, v);
}

/* Long runs are placed by a helper, all else is not. */
static void what_comes_later_is_placed_later(void **state)
{
	struct body *b = start(false);

	(void)state;
	b->body.gathers = true;
	write_all(b, "a", 1);
	for (uint64_t p = 0; p < PAGES; p += 64)
		page(b, NULL, p + 63, 2);	/* of the run given last, too */
	write_all(b, "b", 1);
	zero(b, NULL, PAGES - 1);
	zero(b, "a", 70);
	mark(b, FERRY_RAM_EOS, 0);
	expect(b);
	assert_true(ferry_helper_is_there(&b->body.helper));
	for (uint64_t p = 0; p < PAGES; p++)
		assert_true(page_is(&b->r, 0, p, p == 70 ? -1 :
					     p % 64 == 63 ? 2 : 1) &&
			    page_is(&b->r, 1, p, p < PAGES - 1 ? 1 : -1));
	finish(b);
}

static void write_until_nobody_reads(void *arg)
{
	struct body *b = arg;
	struct ferry_err e;

	(void)!ferry_chan_write(b->source, b->octets, ferry_wr_used(&b->w),
				&e);
}

static _Atomic unsigned tries;

static int no_room_for_the_second(struct ferry_place *p,
				  struct ferry_mem_block *b, uint64_t first,
				  uint64_t n, const uint8_t *data)
{
	(void)p;
	(void)b;
	(void)first;
	(void)n;
	(void)data;
	return atomic_fetch_add(&tries, 1) == 1 ? -ENOSPC : 0;
}

static void a_helper_that_fails_places_nothing_more(void **state)
{
	static const struct ferry_place_ops ops = {
		.pages = no_room_for_the_second,
	};
	struct body *b = start(false);
	struct ferry_thread writer;

	(void)state;
	tries = 0;
	b->body.gathers = true;
	atomic_store(&b->r.place.ops, &ops);
	write_all(b, "a", 1);
	write_all(b, "b", 1);
	mark(b, FERRY_RAM_EOS, 0);
	assert_ok(ferry_thread_start(&writer, "writer",
				     write_until_nobody_reads, b, &b->e));
	assert_int_equal(ferry_rambody_read(&b->body, &b->e), -1);
	b->in.chan->ops->shutdown(b->in.chan);
	ferry_thread_join(&writer);
	assert_says(&b->e, FERRY_E_NOMEM, "place block a page 64");
	assert_int_equal(tries, 2);
	finish(b);
}

static void what_came_whole_is_kept_when_the_rest_does_not(void **state)
{
	struct body *b = start(false);

	(void)state;
	b->body.gathers = true;
	page(b, "a", 1, 1);
	page(b, NULL, 2, 1);
	page(b, NULL, 3, 1);
	b->w.p -= 1;
	assert_int_equal(read_body(b), -1);
	assert_int_equal(b->e.code, FERRY_E_CLOSED);
	assert_true(page_is(&b->r, 0, 1, 1) && page_is(&b->r, 0, 2, 1));
	assert_false(ferry_map_is_here(&b->r.map, 0, 3));
	finish(b);
}

static const struct {
	const char *why;
	const char *name;
	uint64_t page;
	uint32_t kind;
	const char *says;
} bad_pages[] = {
	{ "a block that there is not", "rom\t", 0, FERRY_RAM_PAGE,
		"page of block 'rom?', which there is not" },
	{ "CONTINUE of nothing", NULL, 0, FERRY_RAM_ZERO, "which there is" },
	{ "past the end", "a", PAGES, FERRY_RAM_PAGE, "" },
	{ "a zero page past the end", "b", PAGES + 1, FERRY_RAM_ZERO, "" },
	{ "far past the end", "a", UINT64_MAX / PAGE, FERRY_RAM_ZERO, "" },
};

static void pages_that_may_not_be_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad_pages); i++) {
		struct body *b = start(false);

		if (bad_pages[i].kind == FERRY_RAM_PAGE)
			page(b, bad_pages[i].name, bad_pages[i].page, 1);
		else
			zero(b, bad_pages[i].name, bad_pages[i].page);
		mark(b, FERRY_RAM_EOS, 0);
		if (!read_body(b))
			fail_msg("%s: taken", bad_pages[i].why);
		if (b->e.code != FERRY_E_PROTO ||
		    !strstr(b->e.msg, bad_pages[i].says))
			fail_msg("%s: %d '%s'", bad_pages[i].why, b->e.code,
				 b->e.msg);
		assert_int_equal(ferry_map_missing(&b->r.map), 2 * PAGES);
		finish(b);
	}
}

/* From page 1 of a in version v to version w, in the same place. */
static void patch(struct body *b, unsigned v, unsigned w)
{
	uint8_t old[PAGE], now[PAGE], octets[PAGE];
	int n;

	fill_page(old, 1, v);
	memcpy(now, old, PAGE);
	memset(now + 100, (int)w, 50);
	n = ferry_xbzrle_encode(old, now, octets, PAGE);
	assert_true(n > 0);
	ferry_ram_page_encode(&b->w, FERRY_RAM_XBZRLE, "a", PAGE, (uint32_t)n);
	ferry_wr_bytes(&b->w, octets, (size_t)n);
}

static void a_patch_changes_what_it_names_and_nothing_else(void **state)
{
	struct body *b = start(false);
	uint8_t want[PAGE];

	(void)state;
	page(b, "a", 1, 1);
	patch(b, 1, 9);
	mark(b, FERRY_RAM_EOS, 0);
	expect(b);
	fill_page(want, 1, 1);
	memset(want + 100, 9, 50);
	assert_memory_equal(b->r.area[0].p + PAGE, want, PAGE);
	finish(b);
}

static void a_damaged_patch_is_refused(void **state)
{
	struct body *b = start(false);

	(void)state;
	ferry_ram_page_encode(&b->w, FERRY_RAM_XBZRLE, "a", 0, 10);
	ferry_wr_zeroes(&b->w, 10);
	assert_int_equal(read_body(b), -1);
	assert_says(&b->e, FERRY_E_PROTO, "block a page 0: XBZRLE data of 10 "
		    "octets is damaged");
	finish(b);
}

/* From LISTEN on only pages may come. */
static void precopys_records_end_with_listen(void **state)
{
	struct body *b = start(false);

	(void)state;
	b->body.postcopy = true;
	mark(b, FERRY_RAM_MULTIFD_FLUSH, 0);
	assert_int_equal(read_body(b), -1);
	assert_int_equal(b->e.code, FERRY_E_PROTO);
	finish(b);
}

static void a_body_cut_anywhere_is_a_closed_connection(void **state)
{
	size_t whole = 8 + 2 + PAGE + 8;

	(void)state;
	for (size_t at = 0; at < whole; at += at < 16 || at > whole - 16 ? 1 :
							101) {
		struct body *b = start(false);

		page(b, "a", 1, 1);
		mark(b, FERRY_RAM_EOS, 0);
		assert_int_equal(ferry_wr_used(&b->w), whole);
		b->w.p = b->w.start + at;
		assert_int_equal(read_body(b), -1);
		assert_says(&b->e, FERRY_E_CLOSED, "channel main");
		finish(b);
	}
}

/* ---- the block list ----------------------------------------------------- */

#define MIB	(1ull << 20)

static const struct {
	const char *why;
	struct entry entry[4];
	unsigned n;
	uint64_t total;
	int code;		/* 0: taken */
	const char *says;
} lists[] = {
	{ "both blocks", { { "a", MIB, 0 }, { "b", MIB, 0 } }, 2, 2 * MIB, 0,
		"" },
	{ "in another order", { { "b", MIB, 0 }, { "a", MIB, 0 } }, 2,
		2 * MIB, 0, "" },
	{ "one is lacking", { { "b", MIB, 0 } }, 1, MIB, FERRY_E_MISMATCH,
		"the source has no memory block a" },
	{ "one more", { { "a", MIB, 0 }, { "b", MIB, 0 }, { "vga", MIB, 0 } },
		3, 3 * MIB, FERRY_E_MISMATCH,
		"the source has a memory block vga, which there is not here" },
	{ "larger", { { "a", 3 * MIB, 0 }, { "b", MIB, 0 } }, 2, 4 * MIB,
		FERRY_E_MISMATCH,
		"block a has 3145728 octets at the source and 1048576 here" },
	{ "larger by one page", { { "a", MIB + PAGE, 0 }, { "b", MIB, 0 } },
		2, 2 * MIB + PAGE, FERRY_E_MISMATCH,
		"block a has 1052672 octets at the source and 1048576 here" },
	{ "twice the same", { { "a", MIB, 0 }, { "b", MIB, 0 },
			      { "a", MIB, 0 } }, 3, 3 * MIB, FERRY_E_PROTO,
		"block a is listed twice" },
	{ "less than it says", { { "a", MIB, 0 }, { "b", MIB, 0 } }, 2,
		3 * MIB, FERRY_E_PROTO, "" },
	{ "more than it says", { { "a", MIB, 0 }, { "b", MIB, 0 } }, 2,
		MIB + PAGE, FERRY_E_PROTO, "" },
};

static void the_block_list_is_held_against_our_blocks(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(lists); i++) {
		struct body *b = start(false);
		int rc;

		list(b, lists[i].entry, lists[i].n, lists[i].total);
		/* What an entry too many would be taken for. */
		mark(b, FERRY_RAM_EOS, 0);
		rc = read_body(b);
		if (!lists[i].code) {
			if (rc)
				fail_msg("%s: %s", lists[i].why, b->e.msg);
			assert_true(b->body.listed);
			finish(b);
			continue;
		}
		if (!rc || b->e.code != lists[i].code ||
		    !strstr(b->e.msg, lists[i].says))
			fail_msg("%s: %d '%s'", lists[i].why, b->e.code,
				 b->e.msg);
		assert_false(b->body.listed);
		finish(b);
	}
}

static void the_block_list_comes_once(void **state)
{
	struct body *b = start(false);

	(void)state;
	for (int i = 0; i < 2; i++)
		list(b, lists[0].entry, 2, 2 * MIB);
	assert_int_equal(read_body(b), -1);
	assert_says(&b->e, FERRY_E_PROTO, "the block list came twice");
	finish(b);
}

static void page_sizes_are_stated_and_must_be_ours(void **state)
{
	static const struct { uint32_t page_bytes; bool ok; } rows[] = {
		{ HUGE, true }, { 1u << 30, false },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct body *b = start(true);
		const struct entry all[] = {
			{ "a", MIB, 0 }, { "b", MIB, 0 },
			{ "c", HUGE, rows[i].page_bytes },
		};

		b->body.advised = true;
		list(b, all, 3, 2 * MIB + HUGE);
		mark(b, FERRY_RAM_EOS, 0);
		assert_int_equal(read_body(b), rows[i].ok ? 0 : -1);
		finish(b);
	}
}

/* ---- the way back ------------------------------------------------------- */

static void nothing_is_answered_before_the_way_back_is_open(void **state)
{
	struct ferry_answer a;
	struct ferry_err e = { 0 };

	(void)state;
	ferry_answer_init(&a);
	assert_int_equal(ferry_answer_say(&a, FERRY_RP_PONG, 1, &e), -1);
	assert_says(&e, FERRY_E_PROTO, "no return path to send PONG");
	ferry_answer_give_up(&a, "nobody hears it");
	ferry_answer_fini(&a);
}

static unsigned read_answers(struct ferry_chan *end, struct ferry_rp *m,
			     unsigned most, enum ferry_dialect dialect)
{
	uint8_t octets[4096];
	struct iovec iov = { octets, sizeof(octets) };
	ssize_t got = end->ops->readv(end, &iov, 1);
	struct ferry_rd rd = ferry_rd_over(octets, got > 0 ? (size_t)got : 0);
	struct ferry_err e;
	unsigned n = 0;

	while (n < most && ferry_rd_left(&rd))
		assert_int_equal(ferry_rp_decode(&rd, dialect, &m[n++], &e),
				 FERRY_DECODE_DONE);
	return n;
}

static void giving_up_says_why_to_a_ferry_only(void **state)
{
	(void)state;
	for (int ferry = 0; ferry < 2; ferry++) {
		enum ferry_dialect dialect = ferry ? FERRY_DIALECT_FERRY :
						     FERRY_DIALECT_QEMU;
		struct ferry_chan *end[2];
		struct ferry_answer a;
		struct ferry_rp m[4];
		struct ferry_err e;
		unsigned n;

		assert_ok(ferry_chan_pair(end, &e));
		ferry_answer_init(&a);
		ferry_answer_open(&a, end[0], dialect);
		ferry_answer_give_up(&a, "no memory for it");
		end[0]->ops->shutdown(end[0]);
		n = read_answers(end[1], m, 4, dialect);
		if (ferry && n == 1)	/* the two came one by one */
			n += read_answers(end[1], m + 1, 3, dialect);
		assert_int_equal(n, ferry ? 2 : 1);
		if (ferry)
			assert_string_equal(m[0].reason, "no memory for it");
		assert_int_equal(m[n - 1].type, FERRY_RP_SHUT);
		assert_int_equal(m[n - 1].value, 1);
		ferry_answer_fini(&a);
		ferry_chan_close(end[0]);
		ferry_chan_close(end[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_become_memory),
		cmocka_unit_test(a_page_that_comes_twice_is_the_later_one),
		cmocka_unit_test(continue_goes_across_sections),
		cmocka_unit_test(a_run_longer_than_the_buffer_is_placed),
		cmocka_unit_test(
			no_page_waits_for_octets_that_have_not_arrived),
		cmocka_unit_test(where_nobody_waits_runs_are_whole),
		cmocka_unit_test(what_was_foreseen_wrong_is_read_again),
		cmocka_unit_test(what_comes_later_is_placed_later),
		cmocka_unit_test(a_helper_that_fails_places_nothing_more),
		cmocka_unit_test(a_row_cut_anywhere_keeps_what_is_whole),
		cmocka_unit_test(
			what_came_whole_is_kept_when_the_rest_does_not),
		cmocka_unit_test(pages_that_may_not_be_are_refused),
		cmocka_unit_test(a_patch_changes_what_it_names_and_nothing_else),
		cmocka_unit_test(a_damaged_patch_is_refused),
		cmocka_unit_test(precopys_records_end_with_listen),
		cmocka_unit_test(a_body_cut_anywhere_is_a_closed_connection),
		cmocka_unit_test(the_block_list_is_held_against_our_blocks),
		cmocka_unit_test(the_block_list_comes_once),
		cmocka_unit_test(page_sizes_are_stated_and_must_be_ours),
		cmocka_unit_test(
			nothing_is_answered_before_the_way_back_is_open),
		cmocka_unit_test(giving_up_says_why_to_a_ferry_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
