/* SPDX-License-Identifier: MIT */
/*
 * How fast KVM runs a guest's kernel.  Some KVMs (those without the CPU's own
 * virtualisation) run only user mode, CPL 3, on the CPU, and emulate CPL 0 one
 * instruction after the other; then no Linux gets through its boot.
 *
 * Threads: any.
 */
#ifndef FERRY_MEM_RING0_H
#define FERRY_MEM_RING0_H

#include <stdint.h>

#include "base/err.h"

/* More than this for a step of the loop is no CPU: that takes 1 ns, one that is
 * emulated whole (QEMU's TCG) 20, and an emulator in the kernel 2000. */
#define FERRY_RING0_SLOW_NS	250u

/* Runs a loop at CPL 0 in a VM of 16 KiB, for a few milliseconds at most.
 * kvm_fd: /dev/kvm.  *ns: what one step takes, at best. */
FERRY_CHECKED int ferry_ring0_step_ns(int kvm_fd, uint64_t *ns,
				      struct ferry_err *e);

#endif
