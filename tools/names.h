/* SPDX-License-Identifier: MIT */
/*
 * Names of VMs.  Each running VM keeps its QMP socket as NAME.qmp in the
 * runtime folder: $FERRY_RUNTIME_DIR, else $XDG_RUNTIME_DIR/ferry, else
 * /run/ferry.
 */
#ifndef FERRY_TOOLS_NAMES_H
#define FERRY_TOOLS_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "ctl/qmp_client.h"

/* Behind a folder that cannot be used. */
#define FERRY_NAMES_HINT " (set FERRY_RUNTIME_DIR to have it elsewhere)"

#define FERRY_QMP_TIMEOUT_MS	30000

/* The runtime folder; made (mode 0700) if `make`. */
FERRY_CHECKED int ferry_names_dir(char *buf, size_t bytes, int make,
				  struct ferry_err *e);

/* 1 to 64 letters, digits, '-', '_' and '.', not beginning with '.'. */
FERRY_CHECKED int ferry_names_check(const char *name, struct ferry_err *e);

/* The socket of a VM, given by name, or as a path (it has a '/'). */
FERRY_CHECKED int ferry_names_socket(const char *vm, char *buf, size_t bytes,
				     struct ferry_err *e);

/* Connect to a VM, and hear its greeting in time.  NULL and *e. */
struct ferry_qmp_client *ferry_names_open(const char *vm, int timeout_ms,
					  struct ferry_err *e);

/* By what ferry_names_open() said: its process is gone, the socket is left. */
bool ferry_names_is_dead(const struct ferry_err *e);

#endif
