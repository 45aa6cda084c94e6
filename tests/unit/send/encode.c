/* SPDX-License-Identifier: MIT */
/*
 * Encoding pages, as packets and as records: what a target decodes is what is
 * in memory; zeroes travel by mention; untouched pages are not even looked at.
 */
#include "help.h"

#include "send/lane.h"

#define PAGES	256u

/* Every third page is zero, every other zero page but for its last octet. */
static void fill(struct area *a)
{
	for (unsigned p = 0; p < a->bytes / PAGE; p++) {
		memset(a->p + p * PAGE, p % 3 ? (int)(p | 1) : 0, PAGE);
		if (p % 6 == 0)
			a->p[p * PAGE + PAGE - 1] = 1;
	}
}

static bool is_zero_page(unsigned p)
{
	return p % 3 == 0 && p % 6 != 0;
}

struct shape {
	const char	*name;
	ferry_encoder_init *init;
	void		(*tally)(struct tally *t, const uint8_t *data,
				 size_t bytes);
};

static const struct shape shapes[] = {
	{ "packets", ferry_encoder_packets, tally_packets },
	{ "records", ferry_encoder_records, tally_records },
	{ "multifd", ferry_encoder_multifd, tally_packets },
};

struct rig {
	const struct shape *shape;
	struct area	area[2];
	struct ferry_mem mem;
	struct sink	sink;
	struct ferry_chan *chan;
	struct ferry_send_counters count;
	struct ferry_encoder enc;
	struct tally	tally;
	uint8_t		*wanted[TALLY_BLOCKS_MAX];
};

static void rig_init(struct rig *r, const struct shape *shape)
{
	*r = (struct rig){ .shape = shape };
	for (unsigned i = 0; i < 2; i++) {
		area_make(&r->area[i], PRIVATE, PAGES * PAGE);
		fill(&r->area[i]);
		area_add(&r->mem, i ? "b" : "a", &r->area[i]);
		r->wanted[i] = calloc(PAGES, 1);
		assert_non_null(r->wanted[i]);
	}
	r->chan = sink_open(&r->sink, "data 0");
	shape->init(&r->enc, r->chan, &r->count);
	tally_init(&r->tally, &r->mem);
}

static void send(struct rig *r, unsigned block, uint64_t first, unsigned n,
		 unsigned step)
{
	struct ferry_batch b = { .block = &r->mem.block[block], .n = n };
	struct ferry_err e = { 0 };

	for (unsigned i = 0; i < n; i++) {
		b.page[i] = first + i * step;
		r->wanted[block][b.page[i]]++;
	}
	if (r->enc.ops->pages(&r->enc, &b, &e))
		fail_msg("%s: %s", r->shape->name, e.msg);
}

static void receive(struct rig *r)
{
	r->chan->ops->shutdown(r->chan);
	sink_wait(&r->sink);
	if (!r->enc.method)
		r->shape->tally(&r->tally, r->sink.data, r->sink.bytes);
}

static void rig_fini(struct rig *r)
{
	ferry_chan_close(r->chan);
	sink_fini(&r->sink);
	tally_fini(&r->tally);
	ferry_mem_fini(&r->mem);
	for (unsigned i = 0; i < 2; i++) {
		area_free(&r->area[i]);
		free(r->wanted[i]);
	}
}

static void what_is_encoded_decodes_to_the_same_pages(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(shapes); i++) {
		struct rig r;

		rig_init(&r, &shapes[i]);
		send(&r, 0, 0, 128, 1);		/* a full batch */
		send(&r, 0, 128, 1, 1);		/* one normal page */
		send(&r, 0, 129, 1, 1);		/* one zero page */
		send(&r, 1, 0, 86, 3);		/* no normal neighbours */
		send(&r, 0, 130, 63, 2);	/* back to the first */
		receive(&r);
		tally_check(&r.tally, r.wanted);
		rig_fini(&r);
	}
}

static void zero_pages_are_found_and_counted(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(shapes); i++) {
		uint64_t zero = 0;
		struct rig r;

		rig_init(&r, &shapes[i]);
		send(&r, 0, 0, 128, 1);
		send(&r, 0, 128, 128, 1);
		receive(&r);
		for (unsigned p = 0; p < PAGES; p++)
			zero += is_zero_page(p);
		assert_int_equal(r.tally.zero, zero);
		assert_int_equal(r.tally.normal, PAGES - zero);
		assert_int_equal(ferry_counted(&r.count.zero_pages), zero);
		assert_int_equal(ferry_counted(&r.count.normal_pages),
				 PAGES - zero);
		rig_fini(&r);
	}
}

static void every_octet_is_counted(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(shapes); i++) {
		struct ferry_err e = { 0 };
		struct rig r;

		rig_init(&r, &shapes[i]);
		send(&r, 0, 3, 100, 1);
		send(&r, 1, 3, 1, 1);
		assert_ok(r.enc.ops->sync(&r.enc, 1, &e));
		receive(&r);
		assert_int_equal(ferry_counted(&r.count.bytes), r.sink.bytes);
		rig_fini(&r);
	}
}

/* Nothing but a zero page's mention can be made of memory that cannot be
 * read. */
static void untouched_pages_are_not_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(shapes); i++) {
		struct ferry_bitmap untouched[2] = { { 0 } };
		struct rig r;

		rig_init(&r, &shapes[i]);
		for (unsigned k = 0; k < 2; k++)
			assert_ok(ferry_bitmap_init(&untouched[k], PAGES,
						    NULL));
		ferry_bitmap_set_range(&untouched[0], 10, 20);
		assert_ok(mprotect(r.area[0].p + 10 * PAGE, 20 * PAGE,
				   PROT_NONE));
		r.enc.untouched = untouched;
		send(&r, 0, 0, 128, 1);
		receive(&r);
		for (unsigned p = 10; p < 30; p++)
			assert_true(ferry_is_zero(r.tally.image[0] + p * PAGE,
						  PAGE));
		assert_ok(mprotect(r.area[0].p + 10 * PAGE, 20 * PAGE,
				   PROT_READ | PROT_WRITE));
		memset(r.area[0].p + 10 * PAGE, 0, 20 * PAGE);
		tally_check(&r.tally, r.wanted);
		for (unsigned k = 0; k < 2; k++)
			ferry_bitmap_fini(&untouched[k]);
		rig_fini(&r);
	}
}

static void a_sync_packet_is_a_mark_and_no_page(void **state)
{
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r, &shapes[0]);
	send(&r, 0, 1, 2, 1);
	assert_ok(r.enc.ops->sync(&r.enc, 0xfffffff0, &e));
	receive(&r);
	assert_int_equal(r.tally.syncs, 1);
	assert_int_equal(r.tally.last_sync, 0xfffffff0);
	assert_true(r.tally.ends_with_sync);
	tally_check(&r.tally, r.wanted);
	rig_fini(&r);
}

static void packets_are_numbered_whatever_marks_come_between(void **state)
{
	struct ferry_packet p;
	struct ferry_err e = { 0 };
	struct ferry_rd rd;
	struct rig r;

	(void)state;
	rig_init(&r, &shapes[0]);
	send(&r, 0, 1, 1, 1);
	assert_ok(r.enc.ops->sync(&r.enc, 77, &e));
	send(&r, 0, 2, 1, 1);
	receive(&r);
	rd = ferry_rd_over(r.sink.data, r.sink.bytes);
	for (unsigned i = 0; i < 3; i++) {
		static const uint64_t number[] = { 1, 77, 2 };

		assert_int_equal(ferry_packet_decode(&rd, 0, &p, &e),
				 FERRY_DECODE_DONE);
		assert_int_equal(p.packet_num, number[i]);
		(void)ferry_rd_bytes(&rd, p.payload_bytes);
	}
	rig_fini(&r);
}

static void records_name_a_block_only_when_it_changes(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, &shapes[1]);
	send(&r, 0, 0, 1, 1);		/* named: 8 + 1 + 1 + page */
	send(&r, 0, 1, 1, 1);		/* CONTINUE: 8 + page */
	send(&r, 1, 1, 1, 1);		/* named */
	send(&r, 0, 9, 1, 1);		/* named, zero: 8 + 1 + 1 + 1 */
	send(&r, 0, 15, 1, 1);		/* CONTINUE, zero: 8 + 1 */
	receive(&r);
	assert_int_equal(r.sink.bytes, 3 * PAGE + 10 + 8 + 10 + 11 + 9);
	rig_fini(&r);
}

static void a_record_stream_needs_no_mark(void **state)
{
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r, &shapes[1]);
	assert_ok(r.enc.ops->sync(&r.enc, 5, &e));
	receive(&r);
	assert_int_equal(r.sink.bytes, 0);
	rig_fini(&r);
}

static void a_broken_channel_is_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(shapes); i++) {
		struct ferry_batch b;
		struct ferry_err e = { 0 };
		struct rig r;

		rig_init(&r, &shapes[i]);
		b = (struct ferry_batch){ &r.mem.block[0], 1, { 1 } };
		r.chan->ops->shutdown(r.chan);
		assert_int_equal(r.enc.ops->pages(&r.enc, &b, &e), -1);
		assert_says(&e, e.code, "channel data 0");
		assert_true(ferry_err_is_link(&e));
		rig_fini(&r);
	}
}

/* ---- towards a QEMU's multifd ------------------------------------------- */

/* A QEMU before 9.0 does not look at what a packet says of zero pages. */
static void zero_pages_may_go_as_records_on_another_channel(void **state)
{
	struct ferry_send_counters count = { 0 };
	struct ferry_lane main;
	struct tally records;
	struct sink sink;
	struct rig r;

	(void)state;
	rig_init(&r, &shapes[2]);
	tally_init(&records, &r.mem);
	ferry_lane_init(&main, sink_open(&sink, "main"), true,
			ferry_encoder_records, &count);
	r.enc.zeroes = &main;
	send(&r, 0, 0, 128, 1);
	send(&r, 1, 3, 1, 1);		/* zero: no packet at all */
	send(&r, 0, 128, 128, 1);
	receive(&r);
	ferry_lane_fini(&main);
	sink_wait(&sink);
	tally_records(&records, sink.data, sink.bytes);
	assert_int_equal(r.tally.zero, 0);
	assert_int_equal(records.normal, 0);
	assert_int_equal(records.zero, ferry_counted(&count.zero_pages));
	assert_int_equal(ferry_counted(&r.count.zero_pages), 0);
	assert_int_equal(r.enc.sent_bytes, r.sink.bytes + sink.bytes);
	for (unsigned i = 0; i < 2; i++)
		for (unsigned p = 0; p < PAGES; p++)
			assert_int_equal(r.tally.count[i][p] +
					 records.count[i][p], r.wanted[i][p]);
	sink_fini(&sink);
	tally_fini(&records);
	rig_fini(&r);
}

static void marks_and_zero_pages_are_not_compressed(void **state)
{
	static const uint32_t flags[] = { FERRY_PACKET_ZSTD, FERRY_PACKET_SYNC,
					  FERRY_PACKET_ZSTD, FERRY_PACKET_ZSTD };
	static const uint32_t normal[] = { 85, 0, 0, 2 };
	struct ferry_packet p;
	struct ferry_err e = { 0 };
	struct ferry_rd rd;
	struct rig r;

	(void)state;
	rig_init(&r, &shapes[2]);
	r.enc.method = FERRY_PACKET_ZSTD;
	send(&r, 0, 1, 102, 1);
	assert_ok(r.enc.ops->sync(&r.enc, 0, &e));
	send(&r, 0, 3, 1, 1);
	send(&r, 1, 1, 2, 1);
	receive(&r);
	rd = ferry_rd_over(r.sink.data, r.sink.bytes);
	for (unsigned i = 0; i < FERRY_LEN(flags); i++) {
		assert_int_equal(ferry_packet_decode(&rd, FERRY_PACKET_ZSTD,
						     &p, &e),
				 FERRY_DECODE_DONE);
		assert_int_equal(p.flags, flags[i]);
		assert_int_equal(p.normal_pages, normal[i]);
		assert_true(p.payload_bytes < (normal[i] ? PAGE : 1));
		(void)ferry_rd_bytes(&rd, p.payload_bytes);
	}
	assert_int_equal(ferry_rd_left(&rd), 0);
	ferry_encoder_fini(&r.enc);
	rig_fini(&r);
}

/* ---- lanes -------------------------------------------------------------- */

struct turns {
	struct ferry_lane lane;
	struct ferry_thread urgent, bulk;
	char		 order[3];
	unsigned	 n;
};

static void take_urgent(void *arg)
{
	struct turns *t = arg;

	ferry_lane_enter_urgent(&t->lane);
	t->order[t->n++] = 'u';
	ferry_lane_leave(&t->lane);
}

static void take_bulk(void *arg)
{
	struct turns *t = arg;

	ferry_lane_enter_bulk(&t->lane);
	t->order[t->n++] = 'b';
	ferry_lane_leave(&t->lane);
}

static unsigned wanted(struct ferry_lane *l)
{
	unsigned n;

	pthread_mutex_lock(&l->lock);
	n = l->wanted;
	pthread_mutex_unlock(&l->lock);
	return n;
}

static void a_request_goes_ahead_of_the_next_batch(void **state)
{
	struct ferry_send_counters count = { 0 };
	struct turns t = { 0 };
	struct sink sink;
	struct ferry_err e;

	(void)state;
	ferry_lane_init(&t.lane, sink_open(&sink, "data 0"), true,
			ferry_encoder_packets, &count);
	ferry_lane_enter_bulk(&t.lane);
	assert_ok(ferry_thread_start(&t.urgent, "urgent", take_urgent, &t,
				     &e));
	while (!wanted(&t.lane))
		usleep(100);
	assert_ok(ferry_thread_start(&t.bulk, "bulk", take_bulk, &t, &e));
	usleep(1000);
	ferry_lane_leave(&t.lane);
	ferry_thread_join(&t.urgent);
	ferry_thread_join(&t.bulk);
	assert_string_equal(t.order, "ub");
	ferry_lane_fini(&t.lane);
	ferry_lane_fini(&t.lane);	/* does nothing */
	sink_fini(&sink);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_encoded_decodes_to_the_same_pages),
		cmocka_unit_test(zero_pages_are_found_and_counted),
		cmocka_unit_test(every_octet_is_counted),
		cmocka_unit_test(untouched_pages_are_not_read),
		cmocka_unit_test(a_sync_packet_is_a_mark_and_no_page),
		cmocka_unit_test(
			packets_are_numbered_whatever_marks_come_between),
		cmocka_unit_test(records_name_a_block_only_when_it_changes),
		cmocka_unit_test(a_record_stream_needs_no_mark),
		cmocka_unit_test(a_broken_channel_is_named),
		cmocka_unit_test(
			zero_pages_may_go_as_records_on_another_channel),
		cmocka_unit_test(marks_and_zero_pages_are_not_compressed),
		cmocka_unit_test(a_request_goes_ahead_of_the_next_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
