/* SPDX-License-Identifier: MIT */
/*
 * The received map: for each target page one of three values.
 *
 *   missing   owed by the source, or discarded: whoever touches it waits
 *   here      placed
 *   zero      known to be zero: a fault on it is filled here, nobody waits
 *             for a page that nobody owes
 *
 * Threads: any; `here` is set (release) after the page was placed.
 */
#ifndef FERRY_RECV_MAP_H
#define FERRY_RECV_MAP_H

#include "base/bitmap.h"
#include "mem/mem.h"

struct ferry_map {
	const struct ferry_mem	*mem;
	struct ferry_bitmap	*here;		/* one per block */
	struct ferry_bitmap	*zero;
	struct ferry_bitmap	*asked;		/* requested, not yet here */
};

FERRY_CHECKED int ferry_map_init(struct ferry_map *m,
				 const struct ferry_mem *mem,
				 struct ferry_err *e);
void ferry_map_fini(struct ferry_map *m);

static inline bool ferry_map_is_here(const struct ferry_map *m, uint32_t block,
				     uint64_t page)
{
	return ferry_bitmap_test(&m->here[block], page);
}

static inline bool ferry_map_is_zero(const struct ferry_map *m, uint32_t block,
				     uint64_t page)
{
	return ferry_bitmap_test(&m->zero[block], page);
}

void ferry_map_set_here(struct ferry_map *m, uint32_t block, uint64_t first,
			uint64_t n);
void ferry_map_set_zero(struct ferry_map *m, uint32_t block, uint64_t first,
			uint64_t n);
void ferry_map_set_missing(struct ferry_map *m, uint32_t block, uint64_t first,
			   uint64_t n);

/* How long the run from `first` is in which every page is here (or: none is),
 * at most n; *here tells which. */
uint64_t ferry_map_run(const struct ferry_map *m, uint32_t block,
		       uint64_t first, uint64_t n, bool *here);

/* First page at or after *page of *block that is missing; false if none. */
bool ferry_map_next_missing(const struct ferry_map *m, uint32_t *block,
			    uint64_t *page);
/* The end of the run of missing pages that begins with `page`. */
uint64_t ferry_map_missing_end(const struct ferry_map *m, uint32_t block,
			       uint64_t page);
uint64_t ferry_map_missing(const struct ferry_map *m);

#endif
