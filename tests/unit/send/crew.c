/* SPDX-License-Identifier: MIT */
/*
 * The senders: all pages by all channels, marks, a pass that is halted, and
 * what one broken channel does to the others.
 */
#include "help.h"

#include "base/clock.h"
#include "send/crew.h"

#define PAGES		2048u
#define CHANNELS	3u
#define FOREVER		UINT64_MAX
#define SOON		(ferry_now_ns() + 50 * FERRY_NS_PER_MS)

struct rig {
	struct area	area;
	struct ferry_mem mem;
	struct ferry_owed owed;
	struct ferry_select sel;
	struct ferry_bitmap at_target;
	struct ferry_send_counters count;
	struct ferry_crew crew;
	struct sink	sink[CHANNELS];
	struct ferry_chan *chan[CHANNELS];	/* with a fault layer */
	struct tally	tally;
	uint8_t		*wanted[TALLY_BLOCKS_MAX];
	bool		 is_made_up;
};

static void add_memory(struct rig *r, bool huge)
{
	area_make(&r->area, MEMFD, PAGES * PAGE);
	for (unsigned p = 0; p < PAGES; p++)
		memset(r->area.p + p * PAGE, p % 5 ? (int)(p | 1) : 0, PAGE);
	if (!huge) {
		area_add(&r->mem, "ram", &r->area);
		return;
	}
	/* To the senders a block of huge pages is a way of counting. */
	made_up_block(&r->mem, "huge", PAGES, HUGE);
	r->mem.block[0].host = r->area.p;
	r->is_made_up = true;
}

static void add_channel(struct rig *r, unsigned i,
			const struct ferry_fault *fault)
{
	struct ferry_err e = { 0 };
	char name[16];

	snprintf(name, sizeof(name), "data %u", i);
	r->chan[i] = sink_open(&r->sink[i], name);
	if (fault) {
		r->chan[i] = ferry_chan_fault(r->chan[i], fault, &e);
		assert_non_null(r->chan[i]);
		ferry_chan_set_name(r->chan[i], "%s", name);
	}
	assert_ok(ferry_crew_add(&r->crew, r->chan[i], true,
				 ferry_encoder_packets, &e));
}

/* fault: of the last channel. */
static void rig_init(struct rig *r, bool huge, const struct ferry_fault *fault)
{
	struct ferry_err e = { 0 };

	*r = (struct rig){ 0 };
	add_memory(r, huge);
	assert_ok(ferry_owed_init(&r->owed, &r->mem, &e));
	assert_ok(ferry_select_init(&r->sel, &r->mem, &r->owed, NULL, 0, false,
				    &e));
	assert_ok(ferry_bitmap_init(&r->at_target, PAGES, &e));
	ferry_crew_init(&r->crew, &r->sel, &r->count, &r->at_target);
	for (unsigned i = 0; i < CHANNELS; i++)
		add_channel(r, i, i == CHANNELS - 1 ? fault : NULL);
	tally_init(&r->tally, &r->mem);
	r->wanted[0] = calloc(PAGES, 1);
	assert_non_null(r->wanted[0]);
	ferry_owed_mark(&r->owed, 0, 0, PAGES);
	memset(r->wanted[0], 1, PAGES);
}

/* The channels are closed then, and all that was sent has been read. */
static void receive(struct rig *r)
{
	ferry_crew_stop(&r->crew);
	for (unsigned i = 0; i < CHANNELS; i++) {
		sink_wait(&r->sink[i]);
		tally_packets(&r->tally, r->sink[i].data, r->sink[i].bytes);
	}
}

static void rig_fini(struct rig *r)
{
	ferry_crew_fini(&r->crew);
	for (unsigned i = 0; i < CHANNELS; i++)
		sink_fini(&r->sink[i]);
	tally_fini(&r->tally);
	free(r->wanted[0]);
	ferry_bitmap_fini(&r->at_target);
	ferry_select_fini(&r->sel);
	ferry_owed_fini(&r->owed);
	if (r->is_made_up)
		free(r->mem.block);
	else
		ferry_mem_fini(&r->mem);
	area_free(&r->area);
}

static void run(struct rig *r, enum ferry_job job, uint32_t sequence)
{
	struct ferry_err e = { 0 };

	ferry_crew_begin(&r->crew, job, sequence);
	if (ferry_crew_wait(&r->crew, FOREVER, &e) != 1)
		fail_msg("%s", e.msg);
}

static void a_pass_sends_all_that_is_owed_by_all_channels(void **state)
{
	(void)state;
	for (int huge = 0; huge < 2; huge++) {
		struct rig r;

		rig_init(&r, huge, NULL);
		run(&r, FERRY_JOB_PASS, 0);
		assert_int_equal(ferry_owed_pages(&r.owed), 0);
		assert_int_equal(ferry_bitmap_count(&r.at_target), PAGES);
		receive(&r);
		tally_check(&r.tally, r.wanted);
		for (unsigned i = 0; i < CHANNELS; i++)
			assert_true(r.sink[i].bytes > 0);
		assert_int_equal(ferry_counted(&r.count.bytes),
				 r.sink[0].bytes + r.sink[1].bytes +
				 r.sink[2].bytes);
		rig_fini(&r);
	}
}

static void a_second_pass_sends_what_was_written_since(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, false, NULL);
	run(&r, FERRY_JOB_PASS, 0);
	ferry_owed_mark(&r.owed, 0, 700, 100);
	memset(r.wanted[0] + 700, 2, 100);
	run(&r, FERRY_JOB_PASS, 0);
	run(&r, FERRY_JOB_PASS, 0);
	receive(&r);
	tally_check(&r.tally, r.wanted);
	rig_fini(&r);
}

static void a_mark_comes_last_on_every_channel(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, false, NULL);
	run(&r, FERRY_JOB_PASS, 0);
	run(&r, FERRY_JOB_SYNC, 42);
	ferry_crew_stop(&r.crew);
	for (unsigned i = 0; i < CHANNELS; i++) {
		sink_wait(&r.sink[i]);
		tally_packets(&r.tally, r.sink[i].data, r.sink[i].bytes);
		assert_true(r.tally.ends_with_sync);
		assert_int_equal(r.tally.syncs, i + 1);
		assert_int_equal(r.tally.last_sync, 42);
	}
	tally_check(&r.tally, r.wanted);
	rig_fini(&r);
}

/* ---- halting ------------------------------------------------------------ */

static void nothing_came_that_is_still_owed(struct rig *r)
{
	for (uint64_t p = 0; p < PAGES; p++)
		r->wanted[0][p] = !ferry_bitmap_test(&r->owed.map[0], p);
	tally_check(&r->tally, r->wanted);
}

static void a_halted_pass_ends_and_leaves_the_rest_owed(void **state)
{
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r, false, NULL);
	ferry_pace_set(&r.crew.pace, 4096);	/* half an hour */
	ferry_crew_begin(&r.crew, FERRY_JOB_PASS, 0);
	assert_int_equal(ferry_crew_wait(&r.crew, SOON, &e), 0);
	ferry_crew_halt(&r.crew);
	assert_int_equal(ferry_crew_wait(&r.crew, FOREVER, &e), 1);
	assert_true(ferry_owed_pages(&r.owed) > 0);
	assert_int_equal(ferry_bitmap_count(&r.at_target),
			 PAGES - ferry_owed_pages(&r.owed));
	receive(&r);
	nothing_came_that_is_still_owed(&r);
	rig_fini(&r);
}

static void a_halt_never_leaves_half_a_huge_page(void **state)
{
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r, true, NULL);
	ferry_pace_set(&r.crew.pace, 1 << 20);
	ferry_crew_begin(&r.crew, FERRY_JOB_PASS, 0);
	assert_int_equal(ferry_crew_wait(&r.crew, SOON, &e), 0);
	ferry_crew_halt(&r.crew);
	assert_int_equal(ferry_crew_wait(&r.crew, FOREVER, &e), 1);
	receive(&r);
	for (uint64_t p = 0; p < PAGES; p++)
		assert_int_equal(r.tally.count[0][p],
				 r.tally.count[0][p - p % HUGE_PAGES]);
	nothing_came_that_is_still_owed(&r);
	rig_fini(&r);
}

static void after_a_halt_the_next_pass_goes_on(void **state)
{
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r, false, NULL);
	ferry_pace_set(&r.crew.pace, 1 << 20);
	ferry_crew_begin(&r.crew, FERRY_JOB_PASS, 0);
	ferry_crew_halt(&r.crew);
	assert_int_equal(ferry_crew_wait(&r.crew, FOREVER, &e), 1);
	ferry_pace_set(&r.crew.pace, 0);
	run(&r, FERRY_JOB_PASS, 0);
	receive(&r);
	tally_check(&r.tally, r.wanted);
	rig_fini(&r);
}

static void a_new_limit_holds_at_once(void **state)
{
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r, false, NULL);
	ferry_pace_set(&r.crew.pace, 4096);	/* half an hour */
	ferry_crew_begin(&r.crew, FERRY_JOB_PASS, 0);
	assert_int_equal(ferry_crew_wait(&r.crew, SOON, &e), 0);
	ferry_pace_set(&r.crew.pace, 0);
	assert_int_equal(ferry_crew_wait(&r.crew, ferry_now_ns() +
					 60 * FERRY_NS_PER_S, &e), 1);
	receive(&r);
	tally_check(&r.tally, r.wanted);
	rig_fini(&r);
}

/* ---- failures ----------------------------------------------------------- */

static unsigned busy(struct ferry_crew *c)
{
	unsigned n;

	pthread_mutex_lock(&c->lock);
	n = c->busy;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static uint64_t owed_of_share(struct rig *r, unsigned share)
{
	uint64_t n = 0;

	for (uint64_t p = 0; p < PAGES; p++)
		n += p / 64 % CHANNELS == share &&
		     ferry_bitmap_test(&r->owed.map[0], p);
	return n;
}

static void one_broken_channel_ends_the_pass_of_all(void **state)
{
	struct ferry_fault cut = FERRY_FAULT_NONE;
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	cut.cut_write_at = 300000;
	rig_init(&r, false, &cut);
	ferry_pace_set(&r.crew.pace, 4 << 20);
	ferry_crew_begin(&r.crew, FERRY_JOB_PASS, 0);
	assert_int_equal(ferry_crew_wait(&r.crew, FOREVER, &e), -1);
	assert_says(&e, FERRY_E_IO, "channel data 2: write");
	/* It stays so. */
	e = (struct ferry_err){ 0 };
	assert_int_equal(ferry_crew_wait(&r.crew, FOREVER, &e), -1);
	assert_says(&e, FERRY_E_IO, "channel data 2: write");
	/* The others stop where they are: their shares are not finished. */
	while (busy(&r.crew))
		usleep(100);
	assert_true(owed_of_share(&r, 0) + owed_of_share(&r, 1) > 0);
	rig_fini(&r);
}

static void a_mark_on_a_broken_channel_fails(void **state)
{
	struct ferry_fault cut = FERRY_FAULT_NONE;
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	cut.cut_write_at = 100;
	rig_init(&r, false, &cut);
	ferry_crew_begin(&r.crew, FERRY_JOB_SYNC, 1);
	assert_int_equal(ferry_crew_wait(&r.crew, FOREVER, &e), -1);
	assert_says(&e, FERRY_E_IO, "channel data 2");
	rig_fini(&r);
}

/* A peer that takes nothing more does not hold up who wants to end. */
static void breaking_the_channels_ends_a_sender_that_is_stuck(void **state)
{
	struct ferry_fault stall = FERRY_FAULT_NONE;
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	stall.stall_write_at = 100000;
	rig_init(&r, false, &stall);
	ferry_crew_begin(&r.crew, FERRY_JOB_PASS, 0);
	/* Not before that: a sender that is halted earlier ends in peace. */
	sink_wait_bytes(&r.sink[CHANNELS - 1], stall.stall_write_at);
	assert_int_equal(ferry_crew_wait(&r.crew, SOON, &e), 0);
	ferry_crew_shutdown(&r.crew);
	assert_int_equal(ferry_crew_wait(&r.crew, FOREVER, &e), -1);
	rig_fini(&r);
}

static int fails_to_arm(struct ferry_dirty *d, uint32_t block, uint64_t first,
			uint64_t pages)
{
	(void)d;
	(void)block;
	(void)first;
	(void)pages;
	return -ENOSPC;
}

static void a_log_that_cannot_be_armed_is_said(void **state)
{
	static const struct ferry_dirty_ops ops = { .arm = fails_to_arm };
	struct ferry_dirty d = { &ops }, *list[] = { &d };
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r, false, NULL);
	r.sel.dirty = list;
	r.sel.trackers = 1;
	ferry_crew_begin(&r.crew, FERRY_JOB_PASS, 0);
	assert_int_equal(ferry_crew_wait(&r.crew, FOREVER, &e), -1);
	assert_says(&e, FERRY_E_IO, "re-arm the dirty log: No space left");
	rig_fini(&r);
}

/* ---- beginning and end -------------------------------------------------- */

static void a_crew_that_never_worked_can_be_ended(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, false, NULL);
	ferry_crew_stop(&r.crew);
	ferry_crew_stop(&r.crew);
	ferry_crew_halt(&r.crew);	/* stays harmless */
	rig_fini(&r);
	ferry_crew_fini(&r.crew);
}

static void a_borrowed_channel_is_not_closed(void **state)
{
	struct ferry_send_counters count = { 0 };
	struct ferry_err e = { 0 };
	struct ferry_chan *chan;
	struct sink sink;
	struct rig r;

	(void)state;
	rig_init(&r, false, NULL);
	ferry_crew_fini(&r.crew);
	chan = sink_open(&sink, "main");
	ferry_crew_init(&r.crew, &r.sel, &count, &r.at_target);
	assert_ok(ferry_crew_add(&r.crew, chan, false, ferry_encoder_records,
				 &e));
	run(&r, FERRY_JOB_PASS, 0);
	ferry_crew_fini(&r.crew);
	sink_wait(&sink);
	tally_records(&r.tally, sink.data, sink.bytes);
	tally_check(&r.tally, r.wanted);
	ferry_chan_close(chan);
	sink_fini(&sink);
	rig_fini(&r);
}

static void released_memory_is_gone_once_it_is_sent(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, false, NULL);
	r.crew.release = true;
	run(&r, FERRY_JOB_PASS, 0);
	receive(&r);
	assert_true(ferry_is_zero(r.area.p, r.area.bytes));
	assert_int_equal(r.tally.normal + r.tally.zero, PAGES);
	assert_int_equal(r.tally.image[0][7 * PAGE], 7);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pass_sends_all_that_is_owed_by_all_channels),
		cmocka_unit_test(a_second_pass_sends_what_was_written_since),
		cmocka_unit_test(a_mark_comes_last_on_every_channel),
		cmocka_unit_test(a_halted_pass_ends_and_leaves_the_rest_owed),
		cmocka_unit_test(a_halt_never_leaves_half_a_huge_page),
		cmocka_unit_test(after_a_halt_the_next_pass_goes_on),
		cmocka_unit_test(a_new_limit_holds_at_once),
		cmocka_unit_test(one_broken_channel_ends_the_pass_of_all),
		cmocka_unit_test(a_mark_on_a_broken_channel_fails),
		cmocka_unit_test(
			breaking_the_channels_ends_a_sender_that_is_stuck),
		cmocka_unit_test(a_log_that_cannot_be_armed_is_said),
		cmocka_unit_test(a_crew_that_never_worked_can_be_ended),
		cmocka_unit_test(a_borrowed_channel_is_not_closed),
		cmocka_unit_test(released_memory_is_gone_once_it_is_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
