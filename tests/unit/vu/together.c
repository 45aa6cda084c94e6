/* SPDX-License-Identifier: MIT */
/*
 * Queues that share a thread: what one's handle() may do with another, and that
 * orders to one are its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "rig.h"

static const struct ferry_vhost_shape pairs = {
	.size = sizeof(pairs), .queues = RIG_QUEUES, .queue_size_max = 256,
	.name = "pairs", .together = 2,
};

static const uint64_t without[] = { FERRY_VIRTIO_F_RING_PACKED, 0 };

static uint32_t first_base(const struct rig *r)
{
	return r->features & FERRY_VIRTIO_F_RING_PACKED ? 0x80008000u : 0;
}

static void open_pairs(struct rig *r, const struct ferry_vhost_ops *ops,
		       void *opaque, uint64_t none)
{
	rig_open(r, &pairs, ops, opaque, none);
	rig_give_memory(r, false);
	for (unsigned i = 0; i < RIG_QUEUES; i++)
		rig_start_queue(r, i, 64, first_base(r), false);
}

/* ---- whose thread ----------------------------------------------------------- */

struct seen {
	_Atomic uintptr_t thread[RIG_QUEUES];
	_Atomic int	  beside[RIG_QUEUES];	/* bits: queues */
};

static void tell_thread(void *opaque, struct ferry_vhost_queue *q,
			unsigned why)
{
	struct seen *s = opaque;
	uint32_t at = ferry_vhost_queue_index(q);
	int beside = 0;

	for (uint32_t i = 0; i <= RIG_QUEUES; i++)
		beside |= (ferry_vhost_queue_beside(q, i) != NULL) << i;
	s->beside[at] = beside;
	s->thread[at] = (uintptr_t)pthread_self();
	rig_echo(opaque, q, why);
}

static void once(struct rig *r, unsigned i)
{
	uint64_t at = RIG_GPA + rig_scratch(r, 8192ull * i);
	struct rig_part part[2] = { { at, 10, false }, { at + 4096, 10, true } };
	uint16_t id = rig_put(r, i, part, 2, false);
	uint32_t n;

	rig_kick(r, i);
	assert_int_equal(rig_get(r, i, &n), id);
}

static void neighbours_share_a_thread_and_others_do_not(void **state)
{
	static const struct ferry_vhost_ops ops = {
		.size = sizeof(ops), .handle = tell_thread,
	};
	struct seen s = { { 0 }, { 0 } };
	struct rig r;

	(void)state;
	open_pairs(&r, &ops, &s, 0);
	for (unsigned i = 0; i < RIG_QUEUES; i++)
		once(&r, i);
	assert_int_equal(s.thread[0], s.thread[1]);
	assert_int_equal(s.thread[2], s.thread[3]);
	assert_int_not_equal(s.thread[0], s.thread[2]);
	/* All run by now, so that the first pair sees itself. */
	once(&r, 0);
	once(&r, 3);
	assert_int_equal(s.beside[0], 3);
	assert_int_equal(s.beside[3], 3 << 2);
	rig_close(&r);
}

/* ---- from one to the other --------------------------------------------------- */

/* What an odd queue has to say is written to its neighbour. */
static void cross(void *opaque, struct ferry_vhost_queue *q, unsigned why)
{
	uint32_t at = ferry_vhost_queue_index(q);
	struct ferry_vhost_queue *to = ferry_vhost_queue_beside(q, at - 1);
	struct ferry_vhost_buffer from, into;

	(void)opaque, (void)why;
	while (at % 2 && to && ferry_vhost_queue_pop(q, &from) == 1) {
		if (ferry_vhost_queue_pop(to, &into) != 1) {
			ferry_vhost_queue_unpop(q, &from);
			return;
		}
		memcpy(into.in[0].iov_base, from.out[0].iov_base,
		       from.out[0].iov_len);
		ferry_vhost_queue_push(to, &into,
				       (uint32_t)from.out[0].iov_len);
		ferry_vhost_queue_push(q, &from, 0);
		ferry_vhost_queue_flush(to);
	}
}

static const struct ferry_vhost_ops crosses = {
	.size = sizeof(crosses), .handle = cross,
};

static void cross_once(struct rig *r, uint8_t octet)
{
	uint64_t out = rig_scratch(r, 0), in = rig_scratch(r, 4096);
	struct rig_part from = { RIG_GPA + out, 100, false };
	struct rig_part into = { RIG_GPA + in, 100, true };
	uint16_t id[2];
	uint32_t n;

	memset(r->mem + out, octet, 100);
	id[0] = rig_put(r, 0, &into, 1, false);
	rig_kick(r, 0);
	id[1] = rig_put(r, 1, &from, 1, false);
	rig_kick(r, 1);
	assert_int_equal(rig_get(r, 0, &n), id[0]);
	assert_int_equal(n, 100);
	assert_memory_equal(r->mem + in, r->mem + out, 100);
	assert_int_equal(rig_get(r, 1, &n), id[1]);
}

static void what_one_takes_the_other_gives(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(without); i++) {
		struct rig r;

		open_pairs(&r, &crosses, NULL, without[i]);
		for (unsigned k = 0; k < 500; k++)
			cross_once(&r, (uint8_t)k);
		rig_close(&r);
	}
}

/* ---- orders ------------------------------------------------------------------- */

static void one_stops_and_the_other_goes_on(void **state)
{
	static const struct ferry_vhost_ops echo = {
		.size = sizeof(echo), .handle = rig_echo,
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(without); i++) {
		uint32_t base[2];
		struct rig r;

		open_pairs(&r, &echo, NULL, without[i]);
		for (unsigned k = 0; k < 50; k++) {
			unsigned stops = k & 1, goes = !stops;

			once(&r, stops);
			base[stops] = rig_stop_queue(&r, stops);
			once(&r, goes);
			rig_start_queue(&r, stops, 64, base[stops], false);
			once(&r, goes);
			once(&r, stops);
		}
		/* Both: the thread ends, and there is another one. */
		base[0] = rig_stop_queue(&r, 0);
		base[1] = rig_stop_queue(&r, 1);
		rig_start_queue(&r, 1, 64, base[1], false);
		once(&r, 1);
		rig_start_queue(&r, 0, 64, base[0], false);
		once(&r, 0);
		rig_close(&r);
	}
}

/* Queue 0 keeps what it has, until queue 1 is called when it may be given. */
struct keeper {
	struct rig *rig;
	struct ferry_vhost_buffer kept;
	_Atomic bool has, may_give;
};

static void keep(void *opaque, struct ferry_vhost_queue *q, unsigned why)
{
	struct keeper *k = opaque;
	struct ferry_vhost_buffer b;
	struct ferry_vhost_queue *other;

	(void)why;
	if (!ferry_vhost_queue_index(q)) {
		if (!k->has && ferry_vhost_queue_pop(q, &k->kept) == 1)
			k->has = true;
		return;
	}
	while (ferry_vhost_queue_pop(q, &b) == 1)
		ferry_vhost_queue_push(q, &b, 0);
	other = ferry_vhost_queue_beside(q, 0);
	if (k->has && k->may_give && other) {
		ferry_vhost_queue_push(other, &k->kept, 0);
		ferry_vhost_queue_flush(other);
		k->has = false;
	}
}

static void kick_later(void *arg)
{
	struct keeper *k = arg;

	usleep(100000);
	k->may_give = true;
	rig_kick(k->rig, 1);
}

/* The order waits for what is out; the neighbour's handle() finishes it. */
static void a_queue_stands_still_when_its_neighbour_has_finished_its_work(
							void **state)
{
	static const struct ferry_vhost_ops ops = {
		.size = sizeof(ops), .handle = keep,
	};
	struct rig_part part = { RIG_GPA + rig_scratch(NULL, 0), 10, false };
	struct ferry_thread thread = { 0 };
	struct rig r;
	struct keeper k = { .rig = &r };
	uint32_t n;
	uint16_t id;

	(void)state;
	open_pairs(&r, &ops, &k, 0);
	id = rig_put(&r, 0, &part, 1, false);
	rig_kick(&r, 0);
	while (!k.has)
		usleep(1000);
	assert_int_equal(ferry_thread_start(&thread, "later", kick_later, &k,
					    NULL), 0);
	rig_give_memory(&r, false);
	assert_int_equal(rig_get(&r, 0, &n), id);
	ferry_thread_join(&thread);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(neighbours_share_a_thread_and_others_do_not),
		cmocka_unit_test(what_one_takes_the_other_gives),
		cmocka_unit_test(one_stops_and_the_other_goes_on),
		cmocka_unit_test(
		a_queue_stands_still_when_its_neighbour_has_finished_its_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
