/* SPDX-License-Identifier: MIT */
/*
 * Postcopy, from the front-end: the backend's faults are served by a thread of
 * the test, which has the pages.  A backend that is killed in the middle, and
 * one that is abandoned.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/thread.h"
#include "fe_vm.h"

#define PAGES	(RIG_BYTES / FERRY_PAGE_BYTES)

/* Who has the pages, and brings them when they are asked for. */
struct pages {
	struct vm	*vm;
	uint8_t		*model;
	pthread_mutex_t	lock;		/* model, here; the rig's mem */
	bool		here[PAGES];
	_Atomic unsigned brought;
	int		uffd, quit;
	uint64_t	base;
	unsigned	exchanges;	/* how often faults() was called */
	struct ferry_thread thread;
};

static void bring(struct pages *p, uint64_t page, bool wake)
{
	uint64_t at = page * FERRY_PAGE_BYTES;
	struct uffdio_range range = { p->base + at, FERRY_PAGE_BYTES };

	pthread_mutex_lock(&p->lock);
	if (!p->here[page]) {
		p->here[page] = true;
		assert_int_equal(pwrite(p->vm->rig.mem_fd, p->model + at,
					FERRY_PAGE_BYTES, (off_t)at),
				 FERRY_PAGE_BYTES);
		atomic_fetch_add(&p->brought, 1);
	}
	pthread_mutex_unlock(&p->lock);
	if (wake)
		assert_int_equal(ioctl(p->uffd, UFFDIO_WAKE, &range), 0);
}

static void serve(void *arg)
{
	struct pages *p = arg;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = p->uffd, .events = POLLIN },
			{ .fd = p->quit, .events = POLLIN },
		};
		struct uffd_msg m;

		poll(fds, 2, -1);
		if (fds[1].revents)
			return;
		if (read(p->uffd, &m, sizeof(m)) == sizeof(m))
			bring(p, (m.arg.pagefault.address - p->base) /
				 FERRY_PAGE_BYTES, true);
	}
}

static void stop_serving(struct pages *p)
{
	if (p->uffd < 0)
		return;
	assert_int_equal(eventfd_write(p->quit, 1), 0);
	ferry_thread_join(&p->thread);
	close(p->uffd);
	close(p->quit);
	p->uffd = p->quit = -1;
}

static int on_faults(void *opaque, int uffd,
		     const struct ferry_vhost_fault_range *range, size_t n,
		     struct ferry_err *e)
{
	struct vm *m = opaque;
	struct pages *p = m->pages;

	pthread_mutex_lock(&p->lock);
	assert_ptr_equal(range[0].host, m->rig.mem);
	pthread_mutex_unlock(&p->lock);
	assert_int_equal(n, 1);
	assert_int_equal(range[0].bytes, RIG_BYTES);
	stop_serving(p);	/* of a backend that is gone */
	p->base = range[0].addr;
	p->uffd = fcntl(uffd, F_DUPFD_CLOEXEC, 0);
	p->quit = eventfd(0, EFD_CLOEXEC);
	p->exchanges++;
	return ferry_thread_start(&p->thread, "pages", serve, p, e);
}

static void begin(struct vm *m, struct pages *p, bool forks)
{
	new_vm(m);
	m->faults = on_faults;
	m->pages = p;
	memset(p, 0, sizeof(*p));
	p->vm = m;
	p->uffd = p->quit = -1;
	pthread_mutex_init(&p->lock, NULL);
	p->model = calloc(1, RIG_BYTES);
	if (forks)
		fork_backend(m);
	else
		make_backend_of(m);
	connect_fe(m, ~PACKED);
	assert_int_equal(fallocate(m->rig.mem_fd,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   0, RIG_BYTES), 0);
}

static void end(struct vm *m, struct pages *p)
{
	stop_serving(p);
	close_vm(m);
	free(p->model);
	pthread_mutex_destroy(&p->lock);
}

/* A buffer as the source's driver left it, in the model. */
static void put_in_model(struct vm *m, unsigned i, const char *text,
			 uint64_t out, uint64_t in)
{
	struct pages *p = m->pages;
	uint8_t *mem = m->rig.mem;
	struct rig_part parts[] = {
		{ RIG_GPA + out, (uint32_t)strlen(text) + 1, false },
		{ RIG_GPA + in, 100, true },
	};

	pthread_mutex_lock(&p->lock);
	m->rig.mem = p->model;
	memcpy(p->model + out, text, strlen(text) + 1);
	rig_put(&m->rig, i, parts, 2, false);
	m->rig.mem = mem;
	pthread_mutex_unlock(&p->lock);
}

/* Through the call, as looking into memory would fill a hole. */
static void await_call(struct vm *m, unsigned i)
{
	struct pollfd p = { .fd = m->rig.q[i].call, .events = POLLIN };

	assert_int_equal(poll(&p, 1, 30000), 1);
}

static void listen_and_start(struct vm *m, unsigned queues)
{
	struct ferry_err e = { 0 };

	check(ferry_vhost_fe_can(m->fe, FERRY_VHOST_FE_CAN_FAULT, &e), &e);
	check(ferry_vhost_fe_postcopy_listen(m->fe, &e), &e);
	check(ferry_vhost_fe_postcopy_listen(m->fe, &e), &e);
	give_memory(m);
	for (unsigned i = 0; i < queues; i++)
		start_queue(m, i, 0);
}

static void a_backend_gets_its_pages(void **state)
{
	struct ferry_err e = { 0 };
	struct pages p;
	struct vm m;
	uint32_t got;

	(void)state;
	begin(&m, &p, false);
	for (unsigned i = 0; i < 3; i++) {
		rig_place_queue(&m.rig, i, ENTRIES);
		put_in_model(&m, i, "from before",
			     rig_scratch(&m.rig, 8192 * i),
			     rig_scratch(&m.rig, 65536 + 8192 * i));
	}
	listen_and_start(&m, 3);
	for (unsigned i = 0; i < 3; i++) {
		await_call(&m, i);
		rig_get(&m.rig, i, &got);
		assert_string_equal(m.rig.mem + rig_scratch(&m.rig, 65536 +
							    8192 * i),
				    "from before");
	}
	/* Once for all queues. */
	assert_int_equal(p.exchanges, 1);
	assert_int_equal(atomic_load(&p.brought), 15);

	for (uint64_t i = 0; i < PAGES; i++)
		bring(&p, i, true);
	stop_serving(&p);
	check(ferry_vhost_fe_postcopy_end(m.fe, &e), &e);
	check(ferry_vhost_fe_postcopy_end(m.fe, &e), &e);
	one_echo(&m, 1);
	assert_int_equal(atomic_load(&m.gone), 0);
	end(&m, &p);
}

static void one_that_is_killed_comes_back_into_postcopy(void **state)
{
	struct ferry_err e = { 0 };
	struct pages p;
	struct vm m;
	uint32_t got;

	(void)state;
	begin(&m, &p, true);
	rig_place_queue(&m.rig, 0, ENTRIES);
	listen_and_start(&m, 1);
	await(&p.brought, 3);	/* its ring: it will not be brought again */
	kill_backend(&m);
	await(&m.gone, 1);
	put_in_model(&m, 0, "from before", rig_scratch(&m.rig, 0),
		     rig_scratch(&m.rig, 65536));
	/* What the driver wrote meanwhile is here already. */
	for (uint64_t at = m.rig.q[0].desc; at <= m.rig.q[0].used; at += 4096)
		memcpy(m.rig.mem + at, p.model + at, 4096);
	fork_backend(&m);
	await(&m.back, 1);
	assert_int_equal(p.exchanges, 2);
	rig_kick(&m.rig, 0);
	await_call(&m, 0);
	rig_get(&m.rig, 0, &got);
	assert_string_equal(m.rig.mem + rig_scratch(&m.rig, 65536),
			    "from before");
	for (uint64_t i = 0; i < PAGES; i++)
		bring(&p, i, true);
	stop_serving(&p);
	check(ferry_vhost_fe_postcopy_end(m.fe, &e), &e);
	one_echo(&m, 0);
	end(&m, &p);
}

struct starter {
	struct vm	*vm;
	struct ferry_thread thread;
};

static void start_it(void *arg)
{
	struct starter *s = arg;

	start_queue(s->vm, 0, 0);
}

/* Its page never comes: nobody waits for ever, and nothing is handed out. */
static void one_that_is_abandoned_is_let_go(void **state)
{
	struct starter s;
	struct pages p;
	struct vm m;

	(void)state;
	begin(&m, &p, false);
	rig_place_queue(&m.rig, 0, ENTRIES);
	put_in_model(&m, 0, "never seen", rig_scratch(&m.rig, 0),
		     rig_scratch(&m.rig, 65536));
	listen_and_start(&m, 0);
	assert_int_equal(eventfd_write(p.quit, 1), 0);
	ferry_thread_join(&p.thread);
	s.vm = &m;
	assert_int_equal(ferry_thread_start(&s.thread, "start", start_it, &s,
					    NULL), 0);
	while (poll(&(struct pollfd){ .fd = p.uffd, .events = POLLIN }, 1,
		    -1) != 1)
		continue;
	ferry_vhost_fe_postcopy_abandon(m.fe);
	ferry_thread_join(&s.thread);
	close(p.uffd);
	close(p.quit);
	p.uffd = -1;
	end(&m, &p);
}

static int need_userfaultfd(void **state)
{
	struct ferry_err e;

	(void)state;
	if (!ferry_vhost_probe_postcopy(&e))
		return 0;
	printf("# %s\n", e.msg);
	exit(77);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_backend_gets_its_pages),
		cmocka_unit_test(one_that_is_killed_comes_back_into_postcopy),
		cmocka_unit_test(one_that_is_abandoned_is_let_go),
	};

	if (argc > 1)
		return be_the_backend(argv[1]);
	return cmocka_run_group_tests(tests, need_userfaultfd, NULL);
}
