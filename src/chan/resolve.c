/* SPDX-License-Identifier: MIT */
/*
 * Names to addresses.  Any thread.
 */
#include "chan/resolve.h"

#include <string.h>

/* gai's codes are not errnos. */
static int fail(int rc, struct ferry_err *e)
{
	if (rc == EAI_SYSTEM)
		return ferry_err_set(e, FERRY_E_IO, errno, "look up");
	return ferry_err_set(e, rc == EAI_MEMORY ? FERRY_E_NOMEM : FERRY_E_IO,
			     0, "look up: %s", gai_strerror(rc));
}

struct addrinfo *ferry_resolve(const char *host, const char *port, int flags,
			       struct ferry_err *e)
{
	struct addrinfo want = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = flags | AI_NUMERICSERV,
	};
	struct addrinfo *list = NULL;
	int rc = getaddrinfo(host, port, &want, &list);

	if (rc) {
		fail(rc, e);
		return NULL;
	}
	return list;
}

struct sockaddr_un ferry_unix_address(const struct ferry_uri *u)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	memcpy(sa.sun_path, u->path,
	       strnlen(u->path, sizeof(sa.sun_path) - 1));
	return sa;
}
