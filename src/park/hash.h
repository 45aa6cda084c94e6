/* SPDX-License-Identifier: MIT */
/*
 * The hash that images are checked by: XXH3 of 64 bits, which finds damage,
 * not malice.  About 15 GB/s a core.  Any thread, once it was prepared.
 */
#ifndef FERRY_PARK_HASH_H
#define FERRY_PARK_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t ferry_hash(const void *data, size_t bytes);

/* Looks at the CPU; by one thread, before there are several. */
void ferry_hash_prepare(void);

#endif
