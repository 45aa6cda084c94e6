/* SPDX-License-Identifier: MIT */
/*
 * The in-flight area of a packed ring: what the next process makes of each step
 * at which the one before may have died, and of an area that lies.  Both
 * processes are this one, each with a ring of its own over one memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vu/be/inflight.h"
#include "vu/be/ring.h"

#define SIZE	8u
#define QUEUE	(32u + SIZE * 32u + 32u)	/* in the area */
#define MEMORY	4096u
#define GPA	0x100000ull
#define USER	0x7f0000000000ull
#define DRIVER	1024u
#define DEVICE	1028u
#define DATA	2048u
#define BASE	0x80008000u
#define AVAIL	0x80u
#define USED	0x8000u
#define NEXT	1u

struct desc {
	uint64_t	gpa;
	uint32_t	bytes;
	uint16_t	id, flags;
};

struct bench {
	uint8_t		*memory;
	struct ferry_vb_memory m;
	struct ferry_vb_dirty dirty;
	struct ferry_vb_touch touch;
	struct ferry_vb_inflight in;
	int		fd;
};

static void open_bench(struct bench *b)
{
	struct ferry_vu_inflight area = { .queues = 2, .queue_size = SIZE };
	struct ferry_err e = { 0 };

	memset(b, 0, sizeof(*b));
	b->memory = aligned_alloc(4096, MEMORY);
	assert_non_null(b->memory);
	memset(b->memory, 0, MEMORY);
	b->m = (struct ferry_vb_memory){ 1, { {
		.gpa = GPA, .bytes = MEMORY, .user_addr = USER,
		.at = b->memory, .map = b->memory, .map_bytes = MEMORY,
		.page_bytes = 4096,
	} } };
	b->fd = ferry_vb_inflight_make(&area, true, &e);
	assert_true(b->fd >= 0);
	assert_int_equal(area.bytes, 2 * QUEUE);
	assert_int_equal(ferry_vb_inflight_open(&b->in, &area, b->fd, true,
						&e), 0);
}

static void close_bench(struct bench *b)
{
	ferry_vb_inflight_close(&b->in);
	close(b->fd);
	free(b->memory);
}

static struct desc *descs(struct bench *b)
{
	return (struct desc *)b->memory;
}

/* Buffers of 1, 2, 1 and 1 descriptors; each says its number. */
static void make_four(struct bench *b)
{
	for (unsigned i = 0; i < 5; i++) {
		descs(b)[i] = (struct desc){
			GPA + DATA + 64ull * i, 16 + i, (uint16_t)(i ? i - 1 : 0),
			AVAIL | (i == 1 ? NEXT : 0),
		};
		b->memory[DATA + 64 * i] = (uint8_t)i;
	}
	descs(b)[1].id = 77;	/* that of the last counts */
}

/* -1: it was refused. */
static int begin(struct bench *b, struct ferry_vb_ring *r, uint32_t base)
{
	*r = (struct ferry_vb_ring){
		.features = FERRY_VIRTIO_F_RING_PACKED,
		.where = { USER, USER + DRIVER, USER + DEVICE, GPA, false },
		.memory = &b->m, .dirty = &b->dirty, .touch = &b->touch,
	};
	assert_int_equal(ferry_vb_ring_init(r, SIZE, NULL), 0);
	r->inflight = ferry_vb_inflight_queue_new(&b->in, 1, SIZE, true);
	assert_non_null(r->inflight);
	return ferry_vb_ring_start(r, base, NULL);
}

static void end(struct ferry_vb_ring *r)
{
	ferry_vb_inflight_queue_free(r->inflight);
	ferry_vb_ring_fini(r);
}

static struct ferry_vhost_buffer pop(struct ferry_vb_ring *r, unsigned id)
{
	struct ferry_vhost_buffer buffer;

	assert_int_equal(ferry_vb_ring_pop(r, &buffer), 1);
	assert_int_equal(buffer.id, id);
	assert_int_equal(*(uint8_t *)buffer.out[0].iov_base, id ? id + (id > 1)
			 : 0);
	return buffer;
}

/* ---- each step ----------------------------------------------------------- */

static void put(struct ferry_vb_ring *r)
{
	(void)r;
}

static void noted(struct ferry_vb_ring *r)
{
	ferry_vb_inflight_show(r->inflight, r);
}

static void shown(struct ferry_vb_ring *r)
{
	noted(r);
	r->ops->show(r);
}

static void struck_off(struct ferry_vb_ring *r)
{
	shown(r);
	ferry_vb_inflight_shown(r->inflight, r);
}

static const struct {
	const char	*name;
	void		(*step)(struct ferry_vb_ring *r);
	bool		seen;		/* by the driver */
} steps[] = {
	{ "put", put, false },
	{ "noted", noted, false },
	{ "shown", shown, true },
	{ "struck off", struck_off, true },
};

/* Of 0 to 3, taken, 2 and 0 are done, in one batch. */
static void die_at(struct bench *b, void (*step)(struct ferry_vb_ring *r))
{
	struct ferry_vhost_buffer buffer[4];
	struct ferry_vb_ring r;

	make_four(b);
	assert_int_equal(begin(b, &r, BASE), 0);
	for (unsigned i = 0; i < 4; i++)
		buffer[i] = pop(&r, i);
	ferry_vb_ring_push(&r, &buffer[2], 0);
	ferry_vb_ring_push(&r, &buffer[0], 0);
	step(&r);
	end(&r);
}

static bool is_used(struct bench *b, unsigned at)
{
	return (descs(b)[at].flags & (AVAIL | USED)) == (AVAIL | USED);
}

static void each_step_is_understood_by_the_next_process(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(steps); i++) {
		struct ferry_vhost_buffer buffer;
		struct ferry_vb_ring r;
		struct bench b;

		open_bench(&b);
		die_at(&b, steps[i].step);
		/* The base is nonsense: nobody knows it. */
		assert_int_equal(begin(&b, &r, 0x12347fff), 0);
		assert_int_equal(ferry_vb_inflight_found(r.inflight),
				 steps[i].seen ? 2 : 4);
		assert_int_equal(r.used_at, steps[i].seen ? 2 : 0);
		assert_int_equal(r.avail_at, 5);
		assert_true(r.used_wrap && r.avail_wrap);
		assert_int_equal(is_used(&b, 0), steps[i].seen);
		assert_int_equal(is_used(&b, 1), steps[i].seen);
		for (unsigned id = 0; id < 4; id++) {
			if (steps[i].seen && id % 2 == 0)
				continue;
			buffer = pop(&r, id);
			ferry_vb_ring_push(&r, &buffer, 0);
			ferry_vb_ring_flush(&r);
		}
		assert_int_equal(ferry_vb_ring_pop(&r, &buffer), 0);
		assert_int_equal(r.used_at, 5);
		end(&r);
		close_bench(&b);
	}
}

/* All entries of the ring are out, and come back in another order. */
static void a_whole_ring_is_found(void **state)
{
	struct ferry_vhost_buffer buffer[SIZE];
	struct ferry_vb_ring r;
	struct bench b;

	(void)state;
	open_bench(&b);
	for (unsigned turn = 0; turn < 3; turn++) {
		for (unsigned i = 0; i < SIZE; i++)
			descs(&b)[i] = (struct desc){ GPA + DATA, 8, (uint16_t)i,
				turn % 2 ? USED : AVAIL };
		assert_int_equal(begin(&b, &r, BASE), 0);
		for (unsigned i = 0; i < SIZE; i++)
			assert_int_equal(ferry_vb_ring_pop(&r, &buffer[i]), 1);
		end(&r);
		assert_int_equal(begin(&b, &r, BASE), 0);
		assert_int_equal(ferry_vb_inflight_found(r.inflight), SIZE);
		assert_int_equal(r.avail_wrap, turn % 2);
		for (unsigned i = 0; i < SIZE; i++)
			assert_int_equal(ferry_vb_ring_pop(&r, &buffer[i]), 1);
		assert_int_equal(ferry_vb_ring_pop(&r, &buffer[0]), 0);
		for (unsigned i = SIZE; i-- > 0;)
			ferry_vb_ring_push(&r, &buffer[i], 0);
		ferry_vb_ring_flush(&r);
		end(&r);
	}
	close_bench(&b);
}

/* Where the front-end heard where it stands, that counts. */
static void an_area_that_was_ended_begins_anew(void **state)
{
	struct ferry_vhost_buffer buffer;
	struct ferry_vb_ring r;
	struct bench b;

	(void)state;
	open_bench(&b);
	make_four(&b);
	assert_int_equal(begin(&b, &r, BASE), 0);
	buffer = pop(&r, 0);
	ferry_vb_inflight_end(r.inflight);	/* something is out */
	end(&r);
	assert_int_equal(begin(&b, &r, 0x80038003), 0);
	assert_int_equal(ferry_vb_inflight_found(r.inflight), 1);
	buffer = pop(&r, 0);
	ferry_vb_ring_push(&r, &buffer, 0);
	ferry_vb_ring_flush(&r);
	ferry_vb_inflight_end(r.inflight);
	end(&r);
	assert_int_equal(begin(&b, &r, 0x80038003), 0);
	assert_int_equal(ferry_vb_inflight_found(r.inflight), 0);
	assert_int_equal(r.used_at, 3);
	end(&r);
	assert_int_equal(begin(&b, &r, BASE), 0);	/* it does not count */
	assert_int_equal(r.used_at, 3);
	end(&r);
	close_bench(&b);
}

/* ---- an area that lies --------------------------------------------------- */

enum {
	VERSION = 8, ENTRIES = 10, FREE = 12, OLD_FREE = 14, USED_IDX = 16,
	OLD_USED = 18, WRAP = 20,
	ENTRY = 32, IN_FLIGHT = 0, NEXT_FREE = 2, LAST = 4, NUM = 6,
	COUNTER = 8, ID = 16,
};

#define AT(i, field)	(32 + ENTRY * (i) + (field))

static const struct {
	const char	*why;
	bool		refused;
	struct {
		unsigned at;
		uint16_t is;
	} poke[4];
} lies[] = {
	{ "it stands behind the end", true, { { USED_IDX, SIZE } } },
	{ "it stood behind the end", true, { { OLD_USED, 0xffff } } },
	{ "no descriptors", true, { { AT(0, NUM), 0 } } },
	{ "more than the ring has", true, { { AT(1, NUM), SIZE } } },
	{ "far more", true, { { AT(1, NUM), 0xffff } } },
	{ "a chain that is a loop", true, { { AT(1, NEXT_FREE), 1 } } },
	{ "a chain to nowhere", true, { { AT(1, NEXT_FREE), 0xfff0 } } },
	{ "two chains with one entry", true, { { AT(1, NEXT_FREE), 0 } } },
	{ "one number twice", true, { { AT(3, ID), 0 } } },
	{ "a number outside", true, { { AT(3, ID), SIZE } } },
	{ "a free list that is a loop", false, { { AT(5, NEXT_FREE), 5 } } },
	{ "a free list to nowhere", false,
	  { { FREE, 0xffff }, { OLD_FREE, 0xffff } } },
	{ "a free list of what is out", false,
	  { { FREE, 0 }, { OLD_FREE, 0 } } },
	{ "a last that is none", false, { { AT(1, LAST), 0xffff } } },
	{ "a counter that is too large", false,
	  { { AT(0, COUNTER), 0xffff }, { AT(0, COUNTER + 6), 0xffff } } },
	{ "all is in flight", true,
	  { { AT(5, IN_FLIGHT), 1 }, { FREE, 0xffff }, { OLD_FREE, 0xffff } } },
	{ "a turn that is no boolean", false, { { WRAP, 0x7007 } } },
	{ "another version", false, { { VERSION, 2 } } },
	{ "for another ring", false, { { ENTRIES, SIZE - 1 } } },
};

static void write_more(struct ferry_vb_ring *r)
{
	struct ferry_vhost_buffer buffer, kept = { .id = SIZE };

	for (unsigned n = 0; n < 3 * SIZE; n++) {
		if (ferry_vb_ring_pop(r, &buffer) != 1)
			break;
		assert_true(buffer.id < SIZE);
		if (n == 1) {
			kept = buffer;
			continue;
		}
		if (n == 2) {
			ferry_vb_ring_unpop(r, &buffer);
			break;
		}
		ferry_vb_ring_push(r, &buffer, 0);
		ferry_vb_ring_flush(r);
	}
	if (kept.id < SIZE)
		ferry_vb_ring_push(r, &kept, 0);
	ferry_vb_ring_flush(r);
}

static void an_area_that_lies_leads_nowhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(lies); i++) {
		struct ferry_vb_ring r;
		struct bench b;
		uint8_t *area;
		int rc;

		open_bench(&b);
		die_at(&b, put);
		area = b.in.at + QUEUE;	/* the second one's */
		assert_int_equal(area[VERSION], 1);
		for (unsigned k = 0; k < FERRY_LEN(lies[i].poke); k++)
			if (lies[i].poke[k].at)
				memcpy(area + lies[i].poke[k].at,
				       &lies[i].poke[k].is, 2);
		rc = begin(&b, &r, BASE);
		if (!rc == lies[i].refused)
			fail_msg("%s: %d", lies[i].why, rc);
		if (!rc)
			write_more(&r);
		end(&r);
		close_bench(&b);
	}
}

/* More descriptors than the ring has, by turning its flags again. */
static void more_than_the_ring_has_is_not_taken(void **state)
{
	struct ferry_vhost_buffer buffer;
	struct ferry_vb_ring r;
	struct bench b;

	(void)state;
	open_bench(&b);
	for (unsigned i = 0; i < SIZE; i++)
		descs(&b)[i] = (struct desc){ GPA + DATA, 8, 0,
			AVAIL | (i < SIZE - 1 ? NEXT : 0) };
	assert_int_equal(begin(&b, &r, BASE), 0);
	assert_int_equal(ferry_vb_ring_pop(&r, &buffer), 1);
	descs(&b)[0] = (struct desc){ GPA + DATA, 8, 1, USED };
	assert_int_equal(ferry_vb_ring_pop(&r, &buffer), -1);
	assert_non_null(r.wrong);
	end(&r);
	close_bench(&b);
}

/* One that was used and not shown is not made available again by anybody who
 * means well. */
static void a_number_is_taken_once_until_it_was_shown(void **state)
{
	struct ferry_vhost_buffer buffer;
	struct ferry_vb_ring r;
	struct bench b;

	(void)state;
	open_bench(&b);
	for (unsigned i = 0; i < 2; i++)
		descs(&b)[i] = (struct desc){ GPA + DATA, 8, 3, AVAIL };
	assert_int_equal(begin(&b, &r, BASE), 0);
	assert_int_equal(ferry_vb_ring_pop(&r, &buffer), 1);
	ferry_vb_ring_push(&r, &buffer, 0);
	assert_int_equal(ferry_vb_ring_pop(&r, &buffer), -1);
	end(&r);
	close_bench(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_step_is_understood_by_the_next_process),
		cmocka_unit_test(a_whole_ring_is_found),
		cmocka_unit_test(an_area_that_was_ended_begins_anew),
		cmocka_unit_test(an_area_that_lies_leads_nowhere),
		cmocka_unit_test(more_than_the_ring_has_is_not_taken),
		cmocka_unit_test(a_number_is_taken_once_until_it_was_shown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
