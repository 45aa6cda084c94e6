/* SPDX-License-Identifier: MIT */
/*
 * Checks of the device's state, which a backend writes to a descriptor and
 * reads from one.
 */
#include "vu/check/rows.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vu/check/device.h"

#define GROUP		"state"
#define STATE_MAX	(1u << 30)
#define SAVE		0u
#define LOAD		1u

struct state {
	uint8_t	*data;
	size_t	bytes, room;
};

/* Our end of the way there or back. */
static int begin(struct ferry_vc *c, uint32_t direction, int *ours)
{
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_DEVICE_STATE_FD,
		.transfer = { .direction = direction },
	};
	FERRY_AUTO_VU_FDS got = FERRY_VU_FDS_NONE;
	FERRY_AUTO_FD mine = -1;
	FERRY_AUTO_FD theirs = -1;
	int fd[2];

	if (pipe2(fd, O_CLOEXEC))
		return ferry_vc_fail(c, "pipe: %s", strerror(errno));
	mine = fd[direction == SAVE ? 0 : 1];
	theirs = fd[direction == SAVE ? 1 : 0];
	if (ferry_vc_ask(c, &m, &theirs, 1, &got))
		return -1;
	if (m.u64 & 0xff)
		return ferry_vc_fail(c, "SET_DEVICE_STATE_FD: refused (%llu)",
				     (unsigned long long)m.u64);
	if (got.n != (m.u64 & FERRY_VU_NO_FD ? 0 : 1))
		return ferry_vc_fail(c, "SET_DEVICE_STATE_FD: said 0x%llx and "
				     "sent %u descriptors",
				     (unsigned long long)m.u64, got.n);
	*ours = got.n ? ferry_vu_fds_take(&got, 0) : ferry_steal_fd(&mine);
	return 0;
}

/* 1: more; 0: the end; -1 with c->err. */
static int read_some(struct ferry_vc *c, int fd, struct state *s)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;

	if (s->bytes == s->room) {
		size_t room = s->room ? s->room * 2 : 65536;
		uint8_t *more = room > STATE_MAX ? NULL :
				realloc(s->data, room);

		if (!more)
			return ferry_vc_fail(c, "more than %zu octets of state",
					     s->room);
		s->data = more;
		s->room = room;
	}
	if (poll(&p, 1, (int)c->how->limit_ms) != 1)
		return ferry_vc_fail(c, "nothing more came behind %zu octets, "
				     "and no end", s->bytes);
	n = read(fd, s->data + s->bytes, s->room - s->bytes);
	if (n < 0)
		return ferry_vc_fail(c, "reading state: %s", strerror(errno));
	s->bytes += (size_t)n;
	return n > 0;
}

static int verdict_of(struct ferry_vc *c, uint64_t *bad)
{
	return ferry_vc_u64(c, FERRY_VU_CHECK_DEVICE_STATE, bad);
}

static int save_to(struct ferry_vc *c, struct state *s)
{
	FERRY_AUTO_FD fd = -1;
	uint64_t bad = 0;
	int more = 1;

	if (begin(c, SAVE, &fd))
		return -1;
	while (more > 0)
		more = read_some(c, fd, s);
	if (more || verdict_of(c, &bad))
		return -1;
	return bad ? ferry_vc_fail(c, "CHECK_DEVICE_STATE behind a save: %llu",
				   (unsigned long long)bad) : 0;
}

/* What does not fit the pipe is read while it is written. */
static int load_from(struct ferry_vc *c, const struct state *s, uint64_t *bad)
{
	struct pollfd p = { .events = POLLOUT };
	FERRY_AUTO_FD fd = -1;
	size_t done = 0;

	if (begin(c, LOAD, &fd))
		return -1;
	p.fd = fd;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (done < s->bytes) {
		ssize_t n;

		if (poll(&p, 1, (int)c->how->limit_ms) != 1)
			return ferry_vc_fail(c, "%zu of %zu octets were taken",
					     done, s->bytes);
		n = write(fd, s->data + done, s->bytes - done);
		if (n < 0 && errno == EPIPE)
			break;		/* it has seen enough; CHECK tells */
		if (n < 0)
			return ferry_vc_fail(c, "writing state: %s",
					     strerror(errno));
		done += (size_t)n;
	}
	close(ferry_steal_fd(&fd));
	return verdict_of(c, bad);
}

static int agree(struct ferry_vc *c)
{
	if (ferry_vc_agree(c, 0))
		return -1;
	return ferry_vc_has(c, FERRY_VU_F_DEVICE_STATE) ? 0 :
	       ferry_vc_not_offered(c, "DEVICE_STATE");
}

static int save(struct ferry_vc *c)
{
	struct state s = { 0 };
	int rc = agree(c);

	if (!rc)
		rc = save_to(c, &s);
	free(s.data);
	return rc;
}

/* Save, spoil, and load into the next connection. */
static int load_spoilt(struct ferry_vc *c, void (*spoil)(struct state *s),
		       uint64_t *bad)
{
	struct state s = { 0 };
	int rc = agree(c);

	if (!rc)
		rc = save_to(c, &s);
	if (!rc) {
		ferry_vc_hang_up(c);
		rc = ferry_vc_connect(c) ? -1 : agree(c);
	}
	if (!rc) {
		spoil(&s);
		rc = load_from(c, &s, bad);
	}
	free(s.data);
	return rc;
}

static void as_it_is(struct state *s)
{
	(void)s;
}

static void cut(struct state *s)
{
	s->bytes -= s->bytes > 0;
}

static void turn_over(struct state *s)
{
	for (size_t i = 0; i < s->bytes; i++)
		s->data[i] ^= 0x5a;
}

static int load(struct ferry_vc *c)
{
	uint64_t bad = 0;
	int rc = load_spoilt(c, as_it_is, &bad);

	if (!rc && bad)
		return ferry_vc_fail(c, "CHECK_DEVICE_STATE behind loading "
				     "what was saved: %llu",
				     (unsigned long long)bad);
	return rc;
}

static int load_cut(struct ferry_vc *c)
{
	uint64_t bad = 0;
	int rc = load_spoilt(c, cut, &bad);

	return rc || bad ? rc : ferry_vc_fail(c, "state whose last octet is "
					      "missing was taken");
}

static int load_garbage(struct ferry_vc *c)
{
	uint64_t bad = 0;
	int rc = load_spoilt(c, turn_over, &bad);

	return rc || bad ? rc : ferry_vc_fail(c, "octets that were never "
					      "saved were taken");
}

static const struct ferry_vc_row rows[] = {
	{ { GROUP, "save", "the state is written, ends, and is said to be "
	    "whole" }, .run = save },
	{ { GROUP, "load", "what was saved is taken by the next connection" },
	  .run = load },
	{ { GROUP, "load-cut", "state that ends too early is refused" },
	  .run = load_cut },
	{ { GROUP, "load-garbage", "octets that are no state are refused" },
	  .run = load_garbage },
};

const struct ferry_vc_group ferry_vc_state_rows = { rows, FERRY_LEN(rows) };
