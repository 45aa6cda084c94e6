/* SPDX-License-Identifier: MIT */
/*
 * The front-end with our own backends: a life of a device, its log, its state,
 * and what becomes of it when its backend is killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <unistd.h>

#include "fe_vm.h"

static const uint64_t both[] = { ~PACKED, UINT64_MAX };

static void a_device_lives_and_stops(void **state)
{
	struct ferry_err e = { 0 };
	struct vm m;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		uint32_t base;

		open_vm(&m, both[i]);
		start_vm(&m, 3);
		for (unsigned n = 0; n < 200; n++)
			one_echo(&m, n % 3);
		check(ferry_vhost_fe_queue_stop(m.fe, 1, &base, &e), &e);
		if (!i)
			assert_int_equal(base, 67);
		start_queue(&m, 1, base);
		one_echo(&m, 1);
		close_vm(&m);
		assert_int_equal(atomic_load(&m.gone), 0);
	}
}

static void what_a_driver_asks_is_answered(void **state)
{
	static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 77 };
	struct ferry_err e = { 0 };
	uint8_t data[60], status;
	struct vm m;

	(void)state;
	open_vm(&m, 0);
	check(ferry_vhost_fe_config_get(m.fe, 4, data, 20, &e), &e);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(data[i], i + 5);
	check(ferry_vhost_fe_config_set(m.fe, 3, "abc", 3, 0, &e), &e);
	assert_int_equal(atomic_load(&heard.config), 'c');
	assert_int_equal(ferry_vhost_fe_config_get(m.fe, 250, data, 20, &e),
			 -1);
	assert_non_null(strstr(e.msg, "dev0 at "));
	check(ferry_vhost_fe_set_status(m.fe, 3, &e), &e);
	check(ferry_vhost_fe_get_status(m.fe, &status, &e), &e);
	assert_int_equal(status, 3);
	assert_int_equal(ferry_vhost_fe_announce(m.fe, mac, &e), 1);
	assert_int_equal(atomic_load(&heard.announced), 77);
	check(ferry_vhost_fe_set_mtu(m.fe, 1400, &e), &e);
	assert_int_equal(atomic_load(&heard.mtu), 1400);
	ferry_vhost_config_changed(m.backend);
	await(&m.changed, 1);
	check(ferry_vhost_fe_can(m.fe, FERRY_VHOST_FE_CAN_LOG, &e), &e);
	check(ferry_vhost_fe_reset(m.fe, &e), &e);
	close_vm(&m);
}

/* ---- the dirty log ---- */

struct seen {
	const struct vm	*vm;
	bool		page[RIG_BYTES / 4096];
	unsigned	pages;
};

static void note_dirty(void *opaque, void *host, uint64_t bytes)
{
	struct seen *s = opaque;
	uint64_t at = (uint64_t)((uint8_t *)host - s->vm->rig.mem);

	assert_true(at < RIG_BYTES && bytes <= RIG_BYTES - at);
	for (uint64_t i = at / 4096; i < (at + bytes) / 4096; i++, s->pages++)
		s->page[i] = true;
}

static void look(struct ferry_vhost_log *l, struct seen *s)
{
	unsigned before = s->pages;
	uint64_t n = ferry_vhost_log_take(l, note_dirty, s);

	assert_int_equal(n, s->pages - before);
}

/* The driver may see a buffer before the backend has marked its ring. */
static void await_page(struct ferry_vhost_log *l, struct seen *s, uint64_t at)
{
	while (look(l, s), !s->page[at / 4096])
		usleep(1000);
}

static void forget(struct vm *m, struct seen *s)
{
	memset(s, 0, sizeof(*s));
	s->vm = m;
}

/* Through which nothing is under way any more. */
static void restart_queue(struct vm *m, unsigned i)
{
	struct ferry_err e = { 0 };
	uint32_t base;

	check(ferry_vhost_fe_queue_stop(m->fe, i, &base, &e), &e);
	start_queue(m, i, base);
}

static uint64_t ring_of(const struct vm *m, unsigned i)
{
	return m->features & PACKED ? m->rig.q[i].desc : m->rig.q[i].used;
}

static void what_a_backend_writes_is_in_the_log(void **state)
{
	struct ferry_err e = { 0 };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct ferry_vhost_region region;
		struct ferry_vhost_log *l;
		struct seen s;
		struct vm m;

		open_vm(&m, both[i]);
		region = region_of(&m);
		start_vm(&m, 2);
		one_echo(&m, 0);
		restart_queue(&m, 0);
		l = ferry_vhost_log_new(&region, 1, &e);
		assert_non_null(l);

		forget(&m, &s);
		check(ferry_vhost_fe_log_start(m.fe, l, &e), &e);
		one_echo(&m, 1);
		await_page(l, &s, rig_scratch(&m.rig, 8192 + 65536));
		await_page(l, &s, ring_of(&m, 1));
		assert_false(s.page[rig_scratch(&m.rig, 65536) / 4096]);

		/* One that is started while the log is on. */
		restart_queue(&m, 0);
		one_echo(&m, 0);
		await_page(l, &s, rig_scratch(&m.rig, 65536));
		await_page(l, &s, ring_of(&m, 0));

		check(ferry_vhost_fe_log_stop(m.fe, &e), &e);
		restart_queue(&m, 0);
		restart_queue(&m, 1);
		look(l, &s);
		forget(&m, &s);
		one_echo(&m, 1);
		restart_queue(&m, 1);
		look(l, &s);
		assert_int_equal(s.pages, 0);
		close_vm(&m);
		ferry_vhost_log_free(l);
	}
}

/* ---- the state ---- */

/* All of it, or -1. */
static int64_t save_all(struct vm *m, uint8_t *data, size_t max,
			struct ferry_err *e)
{
	int64_t n, bytes = 0;

	check(ferry_vhost_fe_save_begin(m->fe, e), e);
	while ((n = ferry_vhost_fe_save_read(m->fe, data + bytes,
					     max - (size_t)bytes, -1, e)) > 0)
		bytes += n;
	return n ? n : bytes;
}

static void a_state_is_saved_and_loaded(void **state)
{
	static uint8_t data[STATE_BYTES + 4096];
	struct ferry_err e = { 0 };
	struct vm m;
	size_t bytes;
	int64_t n;

	(void)state;
	open_vm(&m, 0);
	n = save_all(&m, data, sizeof(data), &e);
	assert_true(n > (int64_t)STATE_BYTES);
	bytes = (size_t)n;

	check(ferry_vhost_fe_load_begin(m.fe, &e), &e);
	check(ferry_vhost_fe_load_write(m.fe, data, bytes, -1, &e), &e);
	check(ferry_vhost_fe_load_end(m.fe, &e), &e);

	/* Cut short. */
	check(ferry_vhost_fe_load_begin(m.fe, &e), &e);
	check(ferry_vhost_fe_load_write(m.fe, data, bytes / 2, -1, &e), &e);
	assert_int_equal(ferry_vhost_fe_load_end(m.fe, &e), -1);
	assert_int_equal(e.code, FERRY_E_DEVICE);
	assert_int_equal(ferry_vhost_fe_load_end(m.fe, &e), -1);
	assert_int_equal(e.code, FERRY_E_STATE);

	/* Left off, and the device lives. */
	check(ferry_vhost_fe_save_begin(m.fe, &e), &e);
	ferry_vhost_fe_state_cancel(m.fe);
	start_vm(&m, 1);
	one_echo(&m, 0);
	assert_int_equal(ferry_vhost_fe_save_begin(m.fe, &e), -1);
	close_vm(&m);
}

/* ---- a backend that is killed ---- */

static void open_with_state_of(struct vm *m, uint64_t bytes_max)
{
	new_vm(m);
	m->state_bytes_max = bytes_max;
	make_backend_of(m);
	connect_fe(m, 0);
}

/* As of a backend that says /dev/zero. */
static void a_state_that_does_not_end_is_not_read_to_its_end(void **state)
{
	static uint8_t data[STATE_BYTES + 4096];
	struct ferry_err e = { 0 };
	struct vm m;

	(void)state;
	open_with_state_of(&m, 100000);
	assert_int_equal(save_all(&m, data, sizeof(data), &e), -1);
	assert_non_null(strstr(e.msg, "larger than 100000 octets"));
	close_vm(&m);

	open_with_state_of(&m, 100000);
	check(ferry_vhost_fe_load_begin(m.fe, &e), &e);
	check(ferry_vhost_fe_load_write(m.fe, data, 100000, -1, &e), &e);
	assert_int_equal(ferry_vhost_fe_load_write(m.fe, data, 1, -1, &e), -1);
	assert_non_null(strstr(e.msg, "larger than 100000 octets"));
	close_vm(&m);
}

static void load_all(struct vm *m)
{
	static uint8_t data[STATE_BYTES + 4096];
	struct ferry_err e = { 0 };
	int64_t bytes = save_all(m, data, sizeof(data), &e);

	assert_true(bytes > 0);
	check(ferry_vhost_fe_load_begin(m->fe, &e), &e);
	check(ferry_vhost_fe_load_write(m->fe, data, (size_t)bytes, -1, &e),
	      &e);
	check(ferry_vhost_fe_load_end(m->fe, &e), &e);
}

static void cannot_start(struct vm *m)
{
	struct ferry_err e = { 0 };

	assert_int_equal(ferry_vhost_fe_can(m->fe, FERRY_VHOST_FE_CAN_START,
					    &e), -1);
	assert_non_null(strstr(e.msg, "dev0"));
	assert_non_null(strstr(e.msg, "died with the state"));
}

/* The next one knows nothing of it, and must not be taken for the first. */
static void a_state_that_was_loaded_dies_with_its_backend(void **state)
{
	struct ferry_err e = { 0 };
	struct vm m;

	(void)state;
	new_vm(&m);
	fork_backend(&m);
	connect_fe(&m, ~PACKED);
	load_all(&m);
	check(ferry_vhost_fe_can(m.fe, FERRY_VHOST_FE_CAN_START, &e), &e);
	kill_backend(&m);
	cannot_start(&m);
	fork_backend(&m);
	await(&m.back, 1);
	assert_int_equal(atomic_load(&m.kept), 1);	/* no queue is there */
	cannot_start(&m);
	give_memory(&m);
	rig_place_queue(&m.rig, 0, ENTRIES);
	assert_int_equal(try_start(&m, 0, 0, &e), -1);
	assert_non_null(strstr(e.msg, "died with the state"));

	/* It is loaded again. */
	load_all(&m);
	check(ferry_vhost_fe_can(m.fe, FERRY_VHOST_FE_CAN_START, &e), &e);
	start_queue(&m, 0, 0);
	one_echo(&m, 0);

	/* From here on it is the backend's own. */
	kill_backend(&m);
	fork_backend(&m);
	await(&m.back, 2);
	check(ferry_vhost_fe_can(m.fe, FERRY_VHOST_FE_CAN_START, &e), &e);
	one_echo(&m, 0);
	close_vm(&m);
}

/* So many echoes, of two descriptors each. */
static uint32_t place_behind(const struct vm *m, uint32_t n)
{
	uint32_t place = 2 * n % ENTRIES |
			 (2 * n / ENTRIES % 2 ? 0 : 0x8000u);

	return m->features & PACKED ? place | place << 16 : n;
}

static void kill_and_replace(uint64_t features)
{
	struct ferry_err e = { 0 };
	uint32_t base;
	struct vm m;

	new_vm(&m);
	fork_backend(&m);
	connect_fe(&m, features);
	give_memory(&m);
	check(ferry_vhost_fe_use_inflight(m.fe, 2, ENTRIES, &e), &e);
	for (unsigned i = 0; i < 2; i++) {
		rig_place_queue(&m.rig, i, ENTRIES);
		start_queue(&m, i, first_base(&m));
	}
	for (unsigned n = 1; n <= 3; n++) {
		for (unsigned i = 0; i < 20 * n; i++)
			one_echo(&m, i % 2);
		kill_backend(&m);
		await(&m.gone, n);
		fork_backend(&m);
		await(&m.back, n);
		assert_int_equal(atomic_load(&m.kept), n);
		one_echo(&m, 1);
	}

	/* Stopped while nobody is there: memory says where it stands. */
	kill_backend(&m);
	check(ferry_vhost_fe_queue_stop(m.fe, 0, &base, &e), &e);
	assert_int_equal(base, place_behind(&m, 60));
	start_queue(&m, 0, base);
	fork_backend(&m);
	await(&m.back, 4);
	one_echo(&m, 0);
	one_echo(&m, 1);
	close_vm(&m);
}

static void a_backend_that_is_killed_is_replaced(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++)
		kill_and_replace(both[i]);
}

static void without_an_area_a_packed_queue_dies_with_its_backend(void **state)
{
	struct vm m;

	(void)state;
	new_vm(&m);
	fork_backend(&m);
	connect_fe(&m, UINT64_MAX);
	start_vm(&m, 1);
	one_echo(&m, 0);
	kill_backend(&m);
	fork_backend(&m);
	await(&m.back, 1);
	assert_int_equal(atomic_load(&m.kept), 0);
	close_vm(&m);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_device_lives_and_stops),
		cmocka_unit_test(what_a_driver_asks_is_answered),
		cmocka_unit_test(what_a_backend_writes_is_in_the_log),
		cmocka_unit_test(a_state_is_saved_and_loaded),
		cmocka_unit_test(
			a_state_that_does_not_end_is_not_read_to_its_end),
		cmocka_unit_test(a_state_that_was_loaded_dies_with_its_backend),
		cmocka_unit_test(a_backend_that_is_killed_is_replaced),
		cmocka_unit_test(without_an_area_a_packed_queue_dies_with_its_backend),
	};

	if (argc > 1)
		return be_the_backend(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
