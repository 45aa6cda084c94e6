/* SPDX-License-Identifier: MIT */
/*
 * What is where in guest physical memory when a kernel starts.
 *
 *	0x00000500	GDT that the entry segments come from
 *	0x00006000	PVH start info, module list, memory map
 *	0x00007000	Linux boot parameters ("zero page")
 *	0x00020000	command line
 *	0x0009fc00	end of conventional memory
 *	0x000e0000	ACPI tables, up to 1 MiB
 *	0x00100000	kernel: from 1 MiB on
 *	(top)		initrd, as high as it may, below 3 GiB
 *	0xc0000000	hole: virtio devices, IOAPIC, LAPIC, KVM's own pages;
 *			to 4 GiB
 *
 * All of this is part of FERRY_MACHINE_TYPE.
 */
#ifndef FERRY_VMM_LAYOUT_H
#define FERRY_VMM_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define FERRY_GPA_GDT		0x00000500ull
#define FERRY_GPA_START_INFO	0x00006000ull
#define FERRY_GPA_BOOT_PARAMS	0x00007000ull
#define FERRY_GPA_CMDLINE	0x00020000ull
#define FERRY_CMDLINE_MAX	4095u		/* without its NUL */
#define FERRY_GPA_BOOT_END	0x00022000ull	/* of what we put low */
#define FERRY_GPA_LOW_END	0x0009fc00ull
#define FERRY_GPA_ACPI		0x000e0000ull
#define FERRY_GPA_KERNEL	0x00100000ull
#define FERRY_GPA_VIRTIO	0xfe000000ull	/* 16 pages */
#define FERRY_GPA_KVM_IDENTITY	0xfffbc000ull	/* one page */
#define FERRY_GPA_KVM_TSS	0xfffbd000ull	/* three pages */
#define FERRY_GPA_IOAPIC	0xfec00000u
#define FERRY_GPA_LAPIC		0xfee00000u

/* Interrupt lines (GSI) and ports. */
#define FERRY_GSI_SERIAL	4u
#define FERRY_GSI_SCI		9u
#define FERRY_PORT_SERIAL	0x3f8u
#define FERRY_PORT_PM		0x600u

/* Memory map entries carry the same type numbers in e820 and in PVH. */
#define FERRY_E820_RAM		1u
#define FERRY_E820_RESERVED	2u
#define FERRY_E820_MAX		6u

struct ferry_e820 {
	uint64_t	 addr;
	uint64_t	 bytes;
	uint32_t	 type;
};

/* Returns how many entries. */
size_t ferry_layout_e820(uint64_t ram_bytes,
			 struct ferry_e820 map[FERRY_E820_MAX]);

#endif
