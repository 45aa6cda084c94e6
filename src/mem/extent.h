/* SPDX-License-Identifier: MIT */
/*
 * Which pages were ever touched?  Only those are read; the rest is known to be
 * zero without looking.  SEEK_DATA for shared memory files; PAGEMAP_SCAN or
 * /proc/self/pagemap for private memory.  hugetlb reports empty pages as data.
 * A guess in doubt is "touched".
 *
 * Threads: any; reads only.
 */
#ifndef FERRY_MEM_EXTENT_H
#define FERRY_MEM_EXTENT_H

#include "mem/mem.h"

/* Calls fn for each run of touched pages, ascending and disjoint; stops and
 * returns -1 if fn does not return 0 (which should have filled *e). */
FERRY_CHECKED int ferry_extent_walk(struct ferry_mem_block *b,
				    int (*fn)(void *arg, uint64_t first,
					      uint64_t pages),
				    void *arg, struct ferry_err *e);

/*
 * Drop pages: their content becomes zero and unallocated, and a later touch
 * faults.  first and pages are multiples of the host page.  MADV_DONTNEED for
 * private memory, punching a hole for files; a store keeps what it has.
 */
FERRY_CHECKED int ferry_extent_drop(struct ferry_mem_block *b, uint64_t first,
				    uint64_t pages, struct ferry_err *e);

/*
 * Private memory of 4 KiB pages may lie in transparent huge ones, which appear
 * as a whole when one octet is written: what nobody wrote may be there, too.
 */
static inline bool ferry_extent_may_be_huge(const struct ferry_mem_block *b)
{
	return b->fd < 0 && b->page_bytes == FERRY_PAGE_BYTES && !b->store;
}

/* Let new ones come (MADV_HUGEPAGE), or not (MADV_NOHUGEPAGE); those that are
 * there stay.  No-op for other host pages than 4 KiB. */
void ferry_extent_allow_huge(const struct ferry_mem_block *b, bool allow);

/*
 * Make sure that dropped and never-touched huge pages can be had when needed:
 * restores the reservation that punching lost (a second mmap).  No-op for
 * 4 KiB pages.  FERRY_E_NOMEM with the number that lacks.
 */
FERRY_CHECKED int ferry_extent_reserve(struct ferry_mem_block *b,
				       struct ferry_err *e);

/*
 * Allocate pages that are about to be written: where there is no room (a full
 * tmpfs, no free huge page) a write would be SIGBUS.  0; -ENOMEM for lack of
 * room; another -errno.
 */
int ferry_extent_populate(const struct ferry_mem_block *b, uint64_t first,
			  uint64_t pages);

#endif
