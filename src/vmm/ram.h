/* SPDX-License-Identifier: MIT */
/*
 * The guest's RAM: one mapping, seen by the guest in one or two pieces, below
 * 3 GiB and from 4 GiB on.
 *
 * Threads: vCPUs write it through KVM; the monitor's own writes come only
 *          through here, so that the engine is told of each: from the control
 *          thread with no vCPU running, and with _get, _put from a vCPU's.
 */
#ifndef FERRY_VMM_RAM_H
#define FERRY_VMM_RAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ferry/vm.h>

#include "base/err.h"

struct ferry_file;

#define FERRY_RAM_SLOTS_MAX	2u

enum ferry_ram_kind {
	FERRY_RAM_ANONYMOUS,	/* transparent huge pages, where there are */
	FERRY_RAM_SHARED,	/* a memfd: other processes can map it too */
	FERRY_RAM_HUGE,		/* a memfd of 2 MiB pages, all reserved */
	FERRY_RAM_FILE,		/* a file in a tmpfs or hugetlbfs */
};

struct ferry_ram {
	int		 fd;		/* -1: none */
	uint8_t		*base;
	uint64_t	 bytes;
	uint32_t	 page_bytes;
	char		*path;		/* of FILE: goes with the VM; or NULL */
	struct ferry_vm	*vm;		/* told of our writes, or NULL */
};

#define FERRY_RAM_NONE { .fd = -1 }

/* So much, on whatever host. */
FERRY_CHECKED int ferry_ram_check(uint64_t bytes, struct ferry_err *e);

/* path: of FILE only. */
FERRY_CHECKED int ferry_ram_init(struct ferry_ram *ram, uint64_t bytes,
				 enum ferry_ram_kind kind, const char *path,
				 struct ferry_err *e);
/* A file goes with it.  (Who ends with a VM in two places does not call this.) */
void ferry_ram_fini(struct ferry_ram *ram);

/* How much of it lies below the hole. */
uint64_t ferry_ram_low_bytes(const struct ferry_ram *ram);

/* The pieces as the guest sees them; returns how many. */
size_t ferry_ram_slots(const struct ferry_ram *ram,
		       struct ferry_kvm_slot slots[FERRY_RAM_SLOTS_MAX]);

/* Where [gpa, gpa + bytes) is in this process, or NULL when not all of it is
 * RAM. */
void *ferry_ram_at(const struct ferry_ram *ram, uint64_t gpa, uint64_t bytes);

/* The monitor's writes; what names the object in errors. */
FERRY_CHECKED int ferry_ram_write(struct ferry_ram *ram, uint64_t gpa,
				  const void *data, uint64_t bytes,
				  const char *what, struct ferry_err *e);
FERRY_CHECKED int ferry_ram_zero(struct ferry_ram *ram, uint64_t gpa,
				 uint64_t bytes, const char *what,
				 struct ferry_err *e);
FERRY_CHECKED int ferry_ram_load(struct ferry_ram *ram, uint64_t gpa,
				 const struct ferry_file *f, uint64_t at,
				 uint64_t bytes, const char *what,
				 struct ferry_err *e);

/*
 * For a queue that the monitor serves while vCPUs run.  In postcopy they wait
 * for a missing page; one that will never come is an error, no signal.  Behind
 * _get the pages are there.
 */
FERRY_CHECKED int ferry_ram_get(const struct ferry_ram *ram, uint64_t gpa,
				void *data, uint64_t bytes,
				struct ferry_err *e);
FERRY_CHECKED int ferry_ram_put(const struct ferry_ram *ram, uint64_t gpa,
				const void *data, uint64_t bytes,
				struct ferry_err *e);

/* Something was written at a place of ferry_ram_at(). */
void ferry_ram_wrote(const struct ferry_ram *ram, const void *at,
		     uint64_t bytes);

#endif
