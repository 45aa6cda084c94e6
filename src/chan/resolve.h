/* SPDX-License-Identifier: MIT */
/*
 * Internal to chan/: from an address to what the kernel takes.
 */
#ifndef FERRY_CHAN_RESOLVE_H
#define FERRY_CHAN_RESOLVE_H

#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "chan/uri.h"

/*
 * The addresses of a host, to be freed with freeaddrinfo(), or NULL and *e
 * (not naming the host: callers do).  Only a name makes this wait, for as long
 * as the system's resolver does.
 */
struct addrinfo *ferry_resolve(const char *host, const char *port, int flags,
			       struct ferry_err *e);

/* ferry_uri_parse() has seen that the path fits. */
struct sockaddr_un ferry_unix_address(const struct ferry_uri *u);

/* For messages: an address short enough to leave room for the reason. */
#define FERRY_URI_SHOWN	160

#endif
