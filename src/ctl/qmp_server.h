/* SPDX-License-Identifier: MIT */
/*
 * A QMP server on a unix socket.
 *
 * One I/O thread of its own accepts, parses, runs exec-oob commands and
 * writes.  Ordinary commands wait in one queue, in order, for a thread of the
 * embedder's, which sees by ferry_qmp_server_fd() that there are some.
 * Clients that send nonsense get an error; those that do not read are dropped;
 * neither holds up another.
 */
#ifndef FERRY_CTL_QMP_SERVER_H
#define FERRY_CTL_QMP_SERVER_H

#include "ctl/qmp.h"

struct ferry_qmp_server;

struct ferry_qmp_config {
	const char	*path;		/* of the socket */
	const struct ferry_qmp_command *commands;	/* kept, not copied */
	size_t		 n;
	void		*opaque;	/* given to the commands */
	unsigned	 major, minor, micro;
	const char	*package;	/* "ferry-0.1.0"; kept */
};

/*
 * The server itself answers qmp_capabilities, query-commands and
 * query-version.
 */
struct ferry_qmp_server *
ferry_qmp_server_new(const struct ferry_qmp_config *config,
		     struct ferry_err *e);

/* Removes the socket and gives clients a moment to read what they were told
 * last.  Later events go nowhere; commands that still wait are dropped. */
void ferry_qmp_server_stop(struct ferry_qmp_server *s);

/* Stops it if it was not, and frees. */
void ferry_qmp_server_free(struct ferry_qmp_server *s);

/* Readable while an ordinary command waits. */
int ferry_qmp_server_fd(const struct ferry_qmp_server *s);

/* Run one waiting command, if there is one, and send its reply.  One thread
 * at a time. */
void ferry_qmp_server_dispatch(struct ferry_qmp_server *s);

/* Tell all negotiated clients.  Any thread; takes data (may be NULL). */
void ferry_qmp_server_event(struct ferry_qmp_server *s, const char *name,
			    struct json_object *data);

#endif
