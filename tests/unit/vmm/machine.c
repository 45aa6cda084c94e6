/* SPDX-License-Identifier: MIT */
/* A machine that runs, stops, slows down, ends and starts again. */
#include "tiny.h"

#include "base/clock.h"

static void a_guest_prints_and_powers_off(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_HELLO, 1);

	(void)state;
	assert_false(ferry_machine_running(t->m));
	tiny_run(t);
	tiny_wait(t, &t->shutdowns, 1);
	ferry_machine_pause(t->m);
	assert_false(ferry_machine_running(t->m));
	tiny_expect_output(t, "hi");
	tiny_free(t);
}

static void a_machine_may_be_freed_in_any_state(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_COUNTER, 4);

	(void)state;
	tiny_free(t);
	t = tiny_new(TINY_COUNTER, 4);
	tiny_run(t);
	tiny_wait_count(t, 10);
	tiny_free(t);
}

static void nothing_runs_while_paused(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_COUNTER, 2);
	struct ferry_heartbeat h;
	uint32_t count;

	(void)state;
	tiny_run(t);
	tiny_run(t);		/* twice is once */
	for (unsigned i = 0; i < 5; i++) {
		tiny_wait_count(t, tiny_count(t) + 100);
		ferry_machine_pause(t->m);
		ferry_machine_pause(t->m);
		count = tiny_count(t);
		ferry_machine_heartbeat(t->m, &h);
		assert_true(h.beats > 0);
		usleep(20000);
		assert_int_equal(tiny_count(t), count);
		ferry_machine_heartbeat(t->m, &h);
		assert_int_equal(h.beats, 0);
		tiny_run(t);
	}
	tiny_end(t);
	tiny_wait(t, &t->shutdowns, 1);
	tiny_expect_output(t, "D");
	tiny_free(t);
}

static void pausing_at_any_moment_loses_no_instruction(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_COUNTER, 1);

	(void)state;
	tiny_run(t);
	for (unsigned i = 0; i < 300; i++) {
		uint32_t count;

		usleep(i * 7 % 400);
		ferry_machine_pause(t->m);
		count = tiny_count(t);
		usleep(50);
		assert_int_equal(tiny_count(t), count);
		tiny_run(t);
	}
	tiny_end(t);
	tiny_wait(t, &t->shutdowns, 1);
	tiny_expect_output(t, "D");
	tiny_free(t);
}

static void a_throttled_guest_is_held_most_of_the_time(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_COUNTER, 1);
	uint64_t end = ferry_now_ns() + 30 * FERRY_NS_PER_S;
	struct ferry_heartbeat h;

	(void)state;
	tiny_run(t);
	tiny_wait_count(t, 100);
	ferry_machine_throttle(t->m, 1000);	/* as 99 */
	ferry_machine_heartbeat(t->m, &h);
	do {
		usleep(10000);
		ferry_machine_heartbeat(t->m, &h);
		assert_true(ferry_now_ns() < end);
	} while (h.longest_gap_ns < 95 * FERRY_NS_PER_MS);

	ferry_machine_pause(t->m);		/* also while held */
	tiny_run(t);
	ferry_machine_throttle(t->m, 0);
	tiny_wait_count(t, tiny_count(t) + 1000);
	tiny_end(t);
	tiny_wait(t, &t->shutdowns, 1);
	tiny_free(t);
}

static void a_reset_starts_the_kernel_anew(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_RESETTER, 2);
	struct ferry_err e;

	(void)state;
	tiny_run(t);
	for (unsigned i = 1; i <= 3; i++) {
		tiny_wait(t, &t->resets, i);
		assert_refused(ferry_machine_reset(t->m, &e), &e,
			       FERRY_E_STATE, "the VM is running");
		ferry_machine_pause(t->m);
		/* the kernel in memory may be gone: it comes from the file */
		memset(t->vm->block.addr, 0xcc, TINY_RAM_BYTES);
		assert_ok(ferry_machine_reset(t->m, &e));
		if (i < 3)
			tiny_run(t);
	}
	tiny_expect_output(t, "rrr");
	tiny_free(t);
}

static void a_vcpu_that_asked_for_a_reset_goes_no_further(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_RESETTER, 1);

	(void)state;
	tiny_run(t);
	tiny_wait(t, &t->resets, 1);
	usleep(20000);
	tiny_expect_output(t, "r");
	tiny_free(t);
}

static void a_triple_fault_is_a_reset(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_FAULTER, 1);

	(void)state;
	tiny_run(t);
	tiny_wait(t, &t->resets, 1);
	tiny_free(t);
}

static void a_machine_without_a_kernel_cannot_be_reset(void **state)
{
	struct tiny_vm *like = tiny_new(TINY_HELLO, 1);
	struct tiny_vm *t = tiny_new_empty(like);
	struct ferry_err e;

	(void)state;
	assert_refused(ferry_machine_reset(t->m, &e), &e, FERRY_E_STATE,
		       "came by migration");
	tiny_free(t);
	tiny_free(like);
}

static void the_engine_hears_of_a_reset_while_it_is_set(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_HELLO, 1);
	uint64_t told;
	struct ferry_err e;

	(void)state;
	assert_ok(ferry_machine_reset(t->m, &e));
	assert_int_equal(t->vm->dirty_bytes, 0);
	ferry_machine_set_vm(t->m, t->vm);
	assert_ok(ferry_machine_reset(t->m, &e));
	told = t->vm->dirty_bytes;
	assert_true(told >= 4096);
	ferry_machine_set_vm(t->m, NULL);
	assert_ok(ferry_machine_reset(t->m, &e));
	assert_int_equal(t->vm->dirty_bytes, told);
	tiny_free(t);
}

static void memory_that_is_gone_stops_a_vcpu_with_a_sentence(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_COUNTER, 1);
	void *ram = t->vm->block.addr;

	(void)state;
	tiny_run(t);
	tiny_wait_count(t, 100);
	assert_ok(mprotect(ram, TINY_RAM_BYTES, PROT_NONE));
	tiny_wait(t, &t->panics, 1);
	assert_non_null(strstr(t->panic, "vCPU 0: "));
	assert_non_null(strstr(t->panic, "a page of guest memory"));
	assert_non_null(strstr(t->panic, "rip=1000"));
	assert_null(strchr(t->panic, '\n'));

	/* Where KVM says so itself, the guest goes on when the memory is back;
	 * where it emulates ring 0, the guest has got an exception. */
	assert_ok(mprotect(ram, TINY_RAM_BYTES, PROT_READ | PROT_WRITE));
	ferry_machine_pause(t->m);
	if (strstr(t->panic, "never arrived")) {
		tiny_run(t);
		tiny_end(t);
		tiny_wait(t, &t->shutdowns, 1);
		tiny_expect_output(t, "D");
	}
	tiny_free(t);
}

static void configs_that_make_no_sense_are_refused(void **state)
{
	static const struct {
		struct ferry_machine_config config;
		int code;
		const char *sentence;
	} bad[] = {
		{ { .vcpus = 0, .ram_bytes = 2 << 20 }, FERRY_E_INVALID,
		  "0 vCPUs: 1 to 16" },
		{ { .vcpus = 17, .ram_bytes = 2 << 20 }, FERRY_E_INVALID,
		  "17 vCPUs: 1 to 16" },
		{ { .vcpus = 1 }, FERRY_E_INVALID, "RAM of 0 bytes" },
		{ { .vcpus = 1, .ram_bytes = 2 << 20, .kernel = "/dev/null" },
		  FERRY_E_INVALID, "not a regular file" },
		{ { .vcpus = 1, .ram_bytes = 2 << 20,
		    .kernel = "/proc/self/exe" },
		  FERRY_E_INVALID, "not a kernel" },
		{ { .vcpus = 1, .ram_bytes = 2 << 20, .kernel = "/etc/passwd" },
		  FERRY_E_INVALID, "/etc/passwd is not a kernel" },
		{ { .vcpus = 1, .ram_bytes = 2 << 20, .serial = "lpt" },
		  FERRY_E_INVALID, "serial lpt: none of" },
		{ { .vcpus = 1, .ram_bytes = 2 << 20, .cpu_mask = "flux" },
		  FERRY_E_INVALID, "no CPU feature is called 'flux'" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		struct ferry_err e;

		assert_null(ferry_machine_new(&bad[i].config, &e));
		assert_refused(-1, &e, bad[i].code, bad[i].sentence);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_prints_and_powers_off),
		cmocka_unit_test(a_machine_may_be_freed_in_any_state),
		cmocka_unit_test(nothing_runs_while_paused),
		cmocka_unit_test(pausing_at_any_moment_loses_no_instruction),
		cmocka_unit_test(a_throttled_guest_is_held_most_of_the_time),
		cmocka_unit_test(a_reset_starts_the_kernel_anew),
		cmocka_unit_test(a_vcpu_that_asked_for_a_reset_goes_no_further),
		cmocka_unit_test(a_triple_fault_is_a_reset),
		cmocka_unit_test(a_machine_without_a_kernel_cannot_be_reset),
		cmocka_unit_test(the_engine_hears_of_a_reset_while_it_is_set),
		cmocka_unit_test(
			memory_that_is_gone_stops_a_vcpu_with_a_sentence),
		cmocka_unit_test(configs_that_make_no_sense_are_refused),
	};

	tiny_require_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
