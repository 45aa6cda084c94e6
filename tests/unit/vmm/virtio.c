/* SPDX-License-Identifier: MIT */
/* The virtio transport as a guest's driver sees it, over a device that only
 * counts; and its state, good and bad. */
#include "help.h"

#include "vmm/virtio_mmio.h"

#define QUEUES	3u
#define SIZE	256u
#define OFFERED	(FERRY_VIRTIO_F_VERSION_1 | 1ull << 29 | 1ull << 5)

enum {
	MAGIC = 0x0, TYPE = 0x8, FEATURES = 0x10, FEATURES_SEL = 0x14,
	TAKEN = 0x20, TAKEN_SEL = 0x24, QUEUE_SEL = 0x30, QUEUE_MAX = 0x34,
	QUEUE_SIZE = 0x38, READY = 0x44, NOTIFY = 0x50, INTERRUPTS = 0x60,
	ACK = 0x64, STATUS = 0x70, DESC = 0x80, AVAIL = 0x90, USED = 0xa0,
	SHM_LENGTH = 0xb0, GENERATION = 0xfc, CONFIG = 0x100,
};

struct host {
	struct ferry_virtio	 t;
	struct ferry_virtio_device device;
	unsigned		 starts, stops, resets, notified, said, irqs;
	bool			 cannot_start;
	uint8_t			 config[16];
};

static int do_start(void *opaque, struct ferry_virtio *t, struct ferry_err *e)
{
	struct host *h = opaque;

	(void)t;
	h->starts++;
	return h->cannot_start ? ferry_err_set(e, FERRY_E_IO, 0, "no") : 0;
}

static int do_stop(void *opaque, struct ferry_virtio *t, struct ferry_err *e)
{
	(void)e;
	((struct host *)opaque)->stops++;
	t->queue[0].base = 77;
	return 0;
}

static void do_reset(void *opaque)
{
	((struct host *)opaque)->resets++;
}

static void do_notify(void *opaque, struct ferry_virtio *t, unsigned queue)
{
	(void)t;
	((struct host *)opaque)->notified |= 1u << queue;
}

static void do_say(void *opaque, const char *text)
{
	(void)text;
	((struct host *)opaque)->said++;
}

static void do_read(void *opaque, uint32_t at, void *data, size_t n)
{
	struct host *h = opaque;

	if (at + n <= sizeof(h->config))
		memcpy(data, h->config + at, n);
}

static void do_write(void *opaque, uint32_t at, const void *data, size_t n)
{
	struct host *h = opaque;

	if (at + n <= sizeof(h->config))
		memcpy(h->config + at, data, n);
}

static const struct ferry_virtio_ops ops = {
	do_start, do_stop, do_reset, do_notify, do_say, do_read, do_write,
};

static void interrupt(void *opaque)
{
	((struct host *)opaque)->irqs++;
}

static int set_up(void **state)
{
	struct host *h = calloc(1, sizeof(*h));

	h->device = (struct ferry_virtio_device){
		.name = "net0", .id = FERRY_VIRTIO_ID_NET, .features = OFFERED,
		.queues = QUEUES, .served = 2, .pairs = 1,
		.queue_size_max = SIZE,
		.ops = &ops, .opaque = h,
	};
	ferry_virtio_init(&h->t, &h->device);
	h->t.interrupt = interrupt;
	h->t.opaque = h;
	ferry_virtio_run(&h->t);
	*state = h;
	return 0;
}

static int tear_down(void **state)
{
	struct host *h = *state;

	ferry_virtio_fini(&h->t);
	free(h);
	return 0;
}

static uint32_t get(struct host *h, uint32_t at)
{
	uint32_t v;

	ferry_virtio_read(&h->t, at, &v, sizeof(v));
	return v;
}

static void put(struct host *h, uint32_t at, uint32_t v)
{
	ferry_virtio_write(&h->t, at, &v, sizeof(v));
}

static void take(struct host *h, uint64_t features)
{
	put(h, STATUS, 1);
	put(h, STATUS, 3);
	put(h, TAKEN_SEL, 0);
	put(h, TAKEN, (uint32_t)features);
	put(h, TAKEN_SEL, 1);
	put(h, TAKEN, (uint32_t)(features >> 32));
	put(h, STATUS, 11);
}

static void set_queue(struct host *h, uint32_t n, uint32_t size)
{
	put(h, QUEUE_SEL, n);
	put(h, QUEUE_SIZE, size);
	put(h, DESC, 0x1000 + n);
	put(h, DESC + 4, 1);
	put(h, AVAIL, 0x2000);
	put(h, USED, 0x3000);
	put(h, USED + 4, 2);
	put(h, READY, 1);
}

static void drive(struct host *h)
{
	take(h, FERRY_VIRTIO_F_VERSION_1);
	for (uint32_t i = 0; i < QUEUES; i++)
		set_queue(h, i, SIZE);
	put(h, STATUS, 15);
}

static void a_driver_finds_it_and_sets_it_up(void **state)
{
	struct host *h = *state;

	assert_int_equal(get(h, MAGIC), 0x74726976);
	assert_int_equal(get(h, 4), 2);
	assert_int_equal(get(h, TYPE), FERRY_VIRTIO_ID_NET);
	put(h, FEATURES_SEL, 0);
	assert_int_equal(get(h, FEATURES), (uint32_t)OFFERED);
	put(h, FEATURES_SEL, 1);
	assert_int_equal(get(h, FEATURES), 1);
	put(h, FEATURES_SEL, 2);
	assert_int_equal(get(h, FEATURES), 0);
	assert_int_equal(get(h, SHM_LENGTH), ~0u);
	assert_int_equal(get(h, INTERRUPTS), 0);
	drive(h);
	assert_int_equal(get(h, STATUS), 15);
	assert_int_equal(h->starts, 1);
	assert_int_equal(get(h, INTERRUPTS), 1);
	assert_int_equal(h->t.queue[1].desc, 0x100001001);
	assert_int_equal(h->t.queue[1].device, 0x200003000);
	put(h, NOTIFY, 2);
	put(h, NOTIFY, 3);
	assert_int_equal(h->notified, 1u << 2);
}

static void a_reset_stops_it_and_forgets_all(void **state)
{
	struct host *h = *state;

	drive(h);
	put(h, STATUS, 0);
	assert_int_equal(h->stops, 1);
	assert_int_equal(h->resets, 1);
	assert_int_equal(get(h, STATUS), 0);
	put(h, QUEUE_SEL, 0);
	assert_int_equal(get(h, READY), 0);
	drive(h);
	assert_int_equal(h->starts, 2);
}

static void features_that_were_not_offered_are_not_taken(void **state)
{
	struct host *h = *state;

	take(h, FERRY_VIRTIO_F_VERSION_1 | 1ull << 34);
	assert_int_equal(get(h, STATUS), 3);
	put(h, STATUS, 15);
	assert_int_equal(h->starts, 0);
	put(h, STATUS, 0);
	take(h, 1ull << 5);		/* a driver of before 1.0 */
	assert_int_equal(get(h, STATUS), 3);
}

/* Where its control queue is depends on both. */
static void of_features_that_go_together_all_are_taken_or_none(void **state)
{
	static const struct {
		uint64_t taken;
		uint32_t status;
	} rows[] = {
		{ 0, 11 }, { 1ull << 5, 3 }, { 1ull << 29, 3 },
		{ 1ull << 5 | 1ull << 29, 11 },
	};
	struct host *h = *state;

	h->device.together = 1ull << 5 | 1ull << 29;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		take(h, FERRY_VIRTIO_F_VERSION_1 | rows[i].taken);
		assert_int_equal(get(h, STATUS), rows[i].status);
		put(h, STATUS, 0);
	}
}

static void what_makes_no_sense_is_ignored(void **state)
{
	struct host *h = *state;
	uint64_t wide = ~0ull;

	take(h, FERRY_VIRTIO_F_VERSION_1);
	put(h, QUEUE_SEL, QUEUES);
	assert_int_equal(get(h, QUEUE_MAX), 0);
	put(h, QUEUE_SIZE, 8);
	put(h, READY, 1);
	assert_int_equal(get(h, READY), 0);
	set_queue(h, 0, 100);		/* no power of two */
	assert_int_equal(get(h, READY), 0);
	set_queue(h, 0, SIZE);
	put(h, QUEUE_SIZE, 8);		/* it is set up */
	put(h, DESC, 0);
	assert_int_equal(h->t.queue[0].size, SIZE);
	assert_int_equal(h->t.queue[0].desc, 0x100001000);
	put(h, QUEUE_SEL, 1);
	put(h, QUEUE_SIZE, 2 * SIZE);
	assert_int_equal(h->t.queue[1].size, 0);
	put(h, NOTIFY, 0);		/* it does not work yet */
	assert_int_equal(h->notified, 0);
	ferry_virtio_write(&h->t, STATUS, &wide, 8);
	ferry_virtio_write(&h->t, STATUS, &wide, 1);
	assert_int_equal(get(h, STATUS), 11);
	for (uint32_t at = 0; at < CONFIG; at += 4) {
		put(h, at, 0xffffffff);
		get(h, at);
	}
}

/* Who stops the device would have to stop a queue that never began. */
static void a_queue_does_not_come_or_go_while_it_works(void **state)
{
	struct host *h = *state;

	take(h, FERRY_VIRTIO_F_VERSION_1);
	set_queue(h, 0, SIZE);
	put(h, STATUS, 15);
	assert_int_equal(h->starts, 1);
	set_queue(h, 1, SIZE);
	assert_int_equal(get(h, READY), 0);
	put(h, QUEUE_SEL, 0);
	put(h, READY, 0);
	assert_int_equal(get(h, READY), 1);
	put(h, STATUS, 0);
	set_queue(h, 1, SIZE);
	assert_int_equal(get(h, READY), 1);
}

static void it_works_while_the_vm_runs(void **state)
{
	struct host *h = *state;

	drive(h);
	assert_ok(ferry_virtio_pause(&h->t, NULL));
	assert_ok(ferry_virtio_pause(&h->t, NULL));
	assert_int_equal(h->stops, 1);
	ferry_virtio_run(&h->t);
	assert_int_equal(h->starts, 2);
	assert_int_equal(h->t.queue[0].base, 77);
}

static void a_device_that_cannot_start_needs_a_reset(void **state)
{
	struct host *h = *state;

	h->cannot_start = true;
	drive(h);
	assert_int_equal(h->said, 1);
	assert_int_equal(get(h, STATUS), 15 | 64);
	assert_int_equal(get(h, INTERRUPTS), 3);
	assert_int_equal(h->irqs, 1);
	h->cannot_start = false;
	put(h, STATUS, 0);
	drive(h);
	assert_int_equal(get(h, STATUS), 15);
}

static void a_changed_configuration_is_an_interrupt(void **state)
{
	struct host *h = *state;
	uint32_t before = get(h, GENERATION);
	uint8_t octet = 7;

	drive(h);
	ferry_virtio_write(&h->t, CONFIG + 3, &octet, 1);
	assert_int_equal(get(h, CONFIG), 7u << 24);
	ferry_virtio_tell(&h->t, false);
	assert_int_equal(h->irqs, 1);
	assert_int_not_equal(get(h, GENERATION), before);
	assert_int_equal(get(h, INTERRUPTS), 3);
	put(h, ACK, 3);
	assert_int_equal(get(h, INTERRUPTS), 1);
}

/* ---- state -------------------------------------------------------------- */

static size_t save(struct host *h, uint8_t *buf, size_t bytes)
{
	const struct ferry_section *s = &ferry_section_virtio;
	struct ferry_wr w = ferry_wr_over(buf, bytes);

	assert_ok(s->save(s, &h->t, &w, NULL));
	assert_false(w.bad);
	return ferry_wr_used(&w);
}

static int load(struct host *h, const uint8_t *buf, size_t bytes,
		struct ferry_err *e)
{
	const struct ferry_section *s = &ferry_section_virtio;
	struct ferry_rd r = ferry_rd_over(buf, bytes);

	return s->load(s, &h->t, &r, e);
}

static void what_the_driver_set_up_goes_along(void **state)
{
	struct host *h = *state;
	struct ferry_err e;
	uint8_t buf[512];
	size_t n;
	void *to;
	struct host *b;

	drive(h);
	assert_ok(ferry_virtio_pause(&h->t, NULL));
	n = save(h, buf, sizeof(buf));
	set_up(&to);
	b = to;
	assert_ok(ferry_virtio_pause(&b->t, NULL));
	b->t.queue[0].kick = 42;
	assert_ok(load(b, buf, n, &e));
	assert_int_equal(b->t.queue[0].kick, 42);	/* is this side's */
	assert_int_equal(b->t.queue[0].base, 77);
	assert_int_equal(b->t.queue[2].device, 0x200003000);
	assert_int_equal(b->starts, 0);
	ferry_virtio_run(&b->t);
	assert_int_equal(b->starts, 1);
	assert_int_equal(get(b, STATUS), 15);
	tear_down(&to);
}

static void bad_states_are_refused_and_change_nothing(void **state)
{
	static const struct {
		const char *why;
		size_t at;
		uint8_t value;
	} bad[] = {
		{ "another type of device", 3, 2 },
		{ "features not offered", 11, 0x80 },
		{ "a status beyond its octet", 14, 1 },
		{ "interrupts of no kind", 19, 4 },
		{ "more active pairs than it has", 39, 2 },
		{ "another number of queues", 43, 4 },
		{ "a queue too large", 45, 1 },
		{ "a queue ready in two ways", 48, 2 },
	};
	struct host *h = *state;
	struct ferry_err e = { 0 };
	uint8_t good[512], buf[512];
	size_t n;

	drive(h);
	n = save(h, good, sizeof(good));
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		memcpy(buf, good, n);
		buf[bad[i].at] = bad[i].value;
		if (!load(h, buf, n, &e))
			fail_msg("%s: taken", bad[i].why);
		assert_int_equal(save(h, buf, sizeof(buf)), n);
		assert_memory_equal(buf, good, n);
	}
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(load(h, good, cut, &e), -1);
	good[n] = 0;
	assert_int_equal(load(h, good, n + 1, &e), -1);
}

static void a_state_with_half_of_what_goes_together_is_refused(void **state)
{
	struct host *h = *state;
	struct ferry_err e = { 0 };
	uint8_t buf[512];
	size_t n;

	drive(h);
	h->t.regs.accepted |= 1ull << 5;
	h->t.regs.active = 1;
	n = save(h, buf, sizeof(buf));
	assert_ok(load(h, buf, n, &e));
	assert_int_equal(h->t.regs.active, 1);
	h->device.together = 1ull << 5 | 1ull << 29;
	assert_refused(load(h, buf, n, &e), &e, FERRY_E_DEVICE,
		       "no driver takes some");
}

/* Before the VM's switch, not when it is started. */
static void rings_that_no_driver_has_are_refused(void **state)
{
	static const struct {
		const char *why;
		uint32_t size, base;
	} bad[] = {
		{ "a split ring of 100", 100, 0 },
		{ "a split ring of 3", 3, 7 },
		{ "a split ring at 65536", SIZE, 65536 },
	};
	struct host *h = *state;

	drive(h);
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		struct ferry_err e = { 0 };
		uint8_t buf[512];
		size_t n;

		h->t.queue[1].size = bad[i].size;
		h->t.queue[1].base = bad[i].base;
		n = save(h, buf, sizeof(buf));
		if (!load(h, buf, n, &e) || !strstr(e.msg, "power of two"))
			fail_msg("%s: %s", bad[i].why, e.msg);
	}
}

static void a_queue_of_other_features_keeps_them_from_being_ok(void **state)
{
	struct host *h = *state;

	h->device.features |= FERRY_VIRTIO_F_RING_PACKED;
	put(h, STATUS, 3);
	put(h, TAKEN_SEL, 1);
	put(h, TAKEN, 1 | 4);
	set_queue(h, 0, 100);
	assert_int_equal(get(h, READY), 1);
	put(h, TAKEN, 1);
	put(h, STATUS, 11);
	assert_int_equal(get(h, STATUS), 3);
	put(h, TAKEN, 1 | 4);
	put(h, STATUS, 11);
	assert_int_equal(get(h, STATUS), 11);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_driver_finds_it_and_sets_it_up),
		T(a_reset_stops_it_and_forgets_all),
		T(features_that_were_not_offered_are_not_taken),
		T(of_features_that_go_together_all_are_taken_or_none),
		T(what_makes_no_sense_is_ignored),
		T(a_queue_does_not_come_or_go_while_it_works),
		T(it_works_while_the_vm_runs),
		T(a_device_that_cannot_start_needs_a_reset),
		T(a_changed_configuration_is_an_interrupt),
		T(what_the_driver_set_up_goes_along),
		T(bad_states_are_refused_and_change_nothing),
		T(a_state_with_half_of_what_goes_together_is_refused),
		T(rings_that_no_driver_has_are_refused),
		T(a_queue_of_other_features_keeps_them_from_being_ok),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
