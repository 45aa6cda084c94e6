/* SPDX-License-Identifier: MIT */
/*
 * No room for what arrives: memory whose tmpfs is full.  In postcopy the page
 * waits until there is room, however long; in precopy, for a while; and who is
 * told to stop waiting ends with a sentence.  Never a lost page, never SIGBUS.
 *
 * Skipped where one may not mount; those with userfaultfd where there is none.
 */
#include "help.h"

#include "base/clock.h"
#include "recv/fault.h"
#include "unit/small_tmpfs.h"

#define PAGES	64u
#define ROOM	8u		/* pages that fit before it is full */
#define LONG_NS	(3600 * FERRY_NS_PER_S)

struct full {
	struct small_tmpfs fs;
	struct rig	r;
	struct ferry_fault_thread fault;
	struct ferry_answer answer;
	struct ferry_err why;		/* of the fault thread */
	_Atomic unsigned failures;
};

/* Pages that arrive, on a thread of their own. */
struct arrival {
	struct full	*f;
	struct ferry_thread thread;
	uint64_t	 first, n;
	_Atomic bool	 done;
	int		 rc;
};

static void on_failed(void *arg, const struct ferry_err *why)
{
	struct full *f = arg;

	f->why = *why;
	atomic_fetch_add(&f->failures, 1);
}

/* One block of PAGES pages, and room for `room` of them. */
static void rig_full(struct full *f, uint64_t room)
{
	struct area *a = &f->r.area[0];

	*f = (struct full){ 0 };
	assert_true(small_tmpfs_open(&f->fs, PAGES * PAGE));
	*a = (struct area){ .bytes = PAGES * PAGE, .page_bytes = PAGE };
	a->fd = openat(f->fs.dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	assert_true(a->fd >= 0);
	assert_ok(ftruncate(a->fd, (off_t)a->bytes));
	a->p = mmap(NULL, a->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd,
		    0);
	assert_true(a->p != MAP_FAILED);
	area_add(&f->r.mem, "a", a);
	f->r.areas = 1;
	rig_init(&f->r);
	f->r.place.patience_ns = LONG_NS;
	assert_true(small_tmpfs_fill(&f->fs, (PAGES - room) * PAGE));
}

static void full_fini(struct full *f)
{
	rig_fini(&f->r);
	small_tmpfs_close(&f->fs);
}

static void need_uffd(void)
{
	struct ferry_err e = { 0 };

	if (have_uffd(&e))
		return;
	print_message("SKIP: %s\n", e.msg);
	skip();
}

static void begin(struct full *f, bool postcopy)
{
	struct ferry_err e = { 0 };

	if (ferry_place_begin(&f->r.place, &e) ||
	    (postcopy && ferry_place_listen(&f->r.place, &e)))
		fail_msg("%s", e.msg);
}

/* ---- pages that arrive --------------------------------------------------- */

static void arrival_main(void *arg)
{
	struct arrival *a = arg;

	a->rc = put(&a->f->r, 0, a->first, a->n, 1);
	atomic_store(&a->done, true);
}

static void arrive(struct arrival *a, struct full *f, uint64_t first,
		   uint64_t n)
{
	struct ferry_err e;

	*a = (struct arrival){ .f = f, .first = first, .n = n };
	assert_ok(ferry_thread_start(&a->thread, "arrival", arrival_main, a,
				     &e));
}

static int arrived(struct arrival *a)
{
	ferry_thread_join(&a->thread);
	return a->rc;
}

static void await_allocated(struct full *f, uint64_t pages)
{
	while (allocated(&f->r, 0) < pages * PAGE)
		usleep(100);
	/* Long enough to have met the lack of room, mostly. */
	usleep(20000);
}

static void all_is_there(struct full *f, uint64_t pages)
{
	for (uint64_t p = 0; p < pages; p++) {
		assert_true(ferry_map_is_here(&f->r.map, 0, p));
		assert_true(page_is(&f->r, 0, p, 1));
	}
}

/* What is placed by plain writes, by userfaultfd, and while the VM runs. */
enum way { PLAIN, UFFD, POSTCOPY, WAYS };

static void begin_way(struct full *f, enum way way, uint64_t room)
{
	if (way != PLAIN)
		need_uffd();
	rig_full(f, room);
	if (way != PLAIN)
		begin(f, way == POSTCOPY);
}

/* ---- it goes on when there is room -------------------------------------- */

static void pages_wait_for_room(void **state)
{
	(void)state;
	for (enum way way = PLAIN; way < WAYS; way++) {
		struct arrival a;
		struct full f;

		begin_way(&f, way, ROOM);
		arrive(&a, &f, 0, PAGES);
		await_allocated(&f, ROOM);
		assert_false(atomic_load(&a.done));
		/* A little, and then all. */
		assert_true(small_tmpfs_fill(&f.fs, (PAGES / 2) * PAGE));
		await_allocated(&f, PAGES / 2);
		assert_false(atomic_load(&a.done));
		assert_true(small_tmpfs_fill(&f.fs, 0));
		if (arrived(&a))
			fail_msg("way %d: %s", way, f.r.e.msg);
		all_is_there(&f, PAGES);
		full_fini(&f);
	}
}

static void who_waits_for_a_page_waits_for_its_room(void **state)
{
	struct toucher t = { 0 };
	struct arrival a;
	struct full f;

	(void)state;
	need_uffd();
	rig_full(&f, ROOM);
	begin(&f, true);
	touch(&t, f.r.area[0].p + 40 * PAGE);
	await_fault(&f.r.place);
	arrive(&a, &f, 0, PAGES);
	await_allocated(&f, ROOM);
	assert_int_equal(atomic_load(&t.got), -1);
	assert_true(small_tmpfs_fill(&f.fs, 0));
	assert_int_equal(touched(&t), octet(40, 1));
	assert_ok(arrived(&a));
	all_is_there(&f, PAGES);
	full_fini(&f);
}

/* ---- or is told to stop ------------------------------------------------- */

static void who_stops_waiting_gets_a_sentence(void **state)
{
	(void)state;
	for (enum way way = PLAIN; way < WAYS; way++) {
		struct arrival a;
		struct full f;

		begin_way(&f, way, ROOM);
		/* One by one: how far it got is known then. */
		for (uint64_t p = 0; p < ROOM; p++)
			assert_ok(put(&f.r, 0, p, 1, 1));
		arrive(&a, &f, ROOM, 4);
		usleep(20000);
		assert_false(atomic_load(&a.done));
		ferry_place_stop_waiting(&f.r.place);
		assert_int_equal(arrived(&a), -1);
		assert_says(&f.r.e, FERRY_E_NOMEM, "place block a page 8: its "
			    "memory has no room left");
		all_is_there(&f, ROOM);
		assert_false(ferry_map_is_here(&f.r.map, 0, ROOM));
		full_fini(&f);
	}
}

static void before_listen_patience_ends(void **state)
{
	(void)state;
	for (enum way way = PLAIN; way <= UFFD; way++) {
		struct full f;

		begin_way(&f, way, 0);
		f.r.place.patience_ns = 30 * FERRY_NS_PER_MS;
		assert_int_equal(put(&f.r, 0, 0, 1, 1), -1);
		assert_says(&f.r.e, FERRY_E_NOMEM, "no room left");
		/* Nothing is spoilt: with room it would go on. */
		assert_true(small_tmpfs_fill(&f.fs, 0));
		assert_ok(put(&f.r, 0, 0, PAGES, 1));
		all_is_there(&f, PAGES);
		full_fini(&f);
	}
}

static void after_listen_patience_does_not_end(void **state)
{
	struct arrival a;
	struct full f;

	(void)state;
	need_uffd();
	rig_full(&f, 0);
	f.r.place.patience_ns = 1;
	begin(&f, true);
	arrive(&a, &f, 0, 4);
	usleep(50000);
	assert_false(atomic_load(&a.done));
	assert_true(small_tmpfs_fill(&f.fs, 0));
	assert_ok(arrived(&a));
	all_is_there(&f, 4);
	full_fini(&f);
}

/* ---- zeroes, by the fault thread ---------------------------------------- */

static void begin_faults(struct full *f, struct toucher *t)
{
	struct ferry_err e = { 0 };

	rig_full(f, 0);
	begin(f, true);
	ferry_answer_init(&f->answer);
	f->fault = (struct ferry_fault_thread){
		.place = &f->r.place, .answer = &f->answer,
		.failed = on_failed, .arg = f,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	assert_ok(ferry_fault_start(&f->fault, &e));
	assert_ok(put_zeroes(&f->r, 0, 0, PAGES));
	touch(t, f->r.area[0].p + 5 * PAGE);
	while (!ferry_counted(&f->fault.faults))
		usleep(100);
	usleep(20000);
	assert_int_equal(atomic_load(&t->got), -1);
}

static void a_zero_page_waits_for_room(void **state)
{
	struct toucher t = { 0 };
	struct full f;

	(void)state;
	need_uffd();
	begin_faults(&f, &t);
	assert_true(small_tmpfs_fill(&f.fs, 0));
	assert_int_equal(touched(&t), 0);
	ferry_fault_stop(&f.fault);
	assert_int_equal(ferry_counted(&f.fault.zero_filled), 1);
	assert_int_equal(atomic_load(&f.failures), 0);
	ferry_answer_fini(&f.answer);
	full_fini(&f);
}

static void stopping_ends_the_wait_for_a_zero_page(void **state)
{
	struct toucher t = { 0 };
	struct full f;

	(void)state;
	need_uffd();
	begin_faults(&f, &t);
	ferry_place_stop_waiting(&f.r.place);
	ferry_fault_stop(&f.fault);	/* does not hang */
	assert_int_equal(atomic_load(&f.failures), 1);
	assert_says(&f.why, FERRY_E_NOMEM, "fill zero page of block a");
	/* For the toucher's sake: who is let go now finds room. */
	assert_true(small_tmpfs_fill(&f.fs, 0));
	ferry_place_end(&f.r.place);
	assert_int_equal(touched(&t), 0);
	ferry_answer_fini(&f.answer);
	full_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_wait_for_room),
		cmocka_unit_test(who_waits_for_a_page_waits_for_its_room),
		cmocka_unit_test(who_stops_waiting_gets_a_sentence),
		cmocka_unit_test(before_listen_patience_ends),
		cmocka_unit_test(after_listen_patience_does_not_end),
		cmocka_unit_test(a_zero_page_waits_for_room),
		cmocka_unit_test(stopping_ends_the_wait_for_a_zero_page),
	};
	struct small_tmpfs fs;
	bool can = small_tmpfs_open(&fs, PAGE);

	need(can, "a tmpfs cannot be mounted here (CAP_SYS_ADMIN)");
	small_tmpfs_close(&fs);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
