/* SPDX-License-Identifier: MIT */
/*
 * Loading a kernel: an ELF file with a PVH entry, or a Linux bzImage.  Both
 * are entered in 32-bit protected mode without paging, which every vCPU can
 * do and every such kernel takes; they differ in what registers point to.
 *
 * The files stay open, so that a reset loads the same kernel again.  Control
 * thread only, no vCPU running.  A kernel file is hostile input: every offset
 * and size in it is checked against the file and the RAM.
 */
#ifndef FERRY_VMM_BOOT_H
#define FERRY_VMM_BOOT_H

#include <stdint.h>

#include "base/err.h"
#include "vmm/file.h"
#include "vmm/ram.h"

struct ferry_boot {
	struct ferry_file	 kernel;
	struct ferry_file	 initrd;	/* fd -1: none */
	const char		*cmdline;	/* "" if none */
	unsigned		 vcpus;
	unsigned		 virtio;	/* devices */
};

/* How the first vCPU starts. */
struct ferry_entry {
	uint32_t	 eip;
	uint32_t	 ebx;
	uint32_t	 esi;
};

/* Where a kernel lies after its format's place(). */
struct ferry_image {
	uint32_t	 entry;
	uint64_t	 end;		/* nothing may be put below, but for
					 * what layout.h says */
	uint64_t	 initrd_limit;	/* initrd ends at or below */
	uint64_t	 cmdline_max;	/* octets without the NUL */
	uint64_t	 initrd_gpa;	/* 0: none; boot.c fills these two */
	uint64_t	 initrd_bytes;
};

struct ferry_boot_format {
	const char	*name;

	/* Is this file of this format at all? */
	bool (*probe)(const struct ferry_file *f);

	/* Check it and put it into RAM. */
	int (*place)(const struct ferry_file *f, struct ferry_ram *ram,
		     struct ferry_image *image, struct ferry_err *e);

	/* Write what the kernel is told; command line, initrd and ACPI tables
	 * are in RAM already. */
	int (*hand_over)(const struct ferry_boot *b, struct ferry_ram *ram,
			 const struct ferry_image *image,
			 struct ferry_entry *entry, struct ferry_err *e);
};

extern const struct ferry_boot_format ferry_boot_elf;
extern const struct ferry_boot_format ferry_boot_bzimage;

/* The paths must outlive *b.  On failure nothing is left open. */
FERRY_CHECKED int ferry_boot_open(struct ferry_boot *b, const char *kernel,
				  const char *initrd, const char *cmdline,
				  unsigned vcpus, unsigned virtio,
				  struct ferry_err *e);
void ferry_boot_close(struct ferry_boot *b);

/* Is it a kernel at all? */
FERRY_CHECKED int ferry_boot_check(const struct ferry_boot *b,
				   struct ferry_err *e);

FERRY_CHECKED int ferry_boot_load(const struct ferry_boot *b,
				  struct ferry_ram *ram,
				  struct ferry_entry *entry,
				  struct ferry_err *e);

#endif
