/* SPDX-License-Identifier: MIT */
/*
 * A backend that is killed, and the next one: no buffer is lost, and none that
 * the driver has seen as used is served again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rig.h"
#include "vu/be/inflight.h"

#define SIZE	128
#define PARTS	3u

static const struct ferry_vhost_shape shape = {
	.size = sizeof(shape), .queues = RIG_QUEUES, .queue_size_max = 1024,
	.name = "disk",
};

/* Seen by the test and by all of the device's processes. */
struct shared {
	_Atomic unsigned served[1u << 16];
	_Atomic unsigned out;
	_Atomic unsigned order;
	uint32_t	sequence[1u << 16];
};

static uint32_t number_of(const struct ferry_vhost_buffer *b)
{
	uint32_t n;

	memcpy(&n, b->out[0].iov_base, sizeof(n));
	return n;
}

/* Serves every other buffer, keeps the rest. */
static void keep_half(void *opaque, struct ferry_vhost_queue *q, unsigned why)
{
	struct shared *s = opaque;
	struct ferry_vhost_buffer b;

	(void)why;
	while (ferry_vhost_queue_pop(q, &b) == 1) {
		if (number_of(&b) % 2) {
			atomic_fetch_add(&s->served[number_of(&b)], 1);
			ferry_vhost_queue_push(q, &b, 0);
		} else {
			atomic_fetch_add(&s->out, 1);
		}
	}
}

/* Serves all, and notes in what order. */
static void serve_all(void *opaque, struct ferry_vhost_queue *q, unsigned why)
{
	struct shared *s = opaque;
	struct ferry_vhost_buffer b;

	(void)why;
	while (ferry_vhost_queue_pop(q, &b) == 1) {
		uint32_t n = number_of(&b);

		s->sequence[atomic_fetch_add(&s->order, 1)] = n;
		atomic_fetch_add(&s->served[n], 1);
		ferry_vhost_queue_push(q, &b, 0);
		if (n % 3)
			ferry_vhost_queue_flush(q);
	}
}

/* As serve_all, but each buffer is given back once before it is served. */
static void hesitate(void *opaque, struct ferry_vhost_queue *q, unsigned why)
{
	struct shared *s = opaque;
	struct ferry_vhost_buffer b, more;

	(void)why;
	while (ferry_vhost_queue_pop(q, &b) == 1) {
		if (ferry_vhost_queue_pop(q, &more) == 1)
			ferry_vhost_queue_unpop(q, &more);
		ferry_vhost_queue_unpop(q, &b);
		assert_int_equal(ferry_vhost_queue_pop(q, &b), 1);
		s->sequence[atomic_fetch_add(&s->order, 1)] = number_of(&b);
		atomic_fetch_add(&s->served[number_of(&b)], 1);
		ferry_vhost_queue_push(q, &b, 0);
	}
}

static const struct ferry_vhost_ops hesitates = {
	.size = sizeof(hesitates), .handle = hesitate,
};
static const struct ferry_vhost_ops keeps = {
	.size = sizeof(keeps), .handle = keep_half,
};
static const struct ferry_vhost_ops serves = {
	.size = sizeof(serves), .handle = serve_all,
};

static struct shared *share(void)
{
	void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

/* Buffer number n, of one to three parts: its number is its content. */
static uint16_t put(struct rig *r, uint32_t n)
{
	uint64_t at = rig_scratch(r, 64 * (n % 4096));
	struct rig_part parts[] = {
		{ RIG_GPA + at, 64, false }, { RIG_GPA + at, 8, false },
		{ RIG_GPA + at + 8, 8, true },
	};

	memcpy(r->mem + at, &n, sizeof(n));
	return rig_put(r, 0, parts, 1 + n % PARTS, n % 7 == 6);
}

/* As a front-end knows it whose backend died: of a split ring, the used index;
 * of a packed one nothing, and it is not to matter. */
static uint32_t place(const struct rig *r)
{
	return r->features & FERRY_VIRTIO_F_RING_PACKED ? 0x80008000u :
							  r->q[0].used_idx;
}

/* Of 40 buffers the even ones were out when the backend was killed; number 40
 * is new to the next. */
static void begin_next(struct rig *r, struct shared *s,
		       const struct ferry_vhost_ops *next, uint64_t without)
{
	uint32_t n;

	rig_open_forked(r, &shape, &keeps, s, without);
	rig_give_memory(r, false);
	rig_track_inflight(r, RIG_QUEUES, SIZE);
	rig_start_queue(r, 0, SIZE, place(r), false);
	for (uint32_t i = 0; i < 40; i++)
		put(r, i);
	rig_kick(r, 0);
	for (int i = 0; i < 20; i++)
		rig_get(r, 0, &n);
	while (atomic_load(&s->out) != 20)
		usleep(1000);

	rig_reopen(r, &shape, next, s);
	rig_give_memory(r, false);
	put(r, 40);
	rig_start_queue(r, 0, SIZE, place(r), false);
}

static void check_next(const struct ferry_vhost_ops *next, uint64_t without)
{
	struct shared *s = share();
	struct rig r;
	uint32_t n;

	begin_next(&r, s, next, without);
	for (int i = 0; i < 21; i++)
		rig_get(&r, 0, &n);
	for (uint32_t i = 0; i <= 40; i++)
		assert_int_equal(atomic_load(&s->served[i]), 1);
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(s->sequence[i], 2 * i);
	assert_int_equal(s->sequence[20], 40);
	rig_close(&r);
	munmap(s, sizeof(*s));
}

static void what_was_out_is_served_by_the_next_in_its_order(void **state)
{
	(void)state;
	check_next(&serves, FERRY_VIRTIO_F_RING_PACKED);
	check_next(&serves, 0);
}

static void what_was_out_can_be_given_back_and_comes_again(void **state)
{
	(void)state;
	check_next(&hesitates, FERRY_VIRTIO_F_RING_PACKED);
	check_next(&hesitates, 0);
}

/* Long enough to be asked to stop before it has looked at its ring. */
static int start_late(void *opaque, struct ferry_vhost_queue *q,
		      struct ferry_err *e)
{
	(void)opaque, (void)q, (void)e;
	usleep(200000);
	return 0;
}

static const struct ferry_vhost_ops serves_late = {
	.size = sizeof(serves_late), .handle = serve_all, .start = start_late,
};

/* Who goes on from where it says that it stands never hears of it. */
static void check_leaving(uint64_t without)
{
	struct shared *s = share();
	struct rig r;

	begin_next(&r, s, &serves_late, without);
	(void)rig_stop_queue(&r, 0);
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(atomic_load(&s->served[i]), 1);
	rig_close(&r);
	munmap(s, sizeof(*s));
}

static void what_was_out_is_done_before_the_next_says_where_it_stands(
	void **state)
{
	(void)state;
	check_leaving(FERRY_VIRTIO_F_RING_PACKED);
	check_leaving(0);
}

/* The front-end has the area too, and writes what it likes. */
static void an_area_that_lies_leads_nowhere(void **state)
{
	enum { HEAD = 16, ENTRY = 16, COUNTER = 8 };
	struct ferry_vu_inflight area = { .queues = 1, .queue_size = SIZE };
	struct ferry_vb_inflight in = { .map = NULL };
	struct ferry_vb_ring ring = { .size = SIZE };
	struct ferry_vb_inflight_queue *q;
	struct ferry_err e = { 0 };
	int fd = ferry_vb_inflight_make(&area, false, &e);
	uint8_t *octets;
	uint32_t id;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ferry_vb_inflight_open(&in, &area, fd, false, &e), 0);
	octets = in.at;
	octets[8] = 1;			/* version */
	octets[10] = SIZE;
	octets[HEAD] = 1;		/* buffer 0 is in flight, */
	octets[HEAD + COUNTER] = 5;	/* as the fifth */
	q = ferry_vb_inflight_queue_new(&in, 0, SIZE, false);
	ferry_vb_inflight_start(q, &ring);
	assert_true(ferry_vb_inflight_again(q, &id));
	assert_int_equal(ferry_vb_inflight_take(q, &ring, 3), 0);
	octets[HEAD + COUNTER] = 0;
	octets[HEAD + 3 * ENTRY + COUNTER] = 0;
	ferry_vb_inflight_untake(q, 3);
	ferry_vb_inflight_untake(q, 0);
	for (int i = 0; i < 2 && ferry_vb_inflight_again(q, &id); i++)
		assert_true(id < SIZE);
	ferry_vb_inflight_queue_free(q);
	ferry_vb_inflight_close(&in);
	close(fd);
}

/* What the driver has made available and seen as used. */
struct seen {
	uint32_t	put, got;
	uint32_t	number[SIZE];	/* by id */
	bool		is_out[SIZE];
};

static void put_next(struct rig *r, struct seen *d)
{
	uint16_t id = put(r, d->put);

	assert_false(d->is_out[id]);
	d->is_out[id] = true;
	d->number[id] = d->put++;
}

static void took(struct seen *d, struct shared *s, uint16_t id)
{
	assert_true(id < SIZE && d->is_out[id]);
	assert_true(atomic_load(&s->served[d->number[id]]) >= 1);
	d->is_out[id] = false;
	d->got++;
}

static void take_all(struct rig *r, struct seen *d, struct shared *s)
{
	uint16_t id;
	uint32_t n;

	while (rig_try_get(r, 0, &id, &n))
		took(d, s, id);
}

/*
 * Kills at any moment.  The driver sees each buffer used once, and only what
 * was served; what was served twice, it has not seen before the kill.
 */
static void kill_at_any_moment(uint64_t without)
{
	struct shared *s = share();
	struct seen d = { 0 };
	struct rig r;

	rig_open_forked(&r, &shape, &serves, s, without);
	rig_give_memory(&r, false);
	rig_track_inflight(&r, RIG_QUEUES, SIZE);
	rig_start_queue(&r, 0, SIZE, place(&r), false);
	for (int round = 0; round < 60; round++) {
		unsigned many = (unsigned)rand() % 600;

		for (unsigned i = 0; i < many; i++) {
			while (d.put - d.got >= SIZE / PARTS - 1)
				take_all(&r, &d, s);
			put_next(&r, &d);
			rig_kick(&r, 0);
			take_all(&r, &d, s);
		}
		rig_reopen(&r, &shape, &serves, s);
		rig_give_memory(&r, false);
		take_all(&r, &d, s);
		rig_start_queue(&r, 0, SIZE, place(&r), false);
		rig_kick(&r, 0);
	}
	while (d.got < d.put) {
		uint32_t n;

		took(&d, s, rig_get(&r, 0, &n));
	}
	take_all(&r, &d, s);
	assert_int_equal(d.got, d.put);
	rig_close(&r);
	munmap(s, sizeof(*s));
}

static void a_backend_may_be_killed_at_any_moment(void **state)
{
	(void)state;
	kill_at_any_moment(FERRY_VIRTIO_F_RING_PACKED);
}

static void so_may_one_of_packed_rings(void **state)
{
	(void)state;
	kill_at_any_moment(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			what_was_out_is_served_by_the_next_in_its_order),
		cmocka_unit_test(
			what_was_out_can_be_given_back_and_comes_again),
		cmocka_unit_test(
			what_was_out_is_done_before_the_next_says_where_it_stands),
		cmocka_unit_test(an_area_that_lies_leads_nowhere),
		cmocka_unit_test(a_backend_may_be_killed_at_any_moment),
		cmocka_unit_test(so_may_one_of_packed_rings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
