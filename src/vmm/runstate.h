/* SPDX-License-Identifier: MIT */
/*
 * What the VM is doing, with QEMU's names (query-status).
 */
#ifndef FERRY_VMM_RUNSTATE_H
#define FERRY_VMM_RUNSTATE_H

enum ferry_runstate {
	FERRY_RUN_PRELAUNCH,		/* made, has never run */
	FERRY_RUN_RUNNING,
	FERRY_RUN_PAUSED,		/* by the user */
	FERRY_RUN_INMIGRATE,		/* it has yet to come */
	FERRY_RUN_FINISH_MIGRATE,	/* stopped for the switchover */
	FERRY_RUN_POSTMIGRATE,		/* it runs elsewhere */
	FERRY_RUN_SHUTDOWN,		/* the guest powered off */
	FERRY_RUN_INTERNAL_ERROR,	/* a vCPU cannot go on */
	FERRY_RUN_STATES
};

/* "prelaunch"; a static string. */
const char *ferry_runstate_name(enum ferry_runstate state);

#endif
