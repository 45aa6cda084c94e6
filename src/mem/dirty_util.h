/* SPDX-License-Identifier: MIT */
/*
 * What several dirty sources share.  Inside mem/ only.
 */
#ifndef FERRY_MEM_DIRTY_UTIL_H
#define FERRY_MEM_DIRTY_UTIL_H

#include "mem/dirty.h"

/* An arm() for sources whose harvest renews the tracking. */
int ferry_dirty_arm_nothing(struct ferry_dirty *d, uint32_t block,
			    uint64_t first, uint64_t pages);

/* For walks: marks runs owed; arg is a struct ferry_dirty_into. */
struct ferry_dirty_into {
	struct ferry_owed	*owed;
	uint32_t		 block;
};

int ferry_dirty_mark_run(void *arg, uint64_t first, uint64_t pages);

#endif
