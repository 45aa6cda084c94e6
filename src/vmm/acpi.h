/* SPDX-License-Identifier: MIT */
/*
 * The least ACPI that an operating system needs to find its vCPUs and virtio
 * devices, route interrupts, power off and reset: RSDP, XSDT, FADT, MADT, DSDT,
 * FACS.
 */
#ifndef FERRY_VMM_ACPI_H
#define FERRY_VMM_ACPI_H

#include "base/err.h"
#include "vmm/ram.h"

/* The RSDP comes first, at FERRY_GPA_ACPI. */
FERRY_CHECKED int ferry_acpi_write(struct ferry_ram *ram, unsigned vcpus,
				   unsigned virtio, struct ferry_err *e);

#endif
