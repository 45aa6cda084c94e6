/* SPDX-License-Identifier: MIT */
/*
 * One sendmsg() carries header, payload and descriptors.  A peer may write the
 * two parts apart, so reading loops; its descriptors come with one of its
 * writes, and are refused with another one.
 */
#include "vu/msg/sock.h"

#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

void ferry_vu_fds_close(struct ferry_vu_fds *fds)
{
	for (unsigned i = 0; i < fds->n; i++)
		if (fds->fd[i] >= 0)
			close(fds->fd[i]);
	fds->n = 0;
}

int ferry_vu_fds_take(struct ferry_vu_fds *fds, unsigned i)
{
	return i < fds->n ? ferry_steal_fd(&fds->fd[i]) : -1;
}

/* For poll(); what is longer than it knows is looked at again then. */
static int ms_until(uint64_t until_ns)
{
	uint64_t now = ferry_now_ns(), ms;

	if (until_ns == UINT64_MAX)
		return -1;
	ms = now < until_ns ? (until_ns - now) / FERRY_NS_PER_MS + 1 : 0;
	return ms < INT_MAX ? (int)ms : INT_MAX;
}

/* 1: ready; 0: stop; -1 with *e.  until_ns: UINT64_MAX for ever. */
static int wait_ready(const struct ferry_vu_sock *s, short events,
		      uint64_t until_ns, struct ferry_err *e)
{
	struct pollfd p[] = {
		{ .fd = s->fd, .events = events },
		{ .fd = s->stop, .events = POLLIN },
	};

	for (;;) {
		int n = poll(p, 2, ms_until(until_ns));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ferry_err_set(e, FERRY_E_IO, errno,
					     "vhost-user socket: poll");
		if (p[1].revents)
			return 0;
		if (p[0].revents)
			return 1;
		if (until_ns != UINT64_MAX && ferry_now_ns() >= until_ns)
			return ferry_err_set(e, FERRY_E_TIMEOUT, 0,
					     "vhost-user socket: the peer"
					     " stopped before the end of a"
					     " message");
	}
}

/* Adopt what came; too many are closed.  -1 when there were. */
static int take_fds(struct msghdr *mh, struct ferry_vu_fds *fds)
{
	struct cmsghdr *c;
	int bad = mh->msg_flags & MSG_CTRUNC ? -1 : 0;

	for (c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t bytes;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		bytes = c->cmsg_len - CMSG_LEN(0);
		for (size_t at = 0; at + sizeof(int) <= bytes;
		     at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + at, sizeof(fd));
			if (fds->n < FERRY_VU_FDS_MAX) {
				fds->fd[fds->n++] = fd;
			} else {
				close(fd);
				bad = -1;
			}
		}
	}
	return bad;
}

/* One recvmsg(); as read(2), -1 with *e. */
static ssize_t recv_some(const struct ferry_vu_sock *s, void *data, size_t bytes,
			 struct ferry_vu_fds *fds, struct ferry_err *e)
{
	union {
		char		octets[CMSG_SPACE(sizeof(int) *
						  (FERRY_VU_FDS_MAX + 1))];
		struct cmsghdr	align;
	} control;
	struct iovec iov = { .iov_base = data, .iov_len = bytes };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.octets,
		.msg_controllen = sizeof(control.octets),
	};
	unsigned before = fds->n;
	ssize_t n;

	do
		n = recvmsg(s->fd, &mh, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "vhost-user socket: receive");
	if (take_fds(&mh, fds))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "a message with more than %d descriptors",
				     FERRY_VU_FDS_MAX);
	if (fds->n != before && before)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "descriptors that come twice in one"
				     " message");
	return n;
}

static uint64_t deadline(const struct ferry_vu_sock *s, uint32_t ms)
{
	uint64_t until = ms ? ferry_now_ns() + ms * FERRY_NS_PER_MS :
			      UINT64_MAX;

	return s->until_ns && s->until_ns < until ? s->until_ns : until;
}

/*
 * Exactly `bytes`.  first: the message may not have begun, and may take its
 * time.  1, 0 (closed or stop; only when nothing had come), -1.
 */
static int recv_all(const struct ferry_vu_sock *s, uint8_t *data, size_t bytes,
		    bool first, struct ferry_vu_fds *fds, struct ferry_err *e)
{
	uint32_t rest_ms = s->limit_ms ? s->limit_ms : FERRY_VU_REST_MS;
	uint64_t until = deadline(s, first ? s->limit_ms : rest_ms);
	size_t done = 0;

	while (done < bytes) {
		int ready = wait_ready(s, POLLIN, until, e);
		ssize_t n;

		if (ready <= 0)
			return ready;
		n = recv_some(s, data + done, bytes - done, fds, e);
		if (n < 0)
			return -1;
		if (!n && first && !done)
			return 0;
		if (!n)
			return ferry_err_set(e, FERRY_E_CLOSED, 0,
					     "vhost-user socket: the peer"
					     " closed in the middle of a"
					     " message");
		if (!done)
			until = deadline(s, rest_ms);
		done += (size_t)n;
	}
	return 1;
}

int ferry_vu_recv(const struct ferry_vu_sock *s, struct ferry_vu_header *h,
		  uint8_t payload[FERRY_VU_PAYLOAD_MAX],
		  struct ferry_vu_fds *fds, struct ferry_err *e)
{
	uint8_t head[FERRY_VU_HEADER_BYTES];
	int rc;

	fds->n = 0;
	rc = recv_all(s, head, sizeof(head), true, fds, e);
	if (rc == 1)
		rc = ferry_vu_header_decode(head, h, e) ? -1 : 1;
	if (rc == 1 && h->bytes)
		rc = recv_all(s, payload, h->bytes, false, fds, e);
	if (rc != 1)
		ferry_vu_fds_close(fds);
	return rc;
}

/* Descriptors go with the first octet, so with the first sendmsg() only. */
static ssize_t send_some(const struct ferry_vu_sock *s, const uint8_t *data,
			 size_t bytes, const int *fds, unsigned n_fds)
{
	union {
		char		octets[CMSG_SPACE(sizeof(int) *
						  FERRY_VU_FDS_MAX)];
		struct cmsghdr	align;
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)data, .iov_len = bytes };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (n_fds) {
		struct cmsghdr *c = &control.align;

		mh.msg_control = control.octets;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	do
		n = sendmsg(s->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n;
}

int ferry_vu_send_octets(const struct ferry_vu_sock *s, const uint8_t *octets,
			 size_t bytes, const int *fds, unsigned n_fds,
			 struct ferry_err *e)
{
	uint64_t until = deadline(s, FERRY_VU_REST_MS);
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = send_some(s, octets + done, bytes - done, fds,
				      done ? 0 : n_fds);

		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		if (errno != EAGAIN)
			return ferry_err_set(e, FERRY_E_IO, errno,
					     "vhost-user socket: send");
		n = wait_ready(s, POLLOUT, until, e);
		if (!n)
			return ferry_err_set(e, FERRY_E_CANCELLED, 0,
					     "vhost-user socket: stopped");
		if (n < 0)
			return -1;
	}
	return 0;
}

int ferry_vu_send(const struct ferry_vu_sock *s, struct ferry_vu_msg *m,
		  enum ferry_vu_form form, const int *fds, unsigned n_fds,
		  struct ferry_err *e)
{
	uint8_t octets[FERRY_VU_HEADER_BYTES + FERRY_VU_PAYLOAD_MAX];

	m->h.bytes = (uint32_t)ferry_vu_payload_encode(
		octets + FERRY_VU_HEADER_BYTES, form, m);
	ferry_vu_header_encode(octets, &m->h);
	return ferry_vu_send_octets(s, octets,
				    FERRY_VU_HEADER_BYTES + m->h.bytes, fds,
				    n_fds, e);
}
