/* SPDX-License-Identifier: MIT */
/*
 * What the guest is told of its CPU: what KVM supports on this host, less what
 * the user masks, with ids and topology of each vCPU.
 */
#ifndef FERRY_VMM_CPUID_H
#define FERRY_VMM_CPUID_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct kvm_cpuid2;
struct ferry_kvm;

/* Owned by the caller: free().  vcpus: how many the VM has; mask may be
 * NULL. */
struct kvm_cpuid2 *ferry_cpuid_new(const struct ferry_kvm *kvm, unsigned vcpus,
				   const char *mask, struct ferry_err *e);

/* Make it vCPU id's. */
void ferry_cpuid_personalise(struct kvm_cpuid2 *cpuid, unsigned id,
			     unsigned vcpus);

/* The register of a leaf, in the order eax ebx ecx edx; NULL when the guest
 * has no such leaf. */
uint32_t *ferry_cpuid_register(struct kvm_cpuid2 *cpuid, uint32_t leaf,
			       uint32_t subleaf, unsigned reg);

/* Facts for the engine: "GenuineIntel"; every feature as a word. */
void ferry_cpuid_vendor(const struct kvm_cpuid2 *cpuid, char vendor[13]);
FERRY_CHECKED int ferry_cpuid_features(struct kvm_cpuid2 *cpuid, char *words,
				       size_t bytes, struct ferry_err *e);

/* Take away what the comma-separated words of mask name. */
FERRY_CHECKED int ferry_cpuid_mask(struct kvm_cpuid2 *cpuid, const char *mask,
				   struct ferry_err *e);

#endif
