/* SPDX-License-Identifier: MIT */
/*
 * Waiting to be dialled.
 *
 * A unix socket leaves a file behind when its process dies.  Such a file is
 * replaced, but only after a connect() was refused and only if it is a socket;
 * on close the file is removed only if it is still the one we made.
 */
#include "chan/uri.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/stale.h"
#include "chan/resolve.h"
#include "chan/stream.h"

#define BACKLOG		128

struct ferry_listener {
	struct ferry_uri uri;	/* with the port that we got */
	int		 fd;
	dev_t		 dev;	/* of the unix socket's file */
	ino_t		 ino;
};

static int new_socket(int family)
{
	return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* A listening fd, or -errno. */
static int listen_at(const struct sockaddr *sa, socklen_t len)
{
	FERRY_AUTO_FD fd = new_socket(sa->sa_family);
	int on = 1, off = 0;

	if (fd < 0)
		return -errno;
	if (sa->sa_family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* The IPv6 wildcard takes IPv4 as well, where the system lets it. */
	if (sa->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, sa, len) || listen(fd, BACKLOG))
		return -errno;
	return ferry_steal_fd(&fd);
}

static void learn_port(struct ferry_listener *l)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} at = { 0 };
	socklen_t len = sizeof(at);

	getsockname(l->fd, &at.sa, &len);
	snprintf(l->uri.port, sizeof(l->uri.port), "%u",
		 ntohs(at.sa.sa_family == AF_INET6 ? at.in6.sin6_port :
						     at.in.sin_port));
}

/* At the first of the host's addresses that can be had: an fd, or -1. */
static int listen_host(const struct ferry_listener *l, const char *host,
		       struct ferry_err *e)
{
	struct addrinfo *list = ferry_resolve(host, l->uri.port, AI_PASSIVE,
					      e);
	int fd = -1;

	if (!list)
		return -1;
	for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
		fd = listen_at(ai->ai_addr, ai->ai_addrlen);
	freeaddrinfo(list);
	return fd < 0 ? ferry_err_set(e, FERRY_E_IO, -fd, "bind") : fd;
}

/* "::" serves both families, so it is tried first; without IPv6 there is
 * 0.0.0.0 yet. */
static int listen_any(const struct ferry_listener *l, struct ferry_err *e)
{
	int fd = listen_host(l, "::", NULL);

	return fd >= 0 ? fd : listen_host(l, "0.0.0.0", e);
}

static int listen_tcp(struct ferry_listener *l, struct ferry_err *e)
{
	l->fd = *l->uri.host ? listen_host(l, l->uri.host, e) :
			       listen_any(l, e);
	if (l->fd < 0)
		return -1;
	learn_port(l);
	return 0;
}

static int listen_unix(struct ferry_listener *l, struct ferry_err *e)
{
	struct sockaddr_un sa = ferry_unix_address(&l->uri);
	const struct sockaddr *any = (const struct sockaddr *)&sa;
	struct stat st;
	int fd = listen_at(any, sizeof(sa));

	if (fd == -EADDRINUSE && ferry_is_stale_socket(sa.sun_path)) {
		unlink(sa.sun_path);
		fd = listen_at(any, sizeof(sa));
	}
	if (fd < 0)
		return ferry_err_set(e, FERRY_E_IO, -fd, "bind");
	l->fd = fd;
	if (!lstat(sa.sun_path, &st)) {
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
	return 0;
}

static int listen_by_kind(struct ferry_listener *l, struct ferry_err *e)
{
	switch (l->uri.kind) {
	case FERRY_URI_TCP:
		return listen_tcp(l, e);
	case FERRY_URI_UNIX:
		return listen_unix(l, e);
	case FERRY_URI_FD:
	case FERRY_URI_FILE:
		break;
	}
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
			     "only tcp: and unix: can be listened at");
}

struct ferry_listener *ferry_listen(const struct ferry_uri *u,
				    struct ferry_err *e)
{
	struct ferry_listener *l = calloc(1, sizeof(*l));
	char text[FERRY_URI_SHOWN];

	if (!l) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "listener");
		return NULL;
	}
	l->uri = *u;
	l->fd = -1;
	if (listen_by_kind(l, e)) {
		ferry_uri_format(u, text, sizeof(text));
		ferry_err_wrap(e, "listen %s", text);
		free(l);
		return NULL;
	}
	return l;
}

int ferry_listener_fd(const struct ferry_listener *l)
{
	return l->fd;
}

/* A caller that went away before we came, or a signal: not our trouble. */
static bool is_passing(int sys)
{
	return sys == EINTR || sys == ECONNABORTED || sys == EPROTO ||
	       sys == ENETDOWN || sys == EHOSTUNREACH || sys == ENETUNREACH;
}

static struct ferry_chan *take(int fd, const struct sockaddr_storage *from,
			       socklen_t bytes, struct ferry_err *e)
{
	struct ferry_chan *chan = ferry_socket_new(fd, e);
	char host[64] = "a unix socket";

	if (!chan)
		return NULL;
	if (from->ss_family != AF_UNIX &&
	    getnameinfo((const struct sockaddr *)from, bytes, host,
			sizeof(host), NULL, 0, NI_NUMERICHOST))
		snprintf(host, sizeof(host), "somewhere");
	ferry_chan_set_name(chan, "from %s", host);
	return chan;
}

struct ferry_chan *ferry_listener_accept(struct ferry_listener *l,
					 struct ferry_err *e)
{
	struct sockaddr_storage from = { 0 };
	char text[FERRY_URI_SHOWN];
	socklen_t bytes;
	int fd;

	do {
		bytes = sizeof(from);
		fd = accept4(l->fd, (struct sockaddr *)&from, &bytes,
			     SOCK_CLOEXEC);
	} while (fd < 0 && is_passing(errno));
	if (fd >= 0)
		return take(fd, &from, bytes, e);

	if (errno == EAGAIN) {
		ferry_err_set(e, FERRY_E_TIMEOUT, 0, "nobody is waiting");
		return NULL;
	}
	ferry_err_set(e, FERRY_E_IO, errno, "accept");
	ferry_listener_uri(l, text, sizeof(text));
	ferry_err_wrap(e, "listen %s", text);
	return NULL;
}

void ferry_listener_uri(const struct ferry_listener *l, char *buf,
			size_t bytes)
{
	ferry_uri_format(&l->uri, buf, bytes);
}

static void remove_file(const struct ferry_listener *l)
{
	struct stat st;

	if (l->ino && !lstat(l->uri.path, &st) && st.st_dev == l->dev &&
	    st.st_ino == l->ino)
		unlink(l->uri.path);
}

void ferry_listener_close(struct ferry_listener *l)
{
	if (!l)
		return;
	remove_file(l);
	close(l->fd);
	free(l);
}
