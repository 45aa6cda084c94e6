/* SPDX-License-Identifier: MIT */
/*
 * QMP, QEMU's machine protocol: what server and client both know.
 *
 * A server greets, a client answers qmp_capabilities, then sends
 *   {"execute": NAME, "arguments": {...}, "id": ANY}
 * and gets {"return": ...} or {"error": {"class", "desc"}} with the same id,
 * in order.  "exec-oob" instead of "execute" runs a command at once, beside
 * one that is still running, if both sides agreed on "oob" and the command
 * allows it.  {"event", "data", "timestamp"} come in between.
 */
#ifndef FERRY_CTL_QMP_H
#define FERRY_CTL_QMP_H

#include "ctl/json.h"

#define FERRY_QMP_CLIENTS_MAX	8u
#define FERRY_QMP_QUEUE_MAX	8u		/* commands waiting per client */
#define FERRY_QMP_OUT_PAUSE	(64u << 10)	/* unread: stop listening */
#define FERRY_QMP_OUT_MAX	(1u << 20)	/* unread: drop the client */
#define FERRY_QMP_ARGS_MAX	4u
#define FERRY_QMP_FLUSH_MS	500u		/* last words, at the end */

enum ferry_qmp_type {
	FERRY_QMP_STR,
	FERRY_QMP_INT,
	FERRY_QMP_BOOL,
	FERRY_QMP_ARRAY,
	FERRY_QMP_OBJECT,
};

struct ferry_qmp_arg {
	const char	   *name;	/* NULL ends the list */
	enum ferry_qmp_type type;
	bool		    optional;
};

enum ferry_qmp_flag {
	FERRY_QMP_OOB		= 1,	/* may run beside another command */
	FERRY_QMP_ANY_ARGS	= 2,	/* the handler checks its arguments */
};

/*
 * One row of a server's command table.  run: on the thread that dispatches,
 * or on the server's own for exec-oob, then possibly at the same time as
 * another.  args (borrowed, never NULL) fit the row.  0 and *ret (the
 * server's; NULL: {}), or -1 and *e.
 */
struct ferry_qmp_command {
	const char	*name;
	int		(*run)(void *opaque, struct json_object *args,
			       struct json_object **ret, struct ferry_err *e);
	unsigned	 flags;
	struct ferry_qmp_arg args[FERRY_QMP_ARGS_MAX + 1];
};

/* Check arguments against a row; texts as QEMU's.  args may be NULL (none). */
FERRY_CHECKED int ferry_qmp_check_args(const struct ferry_qmp_command *cmd,
				       const struct json_object *args,
				       struct ferry_err *e);

/* A request, split and checked for form; members borrowed from the object. */
struct ferry_qmp_request {
	const char	   *command;
	struct json_object *args;	/* or NULL */
	struct json_object *id;		/* or NULL; also when the rest is bad */
	bool		    oob;
};

FERRY_CHECKED int ferry_qmp_request_split(struct json_object *o,
					  bool oob_agreed,
					  struct ferry_qmp_request *r,
					  struct ferry_err *e);

/* {"error": {"class": ..., "desc": ...}} */
struct json_object *ferry_qmp_error(const char *class_name, const char *desc);

#endif
