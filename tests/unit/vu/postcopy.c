/* SPDX-License-Identifier: MIT */
/*
 * Postcopy, with a front-end that has the guest's pages and brings them one by
 * one, late, never, or dies.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/thread.h"
#include "rig.h"

#define PAGES	(RIG_BYTES / FERRY_PAGE_BYTES)

/* The half of a front-end that has the pages. */
struct pages {
	struct rig	*rig;
	uint8_t		*model;		/* what the memory is to hold */
	int		uffd;		/* the backend's, a copy */
	int		quit;
	uint64_t	base;		/* where the backend has it */
	bool		here[PAGES];
	_Atomic unsigned brought;
	_Atomic bool	hold;		/* bring nothing */
	struct ferry_thread thread;
};

static const struct ferry_vhost_shape shape = {
	.size = sizeof(shape), .queues = RIG_QUEUES, .queue_size_max = 1024,
	.name = "echo",
};

static void bring(struct pages *p, uint64_t page)
{
	uint64_t at = page * FERRY_PAGE_BYTES;
	struct uffdio_range range = { p->base + at, FERRY_PAGE_BYTES };

	if (!p->here[page]) {
		p->here[page] = true;
		assert_int_equal(pwrite(p->rig->mem_fd, p->model + at,
					FERRY_PAGE_BYTES, (off_t)at),
				 FERRY_PAGE_BYTES);
		atomic_fetch_add(&p->brought, 1);
	}
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
		if (atomic_load(&p->hold)) {
			usleep(1000);
			continue;
		}
		if (read(p->uffd, &m, sizeof(m)) != sizeof(m))
			continue;
		usleep(200);
		bring(p, (m.arg.pagefault.address - p->base) /
			 FERRY_PAGE_BYTES);
	}
}

/* The last of three messages: 0, faults are served. */
static void say_word(struct rig *r, uint64_t value)
{
	struct ferry_vu_msg word = {
		.h = { FERRY_VU_SET_MEM_TABLE, FERRY_VU_VERSION, 0 },
		.u64 = value,
	};

	assert_int_equal(ferry_vu_send(&r->sock, &word, FERRY_VU_U64, NULL, 0,
				       NULL), 0);
}

/* All but the word. */
static void tell_memory(struct rig *r, struct pages *p)
{
	struct ferry_vu_msg m = {
		.h = { FERRY_VU_SET_MEM_TABLE, FERRY_VU_VERSION, 0 },
		.mem = { 1, { { RIG_GPA, RIG_BYTES, RIG_UADDR, 0 } } },
	};
	uint8_t payload[FERRY_VU_PAYLOAD_MAX];
	struct ferry_vu_fds none;

	assert_int_equal(ferry_vu_send(&r->sock, &m, FERRY_VU_MEM, &r->mem_fd,
				       1, NULL), 0);
	assert_int_equal(ferry_vu_recv(&r->sock, &m.h, payload, &none, NULL),
			 1);
	assert_int_equal(m.h.flags, 5);
	assert_int_equal(none.n, 0);
	assert_int_equal(ferry_vu_payload_decode(payload, FERRY_VU_MEM, &m,
						 NULL), 0);
	assert_int_equal(m.mem.n, 1);
	assert_int_equal(m.mem.region[0].gpa, RIG_GPA);
	assert_true(m.mem.region[0].user_addr != RIG_UADDR);
	p->base = m.mem.region[0].user_addr;
}

static void exchange_memory(struct rig *r, struct pages *p)
{
	tell_memory(r, p);
	say_word(r, 0);
}

/* ADVISE to the word; all pages are the model's and none is here. */
static void begin(struct rig *r, struct pages *p,
		  const struct ferry_vhost_ops *ops)
{
	struct ferry_vu_msg m = { .h.request = FERRY_VU_POSTCOPY_ADVISE };
	struct ferry_vu_fds got;

	rig_open(r, &shape, ops, NULL, FERRY_VIRTIO_F_RING_PACKED);
	memset(p, 0, sizeof(*p));
	p->rig = r;
	p->model = malloc(RIG_BYTES);
	for (uint64_t i = 0; i < RIG_BYTES; i += 4)
		*(uint32_t *)(p->model + i) = 0;
	rig_ask(r, &m, NULL, 0, &got);
	assert_int_equal(m.h.bytes, 0);
	assert_int_equal(got.n, 1);
	p->uffd = got.fd[0];
	p->quit = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(fallocate(r->mem_fd,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   0, RIG_BYTES), 0);
	assert_int_equal(rig_ask_u64(r, FERRY_VU_POSTCOPY_LISTEN, 0), 0);
	exchange_memory(r, p);
}

static void start_serving(struct pages *p)
{
	struct ferry_err e;

	assert_int_equal(ferry_thread_start(&p->thread, "pages", serve, p, &e),
			 0);
}

static void stop_serving(struct pages *p)
{
	assert_int_equal(eventfd_write(p->quit, 1), 0);
	ferry_thread_join(&p->thread);
}

static void end(struct rig *r, struct pages *p)
{
	if (p->uffd >= 0)
		close(p->uffd);
	close(p->quit);
	free(p->model);
	rig_close(r);
}

/*
 * The ring and its buffers as the source's driver left them: in the model.  The
 * driver's side works on r->mem, so it is pointed to the model for that.
 */
static uint16_t put_in_model(struct rig *r, struct pages *p,
			     const char *text, uint64_t out, uint64_t in)
{
	uint8_t *mem = r->mem;
	struct rig_part parts[] = {
		{ RIG_GPA + out, (uint32_t)strlen(text) + 1, false },
		{ RIG_GPA + in, 100, true },
	};
	uint16_t id;

	r->mem = p->model;
	memcpy(p->model + out, text, strlen(text) + 1);
	id = rig_put(r, 0, parts, 2, false);
	r->mem = mem;
	return id;
}

/* Where queue 0 will be, before anything is put into it. */
static void place_queue(struct rig *r)
{
	struct rig_queue *q = &r->q[0];

	q->size = 64;
	q->desc = rig_alloc(r, 16 * 64, 4096);
	q->avail = rig_alloc(r, 6 + 2 * 64, 4096);
	q->used = rig_alloc(r, 6 + 8 * 64, 4096);
	q->avail_wrap = q->used_wrap = true;
}

static const struct ferry_vhost_ops echo = {
	.size = sizeof(echo), .handle = rig_echo,
};

static void a_missing_page_is_brought_by_the_front_end(void **state)
{
	uint64_t out = rig_scratch(NULL, 0), in = rig_scratch(NULL, 65536);
	struct ferry_vhost_stats s = FERRY_VHOST_STATS_INIT;
	uint64_t waits = 0;
	struct pages p;
	struct rig r;
	uint32_t got;

	(void)state;
	begin(&r, &p, &echo);
	place_queue(&r);
	put_in_model(&r, &p, "a word from before", out, in);
	start_serving(&p);
	rig_start_queue(&r, 0, 64, 0, false);
	/* To look earlier would fill a hole. */
	assert_int_equal(poll(&(struct pollfd){ .fd = r.q[0].call,
						.events = POLLIN }, 1, -1), 1);
	rig_get(&r, 0, &got);
	assert_string_equal(r.mem + in, "a word from before");

	/* Ring: three pages.  Buffers: two. */
	assert_int_equal(atomic_load(&p.brought), 5);
	ferry_vhost_stats(r.v, &s);
	for (unsigned i = 0; i < FERRY_VHOST_WAIT_BUCKETS; i++)
		waits += s.waits[i];
	assert_int_equal(waits, 5);
	assert_true(s.wait_max_ns >= 200000 && s.wait_sum_ns >= 1000000);

	stop_serving(&p);
	for (uint64_t i = 0; i < PAGES; i++)
		bring(&p, i);
	assert_int_equal(rig_ask_u64(&r, FERRY_VU_POSTCOPY_END, 0), 0);
	end(&r, &p);
}

static void advise_twice_gives_the_same_userfaultfd(void **state)
{
	struct ferry_vu_msg m = { .h.request = FERRY_VU_POSTCOPY_ADVISE };
	struct ferry_vu_fds got;
	struct pages p;
	struct rig r;

	(void)state;
	begin(&r, &p, &echo);
	rig_ask(&r, &m, NULL, 0, &got);
	assert_int_equal(got.n, 1);
	close(p.uffd);
	p.uffd = got.fd[0];	/* faults come here just as well */
	place_queue(&r);
	put_in_model(&r, &p, "again", rig_scratch(NULL, 0),
		     rig_scratch(NULL, 65536));
	start_serving(&p);
	rig_start_queue(&r, 0, 64, 0, false);
	rig_get(&r, 0, &(uint32_t){ 0 });
	stop_serving(&p);
	end(&r, &p);
}

/* What stop() is told, and that it is called. */
static _Atomic int stopped_broken;
static _Atomic unsigned handled;

static void note_stop(void *opaque, struct ferry_vhost_queue *q, int broken)
{
	(void)opaque, (void)q;
	atomic_store(&stopped_broken, broken ? 1 : 0);
}

static void count_and_echo(void *opaque, struct ferry_vhost_queue *q,
			   unsigned why)
{
	struct ferry_vhost_buffer b;

	(void)opaque, (void)why;
	while (ferry_vhost_queue_pop(q, &b) == 1) {
		atomic_fetch_add(&handled, 1);
		ferry_vhost_queue_push(q, &b, 0);
	}
}

static const struct ferry_vhost_ops noting = {
	.size = sizeof(noting), .handle = count_and_echo, .stop = note_stop,
};

/*
 * The front-end dies while a queue waits for a buffer's page: nobody hands the
 * device a page of zeroes, and the device serves the next front-end.
 */
static void a_front_end_that_dies_leaves_nobody_waiting(void **state)
{
	uint64_t out = rig_scratch(NULL, 0), in = rig_scratch(NULL, 65536);
	struct pages p;
	struct rig r;

	(void)state;
	atomic_store(&stopped_broken, -1);
	atomic_store(&handled, 0);
	begin(&r, &p, &noting);
	place_queue(&r);
	put_in_model(&r, &p, "never seen", out, in);
	/* The ring is here, the buffers are not, and will not be. */
	bring(&p, r.q[0].desc / FERRY_PAGE_BYTES);
	bring(&p, r.q[0].avail / FERRY_PAGE_BYTES);
	bring(&p, r.q[0].used / FERRY_PAGE_BYTES);
	rig_start_queue(&r, 0, 64, 0, false);
	while (poll(&(struct pollfd){ .fd = p.uffd, .events = POLLIN }, 1,
		    -1) != 1)
		;
	close(p.uffd);
	p.uffd = -1;
	rig_reopen(&r, &shape, &echo, NULL);
	assert_int_equal(atomic_load(&handled), 0);
	assert_int_equal(atomic_load(&stopped_broken), 1);
	end(&r, &p);
}

/*
 * Memory that a ring has is told again, and then its faults are not served: the
 * connection ends, and nobody has touched memory that is not to be touched.
 */
static void take_table_back(void)
{
	struct pages p;
	struct rig r;

	begin(&r, &p, &echo);
	for (uint64_t i = 0; i < PAGES; i++)
		bring(&p, i);
	for (unsigned i = 0; i < RIG_QUEUES; i++)
		rig_start_queue(&r, i, 64, 0, false);
	tell_memory(&r, &p);
	say_word(&r, 1);
	assert_int_equal(poll(&(struct pollfd){ .fd = r.sock.fd,
						.events = POLLRDHUP }, 1, -1),
			 1);
	rig_reopen(&r, &shape, &echo, NULL);
	end(&r, &p);
}

static void a_table_that_is_taken_back_kills_nobody(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)	/* it is a matter of who is first */
		take_table_back();
}

static void listen_before_advise_is_refused(void **state)
{
	struct rig r;

	(void)state;
	rig_open(&r, &shape, &echo, NULL, 0);
	assert_int_equal(rig_ask_u64(&r, FERRY_VU_POSTCOPY_LISTEN, 0), 1);
	rig_give_memory(&r, false);
	rig_close(&r);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_missing_page_is_brought_by_the_front_end),
		cmocka_unit_test(advise_twice_gives_the_same_userfaultfd),
		cmocka_unit_test(a_front_end_that_dies_leaves_nobody_waiting),
		cmocka_unit_test(a_table_that_is_taken_back_kills_nobody),
		cmocka_unit_test(listen_before_advise_is_refused),
	};

	return cmocka_run_group_tests(tests, need_userfaultfd, NULL);
}
