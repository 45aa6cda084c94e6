/* SPDX-License-Identifier: MIT */
/*
 * Stream sockets.
 *
 * MSG_DONTWAIT makes one call not wait, whatever the description's O_NONBLOCK
 * says, and shutdown(2) wakes who polls: nothing but the socket is needed.
 */
#include "chan/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>


static ssize_t try_readv(struct ferry_stream *s, const struct iovec *iov,
			 int n)
{
	struct msghdr m = {
		.msg_iov = (struct iovec *)iov,
		.msg_iovlen = (size_t)ferry_stream_iovs(n),
	};
	ssize_t rc = recvmsg(s->fd, &m, MSG_DONTWAIT);

	return rc < 0 ? -errno : rc;
}

static void set_tcp(struct ferry_stream *s, int option, unsigned value)
{
	setsockopt(s->fd, IPPROTO_TCP, option, &value, sizeof(value));
}

/* The kernel forgets it as soon as it likes. */
static ssize_t try_readv_tcp(struct ferry_stream *s, const struct iovec *iov,
			     int n)
{
	ssize_t rc = try_readv(s, iov, n);

	if (rc > 0 && s->ack_at_once)
		set_tcp(s, TCP_QUICKACK, 1);
	return rc;
}

static ssize_t try_writev(struct ferry_stream *s, const struct iovec *iov,
			  int n)
{
	struct msghdr m = {
		.msg_iov = (struct iovec *)iov,
		.msg_iovlen = (size_t)ferry_stream_iovs(n),
	};
	ssize_t rc = sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

	return rc < 0 ? -errno : rc;
}

static void wake(struct ferry_stream *s)
{
	shutdown(s->fd, SHUT_RDWR);
}

static int prepare_plain(struct ferry_stream *s, struct ferry_err *e)
{
	(void)s, (void)e;
	return 0;
}

/* Hints all: a socket that refuses them still carries octets. */
static int prepare_tcp(struct ferry_stream *s, struct ferry_err *e)
{
	int one = 1;

	(void)e;
	set_tcp(s, TCP_NODELAY, 1);
	setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	return 0;
}

static void limit_unsent_tcp(struct ferry_chan *c, uint32_t bytes)
{
	set_tcp(ferry_stream_of(c), TCP_NOTSENT_LOWAT, bytes);
}

static void ack_at_once_tcp(struct ferry_chan *c)
{
	ferry_stream_of(c)->ack_at_once = true;
}

/* Room in the socket buffer hides a dead peer from our own write timeout;
 * TCP_USER_TIMEOUT bounds how long what is in there may stay unacknowledged. */
static void set_timeout_tcp(struct ferry_chan *c, uint32_t read_ms,
			    uint32_t write_ms)
{
	ferry_stream_set_timeout(c, read_ms, write_ms);
	set_tcp(ferry_stream_of(c), TCP_USER_TIMEOUT,
		write_ms < INT_MAX ? write_ms : INT_MAX);
}

#define SOCKET_KIND(name_, try_readv_, prepare_, limit_unsent_,		\
		    ack_at_once_, set_timeout_) {			\
	.ops = {							\
		.kind = name_,						\
		.readv = ferry_stream_readv,				\
		.writev = ferry_stream_writev,				\
		.shutdown = ferry_stream_shutdown,			\
		.wait = ferry_stream_wait,				\
		.features = ferry_stream_features,			\
		.limit_unsent = limit_unsent_,				\
		.ack_at_once = ack_at_once_,				\
		.set_timeout = set_timeout_,				\
		.flush = ferry_stream_no_flush,				\
		.export_key = ferry_stream_no_key,			\
		.close = ferry_stream_close,				\
	},								\
	.try_readv = try_readv_,					\
	.try_writev = try_writev,					\
	.prepare = prepare_,						\
	.wake = wake,							\
	.release = ferry_stream_no_release,				\
}

#define LOCAL_KIND(name_)						\
	SOCKET_KIND(name_, try_readv, prepare_plain, ferry_stream_no_limit, \
		    ferry_stream_no_ack, ferry_stream_set_timeout)

static const struct ferry_stream_kind
tcp_kind = SOCKET_KIND("tcp", try_readv_tcp, prepare_tcp, limit_unsent_tcp,
		       ack_at_once_tcp, set_timeout_tcp),
unix_kind = LOCAL_KIND("unix"),
pair_kind = LOCAL_KIND("pair"),
other_kind = LOCAL_KIND("socket");

#define SOCKET_FEATURES \
	(FERRY_CHAN_READ | FERRY_CHAN_WRITE | FERRY_CHAN_TWO_WAY)

static int socket_option(int fd, int option)
{
	int value = -1;
	socklen_t bytes = sizeof(value);

	getsockopt(fd, SOL_SOCKET, option, &value, &bytes);
	return value;
}

static const struct ferry_stream_kind *kind_of_domain(int fd)
{
	switch (socket_option(fd, SO_DOMAIN)) {
	case AF_INET:
	case AF_INET6:
		return &tcp_kind;
	case AF_UNIX:
		return &unix_kind;
	default:
		return &other_kind;
	}
}

const struct ferry_stream_kind *ferry_socket_kind(int fd, unsigned *features,
						  struct ferry_err *e)
{
	struct sockaddr_storage peer;
	socklen_t bytes = sizeof(peer);

	if (socket_option(fd, SO_TYPE) != SOCK_STREAM) {
		ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
			      "fd %d is a socket of messages, not of a stream",
			      fd);
		return NULL;
	}
	if (getpeername(fd, (struct sockaddr *)&peer, &bytes)) {
		ferry_err_set(e, FERRY_E_IO, errno, "fd %d", fd);
		return NULL;
	}

	*features = SOCKET_FEATURES;
	return kind_of_domain(fd);
}

struct ferry_chan *ferry_socket_new(int fd, struct ferry_err *e)
{
	return ferry_stream_new(kind_of_domain(fd), fd,
				SOCKET_FEATURES | FERRY_CHAN_MORE, e);
}

int ferry_chan_pair(struct ferry_chan *end[2], struct ferry_err *e)
{
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd))
		return ferry_err_set(e, FERRY_E_IO, errno, "socketpair");

	end[0] = ferry_stream_new(&pair_kind, fd[0], SOCKET_FEATURES, e);
	end[1] = ferry_stream_new(&pair_kind, fd[1], SOCKET_FEATURES, e);
	if (end[0] && end[1])
		return 0;
	ferry_chan_close(end[0]);
	ferry_chan_close(end[1]);
	return -1;
}
