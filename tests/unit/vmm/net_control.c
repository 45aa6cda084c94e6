/* SPDX-License-Identifier: MIT */
/* The control queue of a network, split and packed, over a guest's memory: what
 * drivers say, and what none would say. */
#include "help.h"

#include <linux/virtio_net.h>
#include <sys/eventfd.h>

#include "fake_ferry.h"
#include "vmm/virtio_net_control.h"

#define RAM_BYTES	(2ull << 20)
#define SIZE		16u
#define PAIRS		4u
#define CONTROL		8u	/* behind those */

/* Where things are in the guest. */
#define DESC		0x1000u
#define DRIVER		0x2000u
#define DEVICE		0x3000u
#define SAID		0x4000u
#define TABLE		0x5000u
#define ANSWER		0x6000u
#define MANY		0x8000u
#define OUTSIDE		(RAM_BYTES + 0x1000)
#define UNTOUCHED	0xee

#define NEXT		1u
#define WRITE		2u
#define INDIRECT	4u
#define NO_INTERRUPT	1u
#define LAP		0x8000u

#define TAKEN	(FERRY_VIRTIO_F_VERSION_1 | 1ull << VIRTIO_NET_F_CTRL_VQ | \
		 1ull << VIRTIO_NET_F_MQ | 1ull << VIRTIO_NET_F_GUEST_ANNOUNCE)

struct host {
	struct ferry_ram	 ram;
	struct ferry_vm		*vm;
	struct ferry_virtio_device device;
	struct ferry_virtio	 t;
	struct ferry_net_control control;
	bool			 packed;
	bool			 refuses;
	unsigned		 pairs, announced;
	unsigned		 shown;		/* split: of available ones */
	struct ferry_err	 e;
};

/* A descriptor, of either kind. */
struct piece {
	uint64_t	at;
	uint32_t	bytes;
	uint16_t	flags;
	uint16_t	next;		/* split */
};

static bool set_pairs(void *opaque, struct ferry_virtio *t, unsigned pairs)
{
	struct host *h = opaque;

	if (h->refuses)
		return false;
	h->pairs = t->regs.active = pairs;
	return true;
}

static void announced(void *opaque)
{
	((struct host *)opaque)->announced++;
}

static void *guest(struct host *h, uint64_t at)
{
	return h->ram.base + at;
}

static void set16(struct host *h, uint64_t at, unsigned v)
{
	uint16_t value = (uint16_t)v;

	memcpy(guest(h, at), &value, sizeof(value));
}

static unsigned get16(struct host *h, uint64_t at)
{
	uint16_t value;

	memcpy(&value, guest(h, at), sizeof(value));
	return value;
}

static int set_up(void **state, bool packed)
{
	struct host *h = calloc(1, sizeof(*h));
	struct ferry_virtio_queue *q = &h->t.queue[CONTROL];

	assert_ok(ferry_ram_init(&h->ram, RAM_BYTES, FERRY_RAM_SHARED, NULL,
				 &h->e));
	h->vm = h->ram.vm = fake_vm_new();
	h->device = (struct ferry_virtio_device){
		.name = "net0", .id = FERRY_VIRTIO_ID_NET, .pairs = PAIRS,
		.queues = CONTROL + 1, .served = CONTROL, .queue_size_max = SIZE,
	};
	ferry_virtio_init(&h->t, &h->device);
	h->t.regs.accepted = TAKEN |
			     (packed ? FERRY_VIRTIO_F_RING_PACKED : 0);
	h->packed = packed;
	*q = (struct ferry_virtio_queue){
		.size = SIZE, .ready = true, .desc = DESC, .driver = DRIVER,
		.device = DEVICE, .base = packed ? LAP | LAP << 16 : 0,
		.kick = -1, .call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
	};
	h->control = (struct ferry_net_control){ &h->ram, set_pairs,
						 announced, h };
	*state = h;
	return 0;
}

static int set_up_split(void **state)
{
	return set_up(state, false);
}

static int set_up_packed(void **state)
{
	return set_up(state, true);
}

static int tear_down(void **state)
{
	struct host *h = *state;

	close(h->t.queue[CONTROL].call);
	ferry_virtio_fini(&h->t);
	h->ram.vm = NULL;
	fake_vm_free(h->vm);
	ferry_ram_fini(&h->ram);
	free(h);
	return 0;
}

static int serve(struct host *h)
{
	h->e = (struct ferry_err){ 0 };
	return ferry_net_control_serve(&h->control, &h->t, CONTROL, &h->e);
}

static bool was_interrupted(struct host *h)
{
	eventfd_t n;

	return !eventfd_read(h->t.queue[CONTROL].call, &n);
}

/* ---- as a driver does ----------------------------------------------------- */

static void put_desc(struct host *h, uint64_t at, const struct piece *p,
		     unsigned last)
{
	memcpy(guest(h, at), &p->at, 8);
	memcpy(guest(h, at + 8), &p->bytes, 4);
	set16(h, at + 12, last);
	set16(h, at + 14, last);
	if (h->packed) {
		set16(h, at + 12, 0x55);	/* its id */
		set16(h, at + 14, p->flags);
	} else {
		set16(h, at + 12, p->flags);
		set16(h, at + 14, p->next);
	}
}

/* Lays out a chain where the queue stands, and makes it available. */
static void offer(struct host *h, const struct piece *p, unsigned n)
{
	unsigned at = h->packed ? h->t.queue[CONTROL].base & 0x7fff : 0;
	bool lap = h->t.queue[CONTROL].base & LAP;

	for (unsigned i = 0; i < n; i++, at++) {
		struct piece one = p[i];

		if (h->packed && at == SIZE) {
			at = 0;
			lap = !lap;
		}
		if (h->packed)
			one.flags |= lap ? 1u << 7 : 1u << 15;
		put_desc(h, DESC + 16 * at, &one, 0);
	}
	if (h->packed)
		return;
	set16(h, DRIVER + 4 + 2 * (h->shown % SIZE), 0);
	set16(h, DRIVER + 2, ++h->shown);
}

static void say(struct host *h, const void *said, size_t bytes)
{
	memcpy(guest(h, SAID), said, bytes < 8 ? bytes : 8);
	memset(guest(h, ANSWER), UNTOUCHED, 1);
}

static unsigned answer(struct host *h)
{
	return *(uint8_t *)guest(h, ANSWER);
}

/* In one piece and a place for the answer. */
static unsigned command(struct host *h, const void *said, uint32_t bytes)
{
	const struct piece p[] = {
		{ SAID, bytes, NEXT, 1 }, { ANSWER, 1, WRITE, 0 },
	};

	say(h, said, bytes);
	offer(h, p, 2);
	assert_ok(serve(h));
	return answer(h);
}

static unsigned pairs_set(struct host *h, unsigned n)
{
	const uint8_t said[] = { VIRTIO_NET_CTRL_MQ,
				 VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
				 (uint8_t)n, (uint8_t)(n >> 8) };

	return command(h, said, sizeof(said));
}

static void a_driver_says_how_many_pairs_it_uses(void **state)
{
	struct host *h = *state;

	for (unsigned i = 0; i < 3 * SIZE; i++) {
		assert_int_equal(pairs_set(h, i % PAIRS + 1), VIRTIO_NET_OK);
		assert_int_equal(h->pairs, i % PAIRS + 1);
		assert_true(was_interrupted(h));
		assert_ok(serve(h));		/* a kick for nothing */
		assert_false(was_interrupted(h));
	}
	assert_true(h->vm->dirty_bytes >= 3ull * SIZE);
	if (!h->packed)
		assert_int_equal(get16(h, DEVICE + 2), 3 * SIZE);
}

static void numbers_of_pairs_that_it_has_not_are_refused(void **state)
{
	static const unsigned bad[] = { 0, PAIRS + 1, 0x100, 0x8000, 0xffff };
	struct host *h = *state;

	assert_int_equal(pairs_set(h, 2), VIRTIO_NET_OK);
	for (size_t i = 0; i < FERRY_LEN(bad); i++)
		assert_int_equal(pairs_set(h, bad[i]), VIRTIO_NET_ERR);
	h->refuses = true;
	assert_int_equal(pairs_set(h, 1), VIRTIO_NET_ERR);
	assert_int_equal(h->t.regs.active, 2);
}

static void it_says_that_it_has_announced_itself(void **state)
{
	static const uint8_t said[] = { VIRTIO_NET_CTRL_ANNOUNCE,
					VIRTIO_NET_CTRL_ANNOUNCE_ACK };
	struct host *h = *state;

	assert_int_equal(command(h, said, 2), VIRTIO_NET_OK);
	assert_int_equal(h->announced, 1);
	h->t.regs.accepted &= ~(1ull << VIRTIO_NET_F_GUEST_ANNOUNCE);
	assert_int_equal(command(h, said, 2), VIRTIO_NET_ERR);
	assert_int_equal(h->announced, 1);
}

static void all_else_is_answered_with_an_error(void **state)
{
	static const struct {
		const char *why;
		uint8_t said[8];
		uint32_t bytes;
	} bad[] = {
		{ "nothing", { 0 }, 0 },
		{ "half a head", { VIRTIO_NET_CTRL_MQ }, 1 },
		{ "no number of pairs", { VIRTIO_NET_CTRL_MQ, 0 }, 2 },
		{ "half a number", { VIRTIO_NET_CTRL_MQ, 0, 1 }, 3 },
		{ "more than a number", { VIRTIO_NET_CTRL_MQ, 0, 1, 0, 0 }, 5 },
		{ "8 octets", { VIRTIO_NET_CTRL_MQ, 0, 1, 0 }, 8 },
		{ "4000 octets", { VIRTIO_NET_CTRL_MQ, 0, 1, 0 }, 4000 },
		{ "RSS", { VIRTIO_NET_CTRL_MQ, 1, 1, 0 }, 4 },
		{ "another announcement", { VIRTIO_NET_CTRL_ANNOUNCE, 1 }, 2 },
		{ "an announcement with more", { VIRTIO_NET_CTRL_ANNOUNCE, 0,
						 0 }, 3 },
		{ "a filter", { VIRTIO_NET_CTRL_RX, 0, 1 }, 3 },
		{ "a class that is none", { 255, 255 }, 2 },
	};
	struct host *h = *state;

	for (size_t i = 0; i < FERRY_LEN(bad); i++)
		if (command(h, bad[i].said, bad[i].bytes) != VIRTIO_NET_ERR)
			fail_msg("%s: taken", bad[i].why);
	assert_int_equal(h->pairs, 0);
	assert_int_equal(h->announced, 0);
	h->t.regs.accepted &= ~(1ull << VIRTIO_NET_F_MQ);
	assert_int_equal(pairs_set(h, 1), VIRTIO_NET_ERR);
}

/* Octet for octet, with the answer's room in pieces too. */
static void a_command_may_be_in_pieces(void **state)
{
	static const uint8_t said[] = { VIRTIO_NET_CTRL_MQ, 0, 3, 0 };
	const struct piece p[] = {
		{ SAID, 1, NEXT, 1 }, { SAID, 0, NEXT, 2 },
		{ SAID + 1, 2, NEXT, 3 }, { SAID + 3, 1, NEXT, 4 },
		{ ANSWER - 1, 0, NEXT | WRITE, 5 }, { ANSWER, 1, NEXT | WRITE, 6 },
		{ ANSWER + 1, 8, WRITE, 0 },
	};
	struct host *h = *state;

	for (unsigned i = 0; i < 2 * SIZE; i++) {
		say(h, said, sizeof(said));
		h->pairs = 0;
		offer(h, p, FERRY_LEN(p));
		assert_ok(serve(h));
		assert_int_equal(answer(h), VIRTIO_NET_OK);
		assert_int_equal(h->pairs, 3);
	}
}

static void a_command_may_be_in_a_table(void **state)
{
	static const uint8_t said[] = { VIRTIO_NET_CTRL_MQ, 0, 3, 0 };
	const struct piece inside[] = {
		{ SAID, 2, NEXT, 1 }, { SAID + 2, 2, NEXT, 2 },
		{ ANSWER, 1, WRITE, 0 },
	};
	const struct piece p = { TABLE, 48, INDIRECT, 0 };
	struct host *h = *state;

	for (unsigned i = 0; i < FERRY_LEN(inside); i++)
		put_desc(h, TABLE + 16 * i, &inside[i], 0);
	for (unsigned i = 0; i < 2 * SIZE; i++) {
		say(h, said, sizeof(said));
		offer(h, &p, 1);
		assert_ok(serve(h));
		assert_int_equal(answer(h), VIRTIO_NET_OK);
	}
}

/* It is done, and no octet of anybody's is written. */
static void one_without_room_for_an_answer_has_none(void **state)
{
	static const uint8_t said[] = { VIRTIO_NET_CTRL_MQ, 0, 2, 0 };
	const struct piece p = { SAID, sizeof(said), 0, 0 };
	struct host *h = *state;

	say(h, said, sizeof(said));
	offer(h, &p, 1);
	assert_ok(serve(h));
	assert_int_equal(answer(h), UNTOUCHED);
	assert_int_equal(h->pairs, 2);
	assert_int_equal(pairs_set(h, 1), VIRTIO_NET_OK);
}

static void a_driver_that_wants_no_interrupt_gets_none(void **state)
{
	struct host *h = *state;

	set16(h, DRIVER + (h->packed ? 2 : 0), NO_INTERRUPT);
	assert_int_equal(pairs_set(h, 2), VIRTIO_NET_OK);
	assert_false(was_interrupted(h));
	h->t.regs.accepted |= FERRY_VIRTIO_F_EVENT_IDX;
	assert_int_equal(pairs_set(h, 1), VIRTIO_NET_OK);
	if (!h->packed) {	/* the flags say nothing then */
		assert_true(was_interrupted(h));
		assert_int_equal(get16(h, DEVICE + 4 + 8 * SIZE), 2);
	}
}

/* ---- as none does --------------------------------------------------------- */

static const struct {
	const char *why;
	struct piece p[2];
} bad_chains[] = {
	{ "what it says is not in memory",
	  { { OUTSIDE, 4, NEXT, 1 }, { ANSWER, 1, WRITE, 0 } } },
	{ "it begins in memory",
	  { { RAM_BYTES - 2, 4, NEXT, 1 }, { ANSWER, 1, WRITE, 0 } } },
	{ "its address wraps",
	  { { UINT64_MAX - 1, 4, NEXT, 1 }, { ANSWER, 1, WRITE, 0 } } },
	{ "4 GiB of it",
	  { { SAID, UINT32_MAX, NEXT, 1 }, { ANSWER, 1, WRITE, 0 } } },
	{ "the answer's place is not in memory",
	  { { SAID, 4, NEXT, 1 }, { OUTSIDE, 1, WRITE, 0 } } },
	{ "the answer's room comes first",
	  { { ANSWER, 1, NEXT | WRITE, 1 }, { SAID, 4, 0, 0 } } },
	{ "a table of no entry",
	  { { TABLE, 0, INDIRECT, 0 } } },
	{ "a table of half an entry",
	  { { TABLE, 24, INDIRECT, 0 } } },
	{ "a table that is not in memory",
	  { { OUTSIDE, 32, INDIRECT, 0 } } },
	{ "something behind a table",
	  { { TABLE, 32, INDIRECT | NEXT, 1 }, { ANSWER, 1, WRITE, 0 } } },
	{ "a table in a table",
	  { { TABLE + 0x800, 32, INDIRECT, 0 } } },
	{ "a table of ever so many",
	  { { MANY, 0xfffffff0, INDIRECT, 0 } } },
};

static void is_broken(struct host *h, const char *why)
{
	const uint32_t base = h->t.queue[CONTROL].base;

	memset(guest(h, ANSWER), UNTOUCHED, 1);
	if (!serve(h))
		fail_msg("%s: taken", why);
	if (!*h->e.msg || h->t.queue[CONTROL].base != base ||
	    answer(h) != UNTOUCHED || h->pairs)
		fail_msg("%s: something was done (%s)", why, h->e.msg);
}

static void chains_that_no_driver_has_break_the_ring(void **state)
{
	struct host *h = *state;
	const struct piece table = { TABLE, 32, INDIRECT, 0 };
	const struct piece itself = { SAID, 1, NEXT, 1 };

	put_desc(h, TABLE + 0x800, &table, 0);
	for (unsigned i = 0; i < 100; i++)
		put_desc(h, MANY + 16 * i, &(struct piece){
			 SAID, 1, NEXT, (uint16_t)(i + 1) }, 0);
	for (size_t i = 0; i < FERRY_LEN(bad_chains); i++) {
		h->shown = 0;
		offer(h, bad_chains[i].p, 2);
		is_broken(h, bad_chains[i].why);
	}
	/* It never ends. */
	for (unsigned i = 0; i < SIZE; i++)
		put_desc(h, DESC + 16 * i, &(struct piece){ SAID, 1,
			 h->packed ? NEXT | 1u << 7 : NEXT,
			 (uint16_t)((i + 1) % SIZE) }, 0);
	is_broken(h, "a chain of all of them, in a circle");
	if (h->packed)
		return;
	put_desc(h, DESC + 16, &itself, 0);
	is_broken(h, "one that is its own next");
	put_desc(h, DESC, &(struct piece){ SAID, 4, NEXT, SIZE }, 0);
	is_broken(h, "a next that is not in the table");
}

static void rings_that_cannot_be_are_broken(void **state)
{
	static const struct {
		const char *why;
		uint64_t desc, driver, device;
	} bad[] = {
		{ "descriptors outside", OUTSIDE, DRIVER, DEVICE },
		{ "descriptors that wrap", UINT64_MAX - 15, DRIVER, DEVICE },
		{ "available ones outside", DESC, OUTSIDE, DEVICE },
		{ "at an odd address", DESC + 1, DRIVER + 1, DEVICE },
	};
	static const uint8_t said[] = { VIRTIO_NET_CTRL_MQ, 0, 2, 0 };
	const struct piece p[] = {
		{ SAID, 4, NEXT, 1 }, { ANSWER, 1, WRITE, 0 },
	};
	struct host *h = *state;
	struct ferry_virtio_queue *q = &h->t.queue[CONTROL];

	say(h, said, sizeof(said));
	offer(h, p, 2);
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		q->desc = bad[i].desc;
		q->driver = bad[i].driver;
		q->device = bad[i].device;
		if (h->packed && q->desc == DESC)
			continue;	/* it does not need those */
		is_broken(h, bad[i].why);
	}
	q->desc = DESC;
	q->driver = DRIVER;
	q->device = DEVICE;
	if (h->packed) {
		q->base = 0x8000 | SIZE;
		is_broken(h, "it stands behind its end");
		return;
	}
	set16(h, DRIVER + 2, SIZE + 1);
	is_broken(h, "more are available than there are");
	set16(h, DRIVER + 2, 1);
	set16(h, DRIVER + 4, SIZE);
	is_broken(h, "a head that is not in the table");
}

static void what_is_used_cannot_be_written_outside(void **state)
{
	struct host *h = *state;
	const uint8_t said[] = { VIRTIO_NET_CTRL_MQ, 0, 2, 0 };
	const struct piece p[] = {
		{ SAID, 4, NEXT, 1 }, { ANSWER, 1, WRITE, 0 },
	};

	say(h, said, sizeof(said));
	offer(h, p, 2);
	h->t.queue[CONTROL].device = OUTSIDE;
	assert_int_equal(serve(h), -1);
	assert_int_equal(h->t.queue[CONTROL].base, 0);
}

/* Who makes no end is left for his next kick. */
static void a_kick_is_good_for_64_commands(void **state)
{
	struct host *h = *state;
	struct ferry_virtio_queue *q = &h->t.queue[CONTROL];
	const struct piece p = { SAID, 2, 0, 0 };

	h->device.queue_size_max = q->size = 128;
	for (unsigned i = 0; i < 100; i++)
		set16(h, DRIVER + 4 + 2 * i, 0);
	put_desc(h, DESC, &p, 0);
	set16(h, DRIVER + 2, 100);
	assert_ok(serve(h));
	assert_int_equal(q->base, 64);
	assert_ok(serve(h));
	assert_int_equal(q->base, 100);
}

#define S(name) cmocka_unit_test_setup_teardown(name, set_up_split, tear_down)
#define P(name) cmocka_unit_test_setup_teardown(name, set_up_packed, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		S(a_driver_says_how_many_pairs_it_uses),
		P(a_driver_says_how_many_pairs_it_uses),
		S(numbers_of_pairs_that_it_has_not_are_refused),
		P(numbers_of_pairs_that_it_has_not_are_refused),
		S(it_says_that_it_has_announced_itself),
		P(it_says_that_it_has_announced_itself),
		S(all_else_is_answered_with_an_error),
		P(all_else_is_answered_with_an_error),
		S(a_command_may_be_in_pieces),
		P(a_command_may_be_in_pieces),
		S(a_command_may_be_in_a_table),
		P(a_command_may_be_in_a_table),
		S(one_without_room_for_an_answer_has_none),
		P(one_without_room_for_an_answer_has_none),
		S(a_driver_that_wants_no_interrupt_gets_none),
		P(a_driver_that_wants_no_interrupt_gets_none),
		S(chains_that_no_driver_has_break_the_ring),
		P(chains_that_no_driver_has_break_the_ring),
		S(rings_that_cannot_be_are_broken),
		P(rings_that_cannot_be_are_broken),
		S(what_is_used_cannot_be_written_outside),
		S(a_kick_is_good_for_64_commands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
