/* SPDX-License-Identifier: MIT */
/*
 * Userfaultfds of other processes, one by one: what is refused, what is
 * translated where, who is woken, what becomes of one that misbehaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <linux/userfaultfd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/thread.h"
#include "recv/foreign.h"
#include "unit/need_uffd.h"

#define PAGE	4096u
#define PAGES	64u
#define BYTES	(PAGE * PAGES)

struct bench {
	struct ferry_mem mem;
	struct ferry_foreign o;
	struct ferry_uffd uffd;		/* of the other "process" */
	uint8_t		*host, *theirs;
	int		fd;
	unsigned	said;
};

static void say(void *arg, const char *name, const char *what)
{
	struct bench *b = arg;

	assert_string_equal(name, "disk");
	assert_true(*what);
	b->said++;
}

static uint8_t *map(int fd)
{
	void *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void begin(struct bench *b)
{
	struct ferry_err e = { 0 };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	memset(b, 0, sizeof(*b));
	b->fd = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(b->fd, BYTES), 0);
	b->host = map(b->fd);
	b->theirs = map(b->fd);
	assert_int_equal(ferry_mem_add(&b->mem, "ram", b->host, BYTES, PAGE, 0,
				       b->fd, 0, &e), 0);
	assert_int_equal(ferry_uffd_open(&b->uffd, 0, &e), 0);
	reg.range.start = (uintptr_t)b->theirs;
	reg.range.len = BYTES;
	assert_int_equal(ioctl(b->uffd.fd, UFFDIO_REGISTER, &reg), 0);
	b->o.say = say;
	b->o.arg = b;
	assert_int_equal(ferry_foreign_init(&b->o, &e), 0);
	ferry_foreign_open(&b->o);
}

static void end(struct bench *b)
{
	ferry_foreign_fini(&b->o);
	ferry_uffd_close(&b->uffd);
	munmap(b->host, BYTES);
	munmap(b->theirs, BYTES);
	close(b->fd);
	ferry_mem_fini(&b->mem);
}

static struct ferry_uffd_range all_of(const struct bench *b)
{
	return (struct ferry_uffd_range){
		(uintptr_t)b->theirs, BYTES, b->host,
	};
}

static int add(struct bench *b, int fd, const struct ferry_uffd_range *r)
{
	struct ferry_err e = { 0 };
	int number = ferry_foreign_add(&b->o, &b->mem, fd, "disk", r, 1, &e);

	if (number < 0)
		assert_non_null(strstr(e.msg, "disk"));
	return number;
}

static const struct {
	const char	*why;
	uint64_t	addr, bytes, host;	/* added to what is right */
} bad[] = {
	{ "no octets",			0, -(uint64_t)BYTES, 0 },
	{ "half a page there",		2048, 0, 0 },
	{ "half a page here",		0, -(uint64_t)PAGE, 2048 },
	{ "half a page long",		0, -(uint64_t)2048, 0 },
	{ "past its block",		0, PAGE, 0 },
	{ "past it by its place",	0, 0, PAGE },
	{ "in no block",		0, 0, 1ull << 45 },
	{ "longer than there is",	0, UINT64_MAX / 2 + 1, 0 },
};

static void ranges_that_make_no_sense_are_refused(void **state)
{
	struct bench b;

	(void)state;
	begin(&b);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ferry_uffd_range r = all_of(&b);

		r.addr += bad[i].addr;
		r.bytes += bad[i].bytes;
		r.host = (uint8_t *)r.host + bad[i].host;
		if (add(&b, b.uffd.fd, &r) != -1)
			fail_msg("%s", bad[i].why);
	}
	end(&b);
}

static void only_a_userfaultfd_is_taken(void **state)
{
	struct ferry_uffd_range r;
	struct bench b;
	int event = eventfd(0, EFD_CLOEXEC);

	(void)state;
	begin(&b);
	r = all_of(&b);
	assert_int_equal(add(&b, event, &r), -1);
	assert_int_equal(add(&b, b.fd, &r), -1);
	assert_int_equal(add(&b, -1, &r), -1);
	assert_true(add(&b, b.uffd.fd, &r) > 0);
	ferry_foreign_close(&b.o);
	assert_int_equal(add(&b, b.uffd.fd, &r), -1);
	close(event);
	end(&b);
}

static void there_are_so_many_and_no_more(void **state)
{
	struct ferry_uffd_range r;
	struct pollfd p[FERRY_FOREIGN_MAX];
	int number[FERRY_FOREIGN_MAX];
	struct bench b;

	(void)state;
	begin(&b);
	r = all_of(&b);
	for (unsigned i = 0; i < FERRY_FOREIGN_MAX; i++)
		assert_int_equal(add(&b, b.uffd.fd, &r), i + 1);
	assert_int_equal(add(&b, b.uffd.fd, &r), -1);
	ferry_foreign_remove(&b.o, 7);
	ferry_foreign_remove(&b.o, 7);
	assert_int_equal(ferry_foreign_poll(&b.o, p, number),
			 FERRY_FOREIGN_MAX - 1);
	assert_true(add(&b, b.uffd.fd, &r) > (int)FERRY_FOREIGN_MAX);
	end(&b);
}

struct toucher {
	volatile uint8_t *at;
	uint8_t		saw;
	struct ferry_thread thread;
};

static void touch(void *arg)
{
	struct toucher *t = arg;

	t->saw = *t->at;
}

static void start(struct toucher *t, const struct bench *b, unsigned page)
{
	t->at = b->theirs + page * PAGE;
	assert_int_equal(ferry_thread_start(&t->thread, "touch", touch, t,
					    NULL), 0);
}

/* The next fault of the only one there is, if it is one of ours. */
static unsigned next_fault(struct bench *b, void **host)
{
	struct pollfd p[FERRY_FOREIGN_MAX];
	void *got[FERRY_FOREIGN_AT_ONCE];
	int number[FERRY_FOREIGN_MAX];
	unsigned n;

	assert_int_equal(ferry_foreign_poll(&b->o, p, number), 1);
	assert_int_equal(poll(p, 1, 30000), 1);
	n = ferry_foreign_read(&b->o, number[0], p[0].revents, got);
	*host = n ? got[0] : NULL;
	return n;
}

static void a_fault_is_translated_and_woken(void **state)
{
	struct ferry_uffd_range r;
	struct toucher t;
	struct bench b;
	void *host;

	(void)state;
	begin(&b);
	r = all_of(&b);
	assert_true(add(&b, b.uffd.fd, &r) > 0);
	start(&t, &b, 5);
	assert_int_equal(next_fault(&b, &host), 1);
	assert_ptr_equal(host, b.host + 5 * PAGE);
	memset(b.host + 5 * PAGE, 0x5a, PAGE);
	ferry_foreign_wake(&b.o, b.host + 4 * PAGE, 3 * PAGE);
	ferry_thread_join(&t.thread);
	assert_int_equal(t.saw, 0x5a);
	end(&b);
}

static void who_waits_outside_is_told_of_and_let_go_at_the_end(void **state)
{
	struct ferry_uffd_range r;
	struct toucher t;
	struct bench b;
	void *host;

	(void)state;
	begin(&b);
	r = all_of(&b);
	r.bytes = PAGE * 4;
	assert_true(add(&b, b.uffd.fd, &r) > 0);
	start(&t, &b, 5);
	assert_int_equal(next_fault(&b, &host), 0);
	assert_int_equal(b.said, 1);
	/* However often it asks, it is told of once. */
	ferry_uffd_wake(&b.uffd, b.theirs + 5 * PAGE, PAGE);
	assert_int_equal(next_fault(&b, &host), 0);
	assert_int_equal(b.said, 1);
	/* Its page comes by another way. */
	memset(b.host + 5 * PAGE, 0x5a, PAGE);
	ferry_uffd_wake(&b.uffd, b.theirs + 5 * PAGE, PAGE);
	ferry_thread_join(&t.thread);
	end(&b);
}

static void who_waits_at_the_end_looks_again(void **state)
{
	struct ferry_uffd_range r;
	struct toucher t;
	struct bench b;
	void *host;

	(void)state;
	begin(&b);
	r = all_of(&b);
	assert_true(add(&b, b.uffd.fd, &r) > 0);
	start(&t, &b, 9);
	assert_int_equal(next_fault(&b, &host), 1);
	memset(b.host + 9 * PAGE, 0x77, PAGE);
	ferry_foreign_close(&b.o);
	ferry_thread_join(&t.thread);
	assert_int_equal(t.saw, 0x77);
	end(&b);
}

static void one_that_cannot_be_read_is_dropped(void **state)
{
	struct pollfd p[FERRY_FOREIGN_MAX];
	void *got[FERRY_FOREIGN_AT_ONCE];
	int number[FERRY_FOREIGN_MAX];
	struct ferry_uffd_range r;
	struct bench b;

	(void)state;
	begin(&b);
	r = all_of(&b);
	assert_true(add(&b, b.uffd.fd, &r) > 0);
	assert_int_equal(ferry_foreign_poll(&b.o, p, number), 1);
	assert_int_equal(ferry_foreign_read(&b.o, number[0], POLLERR, got), 0);
	assert_int_equal(b.said, 1);
	assert_int_equal(ferry_foreign_poll(&b.o, p, number), 0);
	assert_int_equal(ferry_foreign_read(&b.o, 1, POLLIN, got), 0);
	end(&b);
}

/* Its flags are shared; reading what is not there would never end. */
static void one_that_is_made_to_block_holds_nobody_up(void **state)
{
	void *got[FERRY_FOREIGN_AT_ONCE];
	struct ferry_uffd_range r;
	struct toucher t;
	struct bench b;
	int number;

	(void)state;
	begin(&b);
	r = all_of(&b);
	number = add(&b, b.uffd.fd, &r);
	assert_true(number > 0);
	assert_int_equal(fcntl(b.uffd.fd, F_SETFL, O_RDWR), 0);
	assert_int_equal(ferry_foreign_read(&b.o, number, POLLIN, got), 0);
	assert_int_equal(b.said, 0);
	start(&t, &b, 3);
	while (!ferry_foreign_read(&b.o, number, POLLIN, got))
		usleep(1000);
	assert_ptr_equal(got[0], b.host + 3 * PAGE);
	memset(b.host + 3 * PAGE, 0x33, PAGE);
	ferry_foreign_wake(&b.o, b.host + 3 * PAGE, PAGE);
	ferry_thread_join(&t.thread);
	assert_int_equal(t.saw, 0x33);
	end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_that_make_no_sense_are_refused),
		cmocka_unit_test(only_a_userfaultfd_is_taken),
		cmocka_unit_test(there_are_so_many_and_no_more),
		cmocka_unit_test(a_fault_is_translated_and_woken),
		cmocka_unit_test(
			who_waits_outside_is_told_of_and_let_go_at_the_end),
		cmocka_unit_test(who_waits_at_the_end_looks_again),
		cmocka_unit_test(one_that_cannot_be_read_is_dropped),
		cmocka_unit_test(one_that_is_made_to_block_holds_nobody_up),
	};

	if (!has_uffd())
		return SKIPPED;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
