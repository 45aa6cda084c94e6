/* SPDX-License-Identifier: MIT */
/*
 * A vCPU in long mode at CPL 0, as a kernel has it, that counts a register down
 * and then says so by a write to a port.  Once without a count, so that what is
 * set up at the first run is not measured.
 */
#include "mem/ring0.h"

#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define STEPS		4000u
#define TRIES		3u

/* Of the guest's memory. */
#define CODE		0x0000u
#define PML4		0x1000u
#define PDPT		0x2000u
#define PD		0x3000u
#define RAM_BYTES	0x4000u

#define PRESENT		0x3u		/* and writable */
#define HUGE		0x80u
#define CR0		0x80000031u	/* paging, protection, NE, ET */
#define CR4_PAE		0x20u
#define EFER_LONG	0x500u		/* LME and LMA */

/* again: dec %ecx; jnz again; out %al, $0x80 */
static const uint8_t code[] = { 0xff, 0xc9, 0x75, 0xfc, 0xe6, 0x80 };

struct tiny {
	int	 vm, vcpu;
	uint8_t *ram;
	struct kvm_run *run;
	size_t	 run_bytes;
};

static int failed(const char *what, struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_IO, errno, "%s", what);
}

static void write_word(const struct tiny *t, uint32_t at, uint64_t value)
{
	memcpy(t->ram + at, &value, sizeof(value));
}

static int make_memory(struct tiny *t, struct ferry_err *e)
{
	struct kvm_userspace_memory_region r = { .memory_size = RAM_BYTES };

	t->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (t->ram == MAP_FAILED)
		return failed("memory", e);
	memcpy(t->ram + CODE, code, sizeof(code));
	write_word(t, PML4, PDPT | PRESENT);
	write_word(t, PDPT, PD | PRESENT);
	write_word(t, PD, PRESENT | HUGE);
	r.userspace_addr = (uintptr_t)t->ram;
	if (ioctl(t->vm, KVM_SET_USER_MEMORY_REGION, &r))
		return failed("KVM_SET_USER_MEMORY_REGION", e);
	return 0;
}

static int enter_long_mode(const struct tiny *t, struct ferry_err *e)
{
	struct kvm_segment data = {
		.limit = UINT32_MAX, .selector = 0x10, .type = 3,
		.present = 1, .db = 1, .s = 1, .g = 1,
	};
	struct kvm_sregs s;

	if (ioctl(t->vcpu, KVM_GET_SREGS, &s))
		return failed("KVM_GET_SREGS", e);
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cs = data;
	s.cs.selector = 0x08;
	s.cs.type = 11;
	s.cs.db = 0;
	s.cs.l = 1;
	s.cr0 = CR0;
	s.cr3 = PML4;
	s.cr4 = CR4_PAE;
	s.efer = EFER_LONG;
	return ioctl(t->vcpu, KVM_SET_SREGS, &s) ? failed("KVM_SET_SREGS", e) :
						   0;
}

static int make_vcpu(struct tiny *t, int kvm_fd, struct ferry_err *e)
{
	int bytes = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	t->vcpu = ioctl(t->vm, KVM_CREATE_VCPU, 0);
	if (t->vcpu < 0 || bytes <= 0)
		return failed("KVM_CREATE_VCPU", e);
	t->run_bytes = (size_t)bytes;
	t->run = mmap(NULL, t->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		      t->vcpu, 0);
	return t->run == MAP_FAILED ? failed("struct kvm_run", e) :
				      enter_long_mode(t, e);
}

static void fini(struct tiny *t)
{
	if (t->run != MAP_FAILED)
		munmap(t->run, t->run_bytes);
	ferry_cleanup_fd(&t->vcpu);
	ferry_cleanup_fd(&t->vm);
	if (t->ram != MAP_FAILED)
		munmap(t->ram, RAM_BYTES);
}

/* The write to the port is over only when KVM is entered again; nothing of it
 * may come behind registers that are set anew. */
static void finish_exit(const struct tiny *t)
{
	t->run->immediate_exit = 1;
	(void)ioctl(t->vcpu, KVM_RUN, 0);
	t->run->immediate_exit = 0;
}

/* From the first instruction to the port. */
static int count_down(const struct tiny *t, uint64_t steps, uint64_t *ns,
		      struct ferry_err *e)
{
	struct kvm_regs regs = { .rcx = steps, .rflags = 2, .rip = CODE };
	uint64_t begin = ferry_now_ns();
	int rc;

	if (ioctl(t->vcpu, KVM_SET_REGS, &regs))
		return failed("KVM_SET_REGS", e);
	do
		rc = ioctl(t->vcpu, KVM_RUN, 0);
	while (rc && errno == EINTR);
	*ns = ferry_now_ns() - begin;
	if (rc)
		return failed("KVM_RUN", e);
	if (t->run->exit_reason != KVM_EXIT_IO)
		return ferry_err_set(e, FERRY_E_IO, 0, "KVM_RUN ended with "
				     "exit reason %u", t->run->exit_reason);
	finish_exit(t);
	return 0;
}

/* Who is held up once, by others on the CPU, is not slow. */
static int measure(const struct tiny *t, uint64_t *ns, struct ferry_err *e)
{
	uint64_t none = 0, all = 0;

	*ns = UINT64_MAX;
	if (count_down(t, 1, &none, e))
		return -1;
	for (unsigned i = 0; i < TRIES && *ns > FERRY_RING0_SLOW_NS; i++) {
		uint64_t step;

		if (count_down(t, 1, &none, e) ||
		    count_down(t, STEPS, &all, e))
			return -1;
		step = all > none ? (all - none) / STEPS : 0;
		*ns = step < *ns ? step : *ns;
	}
	return 0;
}

int ferry_ring0_step_ns(int kvm_fd, uint64_t *ns, struct ferry_err *e)
{
	struct tiny t = {
		.vcpu = -1, .ram = MAP_FAILED, .run = MAP_FAILED,
	};
	int rc;

	do
		t.vm = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	while (t.vm < 0 && errno == EINTR);
	if (t.vm < 0)
		return failed("KVM_CREATE_VM", e);
	rc = make_memory(&t, e) || make_vcpu(&t, kvm_fd, e) ||
	     measure(&t, ns, e) ? -1 : 0;
	fini(&t);
	return rc;
}
