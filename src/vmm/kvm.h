/* SPDX-License-Identifier: MIT */
/*
 * The VM as KVM sees it: what the host must be able to do, memory slots,
 * interrupt chips and their wiring.
 */
#ifndef FERRY_VMM_KVM_H
#define FERRY_VMM_KVM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct ferry_ram;

struct ferry_kvm {
	int		 fd;		/* /dev/kvm; -1: none */
	int		 vm_fd;
	uint32_t	 run_bytes;	/* of a vCPU's shared struct kvm_run */
	uint32_t	 xsave_bytes;	/* of its extended state */
	bool		 tsc_control;	/* guest TSC frequency can be set */
};

#define FERRY_KVM_NONE { .fd = -1, .vm_fd = -1 }

FERRY_CHECKED int ferry_kvm_open(struct ferry_kvm *kvm, struct ferry_err *e);
void ferry_kvm_close(struct ferry_kvm *kvm);

FERRY_CHECKED int ferry_kvm_map_ram(const struct ferry_kvm *kvm,
				    const struct ferry_ram *ram,
				    struct ferry_err *e);

/* Any thread.  Cannot fail on a line that kvm.c has wired. */
void ferry_kvm_set_irq(const struct ferry_kvm *kvm, unsigned gsi, bool level);

/* A 32-bit write of this value there is told to the eventfd, and to nobody
 * else. */
FERRY_CHECKED int ferry_kvm_ioeventfd(const struct ferry_kvm *kvm,
				      uint64_t gpa, uint32_t value, int fd,
				      struct ferry_err *e);

/* What is written to the eventfd is an edge on that line; several may share
 * it. */
FERRY_CHECKED int ferry_kvm_irqfd(const struct ferry_kvm *kvm, unsigned gsi,
				  int fd, struct ferry_err *e);

#endif
