/* SPDX-License-Identifier: MIT */
/*
 * Numbers that the assembler, the linker script and C must agree on.
 *
 * Memory: the image (boot code and tables, text, data, stacks) sits at 1 MiB;
 * nothing below is used but one page for the start code of the other vCPUs.
 */
#ifndef GUEST_LAYOUT_H
#define GUEST_LAYOUT_H

#define IMAGE_BASE		0x100000
#define TRAMPOLINE		0x8000	/* page number is the SIPI vector */

#define CPUS_MAX		16
#define TRAP_STACK_BYTES	4096	/* ring 0, and ring 3 after a trap */
#define STACK_BYTES		16384	/* ring 3 */

/* GDT selectors; from SEL_TSS on, one 16-byte descriptor per vCPU. */
#define SEL_CODE32		0x08
#define SEL_DATA		0x10
#define SEL_CODE64		0x18
#define SEL_USER_DATA		(0x20 | 3)
#define SEL_USER_CODE		(0x28 | 3)
#define SEL_TSS			0x30

#define TSS_BYTES		128	/* without the I/O bitmap; 104 used */
#define TRAPS			32	/* exceptions 0 to 31 */
#define USER_FLAGS		0x0002	/* interrupts off */

#endif
