/* SPDX-License-Identifier: MIT */
/*
 * Runs one VM from outside: QMP, signals, migration, the end.  The machine
 * itself is machine.h; the engine is reached through <ferry/...> only.
 */
#ifndef FERRY_VMM_CONTROL_H
#define FERRY_VMM_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "vmm/inherited.h"
#include "vmm/machine.h"
#include "vmm/vhost_device.h"

/* How the process of a VM ends. */
#define FERRY_CONTROL_EXIT_OK		0	/* power-off, quit, signal */
#define FERRY_CONTROL_EXIT_FAILED	1	/* not started; vCPU, reset,
						 * incoming */
#define FERRY_CONTROL_EXIT_WORDS	2	/* not started: no host could */
#define FERRY_CONTROL_EXIT_LOST		4	/* ended by force in postcopy */

/* Strings are borrowed for the time of the run. */
struct ferry_control_config {
	const char	*name;		/* of the VM, for people */
	const char	*qmp_path;	/* where to listen */
	const char	*incoming;	/* URI, "defer", or NULL: boot */
	bool		 paused;	/* do not run before `cont` */
	bool		 no_shutdown;	/* stay when the guest powers off */
	struct ferry_inherited inherited;	/* what fd:N may name */
	const char *const *params;	/* "name=value" */
	size_t		 n_params;
	const char *const *bulk;	/* words of --bulk-state */
	size_t		 n_bulk;
	const struct ferry_vhost_words *vhost;	/* --vhost-user-... */
	size_t		 n_vhost;
};

/* What can be said of the words alone, on whatever host; nothing is opened. */
FERRY_CHECKED int
ferry_control_check_words(const struct ferry_control_config *config,
			  struct ferry_err *e);

/*
 * Makes the machine, runs it, returns when the process is to end.  Blocks
 * SIGTERM, SIGINT and SIGHUP in the calling thread, whose loop this is; says
 * what a person should know on stderr.  The machine's callbacks are set here.
 * 0, or -1 when it could not be started; *exit_code in any case.
 */
FERRY_CHECKED int
ferry_control_run(const struct ferry_control_config *config,
		  const struct ferry_machine_config *machine, int *exit_code,
		  struct ferry_err *e);

#endif
