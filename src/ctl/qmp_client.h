/* SPDX-License-Identifier: MIT */
/*
 * A QMP client, for ferry's server and for QEMU's.
 *
 * Threads: one at a time.  Blocks in poll, never longer than told.
 */
#ifndef FERRY_CTL_QMP_CLIENT_H
#define FERRY_CTL_QMP_CLIENT_H

#include <sys/types.h>

#include "ctl/json.h"

struct ferry_qmp_client;

#define FERRY_QMP_EVENTS_MAX	256u	/* unread; then the oldest goes */

/* Connect and negotiate (with oob where it is offered). */
struct ferry_qmp_client *ferry_qmp_client_open(const char *path,
					       int timeout_ms,
					       struct ferry_err *e);
void ferry_qmp_client_close(struct ferry_qmp_client *c);

/*
 * Run a command; takes args (NULL: none).  0 and *ret (the caller's; ret may
 * be NULL), or -1: FERRY_E_PEER with the server's own words, FERRY_E_TIMEOUT,
 * or FERRY_E_CLOSED.
 */
FERRY_CHECKED int ferry_qmp_client_call(struct ferry_qmp_client *c,
					const char *command,
					struct json_object *args,
					int timeout_ms,
					struct json_object **ret,
					struct ferry_err *e);

/* As exec-oob, when that was agreed on; else as an ordinary command. */
FERRY_CHECKED int ferry_qmp_client_call_oob(struct ferry_qmp_client *c,
					    const char *command,
					    struct json_object *args,
					    int timeout_ms,
					    struct json_object **ret,
					    struct ferry_err *e);

/* The next event (the caller's): 1, or 0 when time ran out, or -1.  With 0 ms
 * it takes only what is there. */
FERRY_CHECKED int ferry_qmp_client_event(struct ferry_qmp_client *c,
					 int timeout_ms,
					 struct json_object **event,
					 struct ferry_err *e);

/* To poll for input beside other fds; take all events before doing so. */
int ferry_qmp_client_fd(const struct ferry_qmp_client *c);

/* The server's process, or 0. */
pid_t ferry_qmp_client_pid(const struct ferry_qmp_client *c);

/* "package" of the greeting's version; borrowed, "" if there was none. */
const char *ferry_qmp_client_package(const struct ferry_qmp_client *c);

#endif
