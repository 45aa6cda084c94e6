/* SPDX-License-Identifier: MIT */
/*
 * /proc/self/pagemap: what this process' page tables know about a block.
 * Inside mem/ only.
 *
 * Threads: any; one struct, one thread.
 */
#ifndef FERRY_MEM_PAGEMAP_H
#define FERRY_MEM_PAGEMAP_H

#include "mem/mem.h"

/* Called with runs of target pages, ascending; not 0 stops the walk. */
typedef int ferry_pagemap_fn(void *arg, uint64_t first, uint64_t pages);

struct ferry_pagemap {
	int	fd;
	bool	scan;		/* PAGEMAP_SCAN is there */
};

/* 0 or -errno. */
int ferry_pagemap_open(struct ferry_pagemap *p);
void ferry_pagemap_close(struct ferry_pagemap *p);

/* What PAGEMAP_SCAN is asked for; linux/fs.h says what the masks mean. */
struct ferry_pagemap_query {
	uint64_t flags;
	uint64_t inverted;
	uint64_t all_of;
	uint64_t any_of;
	uint64_t give;
};

/* Runs that match.  0, what fn returned, or -errno. */
int ferry_pagemap_scan(const struct ferry_pagemap *p,
		       const struct ferry_mem_block *b,
		       const struct ferry_pagemap_query *q,
		       ferry_pagemap_fn *fn, void *arg);

/* Runs whose entry has any of `bits`; for kernels without PAGEMAP_SCAN. */
int ferry_pagemap_read(const struct ferry_pagemap *p,
		       const struct ferry_mem_block *b, uint64_t bits,
		       ferry_pagemap_fn *fn, void *arg);

#endif
