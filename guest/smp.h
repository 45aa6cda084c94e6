/* SPDX-License-Identifier: MIT */
/* The other vCPUs. */
#ifndef GUEST_SMP_H
#define GUEST_SMP_H

#include "guest.h"

/* Start vCPU `index` (its APIC id too); false when it does not come up. */
bool smp_start(struct cpu *boss, unsigned index);

/* Said by a vCPU that runs. */
void smp_arrived(void);

#endif
