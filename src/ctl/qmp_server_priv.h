/* SPDX-License-Identifier: MIT */
/*
 * What the two halves of the QMP server share: the I/O loop (qmp_server.c)
 * and the way of a request (qmp_dispatch.c).
 */
#ifndef FERRY_CTL_QMP_SERVER_PRIV_H
#define FERRY_CTL_QMP_SERVER_PRIV_H

#include <pthread.h>

#include "base/thread.h"
#include "ctl/qmp_conn.h"
#include "ctl/qmp_server.h"
#include "ctl/qmp_socket.h"

/* A request on its way; owned by the queue, then by the dispatcher. */
struct ferry_qmp_item {
	struct ferry_qmp_item *next;
	uint64_t	conn;		/* its id: it may be gone by then */
	const struct ferry_qmp_command *cmd;
	void		*opaque;
	struct json_object *request;	/* owns what is borrowed below */
	struct json_object *args;
	struct json_object *id;
	struct json_object *reply;	/* ready made (an error), or NULL */
};

/*
 * Threads: config and fds never change while the I/O thread runs; conn[] is
 *          changed by the I/O thread alone, under the lock; queue, stop and
 *          the lower part of each conn are anyone's, under the lock.
 * Order:   the lock is a leaf: nothing else is taken or called under it, and
 *          no command runs under it.
 */
struct ferry_qmp_server {
	struct ferry_qmp_config config;
	struct ferry_qmp_place place;
	int		listen_fd;
	int		wake_fd;	/* to the I/O thread */
	int		work_fd;	/* to the dispatcher; counts items */
	struct ferry_thread thread;
	uint64_t	next_id;
	bool		deaf;		/* I/O thread: accept() failed lately */

	pthread_mutex_t	lock;
	struct ferry_qmp_conn *conn[FERRY_QMP_CLIENTS_MAX];
	struct ferry_qmp_item *first, **last;
	bool		stop;
};

/* The I/O thread has something to write, or to read again. */
void ferry_qmp_server_wake(struct ferry_qmp_server *s);

/* I/O thread: one value from a client, or (NULL, why) nonsense from it. */
void ferry_qmp_server_take(struct ferry_qmp_server *s,
			   struct ferry_qmp_conn *c, struct json_object *value,
			   const struct ferry_err *why);

struct json_object *ferry_qmp_greeting(const struct ferry_qmp_config *config);
void ferry_qmp_item_free(struct ferry_qmp_item *item);

#endif
