/* SPDX-License-Identifier: MIT */
/* See ram.h. */
#include "vmm/ram.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "vmm/file.h"
#include "vmm/machine.h"
#include "vmm/ram_file.h"

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif

#define GIB	((double)(1u << 30))

int ferry_ram_check(uint64_t bytes, struct ferry_err *e)
{
	if (bytes == 0)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "RAM of 0 bytes: a VM needs 2 MiB or more");
	if (bytes % FERRY_HUGE_BYTES)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "RAM of %" PRIu64 " bytes is not a "
				     "multiple of 2 MiB", bytes);
	if (bytes > FERRY_VMM_RAM_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "RAM of %.1f GiB: the most is %.0f GiB",
				     (double)bytes / GIB,
				     (double)FERRY_VMM_RAM_MAX / GIB);
	return 0;
}

static int check_size(uint64_t bytes, struct ferry_err *e)
{
	struct sysinfo si;
	uint64_t host = 0;

	if (ferry_ram_check(bytes, e))
		return -1;
	if (sysinfo(&si) == 0)
		host = (uint64_t)si.totalram * si.mem_unit;
	if (bytes > host)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "RAM of %.1f GiB: this machine has only "
				     "%.1f GiB", (double)bytes / GIB,
				     (double)host / GIB);
	return 0;
}

static long huge_pages(const char *which)
{
	char path[96];
	FERRY_AUTO_FILE f = NULL;
	long n = 0;

	snprintf(path, sizeof(path),
		 "/sys/kernel/mm/hugepages/hugepages-2048kB/%s", which);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%ld", &n) != 1)
		return 0;
	return n;
}

static int no_huge_pages(uint64_t bytes, int sys, struct ferry_err *e)
{
	long need = (long)(bytes / FERRY_HUGE_BYTES);
	long free_pages = huge_pages("free_hugepages") -
			  huge_pages("resv_hugepages");

	return ferry_err_set(e, FERRY_E_NOMEM, sys,
			     "%ld huge pages of 2 MiB are needed, %ld are free "
			     "(sysctl vm.nr_hugepages=%ld makes room)", need,
			     free_pages,
			     huge_pages("nr_hugepages") + need - free_pages);
}

/*
 * Pages come when touched.  Anonymous, because there the host gives transparent
 * huge pages to who asks, and to shared memory not by default: a guest that
 * meets its memory for the first time then has one fault for 512.  Aligned as
 * the guest's pages are, else KVM could not map them as huge.
 */
static int map_anonymous(struct ferry_ram *ram, uint64_t bytes,
			 struct ferry_err *e)
{
	uint8_t *all = mmap(NULL, bytes + FERRY_HUGE_BYTES,
			    PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t before;

	if (all == MAP_FAILED)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "map guest RAM");
	before = -(uintptr_t)all % FERRY_HUGE_BYTES;
	ram->base = all + before;
	if (before)
		munmap(all, before);
	munmap(ram->base + bytes, FERRY_HUGE_BYTES - before);
	(void)madvise(ram->base, bytes, MADV_HUGEPAGE);
	return 0;
}

/* Small pages come when touched.  Huge ones are reserved here: better refused
 * now than a SIGBUS later. */
static int map_fd(struct ferry_ram *ram, uint64_t bytes, struct ferry_err *e)
{
	bool huge = ram->page_bytes == FERRY_HUGE_BYTES;
	int how = huge ? MAP_SHARED : MAP_SHARED | MAP_NORESERVE;
	void *base;

	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, how, ram->fd, 0);
	if (base == MAP_FAILED)
		return huge ? no_huge_pages(bytes, errno, e) :
			      ferry_err_set(e, FERRY_E_NOMEM, errno,
					    "map guest RAM");
	ram->base = base;
	return 0;
}

static int map_memfd(struct ferry_ram *ram, uint64_t bytes, bool huge,
		     struct ferry_err *e)
{
	if (huge)
		ram->page_bytes = FERRY_HUGE_BYTES;
	ram->fd = memfd_create("pc.ram", MFD_CLOEXEC |
			       (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	if (ram->fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "memfd_create");
	if (ftruncate(ram->fd, (off_t)bytes))
		return ferry_err_set(e, FERRY_E_IO, errno, "size of guest RAM");
	return map_fd(ram, bytes, e);
}

static int map_file(struct ferry_ram *ram, uint64_t bytes, const char *path,
		    struct ferry_err *e)
{
	ram->fd = ferry_ram_file_open(path, bytes, &ram->page_bytes, e);
	if (ram->fd < 0)
		return -1;
	ram->path = strdup(path);
	return map_fd(ram, bytes, e);
}

static int map(struct ferry_ram *ram, uint64_t bytes, enum ferry_ram_kind kind,
	       const char *path, struct ferry_err *e)
{
	switch (kind) {
	case FERRY_RAM_ANONYMOUS:
		return map_anonymous(ram, bytes, e);
	case FERRY_RAM_SHARED:
	case FERRY_RAM_HUGE:
		return map_memfd(ram, bytes, kind == FERRY_RAM_HUGE, e);
	case FERRY_RAM_FILE:
		return map_file(ram, bytes, path, e);
	}
	return -1;
}

int ferry_ram_init(struct ferry_ram *ram, uint64_t bytes,
		   enum ferry_ram_kind kind, const char *path,
		   struct ferry_err *e)
{
	*ram = (struct ferry_ram)FERRY_RAM_NONE;
	if (check_size(bytes, e))
		return -1;
	ram->bytes = bytes;
	ram->page_bytes = FERRY_PAGE_BYTES;
	if (!map(ram, bytes, kind, path, e))
		return 0;
	ferry_ram_fini(ram);
	return -1;
}

void ferry_ram_fini(struct ferry_ram *ram)
{
	if (ram->base)
		munmap(ram->base, ram->bytes);
	ferry_cleanup_fd(&ram->fd);
	if (ram->path)
		unlink(ram->path);
	free(ram->path);
	*ram = (struct ferry_ram)FERRY_RAM_NONE;
}

uint64_t ferry_ram_low_bytes(const struct ferry_ram *ram)
{
	return ram->bytes < FERRY_VMM_HOLE_START ? ram->bytes :
						   FERRY_VMM_HOLE_START;
}

size_t ferry_ram_slots(const struct ferry_ram *ram,
		       struct ferry_kvm_slot slots[FERRY_RAM_SLOTS_MAX])
{
	uint64_t low = ferry_ram_low_bytes(ram);

	slots[0] = (struct ferry_kvm_slot)FERRY_KVM_SLOT_INIT;
	slots[0].bytes = low;
	slots[0].addr = ram->base;
	if (low == ram->bytes)
		return 1;
	slots[1] = (struct ferry_kvm_slot)FERRY_KVM_SLOT_INIT;
	slots[1].slot = 1;
	slots[1].gpa = FERRY_VMM_HOLE_END;
	slots[1].bytes = ram->bytes - low;
	slots[1].addr = ram->base + low;
	return 2;
}

void *ferry_ram_at(const struct ferry_ram *ram, uint64_t gpa, uint64_t bytes)
{
	struct ferry_kvm_slot slots[FERRY_RAM_SLOTS_MAX];
	size_t n = ferry_ram_slots(ram, slots);

	for (size_t i = 0; i < n; i++) {
		uint64_t at = gpa - slots[i].gpa;

		if (gpa >= slots[i].gpa && at <= slots[i].bytes &&
		    bytes <= slots[i].bytes - at)
			return (uint8_t *)slots[i].addr + at;
	}
	return NULL;
}

static void *writable(const struct ferry_ram *ram, uint64_t gpa,
		      uint64_t bytes, const char *what, struct ferry_err *e)
{
	void *at = ferry_ram_at(ram, gpa, bytes);

	if (!at)
		ferry_err_set(e, FERRY_E_INVALID, 0,
			      "%s does not fit: it needs 0x%" PRIx64 " to 0x%"
			      PRIx64 ", the VM has %" PRIu64 " MiB of RAM", what,
			      gpa, gpa + bytes, ram->bytes >> 20);
	return at;
}

void ferry_ram_wrote(const struct ferry_ram *ram, const void *at,
		     uint64_t bytes)
{
	if (ram->vm)
		ferry_vm_mark_dirty(ram->vm, at, bytes);
}

int ferry_ram_write(struct ferry_ram *ram, uint64_t gpa, const void *data,
		    uint64_t bytes, const char *what, struct ferry_err *e)
{
	void *at = writable(ram, gpa, bytes, what, e);

	if (!at)
		return -1;
	memcpy(at, data, bytes);
	ferry_ram_wrote(ram, at, bytes);
	return 0;
}

int ferry_ram_zero(struct ferry_ram *ram, uint64_t gpa, uint64_t bytes,
		   const char *what, struct ferry_err *e)
{
	uint8_t *at = writable(ram, gpa, bytes, what, e);

	if (!at)
		return -1;
	memset(at, 0, bytes);
	ferry_ram_wrote(ram, at, bytes);
	return 0;
}

int ferry_ram_load(struct ferry_ram *ram, uint64_t gpa,
		   const struct ferry_file *f, uint64_t from, uint64_t bytes,
		   const char *what, struct ferry_err *e)
{
	void *at = writable(ram, gpa, bytes, what, e);
	int err;

	if (!at)
		return -1;
	err = ferry_file_read(f, from, at, bytes, e);
	ferry_ram_wrote(ram, at, bytes);
	return err;
}

/* ---- while vCPUs run ---------------------------------------------------- */

/* By the kernel, from this process to itself: see read_place() of the
 * front-end's library. */
static int copy(const struct ferry_ram *ram, uint64_t gpa, struct iovec own,
		bool put, struct ferry_err *e)
{
	const struct iovec guest = { ferry_ram_at(ram, gpa, own.iov_len),
				     own.iov_len };
	ssize_t n;

	if (!guest.iov_base)
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "the guest names "
				     "0x%" PRIx64 "+%zu, which is not in its "
				     "memory", gpa, own.iov_len);
	n = put ? process_vm_writev(getpid(), &own, 1, &guest, 1, 0) :
		  process_vm_readv(getpid(), &own, 1, &guest, 1, 0);
	return n == (ssize_t)own.iov_len ? 0 :
	       ferry_err_set(e, FERRY_E_IO, errno, "guest memory at 0x%" PRIx64,
			     gpa);
}

int ferry_ram_get(const struct ferry_ram *ram, uint64_t gpa, void *data,
		  uint64_t bytes, struct ferry_err *e)
{
	return copy(ram, gpa, (struct iovec){ data, bytes }, false, e);
}

int ferry_ram_put(const struct ferry_ram *ram, uint64_t gpa, const void *data,
		  uint64_t bytes, struct ferry_err *e)
{
	if (copy(ram, gpa, (struct iovec){ (void *)data, bytes }, true, e))
		return -1;
	ferry_ram_wrote(ram, ferry_ram_at(ram, gpa, bytes), bytes);
	return 0;
}
