/* SPDX-License-Identifier: MIT */
/* See keeper_pipe.h.  SIGPIPE is blocked or ignored by who writes. */
#include "vmm/keeper_pipe.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

int ferry_keeper_await(int fd, short events, int stop_fd, int most_ms)
{
	struct pollfd p[2] = { { fd, events, 0 }, { stop_fd, POLLIN, 0 } };
	int n;

	do
		n = poll(p, 2, most_ms);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (p[1].revents)
		return -ECANCELED;
	return n ? 0 : -ETIMEDOUT;
}

/* *at counts what was moved; more of it when the other end lets it. */
static int move(int fd, short events, ssize_t n, size_t *at, int stop_fd,
		int most_ms)
{
	if (n > 0) {
		*at += (size_t)n;
		return 0;
	}
	if (n == 0)
		return -EPIPE;
	if (errno == EINTR)
		return 0;
	return errno == EAGAIN ?
	       ferry_keeper_await(fd, events, stop_fd, most_ms) : -errno;
}

static int pull(int fd, void *data, size_t *at, size_t bytes, int stop_fd,
		int most_ms)
{
	uint8_t *to = data;
	int rc = 0;

	while (*at < bytes && !rc)
		rc = move(fd, POLLIN, read(fd, to + *at, bytes - *at), at,
			  stop_fd, most_ms);
	return rc;
}

static int push(int fd, const void *data, size_t *at, size_t bytes,
		int stop_fd, int most_ms)
{
	const uint8_t *from = data;
	int rc = 0;

	while (*at < bytes && !rc)
		rc = move(fd, POLLOUT, write(fd, from + *at, bytes - *at), at,
			  stop_fd, most_ms);
	return rc;
}

int ferry_keeper_read(int fd, void *data, size_t bytes, int most_ms)
{
	size_t at = 0;

	return pull(fd, data, &at, bytes, -1, most_ms);
}

int ferry_keeper_write(int fd, const void *data, size_t bytes, int most_ms)
{
	size_t at = 0;

	return push(fd, data, &at, bytes, -1, most_ms);
}

/* ---- frames that may be broken off ---------------------------------------- */

static int flush(int fd, struct ferry_keeper_said *s, int stop_fd, int most_ms)
{
	return push(fd, &s->frame, &s->at, s->bytes, stop_fd, most_ms);
}

int ferry_keeper_say(int fd, struct ferry_keeper_said *s,
		     const struct ferry_keeper_frame *f, const void *data,
		     int stop_fd, int most_ms)
{
	int rc = ferry_keeper_await(fd, POLLOUT, stop_fd, most_ms);

	if (!rc)
		rc = flush(fd, s, stop_fd, most_ms);
	if (rc)
		return rc;
	s->frame = *f;
	if (f->bytes)
		memcpy(s->data, data, f->bytes);
	s->at = 0;
	s->bytes = sizeof(*f) + f->bytes;
	return flush(fd, s, stop_fd, most_ms);
}

int ferry_keeper_hear(int fd, struct ferry_keeper_heard *h, int stop_fd,
		      int most_ms)
{
	int rc = ferry_keeper_await(fd, POLLIN, stop_fd, most_ms);

	if (!rc)
		rc = pull(fd, &h->frame, &h->at, sizeof(h->frame), stop_fd,
			  most_ms);
	if (!rc && h->frame.bytes > sizeof(h->data))
		rc = -EMSGSIZE;
	if (!rc)
		rc = pull(fd, &h->frame, &h->at,
			  sizeof(h->frame) + h->frame.bytes, stop_fd, most_ms);
	if (!rc)
		h->at = 0;
	return rc;
}
