/* SPDX-License-Identifier: MIT */
/*
 * The ways to find writes by the threads of this process; ferry_dirty_process()
 * takes the first that works.  Inside mem/ only (and for tests).
 *
 * All see what is written through the mapping that the block names, by user
 * code or by the kernel on its behalf.  None sees what is written to a shared
 * file through another mapping or by pwrite(), and none sees that pages were
 * dropped (MADV_DONTNEED, a punched hole): that must be told.
 */
#ifndef FERRY_MEM_DIRTY_WAY_H
#define FERRY_MEM_DIRTY_WAY_H

#include "mem/dirty.h"

struct ferry_dirty_way {
	const char *name;

	/* Would start() work here?  Opens and closes, changes nothing. */
	int (*probe)(const struct ferry_mem *mem, struct ferry_err *e);

	/* A source of this way alone; NULL when memory is out. */
	struct ferry_dirty *(*make)(const struct ferry_mem *mem,
				    struct ferry_err *e);
};

/*
 * userfaultfd in asynchronous mode and PAGEMAP_SCAN, Linux 6.7: the kernel
 * itself lifts the protection of a page that is written, one call reads and
 * renews it.  No thread, no wait; needs no permission.
 */
extern const struct ferry_dirty_way ferry_dirty_way_async;

/*
 * userfaultfd with a thread that answers write faults, Linux 5.7 (5.19 for
 * memory files and huge pages).  Each first write to a page waits for it.
 */
extern const struct ferry_dirty_way ferry_dirty_way_sync;

/*
 * The soft-dirty bits of /proc/self/pagemap, for a process that may not open a
 * userfaultfd.  Reading and clearing them is not one step, and a write between
 * the two would be lost; so they are cleared once, at the start, and every
 * harvest tells all pages written since then.  Right, but passes do not
 * shrink.  No huge pages.  Clearing is for the whole process: do not use
 * beside another user of these bits (CRIU).
 */
extern const struct ferry_dirty_way ferry_dirty_way_soft;

#endif
