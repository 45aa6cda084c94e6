/* SPDX-License-Identifier: MIT */
/*
 * Dirty sources: who tells which pages were written.  A VM may have several
 * (KVM's log for vCPUs, the caller's bitmap for the monitor's own writes);
 * each merges what it knows into the pages owed.
 *
 * Threads: start, harvest and stop by the engine's main thread; arm by any
 *          sender, several at once.
 * Order:   harvest(), then for each piece arm() and *then* reading its pages.
 *          A write between harvest and arm may be told again or not; a write
 *          after arm is told by the next harvest.
 */
#ifndef FERRY_MEM_DIRTY_H
#define FERRY_MEM_DIRTY_H

#include <ferry/vm.h>

#include "mem/owed.h"

struct ferry_dirty;

struct ferry_dirty_ops {
	const char *name;	/* "kvm-log", "uffd-wp-async", ... */

	/* Begin: every write from now on will be told.  Look for touched
	 * pages (ferry_extent_walk) after this, not before. */
	int (*start)(struct ferry_dirty *d, struct ferry_err *e);

	/* Merge all that was written since start or the last harvest; perhaps
	 * more: a page whose piece was not armed since is told again (before
	 * its first arm, also if it was only touched before start).
	 * With `final` the writers are stopped and no arm() follows. */
	int (*harvest)(struct ferry_dirty *d, struct ferry_owed *owed,
		       bool final, struct ferry_err *e);

	/*
	 * Pages [first, first + pages) are about to be read in this pass:
	 * let writes to them be noticed anew.  Pieces are rounded outwards
	 * as the source likes (KVM: 64 MiB); the second call for a piece is
	 * cheap, and does not return before the first is done.
	 * 0 or -errno.
	 */
	int (*arm)(struct ferry_dirty *d, uint32_t block, uint64_t first,
		   uint64_t pages);

	/* End; safe when start failed or was not called. */
	void (*stop)(struct ferry_dirty *d);

	/* Frees; stop() was called. */
	void (*free)(struct ferry_dirty *d);
};

/* The head of every implementation. */
struct ferry_dirty {
	const struct ferry_dirty_ops *ops;
};

/* KVM's dirty log.  Slots are copied; each must lie inside one block. */
struct ferry_dirty *ferry_dirty_kvm(const struct ferry_mem *mem, int vm_fd,
				    const struct ferry_kvm_slot *slots,
				    size_t n, struct ferry_err *e);

/*
 * Write protection of this process' own mappings; start() takes the best way
 * the kernel has: "uffd-wp-async", "uffd-wp-sync", "soft-dirty".  Does not see
 * writes to a shared file through another mapping or by pwrite(), nor pages
 * that are dropped (MADV_DONTNEED, holes): such must be told.
 */
struct ferry_dirty *ferry_dirty_process(const struct ferry_mem *mem,
					struct ferry_err *e);

/* The way that start() took, or would take now ("" if none works). */
const char *ferry_dirty_process_way(struct ferry_dirty *d);

/* What somebody else logs, who tells it by what follows: harvest that behind
 * it.  ops is copied. */
struct ferry_dirty *ferry_dirty_log(const struct ferry_track_ops *ops,
				    void *opaque, struct ferry_err *e);

/*
 * What the caller tells.  mark() is any-thread, lock-free, and returns at once
 * while the source is not started.
 */
struct ferry_dirty *ferry_dirty_told(const struct ferry_mem *mem,
				     struct ferry_err *e);
void ferry_dirty_told_mark(struct ferry_dirty *d, const void *addr,
			   uint64_t bytes);

#endif
