/* SPDX-License-Identifier: MIT */
/*
 * The part of a channel over an fd that does not depend on what the fd is.
 *
 * The system call comes first and poll() only when it would block: a channel
 * that keeps up costs one system call for each readv or writev.
 */
#include "chan/stream.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

/* How a timeout is waited for. */
#define SLICES		8
#define SLICE_NS	(250 * FERRY_NS_PER_MS)

/* poll() takes an int of milliseconds: round up, wait again if it is more. */
static int poll_ms(uint64_t until_ns)
{
	uint64_t now, ms;

	if (until_ns == UINT64_MAX)
		return -1;
	now = ferry_now_ns();
	if (now >= until_ns)
		return 0;
	ms = (until_ns - now + FERRY_NS_PER_MS - 1) / FERRY_NS_PER_MS;
	return ms < INT_MAX ? (int)ms : INT_MAX;
}

/* 1 when a call would make progress, be it by failing; 0: time is up. */
static int wait_until(struct ferry_stream *s, short events, uint64_t until_ns)
{
	struct pollfd p[2] = {
		{ .fd = s->fd, .events = events },
		{ .fd = s->wake_fd, .events = POLLIN },
	};

	for (;;) {
		int ms = poll_ms(until_ns);
		int rc = poll(p, FERRY_LEN(p), ms);

		if (rc > 0)
			return 1;
		if (rc == 0 && ms == 0)
			return 0;
		if (rc < 0 && errno != EINTR)
			return -errno;
	}
}

/*
 * Silence is what we heard nothing in, and who stood still himself (its host
 * did, or it was stopped) heard nobody: the peer, on that host perhaps, may
 * have stood as well.  So it is waited for in slices, and of one that took much
 * longer than it is only its length counts.
 */
static int wait_in_slices(struct ferry_stream *s, short events,
			  uint64_t slice_ns, uint64_t *left_ns)
{
	while (*left_ns > 0) {
		uint64_t slice = *left_ns < slice_ns ? *left_ns : slice_ns;
		uint64_t began = ferry_now_ns(), took;
		int rc = wait_until(s, events, began + slice);

		if (rc)
			return rc;
		took = ferry_now_ns() - began;
		if (took > 2 * slice_ns)
			took = slice;
		*left_ns -= took < *left_ns ? took : *left_ns;
	}
	return 0;
}

static int await_peer(struct ferry_stream *s, short events,
		      uint32_t timeout_ms, uint64_t *left_ns)
{
	uint64_t slice = timeout_ms * FERRY_NS_PER_MS / SLICES;

	if (!timeout_ms)
		return wait_until(s, events, UINT64_MAX);
	return wait_in_slices(s, events,
			      slice < SLICE_NS ? slice : SLICE_NS, left_ns);
}

/*
 * One direction.  The flag is looked at after each failure as well: what the
 * kernel says about an fd that we shut down (0, EPIPE, EIO) is not the peer's
 * doing.
 */
static ssize_t transfer(struct ferry_stream *s, const struct iovec *iov, int n,
			short events)
{
	bool in = events == POLLIN;
	bool waits = false;
	uint32_t timeout_ms = 0;
	uint64_t left_ns = 0;

	for (;;) {
		ssize_t rc;
		int ready;

		if (atomic_load_explicit(&s->shut, memory_order_acquire))
			return -ESHUTDOWN;
		rc = in ? s->kind->try_readv(s, iov, n) :
			  s->kind->try_writev(s, iov, n);
		if (rc > 0)
			return rc;
		if (rc == -EINTR)
			continue;
		if (rc != -EAGAIN) {
			if (atomic_load_explicit(&s->shut,
						 memory_order_acquire))
				return -ESHUTDOWN;
			return rc;
		}

		if (!waits) {
			timeout_ms = in ? s->read_ms : s->write_ms;
			left_ns = timeout_ms * FERRY_NS_PER_MS;
			waits = true;
		}
		ready = await_peer(s, events, timeout_ms, &left_ns);
		if (ready <= 0)
			return ready ? ready : -ETIMEDOUT;
	}
}

ssize_t ferry_stream_readv(struct ferry_chan *c, const struct iovec *iov,
			   int n)
{
	ssize_t got = transfer(ferry_stream_of(c), iov, n, POLLIN);

	if (got > 0)
		atomic_fetch_add_explicit(&c->read_bytes, (uint64_t)got,
					  memory_order_relaxed);
	return got;
}

ssize_t ferry_stream_writev(struct ferry_chan *c, const struct iovec *iov,
			    int n)
{
	ssize_t put = transfer(ferry_stream_of(c), iov, n, POLLOUT);

	assert(put != 0);
	if (put > 0)
		atomic_fetch_add_explicit(&c->written_bytes, (uint64_t)put,
					  memory_order_relaxed);
	return put;
}

void ferry_stream_shutdown(struct ferry_chan *c)
{
	struct ferry_stream *s = ferry_stream_of(c);

	atomic_store_explicit(&s->shut, true, memory_order_release);
	s->kind->wake(s);
}

int ferry_stream_wait(struct ferry_chan *c, short events, int timeout_ms)
{
	uint64_t until = UINT64_MAX;

	if (timeout_ms >= 0)
		until = ferry_now_ns() + (uint64_t)timeout_ms *
					 FERRY_NS_PER_MS;
	return wait_until(ferry_stream_of(c), events, until);
}

unsigned ferry_stream_features(struct ferry_chan *c)
{
	return ferry_stream_of(c)->features;
}

void ferry_stream_set_timeout(struct ferry_chan *c, uint32_t read_ms,
			      uint32_t write_ms)
{
	struct ferry_stream *s = ferry_stream_of(c);

	s->read_ms = read_ms;
	s->write_ms = write_ms;
}

void ferry_stream_close(struct ferry_chan *c)
{
	struct ferry_stream *s = ferry_stream_of(c);

	s->kind->release(s);
	close(s->fd);
	free(s);
}

void ferry_stream_no_limit(struct ferry_chan *c, uint32_t bytes)
{
	(void)c, (void)bytes;
}

void ferry_stream_no_ack(struct ferry_chan *c)
{
	(void)c;
}

int ferry_stream_no_flush(struct ferry_chan *c)
{
	(void)c;
	return 0;
}

int ferry_stream_no_key(struct ferry_chan *c, const char *label,
			const void *context, size_t bytes, uint8_t *key,
			size_t key_bytes)
{
	(void)c, (void)label, (void)context, (void)bytes;
	(void)key, (void)key_bytes;
	return -EOPNOTSUPP;
}

void ferry_stream_no_wake(struct ferry_stream *s)
{
	(void)s;
}

void ferry_stream_no_release(struct ferry_stream *s)
{
	(void)s;
}

struct ferry_chan *ferry_stream_new(const struct ferry_stream_kind *kind,
				    int fd, unsigned features,
				    struct ferry_err *e)
{
	struct ferry_stream *s = calloc(1, sizeof(*s));

	if (!s) {
		close(fd);
		ferry_err_set(e, FERRY_E_NOMEM, errno, "channel");
		return NULL;
	}
	s->base.ops = &kind->ops;
	s->kind = kind;
	s->fd = fd;
	s->wake_fd = -1;
	s->old_flags = -1;
	atomic_init(&s->undo_at, FERRY_STREAM_KEEP);
	s->features = features;
	ferry_chan_set_name(&s->base, "%s", kind->ops.kind);

	if (kind->prepare(s, e)) {
		ferry_stream_close(&s->base);
		return NULL;
	}
	return &s->base;
}
