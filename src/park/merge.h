/* SPDX-License-Identifier: MIT */
/*
 * Two halves of a VM, one image: each page from the target where it is there,
 * else from the source; devices from the target.  One thread.
 */
#ifndef FERRY_PARK_MERGE_H
#define FERRY_PARK_MERGE_H

#include <stdint.h>

#include "base/err.h"

struct ferry_merged {
	char		machine[256];
	uint64_t	pages;			/* of the VM */
	uint64_t	from_target;		/* of them */
	uint64_t	from_source;
	uint64_t	state_bytes;
};

/* The halves in either order.  On failure there is no image. */
FERRY_CHECKED int ferry_merge(const char *a, const char *b, const char *image,
			      int zstd_level, struct ferry_merged *out,
			      struct ferry_err *e);

#endif
