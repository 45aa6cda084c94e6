/* SPDX-License-Identifier: MIT */
/*
 * QEMU's multifd channels: packets wait for the blocks, SYNC for main, and
 * what cannot be is told.
 */
#include "help.h"

#include "recv/lanes.h"

#define PAGES	64u
#define LANES	2u
#define WAIT_MS	10000u

struct laned {
	struct rig	r;
	struct ferry_lanes lanes;
	struct ferry_chan *source[LANES];
	_Atomic int	 failures;
	struct ferry_err e;
};

static void on_failure(void *arg, const struct ferry_err *why)
{
	struct laned *l = arg;

	(void)why;
	atomic_fetch_add(&l->failures, 1);
}

static void start(struct laned *l)
{
	*l = (struct laned){ 0 };
	rig_add(&l->r, MEMFD, PAGES);
	rig_init(&l->r);
	l->lanes.place = &l->r.place;
	l->lanes.failed = on_failure;
	l->lanes.arg = l;
	assert_ok(ferry_lanes_init(&l->lanes, LANES, &l->e));
}

static void finish(struct laned *l)
{
	ferry_lanes_fini(&l->lanes);
	for (unsigned i = 0; i < LANES; i++)
		ferry_chan_close(l->source[i]);
	rig_fini(&l->r);
}

/* A connection that says it is channel `id`. */
static int come(struct laned *l, unsigned i, uint8_t id)
{
	uint8_t octets[FERRY_MULTIFD_INIT_WIRE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
	const struct ferry_multifd_init init = { .id = id };
	struct ferry_inbuf in = { 0 };
	struct ferry_chan *end[2];
	int rc;

	assert_ok(ferry_chan_pair(end, &l->e));
	ferry_multifd_init_encode(&w, &init);
	assert_ok(ferry_chan_write(end[0], octets, sizeof(octets), &l->e));
	assert_ok(ferry_inbuf_init(&in, end[1], 65536, &l->e));
	rc = ferry_lanes_admit(&l->lanes, &in, &l->e);
	if (rc) {
		ferry_chan_close(in.chan);
		ferry_inbuf_fini(&in);
		ferry_chan_close(end[0]);
	} else {
		l->source[i] = end[0];
	}
	return rc;
}

/* A packet of one page of version v, or with n 0 of none. */
static void send_packet(struct laned *l, unsigned i, uint32_t flags,
			uint32_t n, uint64_t page, unsigned v)
{
	uint8_t octets[FERRY_PACKET_WIRE + PAGE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
	struct ferry_packet p = {
		.flags = flags, .normal_pages = n,
		.payload_bytes = n * PAGE, .name = "a",
	};

	p.offset[0] = page * PAGE;
	ferry_packet_encode(&w, &p);
	if (n)
		fill_page(octets + FERRY_PACKET_WIRE, page, v);
	assert_ok(ferry_chan_write(l->source[i], octets, FERRY_PACKET_WIRE +
				   n * PAGE, &l->e));
}

static void both_come(struct laned *l)
{
	assert_ok(come(l, 0, 0));
	assert_false(ferry_lanes_all_here(&l->lanes));
	assert_ok(come(l, 1, 1));
	assert_true(ferry_lanes_all_here(&l->lanes));
}

static bool is_here(struct laned *l, uint64_t page)
{
	return ferry_map_is_here(&l->r.map, 0, page);
}

static void packets_wait_until_the_blocks_are_known(void **state)
{
	struct laned l;

	(void)state;
	start(&l);
	both_come(&l);
	send_packet(&l, 0, 0, 1, 5, 1);
	usleep(20000);
	assert_false(is_here(&l, 5));
	ferry_lanes_open(&l.lanes);
	send_packet(&l, 0, FERRY_PACKET_SYNC, 0, 0, 0);
	send_packet(&l, 1, FERRY_PACKET_SYNC, 0, 0, 0);
	assert_ok(ferry_lanes_sync(&l.lanes, WAIT_MS, &l.e));
	assert_true(page_is(&l.r, 0, 5, 1));
	finish(&l);
}

/* Two copies of a page on two channels: the mark decides. */
static void nothing_behind_a_mark_overtakes_main(void **state)
{
	struct laned l;

	(void)state;
	start(&l);
	both_come(&l);
	ferry_lanes_open(&l.lanes);
	send_packet(&l, 0, FERRY_PACKET_SYNC, 0, 0, 0);
	send_packet(&l, 0, 0, 1, 7, 2);
	usleep(20000);
	assert_false(is_here(&l, 7));
	/* A SYNC with a page, as QEMU 7.2 sends them. */
	send_packet(&l, 1, FERRY_PACKET_SYNC, 1, 7, 1);
	assert_ok(ferry_lanes_sync(&l.lanes, WAIT_MS, &l.e));
	send_packet(&l, 0, FERRY_PACKET_SYNC, 0, 0, 0);
	send_packet(&l, 1, FERRY_PACKET_SYNC, 0, 0, 0);
	assert_ok(ferry_lanes_sync(&l.lanes, WAIT_MS, &l.e));
	assert_true(page_is(&l.r, 0, 7, 2));
	finish(&l);
}

static void a_lane_that_has_not_come_is_named(void **state)
{
	struct laned l;

	(void)state;
	start(&l);
	assert_ok(come(&l, 0, 0));
	ferry_lanes_open(&l.lanes);
	send_packet(&l, 0, FERRY_PACKET_SYNC, 0, 0, 0);
	assert_int_equal(ferry_lanes_sync(&l.lanes, 50, &l.e), -1);
	assert_says(&l.e, FERRY_E_TIMEOUT, "multifd 1 has not come for 50 ms");
	finish(&l);
}

static void one_too_many_and_one_twice_are_turned_away(void **state)
{
	struct laned l;

	(void)state;
	start(&l);
	both_come(&l);
	assert_int_equal(come(&l, 0, 1), -1);
	assert_says(&l.e, FERRY_E_PROTO, "multifd 1 is not wanted now");
	assert_int_equal(come(&l, 0, LANES), -1);
	assert_says(&l.e, FERRY_E_PROTO, "channel 2, there are 2");
	finish(&l);
}

/* A source closes all of them when it is done: that alone is no failure. */
static void an_end_counts_when_a_mark_is_missing(void **state)
{
	struct laned l;

	(void)state;
	start(&l);
	both_come(&l);
	ferry_lanes_open(&l.lanes);
	send_packet(&l, 1, FERRY_PACKET_SYNC, 0, 0, 0);
	l.source[0]->ops->shutdown(l.source[0]);
	assert_int_equal(ferry_lanes_sync(&l.lanes, WAIT_MS, &l.e), -1);
	assert_says(&l.e, FERRY_E_CLOSED, "multifd 0");
	assert_int_equal(atomic_load(&l.failures), 0);
	finish(&l);
}

static const struct {
	uint32_t flags;
	uint32_t n;
	uint64_t page;
} bad[] = {
	{ FERRY_PACKET_ZLIB, 1, 0 },		/* nobody can unpack */
	{ FERRY_PACKET_ZLIB | FERRY_PACKET_ZSTD, 0, 0 },
	{ FERRY_PACKET_DEVICE_STATE, 0, 0 },
	{ 0x80000000u, 0, 0 },
	{ 0, 1, PAGES },
};

static void what_cannot_be_is_told_at_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		struct laned l;

		start(&l);
		both_come(&l);
		ferry_lanes_open(&l.lanes);
		send_packet(&l, 0, bad[i].flags, bad[i].n, bad[i].page, 1);
		while (!atomic_load(&l.failures))
			usleep(100);
		assert_int_equal(ferry_lanes_sync(&l.lanes, WAIT_MS, &l.e),
				 -1);
		finish(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_wait_until_the_blocks_are_known),
		cmocka_unit_test(nothing_behind_a_mark_overtakes_main),
		cmocka_unit_test(a_lane_that_has_not_come_is_named),
		cmocka_unit_test(one_too_many_and_one_twice_are_turned_away),
		cmocka_unit_test(an_end_counts_when_a_mark_is_missing),
		cmocka_unit_test(what_cannot_be_is_told_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
