/* SPDX-License-Identifier: MIT */
#include "park/hash.h"

#include <xxhash.h>

/* The shared library has it on x86: the same by what the CPU is best at. */
extern XXH64_hash_t XXH3_64bits_dispatch(const void *data, size_t bytes)
	__attribute__((weak));

uint64_t ferry_hash(const void *data, size_t bytes)
{
	if (XXH3_64bits_dispatch)
		return XXH3_64bits_dispatch(data, bytes);
	return XXH3_64bits(data, bytes);
}

void ferry_hash_prepare(void)
{
	static const char some[512];

	(void)ferry_hash(some, sizeof(some));
}
