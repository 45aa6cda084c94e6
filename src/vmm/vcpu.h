/* SPDX-License-Identifier: MIT */
/*
 * One vCPU: its thread, its KVM_RUN loop, what it does at each exit.
 *
 * Threads: the vCPU's own runs it; while the gate is closed the control thread
 *          and the engine read and write its state through `fd`.
 */
#ifndef FERRY_VMM_VCPU_H
#define FERRY_VMM_VCPU_H

#include <stdint.h>

#include "base/err.h"
#include "base/thread.h"
#include "vmm/boot.h"
#include "vmm/gate.h"
#include "vmm/ports.h"
#include "vmm/virtio_bus.h"

struct kvm_run;
struct kvm_cpuid2;
struct ferry_kvm;

/* From the vCPU's thread; text is for a panic, else "". */
struct ferry_vcpu_hooks {
	void (*act)(void *opaque, enum ferry_act act, const char *text);
	void *opaque;
};

struct ferry_vcpu {
	unsigned			 id;
	int				 fd;
	struct kvm_run			*run;
	uint32_t			 run_bytes;
	struct ferry_seat		 seat;
	struct ferry_gate		*gate;
	const struct ferry_ports	*ports;
	struct ferry_virtio_bus		*virtio;
	struct ferry_vcpu_hooks		 hooks;
	struct ferry_thread		 thread;
};

/* cpuid is made this vCPU's own on the way. */
FERRY_CHECKED int ferry_vcpu_init(struct ferry_vcpu *v,
				  const struct ferry_kvm *kvm, unsigned id,
				  unsigned vcpus, struct kvm_cpuid2 *cpuid,
				  struct ferry_err *e);

/* Its thread has ended or never started. */
void ferry_vcpu_fini(struct ferry_vcpu *v);

/* 32-bit protected mode at entry->eip, as PVH and Linux want it. */
FERRY_CHECKED int ferry_vcpu_set_entry(struct ferry_vcpu *v,
				       const struct ferry_entry *entry,
				       struct ferry_err *e);

FERRY_CHECKED int ferry_vcpu_start(struct ferry_vcpu *v,
				   struct ferry_gate *gate,
				   const struct ferry_ports *ports,
				   struct ferry_virtio_bus *virtio,
				   const struct ferry_vcpu_hooks *hooks,
				   struct ferry_err *e);

#endif
