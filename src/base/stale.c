/* SPDX-License-Identifier: MIT */
/*
 * See stale.h.
 */
#include "base/stale.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"

bool ferry_is_stale_socket(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	FERRY_AUTO_FD fd = -1;
	struct stat st;

	/* connect() is refused by ordinary files too. */
	if (strlen(path) >= sizeof(sa.sun_path) || lstat(path, &st) ||
	    !S_ISSOCK(st.st_mode))
		return false;
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) &&
	       errno == ECONNREFUSED;
}
