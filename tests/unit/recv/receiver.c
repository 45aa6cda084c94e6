/* SPDX-License-Identifier: MIT */
/*
 * Receivers: packets become memory, marks are told when all before them is
 * placed, and a packet that may not be is refused with a sentence.
 */
#include "help.h"

#include "base/clock.h"
#include "recv/receiver.h"
#include "send/squeeze.h"

#define PAGES	256u
#define LONG_MS	60000u

struct recv {
	struct rig	r;
	struct ferry_chan *source;	/* its end */
	struct ferry_marks marks;
	struct ferry_receiver rx;
	uint32_t	 methods;	/* set before start() */
	struct ferry_flow flow;
	_Atomic unsigned failures;
	struct ferry_err why;
};

static void on_failed(void *arg, struct ferry_receiver *r,
		      const struct ferry_err *why)
{
	struct recv *v = arg;

	assert_ptr_equal(r, &v->rx);
	v->why = *why;
	atomic_fetch_add(&v->failures, 1);
}

/* Blocks are in v->r already. */
static void start(struct recv *v)
{
	struct ferry_inbuf in = { 0 };
	struct ferry_chan *end[2];
	struct ferry_err e = { 0 };

	rig_init(&v->r);
	ferry_marks_init(&v->marks);
	assert_ok(ferry_chan_pair(end, &e));
	v->source = end[0];
	ferry_chan_set_name(end[1], "data 0");
	assert_ok(ferry_inbuf_init(&in, end[1], 65536, &e));
	v->rx = (struct ferry_receiver){
		.gate = &v->marks, .place = &v->r.place, .failed = on_failed,
		.arg = v, .methods = v->methods, .flow = &v->flow,
	};
	assert_ok(ferry_receiver_start(&v->rx, &in, &e));
	assert_null(in.data);
}

static void start_plain(struct recv *v)
{
	*v = (struct recv){ 0 };
	rig_add(&v->r, MEMFD, PAGES);
	rig_add(&v->r, PRIVATE, PAGES);
	start(v);
}

/* The receiver has ended: nothing it does is seen later. */
static void stop(struct recv *v)
{
	ferry_receiver_stop(&v->rx);
	ferry_receiver_stop(&v->rx);	/* does nothing */
}

static void finish(struct recv *v)
{
	stop(v);
	ferry_chan_close(v->source);
	ferry_marks_fini(&v->marks);
	rig_fini(&v->r);
}

static void say(struct recv *v, const void *data, size_t n)
{
	struct ferry_err e = { 0 };

	(void)!ferry_chan_write(v->source, data, n, &e);
}

/* Offsets in pages; the normal ones' content is version 1. */
static void send(struct recv *v, const char *name, uint32_t flags,
		 const uint64_t *page, uint32_t normal, uint32_t zero)
{
	FERRY_AUTO_FREE uint8_t *octets = malloc(FERRY_PACKET_WIRE +
						 normal * PAGE);
	struct ferry_wr w = ferry_wr_over(octets, FERRY_PACKET_WIRE);
	struct ferry_packet p = {
		.flags = flags, .normal_pages = normal, .zero_pages = zero,
		.payload_bytes = (uint32_t)(normal * PAGE), .packet_num = 1,
	};

	assert_non_null(octets);
	snprintf(p.name, sizeof(p.name), "%s", name);
	for (uint32_t i = 0; i < normal + zero; i++)
		p.offset[i] = page[i] * PAGE;
	ferry_packet_encode(&w, &p);
	assert_false(w.bad);
	for (uint32_t i = 0; i < normal; i++)
		fill_page(octets + FERRY_PACKET_WIRE + i * PAGE, page[i], 1);
	say(v, octets, FERRY_PACKET_WIRE + normal * PAGE);
}

static void send_mark(struct recv *v, uint32_t sequence)
{
	uint8_t octets[FERRY_PACKET_WIRE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
	struct ferry_packet p = { .flags = FERRY_PACKET_SYNC,
				  .packet_num = sequence };

	ferry_packet_encode(&w, &p);
	say(v, octets, sizeof(octets));
}

static int await(struct recv *v, uint32_t sequence, struct ferry_err *e)
{
	return ferry_marks_wait(&v->marks, &v->rx, sequence, LONG_MS, e);
}

/* ---- pages and marks ---------------------------------------------------- */

static void pages_before_a_mark_are_placed_when_it_is_told(void **state)
{
	static const uint64_t list[] = { 3, 4, 5, 9, 200, /* zero: */ 6, 7 };
	struct ferry_err e = { 0 };
	struct recv v;

	(void)state;
	start_plain(&v);
	send(&v, "a", 0, list, 5, 2);
	send(&v, "b", 0, list, 0, 5);
	send_mark(&v, 1);
	if (await(&v, 1, &e))
		fail_msg("%s", e.msg);
	for (unsigned i = 0; i < 5; i++) {
		assert_true(page_is(&v.r, 0, list[i], 1));
		assert_true(ferry_map_is_here(&v.r.map, 0, list[i]));
		assert_true(ferry_map_is_zero(&v.r.map, 1, list[i]));
	}
	assert_true(ferry_map_is_zero(&v.r.map, 0, 6));
	assert_true(ferry_map_is_zero(&v.r.map, 0, 7));
	assert_int_equal(ferry_map_missing(&v.r.map), 2 * PAGES - 7 - 5);
	finish(&v);
}

static void a_full_packet_is_placed(void **state)
{
	struct ferry_err e = { 0 };
	uint64_t list[128];
	struct recv v;

	(void)state;
	start_plain(&v);
	for (unsigned i = 0; i < 128; i++)
		list[i] = 2 * i;	/* nothing to join */
	send(&v, "a", 0, list, 128, 0);
	send_mark(&v, 1);
	assert_ok(await(&v, 1, &e));
	for (unsigned i = 0; i < 128; i++)
		assert_true(page_is(&v.r, 0, list[i], 1));
	finish(&v);
}

/* A packet names normal pages first: the two lists are merged by address. */
static void pieces_of_a_huge_page_come_in_the_order_of_their_addresses(
							void **state)
{
	struct ferry_err e = { 0 };
	struct recv v = { 0 };
	uint64_t list[128];

	(void)state;
	rig_add_huge_in_name(&v.r, HUGE_PAGES);
	start(&v);
	/* As in postcopy, but a note is enough: it is never whole here. */
	atomic_store(&v.r.place.ops, &ferry_place_postcopy);
	for (unsigned i = 0; i < 64; i++) {
		list[i] = 2 * i;
		list[64 + i] = 2 * i + 1;
	}
	send(&v, "a", 0, list, 64, 64);
	send_mark(&v, 1);
	if (await(&v, 1, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(v.rx.placer.have, 128);
	assert_int_equal(atomic_load(&v.failures), 0);
	finish(&v);
}

static void a_later_mark_covers_the_earlier(void **state)
{
	struct ferry_err e = { 0 };
	struct recv v;

	(void)state;
	start_plain(&v);
	send_mark(&v, 5);
	assert_ok(await(&v, 5, &e));
	assert_ok(await(&v, 3, &e));
	finish(&v);
}

static void a_mark_that_was_read_counts_though_the_channel_broke_after(
							void **state)
{
	struct ferry_err e = { 0 };
	struct recv v;

	(void)state;
	start_plain(&v);
	send_mark(&v, 1);
	v.source->ops->shutdown(v.source);
	assert_ok(await(&v, 1, &e));
	assert_int_equal(await(&v, 2, &e), -1);
	assert_says(&e, FERRY_E_CLOSED, "channel data 0");
	finish(&v);
}

static void silence_ends_the_wait(void **state)
{
	struct ferry_err e = { 0 };
	struct recv v;

	(void)state;
	start_plain(&v);
	send_mark(&v, 1);
	assert_int_equal(ferry_marks_wait(&v.marks, &v.rx, 2, 30, &e), -1);
	assert_int_equal(e.code, FERRY_E_TIMEOUT);
	finish(&v);
}

static void closing_ends_the_wait(void **state)
{
	struct ferry_err e = { 0 };
	struct recv v;

	(void)state;
	start_plain(&v);
	ferry_marks_close(&v.marks);
	assert_int_equal(await(&v, 1, &e), -1);
	assert_int_equal(e.code, FERRY_E_CANCELLED);
	finish(&v);
}

/* ---- what is refused ---------------------------------------------------- */

static const struct {
	const char	*why;
	const char	*name;
	uint32_t	 flags;
	uint64_t	 page[4];
	uint32_t	 normal, zero;
	const char	*says;
} bad[] = {
	{ "no such block", "rom\n", 0, { 1 }, 1, 0,
		"pages of block rom?, which there is not" },
	{ "no name", "", 0, { 1 }, 1, 0, "" },
	{ "just past the end", "a", 0, { PAGES }, 1, 0, "" },
	{ "a zero page past the end", "a", 0, { 1, 2, PAGES }, 2, 1, "" },
	{ "far past the end", "a", 0, { UINT64_MAX / PAGE }, 1, 0, "" },
	{ "compressed", "a", FERRY_PACKET_ZSTD, { 1 }, 1, 0, "" },
	{ "device state", "a", FERRY_PACKET_DEVICE_STATE, { 1 }, 1, 0, "" },
	{ "a mark with a page", "a", FERRY_PACKET_SYNC, { 1 }, 1, 0,
		"a mark with pages" },
	{ "a mark with a zero page", "a", FERRY_PACKET_SYNC, { 1 }, 0, 1,
		"a mark with pages" },
	{ "an unknown flag", "a", 0x80, { 1 }, 1, 0, "" },
};

static void await_failure(struct recv *v)
{
	while (!atomic_load(&v->failures))
		usleep(100);
}

static void packets_that_may_not_be_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		struct ferry_err e = { 0 };
		struct recv v;

		start_plain(&v);
		send(&v, bad[i].name, bad[i].flags, bad[i].page,
		     bad[i].normal, bad[i].zero);
		await_failure(&v);
		if (v.why.code != FERRY_E_PROTO || !v.why.msg[0] ||
		    !strstr(v.why.msg, bad[i].says))
			fail_msg("%s: %d '%s'", bad[i].why, v.why.code,
				 v.why.msg);
		/* Who waits hears the same, and nothing was placed. */
		if (!await(&v, 1, &e))
			fail_msg("%s: told as a mark", bad[i].why);
		assert_string_equal(e.msg, v.why.msg);
		assert_int_equal(ferry_map_missing(&v.r.map), 2 * PAGES);
		assert_int_equal(allocated(&v.r, 0), 0);
		stop(&v);
		assert_int_equal(atomic_load(&v.failures), 1);
		finish(&v);
	}
}

static void offsets_inside_a_page_are_refused(void **state)
{
	uint8_t octets[FERRY_PACKET_WIRE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
	struct ferry_packet p = { .zero_pages = 1, .name = "a",
				  .offset = { 100 } };
	struct recv v;

	(void)state;
	start_plain(&v);
	ferry_packet_encode(&w, &p);
	say(&v, octets, sizeof(octets));
	await_failure(&v);
	assert_int_equal(v.why.code, FERRY_E_PROTO);
	finish(&v);
}

static void junk_is_refused(void **state)
{
	uint8_t junk[FERRY_PACKET_WIRE];
	struct recv v;

	(void)state;
	memset(junk, 0x5a, sizeof(junk));
	start_plain(&v);
	say(&v, junk, sizeof(junk));
	await_failure(&v);
	assert_int_equal(v.why.code, FERRY_E_PROTO);
	finish(&v);
}

/* Nothing of a packet is placed before all of it is there. */
static void a_packet_cut_anywhere_places_nothing(void **state)
{
	static const size_t cuts[] = {
		0, 1, 63, 64, FERRY_PACKET_WIRE - 1, FERRY_PACKET_WIRE,
		FERRY_PACKET_WIRE + 1, FERRY_PACKET_WIRE + PAGE,
		FERRY_PACKET_WIRE + 2 * PAGE - 1,
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(cuts); i++) {
		uint8_t octets[FERRY_PACKET_WIRE + 2 * PAGE] = { 0 };
		struct ferry_wr w = ferry_wr_over(octets, FERRY_PACKET_WIRE);
		struct ferry_packet p = {
			.normal_pages = 2, .payload_bytes = 2 * PAGE,
			.name = "a", .offset = { 0, PAGE },
		};
		struct recv v;

		start_plain(&v);
		ferry_packet_encode(&w, &p);
		say(&v, octets, cuts[i]);
		v.source->ops->shutdown(v.source);
		await_failure(&v);
		assert_says(&v.why, FERRY_E_CLOSED, "channel data 0");
		assert_int_equal(ferry_map_missing(&v.r.map), 2 * PAGES);
		finish(&v);
	}
}

static void a_silent_receiver_can_be_stopped(void **state)
{
	struct ferry_receiver never = { 0 };
	struct recv v;

	(void)state;
	start_plain(&v);
	finish(&v);
	ferry_receiver_stop(&never);
}

/* ---- compressed packets -------------------------------------------------- */

#define ZLIB	FERRY_PACKET_ZLIB
#define ZSTD	FERRY_PACKET_ZSTD

static void start_packed(struct recv *v)
{
	*v = (struct recv){ .methods = FERRY_UNPACK_METHODS };
	rig_add(&v->r, MEMFD, PAGES);
	rig_add(&v->r, PRIVATE, PAGES);
	start(v);
}

/* Pages first to first + n - 1 of block "a", version 1; claim: octets that the
 * header says, if not 0. */
static void send_packed(struct recv *v, struct ferry_squeeze *q, uint32_t flags,
			uint64_t first, uint32_t n, uint32_t claim)
{
	FERRY_AUTO_FREE uint8_t *pages = malloc(n * PAGE);
	uint8_t head[FERRY_PACKET_WIRE];
	struct ferry_wr w = ferry_wr_over(head, sizeof(head));
	struct ferry_packet p = { .flags = flags, .normal_pages = n,
				  .packet_num = 1, .name = "a" };
	struct iovec in = { pages, n * PAGE }, out = in;
	struct ferry_err e = { 0 };

	assert_non_null(pages);
	for (uint32_t i = 0; i < n; i++) {
		fill_page(pages + i * PAGE, first + i, 1);
		p.offset[i] = (first + i) * PAGE;
	}
	if (q)
		assert_ok(ferry_squeeze_packet(q, &in, 1, &out, &e));
	p.payload_bytes = claim ? claim : (uint32_t)out.iov_len;
	ferry_packet_encode(&w, &p);
	say(v, head, sizeof(head));
	say(v, out.iov_base, out.iov_len);
}

static void compressed_and_plain_packets_may_take_turns(void **state)
{
	static const uint32_t methods[] = { ZLIB, ZSTD };

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(methods); i++) {
		struct ferry_err e = { 0 };
		struct ferry_squeeze *q = ferry_squeeze_open(methods[i], 1,
							     &e);
		struct recv v;

		start_packed(&v);
		send_packed(&v, q, methods[i], 0, 100, 0);
		send_packed(&v, q, methods[i], 100, 3, 0);
		send_mark(&v, 1);
		send_packed(&v, q, methods[i], 103, 7, 0);
		send_packed(&v, NULL, 0, 110, 5, 0);
		ferry_squeeze_restart(q);
		send_packed(&v, q, methods[i], 115, 128, 0);
		send_mark(&v, 2);
		assert_ok(await(&v, 2, &e));
		for (uint64_t p = 0; p < 243; p++)
			assert_true(page_is(&v.r, 0, p, 1));
		assert_int_equal(ferry_counted(&v.flow.packed_from),
				 238 * PAGE);
		assert_int_equal(ferry_counted(&v.flow.normal_pages), 243);
		assert_int_equal(atomic_load(&v.flow.method), methods[i]);
		ferry_squeeze_close(q);
		finish(&v);
	}
}

static const struct {
	const char *why;
	uint32_t first, second;		/* flags of two packets */
	bool	 compress;		/* the second one really is */
	uint32_t claim;
	const char *says;
} bad_packed[] = {
	{ "nonsense", ZLIB, ZLIB, false, 4095, "damaged" },
	{ "nonsense", ZSTD, ZSTD, false, 4095, "damaged" },
	{ "the other method", ZSTD, ZLIB, true, 0, "damaged" },
	{ "not smaller", ZSTD, ZSTD, false, 4096, "4096 compressed octets for "
	  "1 pages" },
	{ "larger", ZLIB, ZLIB, false, 5000, "5000 compressed octets for 1 "
	  "pages" },
	{ "empty", ZSTD, ZSTD, true, 0xffffffff, "octets for 1 pages" },
	{ "a stream goes on behind a plain packet", 0, ZSTD, true, 0,
	  "damaged" },
};

static void compressed_packets_that_lie_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad_packed); i++) {
		uint32_t method = bad_packed[i].second;
		struct ferry_err e = { 0 };
		struct ferry_squeeze *q = ferry_squeeze_open(method, 1, &e);
		struct recv v;

		start_packed(&v);
		send_packed(&v, q, method, 0, 16, 0);
		if (!bad_packed[i].first)
			send_packed(&v, NULL, 0, 16, 1, 0);
		if (bad_packed[i].first && bad_packed[i].first != method) {
			ferry_squeeze_close(q);
			method = bad_packed[i].first;
			q = ferry_squeeze_open(method, 1, &e);
		}
		send_packed(&v, bad_packed[i].compress ? q : NULL, method, 17,
			    1, bad_packed[i].claim);
		await_failure(&v);
		if (v.why.code != FERRY_E_PROTO ||
		    !strstr(v.why.msg, bad_packed[i].says))
			fail_msg("%s: %d '%s'", bad_packed[i].why, v.why.code,
				 v.why.msg);
		assert_false(ferry_map_is_here(&v.r.map, 0, 17));
		ferry_squeeze_close(q);
		finish(&v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			pages_before_a_mark_are_placed_when_it_is_told),
		cmocka_unit_test(a_full_packet_is_placed),
		cmocka_unit_test(
		pieces_of_a_huge_page_come_in_the_order_of_their_addresses),
		cmocka_unit_test(a_later_mark_covers_the_earlier),
		cmocka_unit_test(
		a_mark_that_was_read_counts_though_the_channel_broke_after),
		cmocka_unit_test(silence_ends_the_wait),
		cmocka_unit_test(closing_ends_the_wait),
		cmocka_unit_test(packets_that_may_not_be_are_refused),
		cmocka_unit_test(offsets_inside_a_page_are_refused),
		cmocka_unit_test(junk_is_refused),
		cmocka_unit_test(compressed_and_plain_packets_may_take_turns),
		cmocka_unit_test(compressed_packets_that_lie_are_refused),
		cmocka_unit_test(a_packet_cut_anywhere_places_nothing),
		cmocka_unit_test(a_silent_receiver_can_be_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
