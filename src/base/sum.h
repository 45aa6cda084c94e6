/* SPDX-License-Identifier: MIT */
/*
 * The sum of a page: the lower half of its XXH3 (64 bits, seed 0).  It finds
 * what was lost or mixed up, not what somebody forged.  Pure, any thread.
 */
#ifndef FERRY_BASE_SUM_H
#define FERRY_BASE_SUM_H

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

uint32_t ferry_page_sum(const void *page);

/* All 64 bits, of any octets. */
uint64_t ferry_sum(const void *data, size_t bytes);

/* That of a page of zeroes. */
#define FERRY_PAGE_SUM_ZERO	0x48c689bau

#endif
