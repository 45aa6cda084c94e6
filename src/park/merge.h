/* SPDX-License-Identifier: MIT */
/*
 * Two halves of a VM, one image: each page from the target where it is there,
 * else from the source; devices from the target.  Of a migration that was to be
 * verified, a page that came wrong (park/suspect.h) is taken from the source;
 * where the guest has changed it since, neither side has the right one, and
 * that is refused unless it is accepted.  One thread.
 */
#ifndef FERRY_PARK_MERGE_H
#define FERRY_PARK_MERGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

#define FERRY_MERGE_NAMED	16

struct ferry_merge_how {
	int		zstd_level;		/* 0: as it is */
	bool		accept_mismatch;	/* a page that came wrong and
						 * was changed: the target's */
};

struct ferry_merge_page {
	char		block[FERRY_NAME_MAX + 1];
	uint64_t	page;
	bool		changed;		/* there, since it came */
};

struct ferry_merged {
	char		machine[256];
	uint64_t	pages;			/* of the VM */
	uint64_t	from_target;		/* of them */
	uint64_t	from_source;
	uint64_t	state_bytes;
	uint64_t	wrong;			/* came wrong at the target */
	uint64_t	changed;		/* of these, since */
	unsigned	named;
	struct ferry_merge_page page[FERRY_MERGE_NAMED];
};

/* The halves in either order.  On failure there is no image. */
FERRY_CHECKED int ferry_merge(const char *a, const char *b, const char *image,
			      const struct ferry_merge_how *how,
			      struct ferry_merged *out, struct ferry_err *e);

#endif
