/* SPDX-License-Identifier: MIT */
/*
 * Names of the run states.
 */
#include "vmm/runstate.h"

const char *ferry_runstate_name(enum ferry_runstate state)
{
	static const char *const names[FERRY_RUN_STATES] = {
		[FERRY_RUN_PRELAUNCH]		= "prelaunch",
		[FERRY_RUN_RUNNING]		= "running",
		[FERRY_RUN_PAUSED]		= "paused",
		[FERRY_RUN_INMIGRATE]		= "inmigrate",
		[FERRY_RUN_FINISH_MIGRATE]	= "finish-migrate",
		[FERRY_RUN_POSTMIGRATE]		= "postmigrate",
		[FERRY_RUN_SHUTDOWN]		= "shutdown",
		[FERRY_RUN_INTERNAL_ERROR]	= "internal-error",
	};

	return names[state];
}
