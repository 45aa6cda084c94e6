/* SPDX-License-Identifier: MIT */
/*
 * Pipes, fifos, terminals and other devices that can make one wait.
 *
 * They know no MSG_DONTWAIT, MSG_NOSIGNAL or shutdown(2): O_NONBLOCK is set
 * while the channel lives, SIGPIPE is kept off the writing thread, and an
 * eventfd wakes who polls.
 */
#include "chan/stream.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/quiet.h"

/*
 * A fifo that nobody has opened for writing yet reads as ended; unlike one
 * whose writer has gone it does not hang up.
 */
static bool is_hung_up(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

static ssize_t try_readv_pipe(struct ferry_stream *s, const struct iovec *iov,
			      int n)
{
	ssize_t rc = readv(s->fd, iov, ferry_stream_iovs(n));

	if (rc == 0 && !is_hung_up(s->fd))
		return -EAGAIN;
	return rc < 0 ? -errno : rc;
}

static ssize_t try_readv_device(struct ferry_stream *s,
				const struct iovec *iov, int n)
{
	ssize_t rc = readv(s->fd, iov, ferry_stream_iovs(n));

	return rc < 0 ? -errno : rc;
}

static ssize_t try_writev(struct ferry_stream *s, const struct iovec *iov,
			  int n)
{
	return ferry_writev_quietly(s->fd, iov, ferry_stream_iovs(n));
}

static void wake(struct ferry_stream *s)
{
	/* Fails only when the counter is full: then it is awake. */
	eventfd_write(s->wake_fd, 1);
}

static int prepare(struct ferry_stream *s, struct ferry_err *e)
{
	int flags = fcntl(s->fd, F_GETFL);

	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake_fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "eventfd");
	if (flags & O_NONBLOCK)
		return 0;
	if (fcntl(s->fd, F_SETFL, flags | O_NONBLOCK))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "fd %d: set O_NONBLOCK", s->fd);
	s->old_flags = flags;
	return 0;
}

static void release(struct ferry_stream *s)
{
	if (s->old_flags >= 0)
		fcntl(s->fd, F_SETFL, s->old_flags);
	if (s->wake_fd >= 0)
		close(s->wake_fd);
}

#define PIPE_KIND(name_, try_readv_) {					\
	.ops = {							\
		.kind = name_,						\
		.readv = ferry_stream_readv,				\
		.writev = ferry_stream_writev,				\
		.shutdown = ferry_stream_shutdown,			\
		.wait = ferry_stream_wait,				\
		.features = ferry_stream_features,			\
		.limit_unsent = ferry_stream_no_limit,			\
		.ack_at_once = ferry_stream_no_ack,			\
		.set_timeout = ferry_stream_set_timeout,		\
		.flush = ferry_stream_no_flush,				\
		.export_key = ferry_stream_no_key,			\
		.close = ferry_stream_close,				\
	},								\
	.try_readv = try_readv_,					\
	.try_writev = try_writev,					\
	.prepare = prepare,						\
	.wake = wake,							\
	.release = release,						\
}

const struct ferry_stream_kind
ferry_stream_pipe = PIPE_KIND("pipe", try_readv_pipe),
ferry_stream_device = PIPE_KIND("device", try_readv_device);
