/* SPDX-License-Identifier: MIT */
/*
 * Placing while the VM runs here, by the real userfaultfd: a page appears
 * whole or not at all, once; a known zero page costs nothing until somebody
 * wants it; and who waits for what will never come gets an error.
 *
 * Skipped where there is no userfaultfd.
 */
#include "help.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES	64u

static void begin(struct rig *r)
{
	rig_init(r);
	if (ferry_place_begin(&r->place, &r->e) ||
	    ferry_place_listen(&r->place, &r->e))
		fail_msg("%s", r->e.msg);
}

/* The fault thread's part: somebody waits for this page. */
static void ask(struct rig *r, unsigned i, uint64_t page)
{
	ferry_place_wait_begins(&r->place, i, page);
	ferry_bitmap_set(&r->map.asked[i], page);
}

static uint64_t waits_ended(struct rig *r)
{
	uint64_t hist[FERRY_HIST_BUCKETS], n = 0;

	ferry_hist_read(&r->place.faults, hist);
	for (unsigned i = 0; i < FERRY_HIST_BUCKETS; i++)
		n += hist[i];
	return n;
}

/* ---- pages -------------------------------------------------------------- */

static void a_page_that_comes_releases_who_waits(void **state)
{
	(void)state;
	for (enum kind kind = MEMFD; kind <= PRIVATE; kind++) {
		struct toucher t = { 0 };
		struct rig r = { 0 };

		rig_add(&r, kind, PAGES);
		begin(&r);
		touch(&t, r.area[0].p + 9 * PAGE);
		await_fault(&r.place);
		ask(&r, 0, 9);
		assert_int_equal(atomic_load(&t.got), -1);
		assert_ok(put(&r, 0, 8, 4, 1));
		assert_int_equal(touched(&t), octet(9, 1));
		assert_true(ferry_map_is_here(&r.map, 0, 9));
		assert_false(ferry_bitmap_test(&r.map.asked[0], 9));
		assert_int_equal(waits_ended(&r), 1);
		rig_fini(&r);
	}
}

static void a_second_copy_is_dropped_and_counted(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	begin(&r);
	assert_ok(put(&r, 0, 5, 1, 1));
	assert_ok(put(&r, 0, 7, 2, 1));
	/* A run over both, over a gap, and past them. */
	assert_ok(put(&r, 0, 4, 8, 2));
	assert_int_equal(ferry_counted(&r.place.dropped_pages), 3);
	for (uint64_t p = 4; p < 12; p++)
		assert_true(page_is(&r, 0, p, p == 5 || p == 7 || p == 8 ? 1 :
				    2));
	assert_int_equal(ferry_map_missing(&r.map), PAGES - 8);
	rig_fini(&r);
}

static void a_page_that_somebody_else_wrote_is_an_error_that_names_it(
	void **state)
{
	uint8_t page[PAGE];
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	begin(&r);
	/* As a backend with a mapping of its own that nobody watches. */
	fill_page(page, 6, 3);
	assert_int_equal(pwrite(r.area[0].fd, page, PAGE,
				(off_t)(block(&r, 0)->fd_offset + 6 * PAGE)),
			 PAGE);
	assert_int_equal(put(&r, 0, 4, 4, 1), -1);
	assert_says(&r.e, FERRY_E_MISMATCH, "block a page 6: somebody else");
	assert_true(page_is(&r, 0, 5, 1));
	assert_false(ferry_map_is_here(&r.map, 0, 6));
	assert_int_equal(ferry_counted(&r.place.dropped_pages), 0);
	rig_fini(&r);
}

/* ---- several receivers, the same pages ---------------------------------- */

#define RECEIVERS	4

struct receiver {
	struct ferry_thread thread;
	struct ferry_placer placer;
	struct rig	*rig;
	unsigned	 at;
	const uint8_t	*data;
	struct ferry_err e;
	int		 rc;
};

/* In runs of its own length, one from the front, the next from behind, so that
 * they meet everywhere. */
static void receive_all(void *arg)
{
	struct receiver *m = arg;
	uint64_t n = 1ull << (2 * m->at), runs = PAGES / n;

	for (uint64_t i = 0; i < runs && !m->rc; i++) {
		uint64_t first = (m->at % 2 ? runs - 1 - i : i) * n;

		m->rc = ferry_placer_pages(&m->placer, block(m->rig, 0), first,
					   n, m->data + first * PAGE, &m->e);
	}
}

static void receive_by_all(struct rig *r, const uint8_t *data)
{
	struct receiver m[RECEIVERS] = { 0 };

	for (unsigned i = 0; i < RECEIVERS; i++) {
		m[i] = (struct receiver){ .rig = r, .at = i, .data = data };
		ferry_placer_init(&m[i].placer, &r->place);
		assert_ok(ferry_thread_start(&m[i].thread, "receiver",
					     receive_all, &m[i], &r->e));
	}
	for (unsigned i = 0; i < RECEIVERS; i++) {
		ferry_thread_join(&m[i].thread);
		ferry_placer_fini(&m[i].placer);
		if (m[i].rc)
			fail_msg("%s", m[i].e.msg);
	}
}

/* Between the copy of a page and its note nobody takes it for a stranger's. */
static void pages_that_come_many_times_at_once_are_all_ours(void **state)
{
	uint8_t data[PAGES * PAGE];

	(void)state;
	for (uint64_t p = 0; p < PAGES; p++)
		fill_page(data + p * PAGE, p, 1);
	for (unsigned round = 0; round < 300; round++) {
		struct rig r = { 0 };

		rig_add(&r, round % 2 ? MEMFD : PRIVATE, PAGES);
		begin(&r);
		receive_by_all(&r, data);
		assert_int_equal(ferry_map_missing(&r.map), 0);
		assert_int_equal(ferry_counted(&r.place.dropped_pages),
				 (RECEIVERS - 1) * PAGES);
		rig_fini(&r);
	}
}

static void a_wait_counts_while_it_lasts(void **state)
{
	unsigned pages = 9;
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	begin(&r);
	assert_int_equal(ferry_place_oldest_wait_ns(&r.place, &pages), 0);
	assert_int_equal(pages, 0);
	ask(&r, 0, 3);
	ask(&r, 0, 4);
	usleep(2000);
	assert_true(ferry_place_oldest_wait_ns(&r.place, &pages) >= 2000000);
	assert_int_equal(pages, 2);
	assert_ok(put(&r, 0, 3, 1, 1));
	assert_true(ferry_place_oldest_wait_ns(&r.place, &pages) > 0);
	assert_int_equal(pages, 1);
	assert_int_equal(waits_ended(&r), 1);
	/* The other one is let go, by a zero. */
	ferry_place_end(&r.place);
	assert_int_equal(ferry_place_oldest_wait_ns(&r.place, &pages), 0);
	assert_int_equal(pages, 0);
	assert_int_equal(waits_ended(&r), 2);
	rig_fini(&r);
}

/* ---- zeroes ------------------------------------------------------------- */

static void a_zero_page_that_nobody_wants_is_a_note(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	begin(&r);
	assert_ok(put_zeroes(&r, 0, 0, PAGES));
	assert_int_equal(allocated(&r, 0), 0);
	assert_int_equal(ferry_map_missing(&r.map), 0);
	assert_false(ferry_map_is_here(&r.map, 0, 0));
	ferry_place_end(&r.place);
	assert_true(page_is(&r, 0, 0, -1));
	rig_fini(&r);
}

static void a_zero_page_that_somebody_waits_for_is_filled(void **state)
{
	struct toucher t = { 0 };
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	begin(&r);
	touch(&t, r.area[0].p + 3 * PAGE);
	await_fault(&r.place);
	ask(&r, 0, 3);
	assert_ok(put_zeroes(&r, 0, 0, PAGES));
	assert_int_equal(touched(&t), 0);
	assert_int_equal(allocated(&r, 0), PAGE);
	assert_true(ferry_map_is_here(&r.map, 0, 3));
	assert_int_equal(waits_ended(&r), 1);
	rig_fini(&r);
}

static void zeroes_over_what_is_here_are_dropped(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	begin(&r);
	assert_ok(put(&r, 0, 2, 2, 1));
	assert_ok(put_zeroes(&r, 0, 0, 8));
	assert_int_equal(ferry_counted(&r.place.dropped_pages), 2);
	assert_true(page_is(&r, 0, 2, 1) && page_is(&r, 0, 3, 1));
	rig_fini(&r);
}

static void a_page_placed_over_a_note_is_there(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	begin(&r);
	assert_ok(put_zeroes(&r, 0, 2, 1));
	assert_ok(put(&r, 0, 2, 1, 1));
	assert_true(page_is(&r, 0, 2, 1));
	assert_int_equal(ferry_counted(&r.place.dropped_pages), 0);
	rig_fini(&r);
}

/* ---- huge pages --------------------------------------------------------- */

static void need_huge(struct rig *r, uint64_t n)
{
	if (rig_add(r, HUGE_MEMFD, n * HUGE_PAGES))
		return;
	print_message("SKIP: %lu free huge pages\n", (unsigned long)n);
	rig_fini(r);
	skip();
}

static void a_huge_page_appears_when_its_last_piece_has_come(void **state)
{
	struct toucher t = { 0 };
	struct rig r = { 0 };

	(void)state;
	need_huge(&r, 2);
	begin(&r);
	touch(&t, r.area[0].p + 100 * PAGE);
	await_fault(&r.place);
	ask(&r, 0, 0);
	/* Normal and zero pieces, by turns. */
	for (uint64_t p = 0; p < HUGE_PAGES - 64; p += 64)
		assert_ok(p % 128 ? put_zeroes(&r, 0, p, 64) :
				    put(&r, 0, p, 64, 1));
	assert_int_equal(ferry_map_missing(&r.map), 2 * HUGE_PAGES);
	assert_int_equal(atomic_load(&t.got), -1);
	assert_ok(put(&r, 0, HUGE_PAGES - 64, 64, 1));
	assert_int_equal(touched(&t), 0);
	for (uint64_t p = 0; p < HUGE_PAGES; p++)
		assert_true(page_is(&r, 0, p, p % 128 < 64 ||
				    p >= HUGE_PAGES - 64 ? 1 : -1));
	assert_int_equal(ferry_map_missing(&r.map), HUGE_PAGES);
	assert_int_equal(waits_ended(&r), 1);
	rig_fini(&r);
}

static void a_second_copy_of_a_huge_page_is_dropped(void **state)
{
	struct rig r = { 0 };

	(void)state;
	need_huge(&r, 2);
	begin(&r);
	assert_ok(put(&r, 0, 0, HUGE_PAGES, 1));
	assert_ok(put(&r, 0, 0, HUGE_PAGES, 2));
	assert_int_equal(ferry_counted(&r.place.dropped_pages), HUGE_PAGES);
	assert_true(page_is(&r, 0, 511, 1));
	rig_fini(&r);
}

static void a_zero_huge_page_is_filled_for_who_waits_only(void **state)
{
	struct toucher t = { 0 };
	struct rig r = { 0 };

	(void)state;
	need_huge(&r, 2);
	begin(&r);
	touch(&t, r.area[0].p + HUGE + 5 * PAGE);
	await_fault(&r.place);
	ask(&r, 0, HUGE_PAGES);
	assert_ok(put_zeroes(&r, 0, 0, 2 * HUGE_PAGES));
	assert_int_equal(touched(&t), 0);
	assert_int_equal(allocated(&r, 0), HUGE);
	rig_fini(&r);
}

static void discarded_huge_pages_are_missing_and_can_be_had_again(void **state)
{
	struct rig r = { 0 };

	(void)state;
	need_huge(&r, 2);
	rig_init(&r);
	assert_ok(ferry_place_begin(&r.place, &r.e));
	assert_ok(put(&r, 0, 3, 1, 1));
	assert_ok(put(&r, 0, HUGE_PAGES, HUGE_PAGES, 1));
	assert_ok(ferry_place_discard(&r.place, block(&r, 0), 0, HUGE_PAGES,
				      &r.e));
	assert_int_equal(allocated(&r, 0), HUGE);
	assert_int_equal(ferry_map_missing(&r.map), HUGE_PAGES);
	assert_ok(ferry_place_listen(&r.place, &r.e));
	assert_ok(put(&r, 0, 0, HUGE_PAGES, 2));
	assert_true(page_is(&r, 0, 3, 2) && page_is(&r, 0, 513, 1));
	rig_fini(&r);
}

/* ---- the end ------------------------------------------------------------ */

static void after_the_end_memory_is_ordinary(void **state)
{
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	begin(&r);
	assert_ok(put(&r, 0, 0, 8, 1));
	assert_ok(put_zeroes(&r, 0, 8, PAGES - 8));
	ferry_place_end(&r.place);
	assert_true(page_is(&r, 0, 7, 1) && page_is(&r, 0, 8, -1));
	assert_ok(put(&r, 0, 0, 8, 2));	/* late second copies */
	assert_int_equal(ferry_counted(&r.place.dropped_pages), 8);
	rig_fini(&r);
}

static void ending_releases_who_waits(void **state)
{
	struct toucher t = { 0 };
	struct rig r = { 0 };

	(void)state;
	rig_add(&r, MEMFD, PAGES);
	begin(&r);
	touch(&t, r.area[0].p);
	await_fault(&r.place);
	ferry_place_end(&r.place);
	assert_int_equal(touched(&t), 0);
	rig_fini(&r);
}

/* ---- abandoning, in a child that the error kills ------------------------ */

static void died_by_memory(int sig)
{
	(void)sig;
	_exit(42);
}

/* The page as the guest would read it: exits with 42 when that is an error,
 * else with 1 + whether it is as expected. */
static void read_and_exit(struct rig *r, uint64_t page, int v)
{
	signal(SIGSEGV, died_by_memory);
	signal(SIGBUS, died_by_memory);
	_exit(page_is(r, 0, page, v) ? 2 : 1);
}

/* In the child: some pages here, some zero, some missing; abandon while
 * somebody waits. */
static void child(enum kind kind, bool waits, uint64_t page, int v)
{
	struct toucher t = { 0 };
	struct rig r = { 0 };
	uint64_t unit;

	if (!rig_add(&r, kind, kind == HUGE_MEMFD ? 3 * HUGE_PAGES : 3 * 8))
		_exit(77);
	begin(&r);
	unit = kind == HUGE_MEMFD ? HUGE_PAGES : 8;
	if (put(&r, 0, 0, unit, 1) || put_zeroes(&r, 0, unit, unit))
		_exit(3);
	signal(SIGSEGV, died_by_memory);
	signal(SIGBUS, died_by_memory);
	if (waits) {
		touch(&t, r.area[0].p + (2 * unit + 1) * PAGE);
		await_fault(&r.place);
	}
	ferry_place_abandon(&r.place);
	if (waits) {
		touched(&t);
		_exit(4);	/* it got through, to zeroes */
	}
	read_and_exit(&r, page * unit / 8, v);
}

static int outcome(enum kind kind, bool waits, uint64_t page, int v)
{
	pid_t pid;
	int status = 0;

	if (kind == HUGE_MEMFD && !huge_pages_for(3))
		return 77;
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		alarm(60);
		child(kind, waits, page, v);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* Engine-like threads block signals: the error then kills at once. */
	if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV ||
				    WTERMSIG(status) == SIGBUS))
		return 42;
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static const enum kind kinds[] = { MEMFD, PRIVATE, HUGE_MEMFD };

static void who_waits_for_an_abandoned_page_gets_an_error(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(kinds); i++) {
		int got = outcome(kinds[i], true, 0, 0);

		if (got == 77)
			print_message("SKIP: no huge pages\n");
		else
			assert_int_equal(got, 42);
	}
}

static void only_what_is_missing_is_made_inaccessible(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(kinds); i++) {
		if (outcome(kinds[i], false, 0, 1) == 77) {
			print_message("SKIP: no huge pages\n");
			continue;
		}
		assert_int_equal(outcome(kinds[i], false, 0, 1), 2);
		assert_int_equal(outcome(kinds[i], false, 7, 1), 2);
		assert_int_equal(outcome(kinds[i], false, 8, -1), 2);
		assert_int_equal(outcome(kinds[i], false, 15, -1), 2);
		assert_int_equal(outcome(kinds[i], false, 16, -1), 42);
		assert_int_equal(outcome(kinds[i], false, 23, -1), 42);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_that_comes_releases_who_waits),
		cmocka_unit_test(a_second_copy_is_dropped_and_counted),
		cmocka_unit_test(
			a_page_that_somebody_else_wrote_is_an_error_that_names_it),
		cmocka_unit_test(
			pages_that_come_many_times_at_once_are_all_ours),
		cmocka_unit_test(a_wait_counts_while_it_lasts),
		cmocka_unit_test(a_zero_page_that_nobody_wants_is_a_note),
		cmocka_unit_test(a_zero_page_that_somebody_waits_for_is_filled),
		cmocka_unit_test(zeroes_over_what_is_here_are_dropped),
		cmocka_unit_test(a_page_placed_over_a_note_is_there),
		cmocka_unit_test(
			a_huge_page_appears_when_its_last_piece_has_come),
		cmocka_unit_test(a_second_copy_of_a_huge_page_is_dropped),
		cmocka_unit_test(a_zero_huge_page_is_filled_for_who_waits_only),
		cmocka_unit_test(
			discarded_huge_pages_are_missing_and_can_be_had_again),
		cmocka_unit_test(after_the_end_memory_is_ordinary),
		cmocka_unit_test(ending_releases_who_waits),
		cmocka_unit_test(who_waits_for_an_abandoned_page_gets_an_error),
		cmocka_unit_test(only_what_is_missing_is_made_inaccessible),
	};
	struct ferry_err e = { 0 };

	need(have_uffd(&e), e.msg);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
