/* SPDX-License-Identifier: MIT */
/*
 * A VM behind QMP, ferry's or QEMU's.
 *
 * QEMU's monitor serves one client at a time, and not at all while its main
 * loop waits for a page or for a connection; so a question to it may time out
 * without anything being wrong.
 */
#ifndef FERRY_TOOLS_PEER_H
#define FERRY_TOOLS_PEER_H

#include "base/err.h"
#include "ctl/qmp_client.h"

enum ferry_peer_kind {
	FERRY_PEER_FERRY,
	FERRY_PEER_QEMU,
};

struct ferry_peer {
	const char	*name;		/* as the user called it */
	struct ferry_qmp_client *qmp;	/* NULL: gone */
	enum ferry_peer_kind kind;
	unsigned	 version;	/* of QEMU: 702 for 7.2 */
	int		 patience_ms;	/* with one answer */
	char		 software[24];	/* "QEMU 7.2.22", "ferry run" */
};

/* Connect, and find out what it is.  vm: a name, or a path with a '/'; kept.
 * Whatever happened, close is right afterwards. */
FERRY_CHECKED int ferry_peer_open(struct ferry_peer *p, const char *vm,
				  struct ferry_err *e);
void ferry_peer_close(struct ferry_peer *p);

/* One command; an error names the VM and the command.  Takes args. */
FERRY_CHECKED int ferry_peer_call(struct ferry_peer *p, const char *command,
				  struct json_object *args,
				  struct json_object **ret,
				  struct ferry_err *e);

/* query-migrate and query-status; a QEMU's migration in ferry's shape. */
FERRY_CHECKED int ferry_peer_look(struct ferry_peer *p,
				  struct json_object **migration,
				  struct json_object **vm,
				  struct ferry_err *e);

#endif
