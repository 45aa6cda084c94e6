/* SPDX-License-Identifier: MIT */
#include "park/hash.h"

#include <xxhash.h>

uint64_t ferry_hash(const void *data, size_t bytes)
{
	return XXH3_64bits(data, bytes);
}
