/* SPDX-License-Identifier: MIT */
/* userfaultfd with every kind of memory: faults, placing, waking. */
#include "help.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "mem/extent.h"
#include "mem/uffd.h"

#define PAGES	8	/* host pages of each block */

struct stage {
	struct area	 a;
	struct ferry_mem mem;
	struct ferry_uffd u;
	struct ferry_mem_block *b;
	uint64_t	 page;
	uint8_t		*src;
};

static bool stage_make(struct stage *s, enum kind kind)
{
	struct ferry_err e = { 0 };

	*s = (struct stage){ .page = kind >= HUGE_MEMFD ? HUGE : PAGE };
	if (!area_make(&s->a, kind, PAGES * s->page)) {
		print_message("no huge pages: %s left out\n", kind_name[kind]);
		return false;
	}
	area_add(&s->mem, "ram", &s->a);
	s->b = &s->mem.block[0];
	s->src = malloc(s->a.bytes);
	for (int i = 0; i < PAGES; i++)
		memset(s->src + (uint64_t)i * s->page, 1 + i, s->page);
	if (ferry_uffd_open(&s->u, 0, &e) ||
	    ferry_uffd_register(&s->u, s->b, &e))
		fail_msg("%s: %s", kind_name[kind], e.msg);
	return true;
}

static void stage_free(struct stage *s)
{
	ferry_uffd_unregister(&s->u, s->b);
	ferry_uffd_close(&s->u);
	ferry_mem_fini(&s->mem);
	free(s->src);
	area_free(&s->a);
}

/* Run a test for each kind of memory. */
static void each_kind(void (*fn)(struct stage *s))
{
	struct stage s;

	for (enum kind k = 0; k < KINDS; k++) {
		if (!stage_make(&s, k))
			continue;
		fn(&s);
		stage_free(&s);
	}
}

static struct ferry_uffd_fault wait_fault(struct stage *s)
{
	struct pollfd p = { .fd = s->u.fd, .events = POLLIN };
	struct ferry_uffd_fault f = { 0 };
	int n;

	do {
		assert_int_equal(poll(&p, 1, 20000), 1);
		n = ferry_uffd_read(&s->u, &f, 1);
		assert_true(n >= 0);
	} while (n == 0);
	return f;
}

static void *read_octet(void *at)
{
	return (void *)(uintptr_t)*(volatile uint8_t *)at;
}

static void *write_octet(void *at)
{
	*(volatile uint8_t *)at = 77;
	return NULL;
}

static void fault_and_copy(struct stage *s)
{
	struct ferry_uffd_fault f, none[4];
	pthread_t t;
	void *got;

	assert_int_equal(ferry_uffd_read(&s->u, none, 4), 0);
	pthread_create(&t, NULL, read_octet, s->a.p + 3 * s->page + 5);
	f = wait_fault(s);
	assert_true(f.addr == (uintptr_t)s->a.p + 3 * s->page);
	assert_false(f.write);
	assert_false(f.wp);
	assert_int_equal(ferry_uffd_copy(&s->u, s->a.p + 3 * s->page,
					 s->src + 3 * s->page, s->page),
			 (int64_t)s->page);
	pthread_join(t, &got);
	assert_int_equal((uintptr_t)got, 4);

	pthread_create(&t, NULL, write_octet, s->a.p + 6 * s->page);
	f = wait_fault(s);
	assert_true(f.write);
	assert_int_equal(ferry_uffd_zero(&s->u, s->b, 6 * s->page / PAGE,
					 s->page / PAGE), (int64_t)s->page);
	pthread_join(t, NULL);
	assert_int_equal(s->a.p[6 * s->page], 77);
	assert_int_equal(s->a.p[6 * s->page + 1], 0);
}

static void a_fault_waits_until_the_page_is_placed(void **state)
{
	(void)state;
	each_kind(fault_and_copy);
}

static void run_around_present(struct stage *s)
{
	uint64_t pg = s->page;

	assert_int_equal(ferry_uffd_copy(&s->u, s->a.p + 3 * pg,
					 s->src + 7 * pg, pg), (int64_t)pg);
	assert_int_equal(ferry_uffd_copy(&s->u, s->a.p, s->src, PAGES * pg),
			 (int64_t)(3 * pg));
	assert_int_equal(ferry_uffd_copy(&s->u, s->a.p + 3 * pg,
					 s->src + 3 * pg, 5 * pg), -EEXIST);
	assert_int_equal(ferry_uffd_zero(&s->u, s->b, 3 * pg / PAGE,
					 pg / PAGE), -EEXIST);
	assert_int_equal(ferry_uffd_copy(&s->u, s->a.p + 4 * pg,
					 s->src + 4 * pg, 4 * pg),
			 (int64_t)(4 * pg));
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(s->a.p[i * pg], i == 3 ? 8 : i + 1);
}

static void a_run_stops_at_a_present_page_and_goes_on_behind_it(void **state)
{
	(void)state;
	each_kind(run_around_present);
}

static void zero_run(struct stage *s)
{
	assert_int_equal(ferry_uffd_zero(&s->u, s->b, 0, s->b->pages),
			 (int64_t)s->a.bytes);
	assert_true(ferry_is_zero(s->a.p, s->a.bytes));
}

static void zeroes_are_placed_in_runs(void **state)
{
	(void)state;
	each_kind(zero_run);
}

static void drop_and_fault(struct stage *s)
{
	struct ferry_err e = { 0 };
	pthread_t t;
	void *got;

	assert_int_equal(ferry_uffd_copy(&s->u, s->a.p, s->src, s->a.bytes),
			 (int64_t)s->a.bytes);
	if (ferry_extent_drop(s->b, 2 * s->page / PAGE, s->page / PAGE, &e))
		fail_msg("%s", e.msg);
	pthread_create(&t, NULL, read_octet, s->a.p + 2 * s->page);
	assert_true(wait_fault(s).addr == (uintptr_t)s->a.p + 2 * s->page);
	assert_int_equal(ferry_uffd_copy(&s->u, s->a.p + 2 * s->page,
					 s->src + 5 * s->page, s->page),
			 (int64_t)s->page);
	pthread_join(t, &got);
	assert_int_equal((uintptr_t)got, 6);
	assert_int_equal(s->a.p[3 * s->page], 4);
}

static void a_dropped_page_faults_again(void **state)
{
	(void)state;
	each_kind(drop_and_fault);
}

struct piped { int fd; uint8_t *from; };

static void *write_pipe(void *arg)
{
	struct piped *p = arg;

	return (void *)write(p->fd, p->from, 16);
}

static void pipe_from_missing(struct stage *s)
{
	struct piped p = { .from = s->a.p + s->page };
	uint8_t got[16] = { 0 };
	int ends[2];
	pthread_t t;
	void *rc;

	assert_int_equal(pipe(ends), 0);
	p.fd = ends[1];
	pthread_create(&t, NULL, write_pipe, &p);
	wait_fault(s);
	ferry_uffd_copy(&s->u, s->a.p + s->page, s->src + s->page, s->page);
	pthread_join(t, &rc);
	assert_int_equal((intptr_t)rc, 16);
	assert_int_equal(read(ends[0], got, 16), 16);
	assert_int_equal(got[15], 2);
	close(ends[0]);
	close(ends[1]);
}

static void an_access_by_the_kernel_waits_too(void **state)
{
	(void)state;
	each_kind(pipe_from_missing);
}

static void wake_alone(struct stage *s)
{
	pthread_t t;

	pthread_create(&t, NULL, read_octet, s->a.p);
	wait_fault(s);
	ferry_uffd_wake(&s->u, s->a.p, s->page);
	wait_fault(s);		/* looked again, still missing */
	ferry_uffd_copy(&s->u, s->a.p, s->src, s->page);
	pthread_join(t, NULL);
}

static void a_waiter_that_is_woken_looks_again(void **state)
{
	(void)state;
	each_kind(wake_alone);
}

static void the_same_memory_is_not_registered_twice(void **state)
{
	struct ferry_err e = { 0 };
	struct ferry_uffd other;
	struct stage s;

	(void)state;
	assert_true(stage_make(&s, MEMFD));
	assert_int_equal(ferry_uffd_open(&other, 0, &e), 0);
	assert_int_equal(ferry_uffd_register(&other, s.b, &e), -1);
	assert_non_null(strstr(e.msg, "block ram: register"));
	assert_int_equal(e.sys, EBUSY);
	ferry_uffd_close(&other);
	stage_free(&s);
}

static void unknown_features_are_left_out(void **state)
{
	struct ferry_err e = { 0 };
	struct ferry_uffd u;

	(void)state;
	assert_int_equal(ferry_uffd_open(&u, 1ull << 62 | 1ull << 8, &e), 0);
	assert_int_equal(u.features & 1ull << 62, 0);
	assert_int_equal(u.features, 1ull << 8);	/* THREAD_ID: 4.14 */
	assert_true(u.how[0] != '\0');
	ferry_uffd_close(&u);
	ferry_uffd_close(&u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fault_waits_until_the_page_is_placed),
		cmocka_unit_test(
			a_run_stops_at_a_present_page_and_goes_on_behind_it),
		cmocka_unit_test(zeroes_are_placed_in_runs),
		cmocka_unit_test(a_dropped_page_faults_again),
		cmocka_unit_test(an_access_by_the_kernel_waits_too),
		cmocka_unit_test(a_waiter_that_is_woken_looks_again),
		cmocka_unit_test(the_same_memory_is_not_registered_twice),
		cmocka_unit_test(unknown_features_are_left_out),
	};
	struct ferry_err e = { 0 };
	struct ferry_uffd u;
	bool there = !ferry_uffd_open(&u, 0, &e);

	need(there, e.msg);
	ferry_uffd_close(&u);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
