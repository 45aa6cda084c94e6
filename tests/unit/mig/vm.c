/* SPDX-License-Identifier: MIT */
/*
 * Describing a VM: every argument is checked, once, with a sentence; a VM is
 * lent to one migration at a time, and fixed from the first on.
 */
#include "help.h"

#include "mig/vm.h"
#include "wire/section.h"

static struct area memory;

static struct ferry_vm *new_vm(void)
{
	struct ferry_vm_ops ops = IDLE_OPS;
	struct ferry_err e = { 0 };
	struct ferry_vm *vm = ferry_vm_new("testing", &ops, NULL, &e);

	if (!vm)
		fail_msg("%s", e.msg);
	return vm;
}

static struct ferry_block a_block(void)
{
	struct ferry_block b = FERRY_BLOCK_INIT;

	b.name = "ram";
	b.addr = memory.p;
	b.bytes = memory.bytes;
	return b;
}

static struct ferry_vm *whole_vm(void)
{
	struct ferry_vm *vm = new_vm();
	struct ferry_block b = a_block();

	assert_ok(ferry_vm_add_block(vm, &b, NULL));
	return vm;
}

static int a_save(void *opaque, struct ferry_save *out, struct ferry_err *e)
{
	(void)opaque;
	(void)out;
	(void)e;
	return 0;
}

static int a_load(void *opaque, uint32_t version, const void *data,
		  size_t bytes, struct ferry_err *e)
{
	(void)opaque;
	(void)version;
	(void)data;
	(void)bytes;
	(void)e;
	return 0;
}

static const struct ferry_device_ops device_ops = {
	.size = sizeof(device_ops), .save = a_save, .load = a_load,
};

/* A string of n times 'n'; lives until the next call. */
static const char *long_name(size_t n)
{
	static char name[8192];

	assert_true(n < sizeof(name));
	memset(name, 'n', n);
	name[n] = '\0';
	return name;
}

/* ---- making ------------------------------------------------------------- */

static void a_vm_is_named_with_1_to_255_octets(void **state)
{
	struct ferry_vm_ops ops = IDLE_OPS;
	const char *const bad[] = { NULL, "", long_name(256) };
	struct ferry_vm *vm;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		struct ferry_err e = { 0 };

		assert_null(ferry_vm_new(bad[i], &ops, NULL, &e));
		assert_says(&e, FERRY_E_INVALID, "VM name must have 1 to 255");
	}
	vm = ferry_vm_new(long_name(255), &ops, NULL, NULL);
	assert_non_null(vm);
	ferry_vm_free(vm);
	ferry_vm_free(NULL);
}

static void ops_of_another_size_are_refused(void **state)
{
	struct ferry_vm_ops ops = IDLE_OPS;
	struct ferry_err e = { 0 };

	(void)state;
	ops.size = 0;
	assert_null(ferry_vm_new("vm", &ops, NULL, &e));
	assert_says(&e, FERRY_E_INVALID, "ferry_vm_ops.size is 0");
}

static void an_empty_slot_is_refused(void **state)
{
	(void)state;
	for (unsigned slot = 0; slot < 5; slot++) {
		struct ferry_vm_ops ops = IDLE_OPS;
		struct ferry_err e = { 0 };
		void *none = NULL;

		memcpy((char *)&ops.stop + slot * sizeof(void *), &none,
		       sizeof(none));
		assert_null(ferry_vm_new("vm", &ops, NULL, &e));
		assert_says(&e, FERRY_E_INVALID, "empty slot");
	}
}

/* ---- blocks ------------------------------------------------------------- */

struct bad_block {
	const char *why;
	struct ferry_block b;
	const char *says;
};

static void bad_blocks_are_refused(void **state)
{
	const struct ferry_block good = a_block();
	struct bad_block rows[] = {
		{ "no size", good, "ferry_block.size is 0" },
		{ "no name", good, "block name" },
		{ "empty name", good, "block name" },
		{ "long name", good, "block name" },
		{ "no address", good, "not aligned" },
		{ "crooked address", good, "not aligned" },
		{ "no octets", good, "whole pages" },
		{ "half a page", good, "whole pages" },
		{ "odd page size", good, "pages of 8192" },
		{ "no such fd", good, "fd 99" },
		{ "longer than its mapping", good, "block ram: address" },
	};

	(void)state;
	rows[0].b.size = 0;
	rows[1].b.name = NULL;
	rows[2].b.name = "";
	rows[3].b.name = long_name(256);
	rows[4].b.addr = NULL;
	rows[5].b.addr = memory.p + 1;
	rows[6].b.bytes = 0;
	rows[7].b.bytes = PAGE / 2;
	rows[8].b.page_bytes = 8192;
	rows[9].b.fd = 99;
	rows[10].b.bytes = 1ull << 40;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_vm *vm = new_vm();
		struct ferry_err e = { 0 };

		if (!ferry_vm_add_block(vm, &rows[i].b, &e))
			fail_msg("%s: taken", rows[i].why);
		assert_says(&e, FERRY_E_INVALID, rows[i].says);
		assert_int_equal(vm->mem.blocks, 0);
		ferry_vm_free(vm);
	}
}

static void a_block_is_added_once(void **state)
{
	struct ferry_vm *vm = whole_vm();
	struct ferry_block b = a_block();
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_vm_add_block(vm, &b, &e), -1);
	assert_says(&e, FERRY_E_INVALID, "there is one of this name");
	b.name = "more";
	assert_int_equal(ferry_vm_add_block(vm, &b, &e), -1);
	assert_says(&e, FERRY_E_INVALID, "overlaps block ram");
	ferry_vm_free(vm);
}

/* ---- devices and facts -------------------------------------------------- */

static void bad_devices_are_refused(void **state)
{
	const struct {
		const char *why, *name;
		struct ferry_device_ops ops;
		const char *says;
	} rows[] = {
		{ "no name", NULL, device_ops, "device name" },
		{ "empty name", "", device_ops, "device name" },
		{ "long name", long_name(256), device_ops, "device name" },
		{ "the library's own", "ferry.run", device_ops, "are taken" },
		{ "no size", "nic", { 0, a_save, a_load },
			"ferry_device_ops.size is 0" },
		{ "no save", "nic", { sizeof(device_ops), NULL, a_load },
			"empty slot" },
		{ "no load", "nic", { sizeof(device_ops), a_save, NULL },
			"empty slot" },
	};
	struct ferry_vm *vm = new_vm();

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_err e = { 0 };

		if (!ferry_vm_add_device(vm, rows[i].name, 0, 1, &rows[i].ops,
					 NULL, &e))
			fail_msg("%s: taken", rows[i].why);
		assert_says(&e, FERRY_E_INVALID, rows[i].says);
	}
	assert_int_equal(vm->devices.devs, 0);
	ferry_vm_free(vm);
}

static void there_is_always_room_for_the_engines_own_device(void **state)
{
	struct ferry_vm *vm = whole_vm();
	struct ferry_err e = { 0 };
	uint32_t n = 0;

	(void)state;
	while (!ferry_vm_add_device(vm, "nic", n, 1, &device_ops, NULL, &e))
		n++;
	assert_int_equal(n, FERRY_SECTIONS_MAX - 1);
	assert_says(&e, FERRY_E_INVALID, "more than 1023 devices");
	if (ferry_vm_lend(vm, &e))
		fail_msg("%s", e.msg);
	ferry_vm_free(vm);
}

static void bad_facts_are_refused(void **state)
{
	static char longest[FERRY_FACT_BYTES_MAX + 2];
	const struct {
		const char *why, *name;
		int rule;
		const char *value, *says;
	} rows[] = {
		{ "no name", NULL, 1, "x", "fact name" },
		{ "empty name", "", 1, "x", "fact name" },
		{ "long name", long_name(256), 1, "x", "fact name" },
		{ "the library's own", "ferry.x", 1, "x", "are taken" },
		{ "no rule", "cpu", 0, "x", "no rule 0" },
		{ "unknown rule", "cpu", 3, "x", "no rule 3" },
		{ "no value", "cpu", 1, NULL, "value" },
		{ "long value", "cpu", 1, longest, "more than 4096" },
		{ "stated twice", "vcpus", 1, "2", "stated twice" },
	};
	struct ferry_vm *vm = new_vm();

	(void)state;
	memset(longest, 'v', FERRY_FACT_BYTES_MAX + 1);
	assert_ok(ferry_vm_add_fact(vm, "vcpus", FERRY_FACT_EQUAL, "", NULL));
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_err e = { 0 };

		if (!ferry_vm_add_fact(vm, rows[i].name,
				       (enum ferry_fact_rule)rows[i].rule,
				       rows[i].value, &e))
			fail_msg("%s: taken", rows[i].why);
		assert_says(&e, FERRY_E_INVALID, rows[i].says);
	}
	assert_int_equal(vm->facts, 1);
	ferry_vm_free(vm);
}

static void there_are_at_most_64_facts(void **state)
{
	struct ferry_vm *vm = new_vm();
	struct ferry_err e = { 0 };
	char name[16];

	(void)state;
	for (unsigned i = 0; i < FERRY_FACTS_MAX; i++) {
		snprintf(name, sizeof(name), "fact %u", i);
		assert_ok(ferry_vm_add_fact(vm, name, FERRY_FACT_SUBSET, "a b",
					    &e));
	}
	assert_int_equal(ferry_vm_add_fact(vm, "one more", FERRY_FACT_EQUAL,
					   "", &e), -1);
	assert_says(&e, FERRY_E_INVALID, "more than 64 facts");
	ferry_vm_free(vm);
}

/* ---- trackers ----------------------------------------------------------- */

static void bad_kvm_slots_are_refused(void **state)
{
	struct ferry_vm *vm = whole_vm();
	struct ferry_kvm_slot slot = FERRY_KVM_SLOT_INIT;
	struct ferry_err e = { 0 };

	(void)state;
	slot.size = 4;
	assert_int_equal(ferry_vm_track_kvm(vm, 0, &slot, 1, &e), -1);
	assert_says(&e, FERRY_E_INVALID, "ferry_kvm_slot.size is 4");
	slot.size = sizeof(slot);
	slot.addr = memory.p + memory.bytes;
	slot.bytes = PAGE;
	assert_int_equal(ferry_vm_track_kvm(vm, 0, &slot, 1, &e), -1);
	assert_int_equal(e.code, FERRY_E_INVALID);
	assert_int_equal(vm->trackers, 0);
	ferry_vm_free(vm);
}

static int can(void *opaque, enum ferry_foreign_ability what,
	       struct ferry_err *e)
{
	(void)opaque, (void)what, (void)e;
	return 0;
}

static int on_listen(void *opaque, struct ferry_target *t, struct ferry_err *e)
{
	(void)opaque, (void)t, (void)e;
	return 0;
}

static void on_end(void *opaque, int whole)
{
	(void)opaque, (void)whole;
}

static void who_speaks_for_others_is_set_once_and_whole(void **state)
{
	struct ferry_foreign_ops ops = {
		.size = sizeof(ops), .can = can, .listen = on_listen,
	};
	struct ferry_vm *vm = whole_vm();
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_vm_set_foreign(vm, &ops, NULL, &e), -1);
	assert_says(&e, FERRY_E_INVALID, "empty slot");
	ops.end = on_end;
	ops.size = 8;
	assert_int_equal(ferry_vm_set_foreign(vm, &ops, NULL, &e), -1);
	ops.size = sizeof(ops);
	assert_int_equal(ferry_vm_set_foreign(vm, &ops, NULL, &e), 0);
	assert_int_equal(ferry_vm_set_foreign(vm, &ops, NULL, &e), -1);
	assert_says(&e, FERRY_E_STATE, "set once");
	ferry_vm_free(vm);
}

static void there_is_always_room_for_the_engines_own_tracker(void **state)
{
	struct ferry_vm *vm = whole_vm();
	struct ferry_err e = { 0 };
	unsigned n = 0;

	(void)state;
	while (!ferry_vm_track_process(vm, &e))
		n++;
	assert_int_equal(n, FERRY_VM_DIRTY_MAX - 1);
	assert_says(&e, FERRY_E_INVALID, "more than 67 trackers");
	if (ferry_vm_lend(vm, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(vm->trackers, FERRY_VM_DIRTY_MAX);
	ferry_vm_free(vm);
}

static void marking_is_harmless_at_any_time(void **state)
{
	struct ferry_vm *vm = whole_vm();

	(void)state;
	ferry_vm_mark_dirty(vm, memory.p, PAGE);
	assert_ok(ferry_vm_lend(vm, NULL));
	ferry_vm_mark_dirty(vm, memory.p, PAGE);
	ferry_vm_mark_dirty(vm, NULL, UINT64_MAX);
	ferry_vm_free(vm);
}

/* What a log's owner was asked, in order, and what it tells then. */
struct logger {
	struct ferry_vm	*vm;
	char		 asked[8];
	unsigned	 n;
};

static int log_start(void *opaque, struct ferry_err *e)
{
	struct logger *l = opaque;

	(void)e;
	l->asked[l->n++] = 's';
	return 0;
}

static int log_collect(void *opaque, int final, struct ferry_err *e)
{
	struct logger *l = opaque;

	(void)e;
	l->asked[l->n++] = final ? 'f' : 'c';
	ferry_vm_mark_dirty(l->vm, memory.p + PAGE, 1);
	return 0;
}

static void log_stop(void *opaque)
{
	struct logger *l = opaque;

	l->asked[l->n++] = 'e';
}

static void what_a_log_tells_is_owed_at_once(void **state)
{
	struct logger l = { .vm = whole_vm() };
	struct ferry_track_ops ops = FERRY_TRACK_OPS_INIT;
	struct ferry_owed owed;
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_vm_track_log(l.vm, &ops, &l, &e), -1);
	assert_says(&e, FERRY_E_INVALID, "an empty slot");
	ops.start = log_start;
	ops.collect = log_collect;
	ops.stop = log_stop;
	ops.size = 8;
	assert_int_equal(ferry_vm_track_log(l.vm, &ops, &l, &e), -1);
	assert_says(&e, FERRY_E_INVALID, "ferry_track_ops.size is 8");
	ops.size = sizeof(ops);
	assert_ok(ferry_vm_track_log(l.vm, &ops, &l, &e));
	assert_ok(ferry_vm_lend(l.vm, &e));
	assert_ok(ferry_owed_init(&owed, &l.vm->mem, &e));
	for (unsigned i = 0; i < l.vm->trackers; i++)
		assert_ok(l.vm->dirty[i]->ops->start(l.vm->dirty[i], &e));
	for (unsigned i = 0; i < l.vm->trackers; i++)
		assert_ok(l.vm->dirty[i]->ops->harvest(l.vm->dirty[i], &owed,
						       true, &e));
	assert_int_equal(ferry_owed_pages(&owed), 1);
	for (unsigned i = 0; i < l.vm->trackers; i++)
		l.vm->dirty[i]->ops->stop(l.vm->dirty[i]);
	assert_string_equal(l.asked, "sfe");
	ferry_owed_fini(&owed);
	ferry_vm_free(l.vm);
}

/* ---- lending ------------------------------------------------------------ */

static void a_vm_without_memory_cannot_move(void **state)
{
	struct ferry_vm *vm = new_vm();
	struct ferry_block b = a_block();
	struct ferry_err e = { 0 };

	(void)state;
	assert_int_equal(ferry_vm_lend(vm, &e), -1);
	assert_says(&e, FERRY_E_INVALID, "VM testing has no memory");
	/* It was not fixed by the attempt. */
	assert_ok(ferry_vm_add_block(vm, &b, NULL));
	assert_ok(ferry_vm_lend(vm, NULL));
	ferry_vm_free(vm);
}

static void a_vm_is_lent_to_one_at_a_time(void **state)
{
	struct ferry_vm *vm = whole_vm();
	struct ferry_err e = { 0 };

	(void)state;
	assert_ok(ferry_vm_lend(vm, &e));
	assert_int_equal(ferry_vm_lend(vm, &e), -1);
	assert_says(&e, FERRY_E_STATE, "part of a migration already");
	ferry_vm_return(vm);
	assert_ok(ferry_vm_lend(vm, &e));
	assert_int_equal(vm->trackers, 1);	/* sealed once */
	assert_int_equal(vm->devices.devs, 1);
	ferry_vm_free(vm);
}

static void once_lent_nothing_is_added(void **state)
{
	struct ferry_vm *vm = whole_vm();
	struct ferry_block b = a_block();
	struct ferry_err e[5] = { { 0 } };

	(void)state;
	assert_ok(ferry_vm_lend(vm, NULL));
	ferry_vm_return(vm);
	assert_int_equal(ferry_vm_add_block(vm, &b, &e[0]), -1);
	assert_int_equal(ferry_vm_track_kvm(vm, 0, NULL, 0, &e[1]), -1);
	assert_int_equal(ferry_vm_track_process(vm, &e[2]), -1);
	assert_int_equal(ferry_vm_add_device(vm, "nic", 0, 1, &device_ops,
					     NULL, &e[3]), -1);
	assert_int_equal(ferry_vm_add_fact(vm, "cpu", FERRY_FACT_EQUAL, "x",
					   &e[4]), -1);
	for (unsigned i = 0; i < 5; i++)
		assert_says(&e[i], FERRY_E_STATE, "cannot be changed any more");
	ferry_vm_free(vm);
}

static void whether_it_ran_travels_as_the_last_device(void **state)
{
	struct ferry_vm *vm = whole_vm();
	struct ferry_save saved = { 0 };
	struct ferry_dev *run;
	struct ferry_err e = { 0 };

	(void)state;
	assert_ok(ferry_vm_add_device(vm, "nic", 0, 1, &device_ops, NULL,
				      NULL));
	assert_ok(ferry_vm_lend(vm, NULL));
	run = &vm->devices.dev[vm->devices.devs - 1];
	assert_string_equal(run->name, FERRY_RUN_SECTION_NAME);
	assert_int_equal(run->instance, 0);
	assert_int_equal(run->version, 1);

	vm->was_running = true;
	assert_ok(run->ops.save(run->opaque, &saved, &e));
	assert_int_equal(saved.bytes, 1);
	vm->was_running = false;
	assert_ok(run->ops.load(run->opaque, 1, saved.data, 1, &e));
	assert_true(vm->was_running);
	ferry_save_fini(&saved);
	ferry_vm_free(vm);
}

static void nonsense_about_whether_it_ran_is_refused(void **state)
{
	static const struct { const char *why, *data; size_t bytes; } rows[] = {
		{ "nothing", "", 0 },
		{ "two octets", "\1\1", 2 },
		{ "neither", "\2", 1 },
	};
	struct ferry_vm *vm = whole_vm();
	struct ferry_dev *run;

	(void)state;
	assert_ok(ferry_vm_lend(vm, NULL));
	run = &vm->devices.dev[0];
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_err e = { 0 };

		if (!run->ops.load(run->opaque, 1, rows[i].data, rows[i].bytes,
				   &e))
			fail_msg("%s: taken", rows[i].why);
		assert_says(&e, FERRY_E_PROTO, "neither running nor stopped");
	}
	ferry_vm_free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vm_is_named_with_1_to_255_octets),
		cmocka_unit_test(ops_of_another_size_are_refused),
		cmocka_unit_test(an_empty_slot_is_refused),
		cmocka_unit_test(bad_blocks_are_refused),
		cmocka_unit_test(a_block_is_added_once),
		cmocka_unit_test(bad_devices_are_refused),
		cmocka_unit_test(
			there_is_always_room_for_the_engines_own_device),
		cmocka_unit_test(bad_facts_are_refused),
		cmocka_unit_test(there_are_at_most_64_facts),
		cmocka_unit_test(bad_kvm_slots_are_refused),
		cmocka_unit_test(
			who_speaks_for_others_is_set_once_and_whole),
		cmocka_unit_test(
			there_is_always_room_for_the_engines_own_tracker),
		cmocka_unit_test(marking_is_harmless_at_any_time),
		cmocka_unit_test(what_a_log_tells_is_owed_at_once),
		cmocka_unit_test(a_vm_without_memory_cannot_move),
		cmocka_unit_test(a_vm_is_lent_to_one_at_a_time),
		cmocka_unit_test(once_lent_nothing_is_added),
		cmocka_unit_test(whether_it_ran_travels_as_the_last_device),
		cmocka_unit_test(nonsense_about_whether_it_ran_is_refused),
	};
	int failed;

	area_make(&memory, PRIVATE, 4 * PAGE);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	area_free(&memory);
	return failed;
}
