/* SPDX-License-Identifier: MIT */
/*
 * Writes by threads of this process, by every way that the kernel has and in
 * every kind of memory.
 *
 *   mem-dirty-process WAY	exit 77 when this kernel lacks it
 */
#include "help.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/cleanup.h"
#include "mem/dirty_way.h"
#include "mem/extent.h"

static const struct ferry_dirty_way *way;
static bool grows;		/* what was told is told again */

struct stage {
	enum kind		 kind;
	struct area		 a;
	uint64_t		 page;		/* octets of a host page */
	uint64_t		 pages;		/* host pages */
	struct ferry_mem	 mem;
	struct ferry_owed	 owed;
	struct ferry_dirty	*d;
	uint64_t		*copy;		/* counters at the target */
};

static bool stage_make(struct stage *s, enum kind kind)
{
	struct ferry_err e = { 0 };

	*s = (struct stage){ .kind = kind };
	s->page = kind >= HUGE_MEMFD ? HUGE : PAGE;
	s->pages = kind >= HUGE_MEMFD ? 6 : 1500;
	if (!area_make(&s->a, kind, s->pages * s->page))
		return false;
	area_add(&s->mem, "ram", &s->a);
	s->d = way->make(&s->mem, &e);
	s->copy = calloc(s->pages, sizeof(*s->copy));
	if (!s->d || ferry_owed_init(&s->owed, &s->mem, &e))
		fail_msg("%s", e.msg);
	return true;
}

static void stage_free(struct stage *s)
{
	s->d->ops->stop(s->d);
	s->d->ops->free(s->d);
	ferry_owed_fini(&s->owed);
	ferry_mem_fini(&s->mem);
	free(s->copy);
	area_free(&s->a);
}

/* In each kind of memory that this way and this host can do. */
static void each_kind(void (*fn)(struct stage *s))
{
	struct ferry_err e = { 0 };
	struct stage s;

	for (enum kind k = 0; k < KINDS; k++) {
		if (!stage_make(&s, k))
			print_message("no huge pages: %s left out\n",
				      kind_name[k]);
		else if (way->probe(&s.mem, &e))
			print_message("%s left out: %s\n", kind_name[k],
				      e.msg);
		else
			fn(&s);
		if (s.d)
			stage_free(&s);
	}
}

static void start(struct stage *s)
{
	struct ferry_err e = { 0 };

	if (s->d->ops->start(s->d, &e))
		fail_msg("%s: %s", kind_name[s->kind], e.msg);
}

static void harvest(struct stage *s, bool final)
{
	struct ferry_err e = { 0 };

	if (s->d->ops->harvest(s->d, &s->owed, final, &e))
		fail_msg("%s: %s", kind_name[s->kind], e.msg);
}

static void forget(struct stage *s)
{
	for (uint64_t w = 0; w < s->owed.map[0].words; w++)
		ferry_owed_drain_word(&s->owed, 0, w, ~0ull);
}

static _Atomic uint64_t *counter(struct stage *s, uint64_t page)
{
	return (_Atomic uint64_t *)(s->a.p + page * s->page + 8 * page % 64);
}

/* Owed are exactly these host pages. */
static void owed_are(struct stage *s, const uint64_t *page, size_t n)
{
	uint64_t per = s->page / PAGE;

	for (size_t i = 0; i < n; i++)
		for (uint64_t p = 0; p < per; p++)
			if (!ferry_bitmap_test(&s->owed.map[0],
					       page[i] * per + p))
				fail_msg("%s: page %llu is not owed",
					 kind_name[s->kind],
					 (unsigned long long)page[i]);
	if (ferry_owed_pages(&s->owed) != n * per)
		fail_msg("%s: %llu owed, not %zu", kind_name[s->kind],
			 (unsigned long long)ferry_owed_pages(&s->owed),
			 (size_t)(n * per));
}

static void exact(struct stage *s)
{
	const uint64_t last = s->pages - 1;

	atomic_store(counter(s, 0), 1);		/* touched before */
	assert_int_equal(atomic_load(counter(s, 4)), 0);	/* only read */
	start(s);
	harvest(s, false);
	owed_are(s, NULL, 0);

	atomic_store(counter(s, 0), 2);
	atomic_store(counter(s, 3), 2);		/* not touched before */
	atomic_store(counter(s, 4), 2);
	atomic_store(counter(s, last), 2);
	harvest(s, false);
	owed_are(s, (uint64_t[]){ 0, 3, 4, last }, 4);

	forget(s);
	harvest(s, false);
	if (!grows)
		owed_are(s, NULL, 0);
	forget(s);
	atomic_store(counter(s, 3), 3);
	harvest(s, true);
	if (grows)
		owed_are(s, (uint64_t[]){ 0, 3, 4, last }, 4);
	else
		owed_are(s, (uint64_t[]){ 3 }, 1);
}

static void exactly_the_written_pages_are_told(void **state)
{
	(void)state;
	each_kind(exact);
}

static void again(struct stage *s)
{
	for (unsigned i = 0; i < 3; i++) {
		start(s);
		atomic_fetch_add(counter(s, 1), 1);
		if (i == 1)
			harvest(s, false);
		s->d->ops->stop(s->d);
		s->d->ops->stop(s->d);
		atomic_fetch_add(counter(s, 2), 1);	/* nobody looks */
		forget(s);

		start(s);
		atomic_fetch_add(counter(s, 4), 1);
		harvest(s, true);
		owed_are(s, (uint64_t[]){ 4 }, 1);
		s->d->ops->stop(s->d);
		forget(s);
	}
}

static void a_new_start_begins_afresh(void **state)
{
	(void)state;
	each_kind(again);
}

static void by_kernel(struct stage *s)
{
	uint64_t value = 7;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	start(s);
	for (unsigned i = 0; i < 2; i++) {
		harvest(s, false);
		forget(s);
		assert_int_equal(write(ends[1], &value, sizeof(value)),
				 sizeof(value));
		assert_int_equal(read(ends[0], s->a.p + 2 * s->page,
				      sizeof(value)), sizeof(value));
		harvest(s, false);
		owed_are(s, (uint64_t[]){ 2 }, 1);
	}
	close(ends[0]);
	close(ends[1]);
}

static void a_write_by_the_kernel_is_told(void **state)
{
	(void)state;
	each_kind(by_kernel);
}

static int count_pages(void *arg, uint64_t first, uint64_t pages)
{
	(void)first;
	*(uint64_t *)arg += pages;
	return 0;
}

static void still_untouched(struct stage *s)
{
	struct ferry_err e = { 0 };
	uint64_t touched = 0;

	if (s->kind == HUGE_MEMFD)	/* of which nobody knows */
		return;
	atomic_store(counter(s, 0), 1);
	start(s);
	atomic_store(counter(s, 5), 1);
	harvest(s, false);
	assert_int_equal(ferry_extent_walk(&s->mem.block[0], count_pages,
					   &touched, &e), 0);
	assert_int_equal(touched, 2 * s->page / PAGE);
}

static void tracking_touches_nothing(void **state)
{
	(void)state;
	each_kind(still_untouched);
}

static void split(struct stage *s)
{
	uint64_t at;

	if (s->kind != PRIVATE)
		return;
	madvise(s->a.p, s->a.bytes, MADV_HUGEPAGE);
	memset(s->a.p, 1, s->a.bytes);
	start(s);
	at = (HUGE - (uintptr_t)s->a.p % HUGE) % HUGE / PAGE;
	atomic_store(counter(s, at + 77), 1);
	harvest(s, false);
	owed_are(s, (uint64_t[]){ at + 77 }, 1);
}

static void a_transparent_huge_page_is_told_in_small_ones(void **state)
{
	(void)state;
	if (grows) {
		print_message("this way tells more than was written\n");
		skip();
	}
	each_kind(split);
}

/* ---- against a model ---------------------------------------------------- */

struct writer {
	struct stage	*s;
	atomic_bool	 end;
	uint64_t	 seed;
};

static void *write_much(void *arg)
{
	struct writer *w = arg;
	uint64_t x = w->seed, start_at;

	while (!atomic_load(&w->end)) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		start_at = (x >> 33) % w->s->pages;
		for (uint64_t i = 0; i < 20; i++)
			atomic_fetch_add(counter(w->s, (start_at + i * i) %
						 w->s->pages), 1);
	}
	return NULL;
}

/* The engine in small: what is owed is copied. */
static void send_all(struct stage *s)
{
	uint64_t per = s->page / PAGE;
	const struct ferry_bitmap *map = &s->owed.map[0];

	for (uint64_t w = 0; w < map->words; w++) {
		uint64_t bits = ferry_owed_drain_word(&s->owed, 0, w, ~0ull);

		for (; bits; bits &= bits - 1) {
			uint64_t p = (w * 64 + (uint64_t)
				      __builtin_ctzll(bits)) / per;

			s->copy[p] = atomic_load(counter(s, p));
		}
	}
}

static void model(struct stage *s)
{
	struct writer w[2] = { { s, false, 1 }, { s, false, 2 } };
	pthread_t t[2];

	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, write_much, &w[i]);
	start(s);
	ferry_owed_mark(&s->owed, 0, 0, s->owed.map[0].bits);
	for (int i = 0; i < 60; i++) {
		harvest(s, false);
		send_all(s);
		/* The engine's own thread writes too. */
		atomic_fetch_add(counter(s, (uint64_t)i % s->pages), 1);
		usleep(500);
	}
	for (int i = 0; i < 2; i++) {
		atomic_store(&w[i].end, true);
		pthread_join(t[i], NULL);
	}
	harvest(s, true);
	send_all(s);
	for (uint64_t p = 0; p < s->pages; p++)
		if (s->copy[p] != atomic_load(counter(s, p)))
			fail_msg("%s: page %llu is at %llu, its copy at %llu",
				 kind_name[s->kind], (unsigned long long)p,
				 (unsigned long long)*counter(s, p),
				 (unsigned long long)s->copy[p]);
}

static void no_write_of_busy_threads_is_lost(void **state)
{
	(void)state;
	each_kind(model);
}

static void stopped(struct stage *s)
{
	struct writer w = { s, false, 3 };
	pthread_t t;

	pthread_create(&t, NULL, write_much, &w);
	for (int i = 0; i < 20; i++) {
		start(s);
		usleep(200);
		s->d->ops->stop(s->d);
	}
	atomic_store(&w.end, true);
	pthread_join(t, NULL);
}

static void stop_leaves_no_writer_waiting(void **state)
{
	(void)state;
	each_kind(stopped);
}

/* ---- the choice --------------------------------------------------------- */

static void the_best_way_is_taken(void **state)
{
	static const struct ferry_dirty_way *const order[] = {
		&ferry_dirty_way_async, &ferry_dirty_way_sync,
		&ferry_dirty_way_soft,
	};
	struct ferry_dirty *d;
	const char *best = "";
	struct stage s;

	(void)state;
	stage_make(&s, MEMFD);
	for (size_t i = 0; i < FERRY_LEN(order) && !best[0]; i++)
		if (!order[i]->probe(&s.mem, NULL))
			best = order[i]->name;
	d = ferry_dirty_process(&s.mem, NULL);
	assert_string_equal(ferry_dirty_process_way(d), best);
	s.d->ops->free(s.d);
	s.d = d;
	start(&s);
	assert_string_equal(ferry_dirty_process_way(d), best);
	atomic_store(counter(&s, 9), 1);
	assert_int_equal(d->ops->arm(d, 0, 0, s.pages), 0);
	harvest(&s, true);
	owed_are(&s, (uint64_t[]){ 9 }, 1);
	stage_free(&s);
}

int main(int argc, char **argv)
{
	static const struct ferry_dirty_way *const all[] = {
		&ferry_dirty_way_async, &ferry_dirty_way_sync,
		&ferry_dirty_way_soft,
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exactly_the_written_pages_are_told),
		cmocka_unit_test(a_new_start_begins_afresh),
		cmocka_unit_test(a_write_by_the_kernel_is_told),
		cmocka_unit_test(tracking_touches_nothing),
		cmocka_unit_test(a_transparent_huge_page_is_told_in_small_ones),
		cmocka_unit_test(no_write_of_busy_threads_is_lost),
		cmocka_unit_test(stop_leaves_no_writer_waiting),
		cmocka_unit_test(the_best_way_is_taken),
	};
	const struct ferry_mem nothing = { 0 };
	struct ferry_err e = { 0 };
	bool there;

	for (size_t i = 0; argc > 1 && i < FERRY_LEN(all); i++)
		if (!strcmp(argv[1], all[i]->name))
			way = all[i];
	if (!way)
		return 2;
	grows = way == &ferry_dirty_way_soft;
	there = !way->probe(&nothing, &e);
	need(there, e.msg);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
