/* SPDX-License-Identifier: MIT */
/*
 * Page tables for the memory above 4 GiB (entry.S has those below).
 */
#ifndef GUEST_PAGING_H
#define GUEST_PAGING_H

#include <stdint.h>

#include "pool.h"

#define PAGING_LOW_END	(4ull << 30)
#define PAGING_END	(128ull << 30)

/* Map every range of the pool, identically; tables come out of the pool.
 * NULL, or what went wrong. */
const char *paging_map_high(struct pool *pool);

#endif
