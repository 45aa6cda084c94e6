/* SPDX-License-Identifier: MIT */
/*
 * The return path: requests are answered by the pages asked for and the window
 * around them; everything else is passed on; nonsense ends it with a sentence.
 */
#include "help.h"

#include "send/returns.h"
#include "wire/recvmap.h"

#define PAGES	1000u

struct rig {
	struct area	area;
	struct ferry_mem mem;
	struct ferry_owed owed;
	struct ferry_select sel;
	struct ferry_send_counters count;
	_Atomic uint64_t forward, backward;
	struct ferry_lane lane;
	struct sink	sink;		/* of the lane */
	struct ferry_requests req;
	struct ferry_returns ret;
	struct ferry_chan *end[2];	/* ours, the target's */
	struct tally	tally;
	uint8_t		*wanted[TALLY_BLOCKS_MAX];
	uint64_t	order[4096];	/* pages as they came */
	unsigned	 n;

	struct ferry_rp	message[8];
	unsigned	 messages;
	bool		 broken;
	struct ferry_err why;
};

static bool on_message(void *arg, const struct ferry_rp *m)
{
	struct rig *r = arg;

	assert_true(r->messages < FERRY_LEN(r->message));
	r->message[r->messages++] = *m;
	return m->type != FERRY_RP_SHUT;
}

static void on_broken(void *arg, const struct ferry_err *why)
{
	struct rig *r = arg;

	assert_false(r->broken);
	r->broken = true;
	r->why = *why;
}

static void add_memory(struct rig *r)
{
	area_make(&r->area, PRIVATE, 2 * HUGE_PAGES * PAGE);
	for (unsigned p = 0; p < 2 * HUGE_PAGES; p++)
		r->area.p[p * PAGE] = (uint8_t)(p | 1);
	/* Two views of it: small pages and, to the sender, huge ones. */
	made_up_block(&r->mem, "ram", PAGES, PAGE);
	made_up_block(&r->mem, "huge", 2 * HUGE_PAGES, HUGE);
	r->mem.block[0].host = r->area.p;
	r->mem.block[1].host = r->area.p;
}

static void note_order(void *arg, uint32_t block, uint64_t page)
{
	struct rig *r = arg;

	(void)block;
	assert_true(r->n < FERRY_LEN(r->order));
	r->order[r->n++] = page;
}

static void rig_init(struct rig *r)
{
	static const struct ferry_returns_ops ops = { on_message, on_broken };
	struct ferry_err e = { 0 };

	*r = (struct rig){ 0 };
	add_memory(r);
	assert_ok(ferry_owed_init(&r->owed, &r->mem, &e));
	assert_ok(ferry_select_init(&r->sel, &r->mem, &r->owed, NULL, 0, false,
				    &e));
	for (uint32_t i = 0; i < r->mem.blocks; i++) {
		ferry_owed_mark(&r->owed, i, 0, r->mem.block[i].pages);
		r->wanted[i] = calloc(r->mem.block[i].pages, 1);
		assert_non_null(r->wanted[i]);
	}
	assert_ok(ferry_select_still(&r->sel, FERRY_ORDER_NEAR, &e));
	ferry_lane_init(&r->lane, sink_open(&r->sink, "urgent 0"), true,
			ferry_encoder_packets, &r->count);
	ferry_requests_init(&r->req, &r->sel, &r->count, &r->forward,
			    &r->backward);
	ferry_requests_add(&r->req, &r->lane, false);
	r->ret = (struct ferry_returns){
		.ops = &ops, .arg = r, .mem = &r->mem, .requests = &r->req,
		.dialect = FERRY_DIALECT_FERRY,
	};
	tally_init(&r->tally, &r->mem);
	r->tally.each = note_order;
	r->tally.arg = r;
	assert_ok(ferry_chan_pair(r->end, &e));
	ferry_chan_set_name(r->end[0], "main");
}

static void rig_fini(struct rig *r)
{
	ferry_lane_fini(&r->lane);
	ferry_requests_fini(&r->req);
	sink_fini(&r->sink);
	ferry_chan_close(r->end[0]);
	ferry_chan_close(r->end[1]);
	tally_fini(&r->tally);
	ferry_select_fini(&r->sel);
	ferry_owed_fini(&r->owed);
	for (uint32_t i = 0; i < r->mem.blocks; i++)
		free(r->wanted[i]);
	free(r->mem.block);
	area_free(&r->area);
}

/* The target sends these octets and closes. */
static void hear(struct rig *r, const uint8_t *data, size_t n)
{
	struct ferry_err e = { 0 };

	assert_ok(ferry_inbuf_init(&r->ret.in, r->end[0],
				   FERRY_RETURNS_BUF_BYTES, &e));
	assert_ok(ferry_returns_start(&r->ret, &e));
	if (n)
		(void)!ferry_chan_write(r->end[1], data, n, &e);
	r->end[1]->ops->shutdown(r->end[1]);
	ferry_returns_stop(&r->ret);
	ferry_returns_stop(&r->ret);	/* does nothing */
	assert_true(r->broken);
}

static void answered(struct rig *r)
{
	ferry_lane_fini(&r->lane);
	sink_wait(&r->sink);
	tally_packets(&r->tally, r->sink.data, r->sink.bytes);
}

static size_t encode(uint8_t *at, size_t size, const struct ferry_rp *m,
		     unsigned n)
{
	struct ferry_wr w = ferry_wr_over(at, size);

	for (unsigned i = 0; i < n; i++)
		ferry_rp_encode(&w, &m[i]);
	assert_false(w.bad);
	return ferry_wr_used(&w);
}

/* ---- windows ------------------------------------------------------------ */

struct window {
	const char	*why;
	unsigned	 block;
	uint64_t	 first, pages, forward, backward;
	uint64_t	 from, to;	/* what comes in all */
};

static const struct window windows[] = {
	{ "no window", 0, 500, 1, 0, 0, 500, 501 },
	{ "forward", 0, 500, 1, 8, 0, 500, 509 },
	{ "backward", 0, 500, 1, 0, 8, 492, 501 },
	{ "both", 0, 500, 2, 3, 4, 496, 505 },
	{ "longer than a batch", 0, 200, 1, 300, 150, 50, 501 },
	{ "cut at the end", 0, 998, 1, 4096, 0, 998, 1000 },
	{ "nothing behind the end", 0, 999, 1, 8, 0, 999, 1000 },
	{ "cut at the beginning", 0, 3, 1, 0, 4096, 0, 4 },
	{ "nothing before the beginning", 0, 0, 1, 0, 8, 0, 1 },
	{ "all of it", 0, 0, 1000, 8, 8, 0, 1000 },
	{ "absurd", 0, 500, 1, UINT64_MAX, UINT64_MAX, 0, 1000 },
	{ "less than a huge page is nothing", 1, 0, 512, 511, 0, 0, 512 },
	{ "a huge page forward", 1, 0, 512, 600, 0, 0, 1024 },
	{ "a huge page backward", 1, 512, 512, 0, 512, 0, 1024 },
};

/* First what was asked for, then ahead, then behind. */
static void check_order(const struct rig *r, const struct window *w)
{
	uint64_t want = w->first;

	for (unsigned i = 0; i < r->n; i++, want++) {
		if (want == w->to)
			want = w->from;
		if (r->order[i] != want)
			fail_msg("%s: page %lu came as number %u, not %lu",
				 w->why, (unsigned long)r->order[i], i,
				 (unsigned long)want);
	}
}

static void a_request_brings_its_window(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(windows); i++) {
		const struct window *w = &windows[i];
		struct ferry_err e = { 0 };
		struct rig r;

		rig_init(&r);
		atomic_store(&r.forward, w->forward);
		atomic_store(&r.backward, w->backward);
		assert_ok(ferry_requests_answer(&r.req,
						&r.mem.block[w->block],
						w->first, w->pages, &e));
		memset(r.wanted[w->block] + w->from, 1, w->to - w->from);
		answered(&r);
		tally_check(&r.tally, r.wanted);
		check_order(&r, w);
		assert_int_equal(ferry_counted(&r.count.requests), 1);
		assert_int_equal(ferry_counted(&r.count.request_pages),
				 w->to - w->from);
		rig_fini(&r);
	}
}

static void a_window_leaves_out_what_has_gone_already(void **state)
{
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	for (int again = 0; again < 2; again++) {
		rig_init(&r);
		r.req.again = again;
		atomic_store(&r.forward, 4);
		assert_ok(ferry_requests_answer(&r.req, &r.mem.block[0], 10, 1,
						&e));
		assert_ok(ferry_requests_answer(&r.req, &r.mem.block[0], 12, 1,
						&e));
		/* 10 to 14, then 12 again if that may be, then 15 and 16. */
		memset(r.wanted[0] + 10, 1, 7);
		r.wanted[0][12] = again ? 2 : 1;
		answered(&r);
		tally_check(&r.tally, r.wanted);
		rig_fini(&r);
	}
}

static void a_request_before_postcopy_is_refused(void **state)
{
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r);
	ferry_requests_clear(&r.req);
	assert_int_equal(ferry_requests_answer(&r.req, &r.mem.block[0], 0, 1,
					       &e), -1);
	assert_says(&e, FERRY_E_PROTO, "pages of block ram before postcopy "
		    "has begun");
	rig_fini(&r);
}

static void a_request_steers_the_push(void **state)
{
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r);
	assert_ok(ferry_requests_answer(&r.req, &r.mem.block[0], 640, 1, &e));
	assert_int_equal(atomic_load(&r.sel.near), 10 + 1);
	rig_fini(&r);
}

static void a_broken_urgent_channel_is_said(void **state)
{
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r);
	r.lane.chan->ops->shutdown(r.lane.chan);
	assert_int_equal(ferry_requests_answer(&r.req, &r.mem.block[0], 1, 1,
					       &e), -1);
	assert_says(&e, e.code, "channel urgent 0: write");
	rig_fini(&r);
}

/* Its lane is a pair whose other end is closed. */
static void lose_lane(struct rig *r)
{
	struct ferry_chan *end[2];

	ferry_lane_fini(&r->lane);
	assert_ok(ferry_chan_pair(end, NULL));
	ferry_chan_close(end[1]);
	ferry_lane_init(&r->lane, end[0], true, ferry_encoder_packets,
			&r->count);
}

/* ---- messages ----------------------------------------------------------- */

static struct ferry_rp request(const char *block, uint64_t first,
			       uint64_t pages)
{
	struct ferry_rp m = {
		.type = block ? FERRY_RP_REQ_PAGES_ID : FERRY_RP_REQ_PAGES,
		.span = { first * PAGE, pages * PAGE },
	};

	snprintf(m.name, sizeof(m.name), "%s", block ? block : "");
	return m;
}

/* A target that gives up closes its channels and says why on main; a request
 * of before may be read in between. */
static void the_last_word_is_heard_behind_an_answer_that_fails(void **state)
{
	const struct ferry_rp said[] = {
		request("ram", 100, 1),
		request(NULL, 300, 2),
		{ .type = FERRY_RP_REASON, .reason = "because" },
		{ .type = FERRY_RP_SHUT, .value = 1 },
	};
	uint8_t octets[1024];
	struct rig r;

	(void)state;
	rig_init(&r);
	lose_lane(&r);
	r.ret.last_word_ns = 5000000000;
	hear(&r, octets, encode(octets, sizeof(octets), said,
				FERRY_LEN(said)));
	assert_int_equal(r.messages, 2);
	assert_string_equal(r.message[0].reason, "because");
	assert_int_equal(r.message[1].value, 1);
	assert_says(&r.why, FERRY_E_CLOSED, "return path: channel");
	rig_fini(&r);
}

/* Nothing follows, and nobody closes: it ends all the same. */
static void a_last_word_that_does_not_come_is_not_waited_for(void **state)
{
	const struct ferry_rp said[] = { request("ram", 100, 1) };
	uint8_t octets[64];
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r);
	lose_lane(&r);
	r.ret.last_word_ns = 1000000;
	assert_ok(ferry_inbuf_init(&r.ret.in, r.end[0], FERRY_RP_MAX, &e));
	assert_ok(ferry_returns_start(&r.ret, &e));
	assert_ok(ferry_chan_write(r.end[1], octets,
				   encode(octets, sizeof(octets), said, 1),
				   &e));
	ferry_returns_stop(&r.ret);
	assert_int_equal(r.messages, 0);
	assert_says(&r.why, FERRY_E_CLOSED, "return path: channel");
	rig_fini(&r);
}

static void requests_are_answered_and_the_rest_passed_on(void **state)
{
	const struct ferry_rp said[] = {
		{ .type = FERRY_RP_PONG, .value = 9 },
		request("ram", 100, 1),
		request(NULL, 300, 2),
		{ .type = FERRY_RP_LOADED },
		request("huge", 512, 512),
		request("ram", 7, 1),
		request(NULL, 9, 1),
		{ .type = FERRY_RP_REASON, .reason = "because" },
		{ .type = FERRY_RP_SHUT, .value = 1 },
		{ .type = FERRY_RP_PONG, .value = 10 },	/* not read any more */
	};
	uint8_t octets[1024];
	struct rig r;

	(void)state;
	rig_init(&r);
	hear(&r, octets, encode(octets, sizeof(octets), said,
				FERRY_LEN(said)));
	assert_int_equal(r.messages, 4);
	assert_int_equal(r.message[0].value, 9);
	assert_int_equal(r.message[1].type, FERRY_RP_LOADED);
	assert_string_equal(r.message[2].reason, "because");
	assert_int_equal(r.message[3].type, FERRY_RP_SHUT);
	/* Ended because it was told to: that is no failure. */
	assert_int_equal(r.why.code, 0);
	r.wanted[0][100] = r.wanted[0][300] = r.wanted[0][301] = 1;
	r.wanted[0][7] = r.wanted[0][9] = 1;
	memset(r.wanted[1] + 512, 1, 512);
	answered(&r);
	tally_check(&r.tally, r.wanted);
	rig_fini(&r);
}

/* The first of two ways takes a part of an answer and no more; all else that is
 * asked for goes by the second. */
static void a_stuck_way_is_passed_by(void **state)
{
	struct ferry_fault stall = FERRY_FAULT_NONE;
	struct ferry_rp said[8];
	struct ferry_lane stuck;
	struct ferry_chan *end[2];
	struct ferry_err e = { 0 };
	uint8_t octets[1024];
	unsigned missing = 0;
	struct rig r;

	(void)state;
	rig_init(&r);
	stall.stall_write_at = 100;
	assert_ok(ferry_chan_pair(end, &e));
	ferry_lane_init(&stuck, ferry_chan_fault(end[0], &stall, &e), true,
			ferry_encoder_packets, &r.count);
	ferry_requests_clear(&r.req);
	ferry_requests_add(&r.req, &stuck, false);
	ferry_requests_add(&r.req, &r.lane, false);
	for (unsigned i = 0; i < FERRY_LEN(said); i++)
		said[i] = request("ram", 10 * i, 1);
	r.ret.threads = 2;
	assert_ok(ferry_inbuf_init(&r.ret.in, r.end[0],
				   FERRY_RETURNS_BUF_BYTES, &e));
	assert_ok(ferry_returns_start(&r.ret, &e));
	assert_ok(ferry_chan_write(r.end[1], octets,
				   encode(octets, sizeof(octets), said,
					  FERRY_LEN(said)), &e));
	sink_wait_bytes(&r.sink, (FERRY_LEN(said) - 1) *
			(FERRY_PACKET_WIRE + PAGE));
	stuck.chan->ops->shutdown(stuck.chan);
	r.end[1]->ops->shutdown(r.end[1]);
	ferry_returns_stop(&r.ret);
	assert_true(r.broken);
	answered(&r);
	for (unsigned i = 0; i < FERRY_LEN(said); i++)
		r.wanted[0][10 * i] = 1;
	for (unsigned i = 0; i < FERRY_LEN(said); i++)
		if (!r.tally.count[0][10 * i])
			r.wanted[0][10 * i] = (uint8_t)missing++;
	assert_int_equal(missing, 1);
	tally_check(&r.tally, r.wanted);
	ferry_lane_fini(&stuck);
	ferry_chan_close(end[1]);
	rig_fini(&r);
}

static const struct {
	const char *why;
	struct ferry_rp m;
	const char *says;
} hostile[] = {
	{ "a block that there is not",
		{ .type = FERRY_RP_REQ_PAGES_ID, .span = { 0, PAGE },
		  .name = "rom\x07" },
		"page request for block rom?, which there is not" },
	{ "no block named yet",
		{ .type = FERRY_RP_REQ_PAGES, .span = { 0, PAGE } },
		"names no block" },
	{ "past the end",
		{ .type = FERRY_RP_REQ_PAGES_ID, .name = "ram",
		  .span = { PAGES * PAGE, PAGE } }, "past its end" },
	{ "across the end",
		{ .type = FERRY_RP_REQ_PAGES_ID, .name = "ram",
		  .span = { (PAGES - 1) * PAGE, 2 * PAGE } },
		"past its end" },
	{ "wraps around",
		{ .type = FERRY_RP_REQ_PAGES_ID, .name = "ram",
		  .span = { UINT64_MAX - PAGE + 1, PAGE } }, "malformed" },
	{ "nothing",
		{ .type = FERRY_RP_REQ_PAGES_ID, .name = "ram",
		  .span = { 0, 0 } }, "malformed" },
	{ "begins inside a page",
		{ .type = FERRY_RP_REQ_PAGES_ID, .name = "ram",
		  .span = { 1, PAGE } }, "malformed" },
	{ "ends inside a page",
		{ .type = FERRY_RP_REQ_PAGES_ID, .name = "ram",
		  .span = { 0, PAGE + 1 } }, "malformed" },
	{ "more than 1 GiB",
		{ .type = FERRY_RP_REQ_PAGES_ID, .name = "ram",
		  .span = { 0, (1u << 30) + PAGE } }, "malformed" },
	{ "begins inside a huge page",
		{ .type = FERRY_RP_REQ_PAGES_ID, .name = "huge",
		  .span = { PAGE, HUGE } }, "cuts a page of 2097152" },
	{ "a piece of a huge page",
		{ .type = FERRY_RP_REQ_PAGES_ID, .name = "huge",
		  .span = { 0, PAGE } }, "cuts a page of 2097152" },
	{ "a block without a name",
		{ .type = FERRY_RP_REQ_PAGES_ID, .span = { 0, PAGE } },
		"malformed" },
	{ "a message that only a QEMU sends",
		{ .type = FERRY_RP_SWITCHOVER_ACK }, "is not for this peer" },
};

static void hostile_requests_end_the_return_path(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(hostile); i++) {
		uint8_t octets[512];
		struct rig r;

		rig_init(&r);
		hear(&r, octets, encode(octets, sizeof(octets), &hostile[i].m,
					1));
		if (r.why.code != FERRY_E_PROTO ||
		    !strstr(r.why.msg, "return path") ||
		    !strstr(r.why.msg, hostile[i].says))
			fail_msg("%s: %d '%s'", hostile[i].why, r.why.code,
				 r.why.msg);
		answered(&r);
		tally_check(&r.tally, r.wanted);
		rig_fini(&r);
	}
}

static void a_block_named_in_vain_is_not_remembered(void **state)
{
	const struct ferry_rp said[] = {
		request("ram", 5, 1), request("rom", 5, 1), request(NULL, 6, 1),
	};
	uint8_t octets[512];
	struct rig r;

	(void)state;
	rig_init(&r);
	hear(&r, octets, encode(octets, sizeof(octets), said, 3));
	assert_says(&r.why, FERRY_E_PROTO, "block rom, which there is not");
	r.wanted[0][5] = 1;
	answered(&r);
	tally_check(&r.tally, r.wanted);
	rig_fini(&r);
}

static const struct { const char *why; uint8_t octets[8]; size_t n; } junk[] = {
	{ "unknown type", { 0x12, 0x34, 0, 0 }, 4 },
	{ "type 0", { 0, 0, 0, 0 }, 4 },
	{ "longer than a message", { 0, 2, 0x02, 0x01 }, 4 },
	{ "PONG of 3 octets", { 0, 2, 0, 3, 1, 2, 3 }, 7 },
	{ "PONG of 0 octets", { 0, 2, 0, 0 }, 4 },
};

static void junk_ends_the_return_path(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(junk); i++) {
		struct rig r;

		rig_init(&r);
		hear(&r, junk[i].octets, junk[i].n);
		if (r.why.code != FERRY_E_PROTO)
			fail_msg("%s: %d '%s'", junk[i].why, r.why.code,
				 r.why.msg);
		assert_int_equal(r.messages, 0);
		rig_fini(&r);
	}
}

static void a_message_cut_anywhere_is_a_closed_connection(void **state)
{
	struct ferry_rp m = request("ram", 5, 1);
	uint8_t octets[64];
	size_t n = encode(octets, sizeof(octets), &m, 1);

	(void)state;
	for (size_t cut = 0; cut < n; cut++) {
		struct rig r;

		rig_init(&r);
		hear(&r, octets, cut);
		assert_says(&r.why, FERRY_E_CLOSED, "return path: channel "
			    "main");
		answered(&r);
		tally_check(&r.tally, r.wanted);
		rig_fini(&r);
	}
}

/* ---- what has come, after a lost link --------------------------------------- */

/* The map of a block in which every third page has come. */
static size_t encode_map(uint8_t *octets, size_t size,
			 const struct ferry_mem_block *b)
{
	struct ferry_wr w = ferry_wr_over(octets, size);
	struct ferry_rp m = { .type = FERRY_RP_RECV_BITMAP };
	uint64_t words = ferry_recvmap_words(b->pages);

	snprintf(m.name, sizeof(m.name), "%s", b->name);
	ferry_rp_encode(&w, &m);
	ferry_recvmap_head_encode(&w, b->pages);
	for (uint64_t i = 0; i < words; i++) {
		uint64_t word = 0;

		for (uint64_t p = i * 64; p < b->pages && p < i * 64 + 64; p++)
			word |= (uint64_t)(p % 3 == 0) << p % 64;
		ferry_recvmap_words_encode(&w, &word, 1);
	}
	ferry_recvmap_end_encode(&w);
	assert_false(w.bad);
	return ferry_wr_used(&w);
}

static void make_maps(struct rig *r, struct ferry_bitmap maps[2])
{
	for (unsigned i = 0; i < 2; i++)
		assert_ok(ferry_bitmap_init(&maps[i], r->mem.block[i].pages,
					    NULL));
	r->ret.received = maps;
}

static void free_maps(struct ferry_bitmap maps[2])
{
	ferry_bitmap_fini(&maps[0]);
	ferry_bitmap_fini(&maps[1]);
}

static void maps_are_read_in_the_order_of_the_blocks(void **state)
{
	uint8_t octets[4096];
	struct ferry_bitmap maps[2];
	struct rig r;
	size_t n;

	(void)state;
	rig_init(&r);
	make_maps(&r, maps);
	n = encode_map(octets, sizeof(octets), &r.mem.block[0]);
	n += encode_map(octets + n, sizeof(octets) - n, &r.mem.block[1]);
	hear(&r, octets, n);
	assert_int_equal(r.messages, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(r.message[i].type, FERRY_RP_RECV_BITMAP);
		for (uint64_t p = 0; p < r.mem.block[i].pages; p++)
			assert_int_equal(ferry_bitmap_test(&maps[i], p),
					 p % 3 == 0);
	}
	assert_int_equal(r.ret.maps, 2);
	free_maps(maps);
	rig_fini(&r);
}

static void maps_that_were_not_asked_for_are_refused(void **state)
{
	static const struct {
		bool	 none;		/* nothing was asked for */
		unsigned block[3];	/* in this order; 9: no more */
	} wrong[] = {
		{ true, { 0, 9 } }, { false, { 1, 9 } }, { false, { 0, 0, 9 } },
	};
	uint8_t octets[4096];

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(wrong); i++) {
		struct ferry_bitmap maps[2];
		struct rig r;
		size_t n = 0;

		rig_init(&r);
		make_maps(&r, maps);
		if (wrong[i].none)
			r.ret.received = NULL;
		for (unsigned k = 0; wrong[i].block[k] != 9; k++)
			n += encode_map(octets + n, sizeof(octets) - n,
				&r.mem.block[wrong[i].block[k]]);
		hear(&r, octets, n);
		assert_says(&r.why, FERRY_E_PROTO, "was not asked for");
		free_maps(maps);
		rig_fini(&r);
	}
}

static void a_map_cut_anywhere_is_a_closed_connection(void **state)
{
	uint8_t octets[4096];
	size_t n = 1;

	(void)state;
	for (size_t cut = 0; cut < n; cut++) {
		struct ferry_bitmap maps[2];
		struct rig r;

		rig_init(&r);
		make_maps(&r, maps);
		n = encode_map(octets, sizeof(octets), &r.mem.block[0]);
		hear(&r, octets, cut);
		assert_says(&r.why, FERRY_E_CLOSED, "return path");
		assert_int_equal(r.messages, 0);
		free_maps(maps);
		rig_fini(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_brings_its_window),
		cmocka_unit_test(a_window_leaves_out_what_has_gone_already),
		cmocka_unit_test(a_request_before_postcopy_is_refused),
		cmocka_unit_test(a_request_steers_the_push),
		cmocka_unit_test(a_broken_urgent_channel_is_said),
		cmocka_unit_test(requests_are_answered_and_the_rest_passed_on),
		cmocka_unit_test(
			the_last_word_is_heard_behind_an_answer_that_fails),
		cmocka_unit_test(
			a_last_word_that_does_not_come_is_not_waited_for),
		cmocka_unit_test(a_stuck_way_is_passed_by),
		cmocka_unit_test(hostile_requests_end_the_return_path),
		cmocka_unit_test(a_block_named_in_vain_is_not_remembered),
		cmocka_unit_test(junk_ends_the_return_path),
		cmocka_unit_test(a_message_cut_anywhere_is_a_closed_connection),
		cmocka_unit_test(maps_are_read_in_the_order_of_the_blocks),
		cmocka_unit_test(maps_that_were_not_asked_for_are_refused),
		cmocka_unit_test(a_map_cut_anywhere_is_a_closed_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
