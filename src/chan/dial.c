/* SPDX-License-Identifier: MIT */
/*
 * From an address to a channel.
 *
 * connect() does not wait; what waits is a poll() in slices, so that a user
 * who cancels is heard.  Threads: the caller's.
 */
#include "chan/uri.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "chan/resolve.h"
#include "chan/stream.h"

#define SLICE_MS	50
#define BACKLOG_WAIT_MS	10

struct dial {
	const struct ferry_uri *u;
	uint64_t until_ns;
	const _Atomic bool *cancel;
};

/* Wait for fd (-1: for nothing) a slice, or 0 ms; 0 when it is time to look
 * again, else the errno of why not. */
static int wait_slice(const struct dial *d, int fd, int slice_ms,
		      uint64_t until_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	if (d->cancel && atomic_load(d->cancel))
		return ECANCELED;
	if (ferry_now_ns() >= until_ns)
		return ETIMEDOUT;
	if (slice_ms)
		poll(&p, 1, slice_ms);
	return 0;
}

static bool is_connecting(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	return poll(&p, 1, 0) <= 0;
}

static int await_connected(const struct dial *d, int fd, uint64_t until_ns)
{
	socklen_t bytes = sizeof(int);
	int rc = 0;

	while (is_connecting(fd)) {
		rc = wait_slice(d, fd, SLICE_MS, until_ns);
		if (rc)
			return rc;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &rc, &bytes))
		return errno;
	return rc;
}

/*
 * A port that nobody listens on, from which our own end was picked, connects
 * to itself.
 */
static bool is_self(int fd)
{
	struct sockaddr_storage a = { 0 }, b = { 0 };
	socklen_t na = sizeof(a), nb = sizeof(b);

	if (getsockname(fd, (struct sockaddr *)&a, &na) ||
	    getpeername(fd, (struct sockaddr *)&b, &nb))
		return false;
	return a.ss_family != AF_UNIX && na == nb && !memcmp(&a, &b, na);
}

/* 0 or an errno.  A unix socket whose backlog is full says EAGAIN. */
static int start_connect(const struct dial *d, int fd,
			 const struct sockaddr *sa, socklen_t len,
			 uint64_t until_ns)
{
	int rc = wait_slice(d, -1, 0, until_ns);

	while (!rc) {
		if (!connect(fd, sa, len))
			return 0;
		if (errno != EAGAIN || sa->sa_family != AF_UNIX)
			return errno;
		rc = wait_slice(d, -1, BACKLOG_WAIT_MS, until_ns);
	}
	return rc;
}

/* A connected fd, or -errno. */
static int connect_to(const struct dial *d, const struct sockaddr *sa,
		      socklen_t len, uint64_t until_ns)
{
	FERRY_AUTO_FD fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC |
				  SOCK_NONBLOCK, 0);
	int rc;

	if (fd < 0)
		return -errno;
	rc = start_connect(d, fd, sa, len, until_ns);
	if (rc == EINPROGRESS || rc == EINTR)
		rc = await_connected(d, fd, until_ns);
	if (!rc && is_self(fd))
		rc = ECONNREFUSED;
	return rc ? -rc : ferry_steal_fd(&fd);
}

static int connect_failed(int sys, struct ferry_err *e)
{
	char why[96];

	switch (sys) {
	case ECANCELED:
		return ferry_err_set(e, FERRY_E_CANCELLED, 0, "cancelled");
	case ETIMEDOUT:
		ferry_err_set(e, FERRY_E_TIMEOUT, 0, "no answer in time");
		break;
	default:
		ferry_err_set(e, FERRY_E_IO, 0, "%s",
			      strerror_r(sys, why, sizeof(why)));
	}
	if (e)
		e->sys = sys;
	return -1;
}

/* The time left is shared among the addresses left, so that one that swallows
 * packets does not cost those behind it their turn. */
static uint64_t turn_ends(const struct dial *d, const struct addrinfo *ai)
{
	uint64_t now = ferry_now_ns(), left = 0;

	for (; ai; ai = ai->ai_next)
		left++;
	if (d->until_ns == UINT64_MAX || now >= d->until_ns)
		return d->until_ns;
	return now + (d->until_ns - now) / left;
}

static int connect_tcp(const struct dial *d, struct ferry_err *e)
{
	const char *host = *d->u->host ? d->u->host : "127.0.0.1";
	struct addrinfo *list;
	int fd = -1;

	if (!strcmp(d->u->port, "0"))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "port 0 is for listening only");
	list = ferry_resolve(host, d->u->port, 0, e);
	if (!list)
		return -1;

	for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
		fd = connect_to(d, ai->ai_addr, ai->ai_addrlen,
				turn_ends(d, ai));
		if (fd == -ECANCELED)
			break;
	}
	freeaddrinfo(list);
	return fd >= 0 ? fd : connect_failed(-fd, e);
}

static int connect_unix(const struct dial *d, struct ferry_err *e)
{
	struct sockaddr_un sa = ferry_unix_address(d->u);
	int fd = connect_to(d, (struct sockaddr *)&sa, sizeof(sa),
			    d->until_ns);

	return fd >= 0 ? fd : connect_failed(-fd, e);
}

static struct ferry_chan *dial_tcp(const struct dial *d, struct ferry_err *e)
{
	int fd = connect_tcp(d, e);

	return fd < 0 ? NULL : ferry_socket_new(fd, e);
}

static struct ferry_chan *dial_unix(const struct dial *d, struct ferry_err *e)
{
	int fd = connect_unix(d, e);

	return fd < 0 ? NULL : ferry_socket_new(fd, e);
}

static struct ferry_chan *dup_fd(const struct ferry_uri *u,
				 struct ferry_err *e)
{
	int fd = fcntl(u->fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0) {
		ferry_err_set(e, FERRY_E_INVALID, errno, "duplicate");
		return NULL;
	}
	return ferry_chan_fd(fd, e);
}

static struct ferry_chan *dial_fd(const struct dial *d, struct ferry_err *e)
{
	return dup_fd(d->u, e);
}

static struct ferry_chan *dial_file(const struct dial *d, struct ferry_err *e)
{
	return ferry_chan_file_at(d->u->path, 1, d->u->offset, e);
}

static const struct {
	const char *verb;	/* NULL: the error names the address already */
	struct ferry_chan *(*dial)(const struct dial *d, struct ferry_err *e);
} dialers[] = {
	[FERRY_URI_TCP]	 = { "connect", dial_tcp },
	[FERRY_URI_UNIX] = { "connect", dial_unix },
	[FERRY_URI_FD]	 = { "use",	dial_fd },
	[FERRY_URI_FILE] = { NULL,	dial_file },
};

static void name_address(struct ferry_err *e, const char *verb,
			 const struct ferry_uri *u)
{
	char text[FERRY_URI_SHOWN];

	ferry_uri_format(u, text, sizeof(text));
	ferry_err_wrap(e, "%s %s", verb, text);
}

struct ferry_chan *ferry_uri_dial(const struct ferry_uri *u,
				  uint32_t timeout_ms,
				  const _Atomic bool *cancel,
				  struct ferry_err *e)
{
	struct dial d = { .u = u, .until_ns = UINT64_MAX, .cancel = cancel };
	struct ferry_chan *c;

	if (timeout_ms)
		d.until_ns = ferry_now_ns() + timeout_ms * FERRY_NS_PER_MS;
	c = dialers[u->kind].dial(&d, e);
	if (!c && dialers[u->kind].verb)
		name_address(e, dialers[u->kind].verb, u);
	return c;
}

struct ferry_chan *ferry_uri_open(const struct ferry_uri *u,
				  struct ferry_err *e)
{
	struct ferry_chan *c = NULL;

	switch (u->kind) {
	case FERRY_URI_FILE:
		return ferry_chan_file_at(u->path, 0, u->offset, e);
	case FERRY_URI_FD:
		c = dup_fd(u, e);
		break;
	case FERRY_URI_TCP:
	case FERRY_URI_UNIX:
		ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
			      "this is an address to listen at");
		break;
	}
	if (!c)
		name_address(e, "use", u);
	return c;
}
