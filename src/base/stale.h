/* SPDX-License-Identifier: MIT */
/*
 * Sockets that were left behind: a process that was killed does not remove the
 * file of its socket, and nobody else can bind to it.
 */
#ifndef FERRY_BASE_STALE_H
#define FERRY_BASE_STALE_H

#include <stdbool.h>

/* There is a socket, and nobody listens at it: it may be removed.  Does not
 * wait; ordinary files are none. */
bool ferry_is_stale_socket(const char *path);

#endif
