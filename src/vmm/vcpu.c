/* SPDX-License-Identifier: MIT */
/*
 * The KVM_RUN loop.  See vcpu.h.
 *
 * A vCPU that is kicked calls KVM_RUN once more with immediate_exit set: KVM
 * then completes the I/O instruction that caused the last exit and returns
 * EINTR at an instruction boundary.  Only there does the loop end, so a closed
 * gate means that all of the state is in KVM.
 */
#include "vmm/vcpu.h"

#include <inttypes.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "vmm/cpuid.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/state.h"

#define TEXT_BYTES	480u
#define EFLAGS_FIXED	2u
#define CR0_PE		1u
#define CR0_ET		(1u << 4)
#define MSR_MTRR_DEFAULT	0x2ffu
#define MTRR_ENABLE		0x800u
#define MTRR_WRITE_BACK		6u

static void panic(struct ferry_vcpu *v, const char *why)
{
	char text[TEXT_BYTES];
	struct kvm_regs r = { 0 };
	struct kvm_sregs s = { 0 };

	(void)ioctl(v->fd, KVM_GET_REGS, &r);
	(void)ioctl(v->fd, KVM_GET_SREGS, &s);
	snprintf(text, sizeof(text), "vCPU %u: %s; rip=%llx rsp=%llx rax=%llx "
		 "rcx=%llx rdx=%llx rbx=%llx rsi=%llx rdi=%llx rflags=%llx "
		 "cs=%x cr0=%llx cr2=%llx cr3=%llx cr4=%llx efer=%llx", v->id,
		 why, r.rip, r.rsp, r.rax, r.rcx, r.rdx, r.rbx, r.rsi, r.rdi,
		 r.rflags, s.cs.selector, s.cr0, s.cr2, s.cr3, s.cr4, s.efer);
	v->hooks.act(v->hooks.opaque, FERRY_ACT_PANIC, text);
}

static enum ferry_act exit_io(struct ferry_vcpu *v)
{
	const struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)v->run + run->io.data_offset;
	enum ferry_act act = FERRY_ACT_GO_ON;

	for (uint32_t i = 0; i < run->io.count && act == FERRY_ACT_GO_ON; i++) {
		act = run->io.direction == KVM_EXIT_IO_IN ?
			ferry_ports_in(v->ports, run->io.port, run->io.size,
				       data) :
			ferry_ports_out(v->ports, run->io.port, run->io.size,
					data);
		data += run->io.size;
	}
	return act;
}

static enum ferry_act exit_mmio(struct ferry_vcpu *v)
{
	struct kvm_run *run = v->run;

	if (run->mmio.is_write)
		ferry_virtio_bus_write(v->virtio, run->mmio.phys_addr,
				       run->mmio.data, run->mmio.len);
	else
		ferry_virtio_bus_read(v->virtio, run->mmio.phys_addr,
				      run->mmio.data, run->mmio.len);
	return FERRY_ACT_GO_ON;
}

static enum ferry_act exit_nothing(struct ferry_vcpu *v)
{
	(void)v;
	return FERRY_ACT_GO_ON;
}

/* A triple fault resets a PC. */
static enum ferry_act exit_shutdown(struct ferry_vcpu *v)
{
	(void)v;
	return FERRY_ACT_RESET;
}

static enum ferry_act exit_system_event(struct ferry_vcpu *v)
{
	return v->run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN ?
		FERRY_ACT_SHUTDOWN : FERRY_ACT_RESET;
}

static enum ferry_act exit_internal_error(struct ferry_vcpu *v)
{
	uint32_t code = v->run->internal.suberror;
	char why[128];

	snprintf(why, sizeof(why), "KVM internal error %" PRIu32 "%s", code,
		 code == KVM_INTERNAL_ERROR_EMULATION ?
		 ": it cannot emulate an instruction, or cannot have a page "
		 "of guest memory" : "");
	panic(v, why);
	return FERRY_ACT_PANIC;
}

static enum ferry_act exit_fail_entry(struct ferry_vcpu *v)
{
	char why[80];

	snprintf(why, sizeof(why), "the CPU refuses to enter the guest "
		 "(reason 0x%llx)",
		 v->run->fail_entry.hardware_entry_failure_reason);
	panic(v, why);
	return FERRY_ACT_PANIC;
}

static enum ferry_act (*const exits[])(struct ferry_vcpu *v) = {
	[KVM_EXIT_IO]			= exit_io,
	[KVM_EXIT_MMIO]			= exit_mmio,
	[KVM_EXIT_IRQ_WINDOW_OPEN]	= exit_nothing,
	[KVM_EXIT_INTR]			= exit_nothing,
	[KVM_EXIT_SHUTDOWN]		= exit_shutdown,
	[KVM_EXIT_SYSTEM_EVENT]		= exit_system_event,
	[KVM_EXIT_INTERNAL_ERROR]	= exit_internal_error,
	[KVM_EXIT_FAIL_ENTRY]		= exit_fail_entry,
};

static enum ferry_act handle_exit(struct ferry_vcpu *v)
{
	uint32_t reason = v->run->exit_reason;
	char why[48];

	if (reason < FERRY_LEN(exits) && exits[reason])
		return exits[reason](v);
	snprintf(why, sizeof(why), "KVM exit %" PRIu32 " is unknown here",
		 reason);
	panic(v, why);
	return FERRY_ACT_PANIC;
}

static enum ferry_act handle_error(struct ferry_vcpu *v, int sys)
{
	char why[96];

	if (sys == EFAULT)
		snprintf(why, sizeof(why), "a page of guest memory cannot be "
			 "had (it never arrived, or its file is gone)");
	else
		snprintf(why, sizeof(why), "KVM_RUN: %s",
			 strerrordesc_np(sys));
	panic(v, why);
	return FERRY_ACT_PANIC;
}

/* The out instruction that asked for power-off is done; should the VM be moved
 * or go on, it is not done again. */
static void complete_io(struct ferry_vcpu *v)
{
	__atomic_store_n(v->seat.immediate_exit, 1, __ATOMIC_RELAXED);
	(void)ioctl(v->fd, KVM_RUN, 0);
}

/* Until kicked, or until the guest is at an end. */
static enum ferry_act run_guest(struct ferry_vcpu *v)
{
	enum ferry_act act = FERRY_ACT_GO_ON;

	while (act == FERRY_ACT_GO_ON) {
		if (ioctl(v->fd, KVM_RUN, 0) == 0)
			act = handle_exit(v);
		else if (errno == EINTR)
			return act;
		else if (errno != EAGAIN)	/* EAGAIN: woken by INIT */
			act = handle_error(v, errno);
	}
	if (act != FERRY_ACT_PANIC && v->run->exit_reason == KVM_EXIT_IO)
		complete_io(v);
	return act;
}

static void vcpu_main(void *arg)
{
	struct ferry_vcpu *v = arg;
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, SIGRTMIN);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);

	while (ferry_gate_enter(v->gate, &v->seat)) {
		enum ferry_act act = run_guest(v);

		if (act == FERRY_ACT_GO_ON)
			continue;
		ferry_gate_sit_out(v->gate, &v->seat);
		if (act != FERRY_ACT_PANIC)
			v->hooks.act(v->hooks.opaque, act, "");
	}
}

/* Memory is write-back, as firmware would have said; without it Linux does
 * without PAT. */
static int enable_caching(struct ferry_vcpu *v, struct ferry_err *e)
{
	if (!ferry_msr_set(v->fd, MSR_MTRR_DEFAULT,
			   MTRR_ENABLE | MTRR_WRITE_BACK))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "vCPU %u: default memory type", v->id);
	return 0;
}

int ferry_vcpu_init(struct ferry_vcpu *v, const struct ferry_kvm *kvm,
		    unsigned id, unsigned vcpus, struct kvm_cpuid2 *cpuid,
		    struct ferry_err *e)
{
	void *run;

	*v = (struct ferry_vcpu){ .id = id, .fd = -1 };
	v->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)id);
	if (v->fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "vCPU %u: KVM_CREATE_VCPU", id);
	run = mmap(NULL, kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		   v->fd, 0);
	if (run == MAP_FAILED) {
		ferry_err_set(e, FERRY_E_IO, errno, "vCPU %u: mmap", id);
		ferry_vcpu_fini(v);
		return -1;
	}
	v->run = run;
	v->run_bytes = kvm->run_bytes;
	v->seat.immediate_exit = &v->run->immediate_exit;
	ferry_cpuid_personalise(cpuid, id, vcpus);
	if (ioctl(v->fd, KVM_SET_CPUID2, cpuid)) {
		ferry_err_set(e, FERRY_E_IO, errno, "vCPU %u: KVM_SET_CPUID2",
			      id);
	} else if (!enable_caching(v, e)) {
		return 0;
	}
	ferry_vcpu_fini(v);
	return -1;
}

void ferry_vcpu_fini(struct ferry_vcpu *v)
{
	if (v->run)
		munmap(v->run, v->run_bytes);
	v->run = NULL;
	ferry_cleanup_fd(&v->fd);
	v->fd = -1;
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = 0xffffffff, .selector = selector, .type = type,
		.present = 1, .db = 1, .s = 1, .g = 1,
	};
}

int ferry_vcpu_set_entry(struct ferry_vcpu *v, const struct ferry_entry *entry,
			 struct ferry_err *e)
{
	struct kvm_regs r = { .rip = entry->eip, .rbx = entry->ebx,
			      .rsi = entry->esi, .rflags = EFLAGS_FIXED };
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_SREGS, &s))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "vCPU %u: KVM_GET_SREGS", v->id);
	s.cs = flat(0x10, 0xb);
	s.ds = s.es = s.fs = s.gs = s.ss = flat(0x18, 0x3);
	s.tr = (struct kvm_segment){ .limit = 0x67, .selector = 0x20,
				     .type = 0xb, .present = 1 };
	s.gdt = (struct kvm_dtable){ .base = FERRY_GPA_GDT, .limit = 0x27 };
	s.idt = (struct kvm_dtable){ 0 };
	s.cr0 = CR0_PE | CR0_ET;
	s.cr3 = s.cr4 = s.efer = 0;
	if (ioctl(v->fd, KVM_SET_SREGS, &s))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "vCPU %u: KVM_SET_SREGS", v->id);
	if (ioctl(v->fd, KVM_SET_REGS, &r))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "vCPU %u: KVM_SET_REGS", v->id);
	return 0;
}

int ferry_vcpu_start(struct ferry_vcpu *v, struct ferry_gate *gate,
		     const struct ferry_ports *ports,
		     struct ferry_virtio_bus *virtio,
		     const struct ferry_vcpu_hooks *hooks, struct ferry_err *e)
{
	char name[16];

	v->gate = gate;
	v->ports = ports;
	v->virtio = virtio;
	v->hooks = *hooks;
	snprintf(name, sizeof(name), "vcpu%u", v->id);
	ferry_gate_seat(gate, &v->seat);
	return ferry_thread_start(&v->thread, name, vcpu_main, v, e);
}
