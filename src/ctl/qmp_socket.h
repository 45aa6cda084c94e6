/* SPDX-License-Identifier: MIT */
/*
 * Unix sockets by path: listening, connecting, who is there.
 */
#ifndef FERRY_CTL_QMP_SOCKET_H
#define FERRY_CTL_QMP_SOCKET_H

#include <sys/types.h>

#include "base/err.h"

/* What we made, so that only that is removed again. */
struct ferry_qmp_place {
	char	path[108];
	dev_t	dev;
	ino_t	ino;
};

/* It is as long as the path of a socket may be. */
FERRY_CHECKED int ferry_qmp_check_path(const char *path, struct ferry_err *e);

/*
 * Listen at a path, for this user only, without blocking.  A socket that
 * nobody listens at any more is replaced; a live one, and anything that is
 * not a socket, is refused.  Returns the fd or -1.
 */
FERRY_CHECKED int ferry_qmp_listen(const char *path,
				   struct ferry_qmp_place *place,
				   struct ferry_err *e);

/* Remove the socket file, if it is still the one that was made. */
void ferry_qmp_unlisten(const struct ferry_qmp_place *place);

/* A connected, blocking fd, or -1. */
FERRY_CHECKED int ferry_qmp_connect(const char *path, struct ferry_err *e);

/* The process at the other end, or 0 when the kernel does not say. */
pid_t ferry_qmp_peer_pid(int fd);

#endif
