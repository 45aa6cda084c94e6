/* SPDX-License-Identifier: MIT */
#ifndef FERRY_VMM_RAM_FILE_H
#define FERRY_VMM_RAM_FILE_H

#include <stdint.h>

#include "base/err.h"

/* A new file of that size in a tmpfs or hugetlbfs; its descriptor, and the
 * size of its pages.  -1: there is none, not even an empty one. */
int ferry_ram_file_open(const char *path, uint64_t bytes,
			uint32_t *page_bytes, struct ferry_err *e);

#endif
