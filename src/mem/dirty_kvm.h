/* SPDX-License-Identifier: MIT */
/*
 * KVM's dirty log with a choice of its modes, for tests.  Inside mem/ only.
 */
#ifndef FERRY_MEM_DIRTY_KVM_H
#define FERRY_MEM_DIRTY_KVM_H

#include "mem/dirty.h"

/* As ferry_dirty_kvm(), but using at most these bits of
 * KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. */
struct ferry_dirty *ferry_dirty_kvm_as(const struct ferry_mem *mem, int vm_fd,
				       const struct ferry_kvm_slot *slots,
				       size_t n, uint64_t modes,
				       struct ferry_err *e);

#endif
