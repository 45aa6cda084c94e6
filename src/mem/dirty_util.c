/* SPDX-License-Identifier: MIT */
/*
 * What several dirty sources share.  Any thread.
 */
#include "mem/dirty_util.h"

int ferry_dirty_arm_nothing(struct ferry_dirty *d, uint32_t block,
			    uint64_t first, uint64_t pages)
{
	(void)d;
	(void)block;
	(void)first;
	(void)pages;
	return 0;
}

int ferry_dirty_mark_run(void *arg, uint64_t first, uint64_t pages)
{
	struct ferry_dirty_into *to = arg;

	ferry_owed_mark(to->owed, to->block, first, pages);
	return 0;
}
