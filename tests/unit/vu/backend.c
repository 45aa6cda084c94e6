/* SPDX-License-Identifier: MIT */
/*
 * The backend library against a front-end in this process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "rig.h"

static const struct ferry_vhost_shape shape = {
	.size = sizeof(shape), .queues = RIG_QUEUES, .queue_size_max = 1024,
	.name = "echo",
};

static const struct ferry_vhost_ops echo = {
	.size = sizeof(echo), .handle = rig_echo,
};

static const struct ferry_vhost_shape shared = {
	.size = sizeof(shared), .queues = RIG_QUEUES, .queue_size_max = 1024,
	.name = "echo", .together = 3,
};

/* Each test runs with split and with packed rings, and with queues that share
 * a thread. */
struct layout {
	uint64_t	without;
	const struct ferry_vhost_shape *shape;
};

static struct layout split = { FERRY_VIRTIO_F_RING_PACKED, &shape };
static struct layout packed = { 0, &shape };
static struct layout split_flags = {
	FERRY_VIRTIO_F_RING_PACKED | FERRY_VIRTIO_F_EVENT_IDX, &shape
};
static struct layout packed_flags = { FERRY_VIRTIO_F_EVENT_IDX, &shape };
static struct layout split_shared = { FERRY_VIRTIO_F_RING_PACKED, &shared };
static struct layout packed_shared = { 0, &shared };

static uint32_t first_base(const struct rig *r)
{
	return r->features & FERRY_VIRTIO_F_RING_PACKED ? 0x8000u : 0;
}

/* Through the device and back: what comes is what went. */
static void echo_once(struct rig *r, unsigned i, uint32_t bytes, bool indirect)
{
	uint64_t out = rig_scratch(r, 0), in = rig_scratch(r, 65536);
	struct rig_part parts[4];
	uint32_t got;
	uint16_t id;

	for (uint32_t k = 0; k < bytes; k++)
		r->mem[out + k] = (uint8_t)rand();
	memset(r->mem + in, 0, bytes);
	parts[0] = (struct rig_part){ RIG_GPA + out, bytes / 3, false };
	parts[1] = (struct rig_part){ RIG_GPA + out + bytes / 3,
				      bytes - bytes / 3, false };
	parts[2] = (struct rig_part){ RIG_GPA + in, bytes / 2, true };
	parts[3] = (struct rig_part){ RIG_GPA + in + bytes / 2,
				      bytes - bytes / 2, true };
	id = rig_put(r, i, parts, 4, indirect);
	rig_kick(r, i);
	assert_int_equal(rig_get(r, i, &got), id);
	assert_int_equal(got, bytes);
	assert_memory_equal(r->mem + in, r->mem + out, bytes);
}

static void buffers_go_through_and_come_back(void **state)
{
	struct layout *l = *state;
	struct rig r;

	rig_open(&r, l->shape, &echo, NULL, l->without);
	rig_give_memory(&r, false);
	rig_start_queue(&r, 0, 64, first_base(&r), false);
	for (int i = 0; i < 500; i++)
		echo_once(&r, 0, 100 + (uint32_t)rand() % 3000, i & 1);
	rig_close(&r);
}

static void a_queue_stops_and_goes_on_where_it_was(void **state)
{
	struct layout *l = *state;
	uint32_t base;
	struct rig r;

	rig_open(&r, l->shape, &echo, NULL, l->without);
	base = first_base(&r);
	rig_give_memory(&r, false);
	for (int round = 0; round < 20; round++) {
		rig_start_queue(&r, 0, 16, base, false);
		for (int i = 0; i < 7; i++)
			echo_once(&r, 0, 300, false);
		base = rig_stop_queue(&r, 0);
	}
	if (!(r.features & FERRY_VIRTIO_F_RING_PACKED))
		assert_int_equal(base, 20 * 7);
	rig_close(&r);
}

/* Both regions are one file here, but the device does not know it. */
static void a_buffer_may_lie_across_two_regions(void **state)
{
	struct layout *l = *state;
	uint64_t out = rig_scratch(NULL, 0), edge = RIG_BYTES / 2;
	struct rig_part parts[] = {
		{ RIG_GPA + out, 8000, false },
		{ RIG_GPA + edge - 4096, 8000, true },
	};
	struct rig r;
	uint32_t got;

	rig_open(&r, l->shape, &echo, NULL, l->without);
	rig_give_memory(&r, true);
	rig_start_queue(&r, 1, 16, first_base(&r), false);
	memset(r.mem + out, 0x5a, 8000);
	rig_put(&r, 1, parts, 2, true);
	rig_kick(&r, 1);
	rig_get(&r, 1, &got);
	assert_int_equal(got, 8000);
	assert_memory_equal(r.mem + edge - 4096, r.mem + out, 8000);
	rig_close(&r);
}

static void memory_can_be_replaced_while_a_queue_runs(void **state)
{
	struct layout *l = *state;
	struct rig r;

	rig_open(&r, l->shape, &echo, NULL, l->without);
	rig_give_memory(&r, false);
	rig_start_queue(&r, 0, 64, first_base(&r), false);
	for (int i = 0; i < 50; i++) {
		echo_once(&r, 0, 500, false);
		rig_give_memory(&r, i & 1);
	}
	rig_close(&r);
}

/* The second order comes before the first was slept off. */
static void a_queue_may_be_held_again_at_once(void **state)
{
	struct layout *l = *state;
	struct rig r;

	rig_open(&r, l->shape, &echo, NULL, l->without);
	rig_give_memory(&r, false);
	rig_start_queue(&r, 0, 64, first_base(&r), false);
	for (int i = 0; i < 3000; i++)
		assert_int_equal(rig_ask_u64(&r, FERRY_VU_SET_FEATURES,
					     r.features), 0);
	echo_once(&r, 0, 500, false);
	rig_close(&r);
}

/* ---- the dirty log ------------------------------------------------------- */

static uint8_t *start_log(struct rig *r, int *fd)
{
	uint64_t bytes = (RIG_GPA + RIG_BYTES) / 4096 / 8;
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_LOG_BASE, .log = { bytes, 0 },
	};
	uint8_t *log;

	*fd = memfd_create("log", MFD_CLOEXEC);
	assert_int_equal(ftruncate(*fd, (off_t)bytes), 0);
	log = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	rig_ask(r, &m, fd, 1, NULL);
	assert_int_equal(rig_ask_u64(r, FERRY_VU_SET_FEATURES,
				     r->features | FERRY_VU_VIRTIO_F_LOG_ALL),
			 0);
	return log;
}

static bool logged(const uint8_t *log, uint64_t offset)
{
	uint64_t page = (RIG_GPA + offset) / 4096;

	return log[page / 8] >> page % 8 & 1;
}

static void what_is_written_is_logged_and_nothing_else(void **state)
{
	struct layout *l = *state;
	uint64_t out = rig_scratch(NULL, 0), in = rig_scratch(NULL, 65536);
	struct rig_part parts[] = {
		{ RIG_GPA + out, 5000, false },
		{ RIG_GPA + in, 30000, true },
	};
	struct rig r;
	uint32_t got;
	uint8_t *log;
	int fd;

	rig_open(&r, l->shape, &echo, NULL, l->without);
	rig_give_memory(&r, false);
	rig_start_queue(&r, 0, 64, first_base(&r), false);
	echo_once(&r, 0, 9000, false);
	log = start_log(&r, &fd);
	rig_log_queue(&r, 0, true);
	rig_put(&r, 0, parts, 2, false);
	rig_kick(&r, 0);
	rig_get(&r, 0, &got);
	rig_stop_queue(&r, 0);

	assert_int_equal(got, 5000);
	for (uint64_t at = 0; at < RIG_BYTES; at += 4096) {
		bool ring = at == r.q[0].used ||
			    (r.features & FERRY_VIRTIO_F_RING_PACKED &&
			     at == r.q[0].desc);
		bool data = at >= in && at < in + 5000;

		if (!ring)
			assert_int_equal(logged(log, at), data);
	}
	assert_true(logged(log, r.features & FERRY_VIRTIO_F_RING_PACKED ?
			   r.q[0].desc : r.q[0].used));
	close(fd);
	rig_close(&r);
}

/* ---- a guest that means no good ------------------------------------------ */

struct hostile {
	const char	*name;
	/* What to put in the ring of 16; parts, or octets of its own. */
	struct rig_part	part[2];
	unsigned	parts;
	uint16_t	loop;		/* split: make desc 0 point here */
	bool		indirect;
	uint32_t	table_bytes;	/* of the indirect one, if not 0 */
};

static const struct hostile hostile[] = {
	{ "outside of memory", { { 0x1000, 100, false } }, 1 },
	{ "goes beyond the end", { { RIG_GPA + RIG_BYTES - 50, 100, true } },
	  1 },
	{ "wraps around", { { UINT64_MAX - 10, 100, true } }, 1 },
	{ "to write before to read", { { RIG_GPA, 10, true },
				       { RIG_GPA, 10, false } }, 2 },
	{ "a table of half a descriptor", { { RIG_GPA, 10, true } }, 1,
	  .indirect = true, .table_bytes = 24 },
	{ "an empty table", { { RIG_GPA, 10, true } }, 1, .indirect = true,
	  .table_bytes = UINT32_MAX },
	{ "a table larger than memory", { { RIG_GPA, 10, true } }, 1,
	  .indirect = true, .table_bytes = 0x7ffffff0 },
};

/* The size stands at the same place in both layouts, and a packed buffer's id
 * is where it begins. */
static void spoil_bytes(struct rig *r, const struct rig_queue *q, uint16_t id,
			const void *arg)
{
	const struct hostile *h = arg;
	uint32_t bytes = h->table_bytes == UINT32_MAX ? 0 : h->table_bytes;

	memcpy(r->mem + q->desc + 16ull * id + 8, &bytes, sizeof(bytes));
}

/* The queue is not served any more; the device and its others are. */
static void a_ring_that_makes_no_sense_costs_its_queue_only(void **state)
{
	struct layout *l = *state;

	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		const struct hostile *h = &hostile[i];
		struct ferry_vhost_stats s = FERRY_VHOST_STATS_INIT;
		struct rig r;
		uint16_t id;
		uint32_t n;

		rig_open(&r, l->shape, &echo, NULL, l->without);
		rig_give_memory(&r, false);
		rig_start_queue(&r, 0, 16, first_base(&r), false);
		rig_start_queue(&r, 1, 16, first_base(&r), false);
		r.spoil = h->table_bytes ? spoil_bytes : NULL;
		r.spoil_arg = h;
		id = rig_put(&r, 0, h->part, h->parts, h->indirect);
		r.spoil = NULL;
		rig_kick(&r, 0);
		do
			ferry_vhost_stats(r.v, &s);
		while (!s.broken);
		echo_once(&r, 1, 500, false);
		assert_false(rig_try_get(&r, 0, &id, &n));
		rig_stop_queue(&r, 0);
		rig_close(&r);
	}
}

/* The second has a next, the first. */
static void make_loop(struct rig *r, const struct rig_queue *q, uint16_t id,
		      const void *arg)
{
	(void)id, (void)arg;
	r->mem[q->desc + 16 + 12] = 1;
	r->mem[q->desc + 16 + 14] = 0;
}

static void a_chain_that_is_a_loop_ends(void **state)
{
	struct rig_part part[2] = { { RIG_GPA, 10, true },
				    { RIG_GPA, 10, true } };
	struct ferry_vhost_stats s = FERRY_VHOST_STATS_INIT;
	struct rig r;

	(void)state;
	rig_open(&r, &shape, &echo, NULL, FERRY_VIRTIO_F_RING_PACKED);
	rig_give_memory(&r, false);
	rig_start_queue(&r, 0, 16, 0, false);
	r.spoil = make_loop;
	rig_put(&r, 0, part, 2, false);
	rig_kick(&r, 0);
	do
		ferry_vhost_stats(r.v, &s);
	while (!s.broken);
	rig_close(&r);
}

/* Tables of nothing cost nobody but the device's thread: so many of them that
 * it would be busy for seconds. */
static void make_tables(struct rig *r, const struct rig_queue *q, uint16_t id,
			const void *arg)
{
	(void)id, (void)arg;
	for (unsigned i = 0; i < q->size; i++)
		r->mem[q->desc + 16ull * i + 14] |= FERRY_VB_DESC_INDIRECT;
}

static void a_buffer_of_tables_without_end_is_refused(void **state)
{
	struct ferry_vhost_stats s = FERRY_VHOST_STATS_INIT;
	struct rig_part part[1024];
	uint32_t n;
	struct rig r;
	uint16_t id;

	(void)state;
	rig_open(&r, &shape, &echo, NULL, 0);
	rig_give_memory(&r, false);
	rig_start_queue(&r, 0, FERRY_LEN(part), first_base(&r), false);
	for (unsigned i = 0; i < FERRY_LEN(part); i++)
		part[i] = (struct rig_part){
			RIG_GPA + rig_scratch(&r, 0),
			16 * FERRY_VHOST_QUEUE_SIZE_MAX, false,
		};
	r.spoil = make_tables;
	rig_put(&r, 0, part, FERRY_LEN(part), false);
	rig_kick(&r, 0);
	do
		ferry_vhost_stats(r.v, &s);
	while (!s.broken);
	assert_false(rig_try_get(&r, 0, &id, &n));
	rig_close(&r);
}

/* ---- giving back --------------------------------------------------------- */

/* Takes three, gives the last two back, uses the first; then again. */
static void picky(void *opaque, struct ferry_vhost_queue *q, unsigned why)
{
	struct ferry_vhost_buffer b[3];
	unsigned n = 0;

	(void)opaque, (void)why;
	while (n < 3 && ferry_vhost_queue_pop(q, &b[n]) == 1)
		n++;
	for (unsigned i = n; i > 1; i--)
		ferry_vhost_queue_unpop(q, &b[i - 1]);
	if (n)
		ferry_vhost_queue_push(q, &b[0], 0);
}

static const struct ferry_vhost_ops picks = {
	.size = sizeof(picks), .handle = picky,
};

static void buffers_given_back_come_again_in_order(void **state)
{
	struct layout *l = *state;
	struct rig_part part[2] = { { RIG_GPA, 10, false },
				    { RIG_GPA, 10, true } };
	uint16_t id[12];
	uint32_t n;
	struct rig r;

	rig_open(&r, l->shape, &picks, NULL, l->without);
	rig_give_memory(&r, false);
	rig_start_queue(&r, 0, 32, first_base(&r), false);
	for (unsigned i = 0; i < 12; i++)
		id[i] = rig_put(&r, 0, part, 2, i & 1);
	for (unsigned i = 0; i < 12; i++) {
		rig_kick(&r, 0);
		assert_int_equal(rig_get(&r, 0, &n), id[i]);
	}
	rig_close(&r);
}

/* ---- what is no eventfd, no socket ---------------------------------------- */

/* A write to it could wait for ever. */
static void what_is_no_eventfd_does_not_become_one_of_a_queue(void **state)
{
	static const uint32_t requests[] = {
		FERRY_VU_SET_VRING_KICK, FERRY_VU_SET_VRING_CALL,
		FERRY_VU_SET_VRING_ERR,
	};
	struct rig r;

	(void)state;
	rig_open(&r, &shape, &echo, NULL, 0);
	for (unsigned i = 0; i < 3; i++) {
		struct ferry_vu_msg m = { .h.request = requests[i] };
		int pipes[2], sockets[2];

		assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets),
				 0);
		assert_int_equal(rig_ask(&r, &m, &pipes[1], 1, NULL), 1);
		m.u64 = 0;
		assert_int_equal(rig_ask(&r, &m, &sockets[1], 1, NULL), 1);
		m.u64 = 0;
		assert_int_equal(rig_ask(&r, &m, &r.mem_fd, 1, NULL), 1);
		for (unsigned k = 0; k < 2; k++) {
			close(pipes[k]);
			close(sockets[k]);
		}
	}
	rig_close(&r);
}

/* The words of a command line are mixed up easily. */
static void a_file_in_the_place_of_the_socket_is_not_removed(void **state)
{
	char path[] = "/tmp/ferry-vu-disk-XXXXXX";
	struct ferry_err e = { 0 };
	struct ferry_vhost *v = ferry_vhost_new(&shape, &echo, NULL, NULL, &e);
	int fd = mkstemp(path);

	(void)state;
	assert_non_null(v);
	assert_true(fd >= 0);
	assert_int_equal(ferry_vhost_listen(v, path, &e), -1);
	ferry_vhost_free(v);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
	close(fd);
}

int main(void)
{
#define ALL(test)							\
	{ #test ": split", test, NULL, NULL, &split },			\
	{ #test ": packed", test, NULL, NULL, &packed },		\
	{ #test ": split, flags", test, NULL, NULL, &split_flags },	\
	{ #test ": packed, flags", test, NULL, NULL, &packed_flags },	\
	{ #test ": split, shared", test, NULL, NULL, &split_shared },	\
	{ #test ": packed, shared", test, NULL, NULL, &packed_shared }
	const struct CMUnitTest tests[] = {
		ALL(buffers_go_through_and_come_back),
		ALL(a_queue_stops_and_goes_on_where_it_was),
		ALL(a_buffer_may_lie_across_two_regions),
		ALL(memory_can_be_replaced_while_a_queue_runs),
		ALL(a_queue_may_be_held_again_at_once),
		ALL(what_is_written_is_logged_and_nothing_else),
		ALL(a_ring_that_makes_no_sense_costs_its_queue_only),
		ALL(buffers_given_back_come_again_in_order),
		cmocka_unit_test(a_chain_that_is_a_loop_ends),
		cmocka_unit_test(a_buffer_of_tables_without_end_is_refused),
		cmocka_unit_test(
			what_is_no_eventfd_does_not_become_one_of_a_queue),
		cmocka_unit_test(
			a_file_in_the_place_of_the_socket_is_not_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
