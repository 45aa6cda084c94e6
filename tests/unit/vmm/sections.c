/* SPDX-License-Identifier: MIT */
/* A machine's state: saved, loaded elsewhere, spoilt on the way. */
#include "tiny.h"

#include <linux/kvm.h>

#define MSR_TSC			0x10u
#define MSR_SYSENTER_ESP	0x175u

static void state_free(struct fake_state *s)
{
	free(s->data);
	s->data = NULL;
}

static void save(const struct fake_device *d, struct fake_state *s)
{
	struct ferry_err e;

	if (fake_save(d, s, &e))
		fail_msg("%s", e.msg);
}

static void a_guest_goes_on_in_another_machine(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_COUNTER, 2);
	struct ferry_err e;
	uint32_t count;

	(void)state;
	tiny_run(t);
	/* often enough to stop in the middle of its port read */
	for (unsigned i = 0; i < 25; i++) {
		struct tiny_vm *next = tiny_new_empty(t);

		tiny_wait_count(t, tiny_count(t) + 20);
		ferry_machine_pause(t->m);
		count = tiny_count(t);
		if (fake_migrate(t->vm, next->vm, &e))
			fail_msg("%s", e.msg);
		tiny_free(t);
		t = next;
		assert_int_equal(tiny_count(t), count);
		tiny_run(t);
	}
	tiny_wait_count(t, tiny_count(t) + 100);
	tiny_end(t);
	tiny_wait(t, &t->shutdowns, 1);
	tiny_expect_output(t, "D");
	tiny_free(t);
}

static void a_vcpu_that_powered_off_does_so_only_once(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_HELLO, 1);
	struct tiny_vm *to = tiny_new_empty(t);
	struct ferry_err e;

	(void)state;
	tiny_run(t);
	tiny_wait(t, &t->shutdowns, 1);
	ferry_machine_pause(t->m);
	assert_ok(fake_migrate(t->vm, to->vm, &e));
	tiny_run(to);
	usleep(50000);
	assert_int_equal(to->shutdowns, 0);
	tiny_free(to);
	tiny_free(t);
}

/* ---- each section keeps what it is given -------------------------------- */

/* Everything in the machine's clocks moves on; the rest may not. */
static bool is_clock(const char *name)
{
	return !strcmp(name, "kvmclock") || !strcmp(name, "pit2");
}

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	       (uint32_t)p[2] << 8 | p[3];
}

/* The value of an MSR in a saved "cpu/msrs", or NULL. */
static unsigned char *msr_in(const struct fake_state *s, uint32_t index)
{
	for (size_t at = 4; at + 12 <= s->bytes; at += 12)
		if (be32(s->data + at) == index)
			return s->data + at + 4;
	return NULL;
}

/* Take the time stamp counter out of "cpu/msrs". */
static void still_the_tsc(struct fake_state *s)
{
	memset(msr_in(s, MSR_TSC), 0, 8);
}

static void expect_same(const struct fake_device *d, struct fake_state *a,
			struct fake_state *b)
{
	if (!strcmp(d->name, "cpu/msrs")) {
		still_the_tsc(a);
		still_the_tsc(b);
	}
	print_message("  %s: %zu octets\n", d->name, a->bytes);
	assert_int_equal(a->bytes, b->bytes);
	if (!is_clock(d->name))
		assert_memory_equal(a->data, b->data, a->bytes);
}

static void what_is_loaded_is_what_was_saved(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_COUNTER, 2);
	struct tiny_vm *to = tiny_new_empty(t);
	struct ferry_err e;

	(void)state;
	tiny_run(t);
	tiny_wait_count(t, 100);
	ferry_machine_pause(t->m);
	assert_ok(fake_migrate(t->vm, to->vm, &e));
	assert_int_equal(t->vm->device_count, 2 * 10 + 5);
	for (size_t i = 0; i < t->vm->device_count; i++) {
		struct fake_state a, b;

		save(&t->vm->device[i], &a);
		save(&to->vm->device[i], &b);
		expect_same(&t->vm->device[i], &a, &b);
		state_free(&a);
		state_free(&b);
	}
	tiny_free(to);
	tiny_free(t);
}

/* Values that no fresh vCPU has, put into the saved octets. */
static const struct {
	const char	*section;
	size_t		 at;	/* behind the be32 size */
	size_t		 octets;
	uint64_t	 value;
} marks[] = {
	{ "cpu/regs", offsetof(struct kvm_regs, r15), 8, 0x1122334455667788 },
	{ "cpu/regs", offsetof(struct kvm_regs, rflags), 8, 0x46 },
	{ "cpu/sregs", offsetof(struct kvm_sregs, cr2), 8, 0xabcd000 },
	{ "cpu/sregs", offsetof(struct kvm_sregs, fs.base), 8, 0x7000 },
	{ "cpu/debugregs", offsetof(struct kvm_debugregs, db[0]), 8, 0x1234 },
	{ "cpu/mp-state", 0, 4, KVM_MP_STATE_HALTED },
	/* %xmm3 and, in the header, that SSE state is in use */
	{ "cpu/xsave", 160 + 3 * 16, 8, 0x99aabbccddeeff00 },
	{ "cpu/xsave", 512, 1, 3 },
	{ "cpu/events", offsetof(struct kvm_vcpu_events, nmi.pending), 1, 1 },
	{ "cpu/lapic", 0x380, 4, 0 },		/* timer: off */
	{ "cpu/lapic", 0x80, 4, 0x20 },		/* task priority */
};

static void set_marks(const char *section, struct fake_state *s)
{
	for (size_t i = 0; i < FERRY_LEN(marks); i++)
		if (!strcmp(marks[i].section, section))
			memcpy(s->data + 4 + marks[i].at, &marks[i].value,
			       marks[i].octets);
}

static void every_kind_of_register_arrives(void **state)
{
	struct tiny_vm *like = tiny_new(TINY_HELLO, 1);
	struct tiny_vm *t = tiny_new_empty(like);

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(marks); i++) {
		const struct fake_device *d = fake_device(t->vm,
							  marks[i].section, 0);
		struct fake_state s;
		struct ferry_err e;

		assert_non_null(d);
		save(d, &s);
		set_marks(marks[i].section, &s);
		if (fake_load(d, &s, &e))
			fail_msg("%s", e.msg);
		state_free(&s);
	}
	for (size_t i = 0; i < FERRY_LEN(marks); i++) {
		const struct fake_device *d = fake_device(t->vm,
							  marks[i].section, 0);
		struct fake_state s;

		print_message("  %s +%zu\n", marks[i].section, marks[i].at);
		save(d, &s);
		assert_memory_equal(s.data + 4 + marks[i].at, &marks[i].value,
				    marks[i].octets);
		state_free(&s);
	}
	tiny_free(t);
	tiny_free(like);
}

static void msrs_arrive(void **state)
{
	static const unsigned char value[8] = { 0, 0, 0, 0, 0, 0, 0x12, 0x34 };
	struct tiny_vm *t = tiny_new(TINY_HELLO, 1);
	const struct fake_device *d = fake_device(t->vm, "cpu/msrs", 0);
	struct fake_state s;
	struct ferry_err e;

	(void)state;
	save(d, &s);
	assert_non_null(msr_in(&s, MSR_TSC));
	memcpy(msr_in(&s, MSR_SYSENTER_ESP), value, sizeof(value));
	assert_ok(fake_load(d, &s, &e));
	state_free(&s);
	save(d, &s);
	assert_memory_equal(msr_in(&s, MSR_SYSENTER_ESP), value,
			    sizeof(value));
	state_free(&s);
	tiny_free(t);
}

/* Two PICs and an IOAPIC, each with its be32 size in front. */
static void interrupt_chips_arrive(void **state)
{
	const size_t pic1 = 4 + sizeof(struct kvm_pic_state) + 4;
	const size_t ioapic = pic1 + sizeof(struct kvm_pic_state) + 4;
	const size_t mask = pic1 + offsetof(struct kvm_pic_state, imr);
	const size_t pin5 = ioapic +
		offsetof(struct kvm_ioapic_state, redirtbl[5]);
	struct tiny_vm *t = tiny_new(TINY_HELLO, 1);
	const struct fake_device *d = fake_device(t->vm, "irqchip", 0);
	struct fake_state s;
	struct ferry_err e;

	(void)state;
	save(d, &s);
	s.data[mask] = 0xa5;
	s.data[pin5] = 0x77;
	assert_ok(fake_load(d, &s, &e));
	state_free(&s);
	save(d, &s);
	assert_int_equal(s.data[mask], 0xa5);
	assert_int_equal(s.data[pin5], 0x77);
	state_free(&s);
	tiny_free(t);
}

static void a_reset_brings_back_the_state_of_power_on(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_RESETTER, 2);
	struct fake_state before[FAKE_DEVICES_MAX];
	struct ferry_err e;

	(void)state;
	for (size_t i = 0; i < t->vm->device_count; i++)
		save(&t->vm->device[i], &before[i]);
	tiny_run(t);
	tiny_wait(t, &t->resets, 1);
	ferry_machine_pause(t->m);
	assert_ok(ferry_machine_reset(t->m, &e));
	for (size_t i = 0; i < t->vm->device_count; i++) {
		struct fake_state after;

		save(&t->vm->device[i], &after);
		expect_same(&t->vm->device[i], &before[i], &after);
		state_free(&before[i]);
		state_free(&after);
	}
	tiny_free(t);
}

/* ---- hostile sections --------------------------------------------------- */

static void a_section_of_any_other_size_is_refused(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_HELLO, 1);

	(void)state;
	for (size_t i = 0; i < t->vm->device_count; i++) {
		const struct fake_device *d = &t->vm->device[i];
		struct fake_state s, cut;
		struct ferry_err e;

		save(d, &s);
		for (size_t n = 0; n < s.bytes; n += n < 64 ? 1 : 61) {
			cut = (struct fake_state){ s.data, n };
			assert_refused(fake_load(d, &cut, &e), &e,
				       FERRY_E_DEVICE, "cut short");
			assert_non_null(strstr(e.msg, d->name));
		}
		cut.data = calloc(1, s.bytes + 1);
		cut.bytes = s.bytes + 1;
		memcpy(cut.data, s.data, s.bytes);
		assert_refused(fake_load(d, &cut, &e), &e, FERRY_E_DEVICE,
			       "1 octets too long");
		state_free(&cut);
		state_free(&s);
	}
	tiny_free(t);
}

static void a_struct_that_says_another_size_is_refused(void **state)
{
	static const struct {
		const char *section;
		uint32_t value;
		int code;
		const char *sentence;
	} bad[] = {
		{ "cpu/regs", 8, FERRY_E_DEVICE, "8 octets, 144 are wanted" },
		{ "cpu/lapic", UINT32_MAX, FERRY_E_DEVICE, "are wanted" },
		{ "cpu/xsave", 0, FERRY_E_DEVICE, "too long" },
		{ "cpu/xsave", UINT32_MAX, FERRY_E_DEVICE, "cut short" },
		{ "cpu/msrs", UINT32_MAX, FERRY_E_DEVICE, "the most is 1024" },
		{ "cpu/msrs", 0, FERRY_E_DEVICE, "too long" },
		{ "cpu/msrs", 1024, FERRY_E_DEVICE, "cut short" },
		{ "cpu/tsc-khz", 0, FERRY_E_MISMATCH, "ticks at 0 kHz" },
		{ "irqchip", 1, FERRY_E_DEVICE, "chip 0: " },
		{ "pit2", 7, FERRY_E_DEVICE, "7 octets" },
	};
	struct tiny_vm *t = tiny_new(TINY_HELLO, 1);

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		const struct fake_device *d = fake_device(t->vm,
							  bad[i].section, 0);
		struct fake_state s;
		struct ferry_err e;

		save(d, &s);
		for (unsigned k = 0; k < 4; k++)
			s.data[k] = (unsigned char)(bad[i].value >>
						    (24 - 8 * k));
		assert_refused(fake_load(d, &s, &e), &e, bad[i].code,
			       bad[i].sentence);
		state_free(&s);
	}
	tiny_free(t);
}

/* As long as it says, but not as long as registers are. */
static void extended_state_of_another_size_is_refused(void **state)
{
	static const uint32_t sizes[] = { 0, 8, 4095, 8192, 60000 };
	struct tiny_vm *t = tiny_new(TINY_HELLO, 1);
	const struct fake_device *d = fake_device(t->vm, "cpu/xsave", 0);

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(sizes); i++) {
		uint32_t n = sizes[i];
		struct fake_state s = { calloc(1, n + 4), n + 4 };
		struct ferry_err e;

		for (unsigned k = 0; k < 4; k++)
			s.data[k] = (unsigned char)(n >> (24 - 8 * k));
		assert_refused(fake_load(d, &s, &e), &e, FERRY_E_DEVICE,
			       "register state of ");
		state_free(&s);
	}
	tiny_free(t);
}

static void an_msr_this_host_has_not_is_refused_unless_zero(void **state)
{
	static unsigned char one[] = { 0, 0, 0, 1, 0x12, 0x34, 0x56, 0x78,
				       0, 0, 0, 0, 0, 0, 0, 0 };
	struct fake_state s = { one, sizeof(one) };
	struct tiny_vm *t = tiny_new(TINY_HELLO, 1);
	const struct fake_device *d = fake_device(t->vm, "cpu/msrs", 0);
	struct ferry_err e;

	(void)state;
	assert_ok(fake_load(d, &s, &e));
	one[15] = 9;
	assert_refused(fake_load(d, &s, &e), &e, FERRY_E_MISMATCH,
		       "the guest uses MSR 0x12345678 (0x9)");
	tiny_free(t);
}

static void a_newer_version_is_refused(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_HELLO, 1);
	const struct fake_device *d = fake_device(t->vm, "serial", 0);
	struct fake_state s;
	struct ferry_err e;

	(void)state;
	save(d, &s);
	assert_refused(d->ops.load(d->opaque, 0, s.data, s.bytes, &e), &e,
		       FERRY_E_MISMATCH, "serial 0: version 0");
	state_free(&s);
	tiny_free(t);
}

/* Any octets: refused or taken by KVM, but the monitor lives and its machine
 * still starts, stops and goes. */
static void garbage_does_not_bring_the_monitor_down(void **state)
{
	uint64_t seed = 88172645463325252;

	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		struct tiny_vm *t = tiny_new(TINY_COUNTER, 2);

		for (size_t i = 0; i < t->vm->device_count; i++) {
			const struct fake_device *d = &t->vm->device[i];
			struct fake_state s;
			struct ferry_err e = { 0 };

			save(d, &s);
			for (unsigned n = 0; n < 40; n++) {
				seed ^= seed << 13;
				seed ^= seed >> 7;
				seed ^= seed << 17;
				s.data[seed % s.bytes] ^= (unsigned char)
							  (seed >> 40);
				if (fake_load(d, &s, &e))
					assert_true(e.msg[0]);
			}
			state_free(&s);
		}
		tiny_run(t);
		usleep(5000);
		ferry_machine_pause(t->m);
		tiny_free(t);
	}
}

/* ---- facts -------------------------------------------------------------- */

static void facts_say_what_must_be_equal(void **state)
{
	struct tiny_vm *t = tiny_new(TINY_HELLO, 3);

	(void)state;
	assert_string_equal(fake_fact(t->vm, "vcpus"), "3");
	assert_int_equal(strlen(fake_fact(t->vm, "cpu-vendor")), 12);
	assert_non_null(strstr(fake_fact(t->vm, "cpu-features"), "fpu "));
	assert_non_null(strstr(fake_fact(t->vm, "cpu-features"), "hypervisor"));
	assert_null(strstr(fake_fact(t->vm, "cpu-features"), "vmx"));
	assert_null(strstr(fake_fact(t->vm, "cpu-features"), "svm"));
	assert_int_equal(t->vm->fact[2].rule, FERRY_FACT_SUBSET);
	assert_string_equal(t->vm->block.name, "pc.ram");
	assert_int_equal(t->vm->block.bytes, TINY_RAM_BYTES);
	assert_int_equal(t->vm->slot_count, 1);
	tiny_free(t);
}

static void a_masked_feature_is_in_no_fact(void **state)
{
	struct ferry_machine_config config = {
		.name = "masked", .vcpus = 1, .ram_bytes = 2 << 20,
		.cpu_mask = "sse2,nx",
	};
	struct ferry_err e;
	struct ferry_machine *m = ferry_machine_new(&config, &e);
	struct ferry_vm *vm = fake_vm_new();

	(void)state;
	assert_non_null(m);
	assert_ok(ferry_machine_describe(m, vm, &e));
	assert_non_null(strstr(fake_fact(vm, "cpu-features"), " sse "));
	assert_null(strstr(fake_fact(vm, "cpu-features"), "sse2"));
	assert_null(strstr(fake_fact(vm, "cpu-features"), " nx "));
	ferry_machine_free(m);
	fake_vm_free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_goes_on_in_another_machine),
		cmocka_unit_test(a_vcpu_that_powered_off_does_so_only_once),
		cmocka_unit_test(what_is_loaded_is_what_was_saved),
		cmocka_unit_test(every_kind_of_register_arrives),
		cmocka_unit_test(msrs_arrive),
		cmocka_unit_test(interrupt_chips_arrive),
		cmocka_unit_test(a_reset_brings_back_the_state_of_power_on),
		cmocka_unit_test(a_section_of_any_other_size_is_refused),
		cmocka_unit_test(a_struct_that_says_another_size_is_refused),
		cmocka_unit_test(extended_state_of_another_size_is_refused),
		cmocka_unit_test(
			an_msr_this_host_has_not_is_refused_unless_zero),
		cmocka_unit_test(a_newer_version_is_refused),
		cmocka_unit_test(garbage_does_not_bring_the_monitor_down),
		cmocka_unit_test(facts_say_what_must_be_equal),
		cmocka_unit_test(a_masked_feature_is_in_no_fact),
	};

	tiny_require_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
