/* SPDX-License-Identifier: MIT */
#include "base/sum.h"

/* All of it from the header: libferry needs no library for it. */
#define XXH_INLINE_ALL
#include <xxhash.h>

uint32_t ferry_page_sum(const void *page)
{
	return (uint32_t)XXH3_64bits(page, FERRY_PAGE_BYTES);
}

uint64_t ferry_sum(const void *data, size_t bytes)
{
	return XXH3_64bits(data, bytes);
}
