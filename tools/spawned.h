/* SPDX-License-Identifier: MIT */
/*
 * A process started by a line for the shell, in a group of its own, that is
 * ended with all it has started.  One thread.
 */
#ifndef FERRY_TOOLS_SPAWNED_H
#define FERRY_TOOLS_SPAWNED_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

struct ferry_spawned {
	pid_t	pid;		/* 0: none */
	int	in;		/* its standard input, kept open */
	char	how[64];	/* it ended: "exit code 1", "signal Aborted" */
};

/* Its standard input is a pipe in which nothing ever comes, its output ours. */
FERRY_CHECKED int ferry_spawned_start(struct ferry_spawned *s,
				      const char *command,
				      struct ferry_err *e);

/* false: it has ended, or was not started; how is filled in. */
bool ferry_spawned_is_alive(struct ferry_spawned *s);

/* SIGTERM, and a moment later SIGKILL.  Safe when there is none. */
void ferry_spawned_end(struct ferry_spawned *s);

/* The same for its pid, in a signal's handler, behind which the process ends:
 * calls nothing that a handler may not. */
void ferry_spawned_end_in_handler(pid_t pid);

#endif
