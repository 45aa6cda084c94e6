/* SPDX-License-Identifier: MIT */
/*
 * The PVH boot protocol: %ebx points to a start info that names command line,
 * modules, memory map and ACPI root.
 */
#ifndef FERRY_VMM_PVH_H
#define FERRY_VMM_PVH_H

#include "vmm/boot.h"

FERRY_CHECKED int ferry_pvh_hand_over(const struct ferry_boot *b,
				      struct ferry_ram *ram,
				      const struct ferry_image *image,
				      struct ferry_entry *entry,
				      struct ferry_err *e);

#endif
