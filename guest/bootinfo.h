/* SPDX-License-Identifier: MIT */
/*
 * What the monitor tells at boot (PVH, struct hvm_start_info): the command
 * line and the map of the memory.
 */
#ifndef GUEST_BOOTINFO_H
#define GUEST_BOOTINFO_H

#include <stdint.h>

#define RANGES_MAX	16

struct range {
	uint64_t	start, end;	/* whole pages; end excluded */
};

struct bootinfo {
	char		cmdline[1024];
	unsigned	ranges;		/* 0: the monitor gave no map */
	struct range	ram[RANGES_MAX];
};

/* A copy of all that is needed; the memory it was in may be used then.
 * NULL, or what is wrong with it. */
const char *bootinfo_read(struct bootinfo *info, uint64_t start_info);

/* For a monitor without a map: this much, with the hole of ferry and QEMU. */
void bootinfo_assume_ram(struct bootinfo *info, uint64_t bytes);

#endif
