/* SPDX-License-Identifier: MIT */
/*
 * The fault thread: each missing page is asked for once, whoever touches it;
 * what is known to be zero is filled without asking.
 *
 * Skipped where there is no userfaultfd.
 */
#include "help.h"

#include "chan/inbuf.h"
#include "recv/fault.h"

#define PAGES	64u

struct faults {
	struct rig	r;
	struct ferry_chan *end[2];	/* ours, the source's */
	struct ferry_answer answer;
	struct ferry_fault_thread thread;
	struct ferry_inbuf in;		/* at the source */
	_Atomic unsigned failures;
	struct ferry_err why;		/* of the first */
};

static void on_failed(void *arg, const struct ferry_err *why)
{
	struct faults *f = arg;

	if (!atomic_load(&f->failures))
		f->why = *why;
	atomic_fetch_add(&f->failures, 1);
}

/* Two blocks of 4 KiB pages are in f->r already, or others. */
static void begin(struct faults *f)
{
	struct ferry_err e = { 0 };

	rig_init(&f->r);
	if (ferry_place_begin(&f->r.place, &e) ||
	    ferry_place_listen(&f->r.place, &e))
		fail_msg("%s", e.msg);
	assert_ok(ferry_chan_pair(f->end, &e));
	ferry_chan_set_name(f->end[0], "main");
	ferry_answer_init(&f->answer);
	ferry_answer_open(&f->answer, f->end[0], FERRY_DIALECT_FERRY);
	assert_ok(ferry_inbuf_init(&f->in, f->end[1], FERRY_RP_MAX, &e));
	f->thread = (struct ferry_fault_thread){
		.place = &f->r.place, .answer = &f->answer,
		.failed = on_failed, .arg = f,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
}

static void run(struct faults *f)
{
	struct ferry_err e = { 0 };

	if (ferry_fault_start(&f->thread, &e))
		fail_msg("%s", e.msg);
}

static void start(struct faults *f)
{
	*f = (struct faults){ 0 };
	rig_add(&f->r, MEMFD, PAGES);
	rig_add(&f->r, PRIVATE, PAGES);
	begin(f);
	run(f);
}

static void finish(struct faults *f)
{
	ferry_fault_stop(&f->thread);
	ferry_fault_stop(&f->thread);	/* does nothing */
	ferry_answer_fini(&f->answer);
	ferry_inbuf_fini(&f->in);
	ferry_chan_close(f->end[0]);
	ferry_chan_close(f->end[1]);
	rig_fini(&f->r);
}

/* The next request that the source reads. */
static void expect_request(struct faults *f, const char *name, uint64_t first,
			   uint64_t pages)
{
	struct ferry_err e = { 0 };
	struct ferry_rp m;
	size_t need_bytes = FERRY_RP_HEAD_WIRE;
	int rc = FERRY_DECODE_MORE;

	while (rc == FERRY_DECODE_MORE) {
		const uint8_t *at = ferry_inbuf_need(&f->in, need_bytes, &e);
		struct ferry_rd rd;

		if (!at)
			fail_msg("%s", e.msg);
		rd = ferry_rd_over(at, ferry_inbuf_have(&f->in));
		rc = ferry_rp_decode(&rd, FERRY_DIALECT_FERRY, &m, &e);
		if (rc == FERRY_DECODE_DONE)
			ferry_inbuf_consume(&f->in, (size_t)(rd.p - at));
		need_bytes = ferry_inbuf_have(&f->in) + rd.lack;
	}
	assert_int_equal(rc, FERRY_DECODE_DONE);
	assert_int_equal(m.type, *name ? FERRY_RP_REQ_PAGES_ID :
					 FERRY_RP_REQ_PAGES);
	assert_string_equal(m.name, name);
	assert_int_equal(m.span.start, first * PAGE);
	assert_int_equal(m.span.bytes, pages * PAGE);
}

/* Nothing is on its way to the source but what comes next. */
static void expect_nothing_before(struct faults *f, struct toucher *t,
				  uint64_t page, const char *name)
{
	touch(t, f->r.area[0].p + page * PAGE);
	expect_request(f, name, page, 1);
	assert_ok(put(&f->r, 0, page, 1, 9));
	assert_int_equal(touched(t), octet(page, 9));
}

static uint64_t seen(struct faults *f)
{
	return ferry_counted(&f->thread.faults);
}

static void a_fault_is_a_request_and_a_page_its_answer(void **state)
{
	struct toucher t = { 0 };
	struct faults f;

	(void)state;
	start(&f);
	touch(&t, f.r.area[0].p + 12 * PAGE + 100);
	expect_request(&f, "a", 12, 1);
	assert_int_equal(atomic_load(&t.got), -1);
	assert_ok(put(&f.r, 0, 12, 1, 1));
	assert_int_equal(touched(&t), octet(12, 1));
	assert_int_equal(seen(&f), 1);
	assert_true(f.r.place.faults.max_ns > 0);
	finish(&f);
}

static void a_block_is_named_when_it_changes(void **state)
{
	static const struct { unsigned block; uint64_t page; const char *name; }
	rows[] = {
		{ 0, 1, "a" }, { 0, 2, "" }, { 1, 3, "b" }, { 1, 4, "" },
		{ 0, 5, "a" },
	};
	struct faults f;

	(void)state;
	start(&f);
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct toucher t = { 0 };

		touch(&t, f.r.area[rows[i].block].p + rows[i].page * PAGE);
		expect_request(&f, rows[i].name, rows[i].page, 1);
		assert_ok(put(&f.r, rows[i].block, rows[i].page, 1, 1));
		assert_int_equal(touched(&t), octet(rows[i].page, 1));
	}
	finish(&f);
}

static void a_page_is_asked_for_once_however_many_wait(void **state)
{
	struct toucher t[4] = { { { 0 } } };
	struct faults f;

	(void)state;
	start(&f);
	for (unsigned i = 0; i < 3; i++)
		touch(&t[i], f.r.area[0].p + 20 * PAGE + i);
	expect_request(&f, "a", 20, 1);
	while (seen(&f) < 3)
		usleep(100);
	expect_nothing_before(&f, &t[3], 21, "");
	assert_ok(put(&f.r, 0, 20, 1, 1));
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(touched(&t[i]), octet(20, 1));
	finish(&f);
}

static void a_known_zero_page_is_filled_without_asking(void **state)
{
	struct toucher t[2] = { { { 0 } } };
	struct faults f;

	(void)state;
	start(&f);
	assert_ok(put_zeroes(&f.r, 0, 0, 8));
	assert_int_equal(allocated(&f.r, 0), 0);
	touch(&t[0], f.r.area[0].p + 3 * PAGE);
	assert_int_equal(touched(&t[0]), 0);
	assert_int_equal(allocated(&f.r, 0), PAGE);
	expect_nothing_before(&f, &t[1], 30, "a");
	/* The kernel wakes who waits; the count comes after, but before the
	 * next fault is looked at. */
	assert_int_equal(ferry_counted(&f.thread.zero_filled), 1);
	finish(&f);
}

/* The kernel tells of a fault that has been served meanwhile. */
static void a_page_that_came_meanwhile_is_not_asked_for(void **state)
{
	struct toucher t[2] = { { { 0 } } };
	struct faults f = { 0 };

	(void)state;
	rig_add(&f.r, MEMFD, PAGES);
	begin(&f);
	touch(&t[0], f.r.area[0].p + 3 * PAGE);
	await_fault(&f.r.place);
	ferry_map_set_here(&f.r.map, 0, 3, 1);
	run(&f);
	while (seen(&f) < 1)
		usleep(100);
	expect_nothing_before(&f, &t[1], 30, "a");
	/* Woken to look again, it found the page still missing: now it is. */
	assert_ok(put(&f.r, 0, 3, 1, 1));
	assert_int_equal(touched(&t[0]), octet(3, 1));
	finish(&f);
}

static void a_huge_page_is_asked_for_as_a_whole(void **state)
{
	struct toucher t = { 0 };
	struct faults f = { 0 };

	(void)state;
	if (!rig_add(&f.r, HUGE_MEMFD, 2 * HUGE_PAGES)) {
		print_message("SKIP: no 2 free huge pages\n");
		skip();
	}
	begin(&f);
	run(&f);
	touch(&t, f.r.area[0].p + HUGE + 77 * PAGE);
	expect_request(&f, "a", HUGE_PAGES, HUGE_PAGES);
	assert_ok(put(&f.r, 0, HUGE_PAGES, HUGE_PAGES, 1));
	assert_int_equal(touched(&t), octet(HUGE_PAGES + 77, 1));
	finish(&f);
}

static void without_a_way_back_faults_are_failures_but_zeroes_are_filled(
							void **state)
{
	struct toucher t[2] = { { { 0 } } };
	struct faults f;

	(void)state;
	start(&f);
	f.end[0]->ops->shutdown(f.end[0]);
	touch(&t[0], f.r.area[0].p + 1 * PAGE);
	while (!atomic_load(&f.failures))
		usleep(100);
	assert_true(ferry_err_is_link(&f.why));
	assert_non_null(strstr(f.why.msg, "channel main: write"));
	assert_ok(put_zeroes(&f.r, 0, 2, 1));
	touch(&t[1], f.r.area[0].p + 2 * PAGE);
	assert_int_equal(touched(&t[1]), 0);
	assert_ok(put(&f.r, 0, 1, 1, 1));
	assert_int_equal(touched(&t[0]), octet(1, 1));
	finish(&f);
}

/* Every page is touched by two threads while bulk brings them in another
 * order, some as zeroes: nobody is forgotten. */
struct crowd {
	struct faults	*f;
	struct ferry_thread thread;
	unsigned	 wrong;
};

static void read_all(void *arg)
{
	struct crowd *c = arg;

	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t p = i * 37 % PAGES;
		uint8_t want = p % 3 ? octet(p, 1) : 0;

		if (*(volatile uint8_t *)(c->f->r.area[0].p + p * PAGE) != want)
			c->wrong++;
	}
}

static void nobody_waits_for_ever_while_pages_come_in_any_order(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		struct crowd c[2] = { { 0 } };
		struct ferry_err e;
		struct faults f;

		start(&f);
		for (unsigned i = 0; i < 2; i++) {
			c[i].f = &f;
			assert_ok(ferry_thread_start(&c[i].thread, "reader",
						     read_all, &c[i], &e));
		}
		for (uint64_t p = PAGES; p--;)
			assert_ok(p % 3 ? put(&f.r, 0, p, 1, 1) :
					  put_zeroes(&f.r, 0, p, 1));
		for (unsigned i = 0; i < 2; i++) {
			ferry_thread_join(&c[i].thread);
			assert_int_equal(c[i].wrong, 0);
		}
		finish(&f);
	}
}

/* The link is lost: who touches what is missing is remembered, also one that
 * the source was asked for already; each is asked for once on the next link. */
static void who_waits_is_asked_for_again_once(void **state)
{
	struct toucher t[3] = { { { 0 } } };
	struct ferry_err e;
	struct faults f;

	(void)state;
	start(&f);
	touch(&t[0], f.r.area[0].p + 3 * PAGE);
	expect_request(&f, "a", 3, 1);
	ferry_fault_mute(&f.thread);
	touch(&t[1], f.r.area[0].p + 5 * PAGE);
	while (seen(&f) < 2)
		usleep(1000);
	/* One that is known to be zero needs no link. */
	ferry_map_set_zero(&f.r.map, 0, 7, 1);
	touch(&t[2], f.r.area[0].p + 7 * PAGE);
	assert_int_equal(touched(&t[2]), 0);

	ferry_answer_open(&f.answer, f.end[0], FERRY_DIALECT_FERRY);
	assert_ok(ferry_fault_ask_again(&f.thread, &e));
	expect_request(&f, "a", 3, 1);
	expect_request(&f, "", 5, 1);
	assert_ok(put(&f.r, 0, 3, 1, 9));
	assert_ok(put(&f.r, 0, 5, 1, 9));
	assert_int_equal(touched(&t[0]), octet(3, 9));
	assert_int_equal(touched(&t[1]), octet(5, 9));
	/* And nothing more: who comes now is asked for as ever. */
	touch(&t[0], f.r.area[0].p + 9 * PAGE);
	expect_request(&f, "", 9, 1);
	assert_ok(put(&f.r, 0, 9, 1, 9));
	touched(&t[0]);
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fault_is_a_request_and_a_page_its_answer),
		cmocka_unit_test(a_block_is_named_when_it_changes),
		cmocka_unit_test(a_page_is_asked_for_once_however_many_wait),
		cmocka_unit_test(a_known_zero_page_is_filled_without_asking),
		cmocka_unit_test(a_page_that_came_meanwhile_is_not_asked_for),
		cmocka_unit_test(a_huge_page_is_asked_for_as_a_whole),
		cmocka_unit_test(
	without_a_way_back_faults_are_failures_but_zeroes_are_filled),
		cmocka_unit_test(
			nobody_waits_for_ever_while_pages_come_in_any_order),
		cmocka_unit_test(who_waits_is_asked_for_again_once),
	};
	struct ferry_err e = { 0 };

	need(have_uffd(&e), e.msg);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
