/* SPDX-License-Identifier: MIT */
/*
 * Unix sockets by path.
 *
 * Two processes may find the same stale socket at the same moment; so probe,
 * unlink, bind and listen happen under a lock on the folder.  The lock lasts
 * for these few calls only, and leaves no file behind.
 */
#include "ctl/qmp_socket.h"

#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"

static int address(const char *path, struct sockaddr_un *sa,
		   struct ferry_err *e)
{
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!*path || strlen(path) >= sizeof(sa->sun_path))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
			"socket path '%.40s%s' must have 1 to %zu octets",
			path, strlen(path) > 40 ? "..." : "",
			sizeof(sa->sun_path) - 1);
	strcpy(sa->sun_path, path);
	return 0;
}

int ferry_qmp_check_path(const char *path, struct ferry_err *e)
{
	struct sockaddr_un sa;

	return address(path, &sa, e);
}

static int new_socket(struct ferry_err *e)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval patience = { .tv_sec = 2 };

	if (fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "socket");
	/* connect() waits while a server that hangs has its backlog full. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return fd;
}

static int dial(const struct sockaddr_un *sa, struct ferry_err *e)
{
	FERRY_AUTO_FD fd = new_socket(e);

	if (fd < 0)
		return -1;
	if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)))
		return ferry_err_set(e, FERRY_E_IO, errno, "connect to %s",
				     sa->sun_path);
	return ferry_steal_fd(&fd);
}

int ferry_qmp_connect(const char *path, struct ferry_err *e)
{
	struct sockaddr_un sa;

	return address(path, &sa, e) ? -1 : dial(&sa, e);
}

static int lock_folder(const char *path)
{
	FERRY_AUTO_FREE char *copy = strdup(path);
	int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
		      : -1;

	/* A folder that we may not read cannot be locked: go on without. */
	if (fd >= 0)
		flock(fd, LOCK_EX);
	return fd;
}

/* A live socket: name who has it. */
static int refuse_live(const struct sockaddr_un *sa, int fd,
		       struct ferry_err *e)
{
	pid_t pid = ferry_qmp_peer_pid(fd);

	close(fd);
	if (pid)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "process %d listens at %s already",
				     (int)pid, sa->sun_path);
	return ferry_err_set(e, FERRY_E_STATE, 0,
			     "another process listens at %s already",
			     sa->sun_path);
}

/* Make room at the path: 0 when nothing is there (any more). */
static int clear_stale(const struct sockaddr_un *sa, struct ferry_err *e)
{
	struct ferry_err why = { 0 };
	struct stat st;
	int fd;

	if (lstat(sa->sun_path, &st))
		return 0;		/* bind says what else is wrong */
	if (!S_ISSOCK(st.st_mode))
		return ferry_err_set(e, FERRY_E_INVALID, EEXIST, "listen at %s",
				     sa->sun_path);
	fd = dial(sa, &why);
	if (fd >= 0)
		return refuse_live(sa, fd, e);
	if (why.sys == EAGAIN)		/* its backlog is full */
		return ferry_err_set(e, FERRY_E_STATE, 0, "a process that "
				     "does not answer listens at %s already",
				     sa->sun_path);
	if (why.sys != ECONNREFUSED)
		return ferry_err_set(e, FERRY_E_IO, why.sys, "listen at %s",
				     sa->sun_path);
	if (unlink(sa->sun_path) && errno != ENOENT)
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "remove stale socket %s", sa->sun_path);
	return 0;
}

static int listen_locked(int fd, const struct sockaddr_un *sa,
			 struct ferry_qmp_place *place, struct ferry_err *e)
{
	struct stat st;

	if (clear_stale(sa, e))
		return -1;
	/* Before bind: the socket file takes this mode. */
	if (fchmod(fd, 0600) ||
	    bind(fd, (const struct sockaddr *)sa, sizeof(*sa)) ||
	    lstat(sa->sun_path, &st) ||
	    listen(fd, 16))
		return ferry_err_set(e, FERRY_E_IO, errno, "listen at %s",
				     sa->sun_path);
	strcpy(place->path, sa->sun_path);
	place->dev = st.st_dev;
	place->ino = st.st_ino;
	return 0;
}

int ferry_qmp_listen(const char *path, struct ferry_qmp_place *place,
		     struct ferry_err *e)
{
	FERRY_AUTO_FD fd = -1;
	FERRY_AUTO_FD lock = -1;
	struct sockaddr_un sa;

	if (address(path, &sa, e))
		return -1;
	fd = new_socket(e);
	if (fd < 0)
		return -1;
	lock = lock_folder(path);
	if (listen_locked(fd, &sa, place, e))
		return -1;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return ferry_steal_fd(&fd);
}

void ferry_qmp_unlisten(const struct ferry_qmp_place *place)
{
	struct stat st;

	if (!lstat(place->path, &st) && S_ISSOCK(st.st_mode) &&
	    st.st_dev == place->dev && st.st_ino == place->ino)
		unlink(place->path);
}

pid_t ferry_qmp_peer_pid(int fd)
{
	struct ucred who;
	socklen_t n = sizeof(who);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) ? 0 : who.pid;
}
