/* SPDX-License-Identifier: MIT */
/*
 * What KVM holds of a machine, as sections.  The machine is stopped.
 */
#ifndef FERRY_VMM_STATE_H
#define FERRY_VMM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/kvm.h"
#include "vmm/section.h"

/* The MSRs that make up a vCPU's state on this host. */
struct ferry_msrs {
	uint32_t	*index;
	size_t		 count;
};

/* vcpu_fd: new and never run, to try them on. */
FERRY_CHECKED int ferry_msrs_init(struct ferry_msrs *m,
				  const struct ferry_kvm *kvm, int vcpu_fd,
				  struct ferry_err *e);
void ferry_msrs_fini(struct ferry_msrs *m);

/* One MSR; false when KVM refuses it. */
bool ferry_msr_get(int vcpu_fd, uint32_t index, uint64_t *value);
bool ferry_msr_set(int vcpu_fd, uint32_t index, uint64_t value);

/* The object of the sections of a vCPU. */
struct ferry_vcpu_state {
	int			 fd;
	const struct ferry_kvm	*kvm;
	const struct ferry_msrs	*msrs;
};

/* In loading order; state_vcpu.c says why.  The array ends with a NULL. */
#define FERRY_VCPU_SECTIONS_MAX	12u
extern const struct ferry_section *const
	ferry_vcpu_sections[FERRY_VCPU_SECTIONS_MAX];
extern const struct ferry_section ferry_section_msrs;

/* The object of these is a ferry_kvm. */
extern const struct ferry_section ferry_section_irqchip;
extern const struct ferry_section ferry_section_pit;
extern const struct ferry_section ferry_section_kvmclock;

/* A struct of the kernel's: be32 size, then its octets.  Reading refuses any
 * other size, and anything after it. */
void ferry_state_put_struct(struct ferry_wr *w, const void *data,
			    uint32_t bytes);
FERRY_CHECKED int ferry_state_get_struct(struct ferry_rd *r, void *data,
					 uint32_t bytes, struct ferry_err *e);

#endif
