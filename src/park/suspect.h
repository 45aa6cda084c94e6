/* SPDX-License-Identifier: MIT */
/*
 * Of a migration that was to be verified, a merge knows of each page that came
 * what sum it had when it was placed; the source has the page itself.  So it is
 * found which came wrong, and whether the guest has changed them since.
 * One thread.  8 octets a page.
 */
#ifndef FERRY_PARK_SUSPECT_H
#define FERRY_PARK_SUSPECT_H

#include "base/bitmap.h"
#include "mem/mem.h"
#include "park/half.h"

enum ferry_suspicion {
	FERRY_PAGE_RIGHT,	/* or nobody knows */
	FERRY_PAGE_WRONG,	/* and is as it came: the source's is right */
	FERRY_PAGE_MIXED,	/* and was changed since: no side's is */
};

struct ferry_suspects {
	uint32_t	 blocks;
	uint32_t	**came;		/* per block, per page: its sum; NULL:
					 * nobody knows any */
	uint32_t	**now;
	struct ferry_bitmap *left;	/* per block: to be judged */
};

/* Safe on zeroes. */
void ferry_suspects_fini(struct ferry_suspects *s);

/* SUMS of the target, before its pages. */
FERRY_CHECKED int ferry_suspects_note(struct ferry_suspects *s,
				      const struct ferry_mem *mem,
				      const struct ferry_half_record *r,
				      struct ferry_err *e);

/* What the target's page holds. */
void ferry_suspects_hold(struct ferry_suspects *s, uint32_t block,
			 uint64_t page, const uint8_t *data);

/* What the source's does; NULL: zeroes.  Once a page. */
enum ferry_suspicion ferry_suspects_judge(struct ferry_suspects *s,
					  uint32_t block, uint64_t page,
					  const uint8_t *data);

/* The first page from *page of *block on that was not judged; false: none. */
bool ferry_suspects_next(const struct ferry_suspects *s, uint32_t *block,
			 uint64_t *page);

#endif
