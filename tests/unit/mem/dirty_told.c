/* SPDX-License-Identifier: MIT */
/* Writes that the embedder tells. */
#include "help.h"

#include <pthread.h>

#include "mem/dirty.h"

#define PAGES	130

struct stage {
	struct area		 a, b;
	struct ferry_mem	 mem;
	struct ferry_owed	 owed;
	struct ferry_dirty	*d;
};

static int make(void **state)
{
	struct stage *s = calloc(1, sizeof(*s));

	area_make(&s->a, MEMFD, PAGES * PAGE);
	area_make(&s->b, PRIVATE, PAGES * PAGE);
	area_add(&s->mem, "a", &s->a);
	area_add(&s->mem, "b", &s->b);
	s->d = ferry_dirty_told(&s->mem, NULL);
	*state = s;
	return s->d ? ferry_owed_init(&s->owed, &s->mem, NULL) : -1;
}

static int unmake(void **state)
{
	struct stage *s = *state;

	s->d->ops->stop(s->d);
	s->d->ops->free(s->d);
	ferry_owed_fini(&s->owed);
	ferry_mem_fini(&s->mem);
	area_free(&s->a);
	area_free(&s->b);
	free(s);
	return 0;
}

static void start(struct stage *s)
{
	assert_int_equal(s->d->ops->start(s->d, NULL), 0);
}

static void harvest(struct stage *s)
{
	assert_int_equal(s->d->ops->harvest(s->d, &s->owed, false, NULL), 0);
}

static void nothing_is_kept_while_not_started(void **state)
{
	struct stage *s = *state;

	ferry_dirty_told_mark(s->d, s->a.p, PAGE);
	start(s);
	harvest(s);
	assert_int_equal(ferry_owed_pages(&s->owed), 0);

	ferry_dirty_told_mark(s->d, s->a.p, PAGE);
	s->d->ops->stop(s->d);
	start(s);		/* a new migration begins with nothing */
	harvest(s);
	assert_int_equal(ferry_owed_pages(&s->owed), 0);
}

static const struct {
	const char *why;
	uint64_t at, bytes;	/* in block a */
	uint64_t first, pages;
} marks[] = {
	{ "nothing", 5 * PAGE, 0, 0, 0 },
	{ "one octet", 5 * PAGE + 17, 1, 5, 1 },
	{ "one page", 5 * PAGE, PAGE, 5, 1 },
	{ "two octets over an edge", 6 * PAGE - 1, 2, 5, 2 },
	{ "all", 0, PAGES * PAGE, 0, PAGES },
	{ "the last octet", PAGES * PAGE - 1, 1, PAGES - 1, 1 },
	{ "a word boundary", 60 * PAGE, 8 * PAGE, 60, 8 },
};

static void each_page_that_a_write_reaches_is_told_once(void **state)
{
	struct stage *s = *state;

	start(s);
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		ferry_dirty_told_mark(s->d, s->a.p + marks[i].at,
				      marks[i].bytes);
		harvest(s);
		if (ferry_owed_pages(&s->owed) != marks[i].pages)
			fail_msg("%s", marks[i].why);
		for (uint64_t p = 0; p < marks[i].pages; p++)
			assert_true(ferry_bitmap_test(&s->owed.map[0],
						      marks[i].first + p));
		for (uint64_t w = 0; w < s->owed.map[0].words; w++)
			ferry_owed_drain_word(&s->owed, 0, w, ~0ull);
		harvest(s);
		assert_int_equal(ferry_owed_pages(&s->owed), 0);
	}
}

static void addresses_outside_are_ignored(void **state)
{
	struct stage *s = *state;
	bool adjacent = s->a.p + s->a.bytes == s->b.p ||
			s->b.p + s->b.bytes == s->a.p;

	start(s);
	ferry_dirty_told_mark(s->d, s, sizeof(*s));
	ferry_dirty_told_mark(s->d, NULL, 1);
	ferry_dirty_told_mark(s->d, (void *)UINTPTR_MAX, 100);
	harvest(s);
	assert_int_equal(ferry_owed_pages(&s->owed), 0);

	/* Half outside: the half inside counts. */
	ferry_dirty_told_mark(s->d, s->a.p - 10, 20);
	ferry_dirty_told_mark(s->d, s->a.p + s->a.bytes - 10, 20);
	harvest(s);
	assert_int_equal(ferry_owed_pages(&s->owed), adjacent ? 3 : 2);

	/* Everything there is. */
	ferry_dirty_told_mark(s->d, NULL, UINT64_MAX);
	harvest(s);
	assert_int_equal(ferry_owed_pages(&s->owed), 2 * PAGES);
}

#define ROUNDS	20000

static void *mark_much(void *arg)
{
	struct stage *s = arg;

	for (uint64_t i = 0; i < ROUNDS; i++)
		ferry_dirty_told_mark(s->d, s->a.p + i % (PAGES - 2) * PAGE,
				      3 * PAGE);
	return NULL;
}

static void no_mark_is_lost_between_threads(void **state)
{
	struct stage *s = *state;
	pthread_t t[2];

	start(s);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, mark_much, s);
	for (int i = 0; i < 1000; i++)
		harvest(s);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	harvest(s);
	assert_int_equal(ferry_owed_pages(&s->owed), PAGES);
}

#define T(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(nothing_is_kept_while_not_started),
		T(each_page_that_a_write_reaches_is_told_once),
		T(addresses_outside_are_ignored),
		T(no_mark_is_lost_between_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
