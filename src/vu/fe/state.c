/* SPDX-License-Identifier: MIT */
/*
 * The backend's state, over a pipe: octets until its end, then the backend's
 * word that this was all of it.
 *
 * The lock is held for the requests only; the octets move without it, so that a
 * device which takes its time does not hold up what else is asked of it.
 */
#include "vu/fe/fe.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/quiet.h"

void ferry_vf_transfer_end(struct ferry_vhost_fe *f)
{
	ferry_cleanup_fd(&f->transfer.fd);
	f->transfer.fd = -1;
}

/* ---- loaded, and lost ---- */

void ferry_vf_state_lost(struct ferry_vhost_fe *f)
{
	if (!f->want.loaded)
		return;
	f->want.loaded = false;
	f->want.state_lost = true;
	ferry_vf_say(f, FERRY_VF_ERROR, "its backend died with the state that"
		     " had been loaded into it");
}

void ferry_vf_state_forget(struct ferry_vhost_fe *f)
{
	f->want.loaded = f->want.state_lost = false;
}

/* The keeper may not have heard of it yet. */
static bool is_gone(const struct ferry_vf_link *l)
{
	struct pollfd p = { .fd = l->sock.fd, .events = POLLRDHUP };

	return !l->up || poll(&p, 1, 0) > 0;
}

int ferry_vf_state_check(const struct ferry_vhost_fe *f, struct ferry_err *e)
{
	if (!f->want.state_lost && !(f->want.loaded && is_gone(&f->link)))
		return 0;
	return ferry_err_set(e, FERRY_E_DEVICE, 0, "its backend died with the"
			     " state that had been loaded into it: the device"
			     " cannot go on from there");
}

/* ---- beginning ---- */

static int check_idle(const struct ferry_vhost_fe *f, struct ferry_err *e)
{
	if (f->link.up && !ferry_vf_agreed(f, FERRY_VU_F_DEVICE_STATE))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "its backend has no state to move"
				     " (DEVICE_STATE)");
	if (f->transfer.fd >= 0)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "a state is on its way already");
	for (unsigned i = 0; i < FERRY_VHOST_FE_QUEUES_MAX; i++)
		if (f->queue[i].started)
			return ferry_err_set(e, FERRY_E_STATE, 0,
					     "its state: queue %u was not"
					     " stopped", i);
	return 0;
}

/* The backend may name an end of its own. */
static int choose_end(struct ferry_vhost_fe *f, const struct ferry_vu_msg *m,
		      struct ferry_vu_fds *fds, int *ours, struct ferry_err *e)
{
	bool has_fd = !(m->u64 & FERRY_VU_NO_FD);

	if (m->u64 & 0xff)
		return ferry_err_set(e, FERRY_E_PEER, 0,
				     "SET_DEVICE_STATE_FD: the backend refused"
				     " it (%" PRIu64 ")", m->u64 & 0xff);
	if (fds->n != has_fd || m->u64 & ~0x1ffull) {
		(void)ferry_err_set(e, FERRY_E_PROTO, 0,
				    "SET_DEVICE_STATE_FD: the backend answered"
				    " 0x%" PRIx64 " with %u descriptors",
				    m->u64, fds->n);
		ferry_vf_break(f, e);
		return -1;
	}
	f->transfer.fd = has_fd ? ferry_vu_fds_take(fds, 0) :
				  ferry_steal_fd(ours);
	if (!fcntl(f->transfer.fd, F_SETFL, O_NONBLOCK))
		return 0;
	(void)ferry_err_set(e, FERRY_E_IO, errno, "SET_DEVICE_STATE_FD: its"
			    " descriptor");
	ferry_vf_transfer_end(f);
	return -1;
}

static int begin(struct ferry_vhost_fe *f, bool loads, struct ferry_err *e)
{
	struct ferry_vu_msg m = {
		.h.request = FERRY_VU_SET_DEVICE_STATE_FD,
		.transfer = { .direction = loads },
	};
	FERRY_AUTO_VU_FDS fds = FERRY_VU_FDS_NONE;
	FERRY_AUTO_FD ours = -1;
	FERRY_AUTO_FD theirs = -1;
	int ends[2];

	if (check_idle(f, e))
		return -1;
	if (pipe2(ends, O_CLOEXEC))
		return ferry_err_set(e, FERRY_E_IO, errno, "pipe");
	ours = ends[loads];
	theirs = ends[!loads];
	if (ferry_vf_ask(f, &m, (struct ferry_vf_fds){ &theirs, 1 }, &fds, e))
		return -1;
	f->transfer.loads = loads;
	f->transfer.bytes = f->transfer.waited_ns = 0;
	if (loads)
		ferry_vf_state_forget(f);
	return choose_end(f, &m, &fds, &ours, e);
}

static int begin_as(struct ferry_vhost_fe *f, bool loads, struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, begin(f, loads, &err), false, &err, e);
}

int ferry_vhost_fe_save_begin(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	return begin_as(f, false, e);
}

int ferry_vhost_fe_load_begin(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	return begin_as(f, true, e);
}

/* ---- octets ---- */

/* A copy of the descriptor, which the keeper may close meanwhile; -1: there is
 * no transfer in this direction.  *t: how far it is. */
static int borrow(struct ferry_vhost_fe *f, bool loads,
		  struct ferry_vf_transfer *t, struct ferry_err *e)
{
	int fd = -1;

	ferry_vf_enter(f);
	*t = f->transfer;
	if (t->fd >= 0 && t->loads == loads)
		fd = fcntl(t->fd, F_DUPFD_CLOEXEC, 0);
	ferry_vf_unlock(f);
	if (fd < 0)
		ferry_err_set(e, FERRY_E_STATE, 0,
			      "%s: its state is not on its way (any more)",
			      f->label);
	return fd;
}

static void give_back(struct ferry_vhost_fe *f,
		      const struct ferry_vf_transfer *t)
{
	ferry_vf_enter(f);
	f->transfer.bytes = t->bytes;
	f->transfer.waited_ns = t->waited_ns;
	ferry_vf_unlock(f);
}

/* So many octets more. */
static int check_size(const struct ferry_vhost_fe *f,
		      const struct ferry_vf_transfer *t, uint64_t more,
		      struct ferry_err *e)
{
	if (t->bytes <= f->state_bytes_max &&
	    more <= f->state_bytes_max - t->bytes)
		return 0;
	return ferry_err_set(e, FERRY_E_DEVICE, 0, "%s: its state: the backend"
			     "'s is larger than %" PRIu64 " octets, the most"
			     " that is moved", f->label, f->state_bytes_max);
}

static int too_slow(const struct ferry_vhost_fe *f,
		    const struct ferry_vf_transfer *t, struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_TIMEOUT, 0, "%s: its state: the"
			     " backend has moved %" PRIu64 " octets in %"
			     PRIu64 " ms, and is to move %u in %" PRIu32
			     " ms", f->label, t->bytes,
			     t->waited_ns / FERRY_NS_PER_MS,
			     FERRY_VF_PER_ANSWER, f->request_ms);
}

/* 0: ready; -1 with *e. */
static int await(struct ferry_vhost_fe *f, int fd, short events, int stop_fd,
		 struct ferry_vf_transfer *t, struct ferry_err *e)
{
	struct pollfd p[] = {
		{ .fd = fd, .events = events },
		{ .fd = stop_fd, .events = POLLIN },
		{ .fd = f->stop, .events = POLLIN },
	};
	uint64_t most = ferry_vf_patience_ns(t, f->request_ms *
					     FERRY_NS_PER_MS);
	uint64_t since = ferry_now_ns();
	int n;

	do
		n = poll(p, FERRY_LEN(p), (int)(most / FERRY_NS_PER_MS));
	while (n < 0 && errno == EINTR);
	t->waited_ns += ferry_now_ns() - since;
	if (n < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "%s: its state",
				     f->label);
	if (!n)
		return too_slow(f, t, e);
	if (p[1].revents || p[2].revents)
		return ferry_err_set(e, FERRY_E_CANCELLED, 0,
				     "%s: its state: stopped", f->label);
	return 0;
}

/* A backend that came back meanwhile knows nothing of the transfer. */
static int ask_result(struct ferry_vhost_fe *f, bool loads,
		      struct ferry_err *e)
{
	uint64_t result;

	if (f->transfer.fd < 0 || f->transfer.loads != loads)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "its state is not on its way (any more)");
	ferry_vf_transfer_end(f);
	if (ferry_vf_ask_plain(f, FERRY_VU_CHECK_DEVICE_STATE, &result, e))
		return -1;
	f->want.loaded = loads && !result;
	if (!result)
		return 0;
	return ferry_err_set(e, FERRY_E_DEVICE, 0,
			     "CHECK_DEVICE_STATE: the backend says that its"
			     " state is not whole (%" PRIu64 ")", result);
}

static int check(struct ferry_vhost_fe *f, bool loads, struct ferry_err *e)
{
	struct ferry_err err = { 0 };

	ferry_vf_enter(f);
	return ferry_vf_leave(f, ask_result(f, loads, &err), false, &err, e);
}

/* Octets read, or -1; 0 at the end. */
static ssize_t read_some(struct ferry_vhost_fe *f, int fd, void *data,
			 size_t bytes, int stop_fd,
			 struct ferry_vf_transfer *t, struct ferry_err *e)
{
	ssize_t n;

	do {
		if (await(f, fd, POLLIN, stop_fd, t, e))
			return -1;
		n = read(fd, data, bytes < INT32_MAX ? bytes : INT32_MAX);
	} while (n < 0 && (errno == EAGAIN || errno == EINTR));
	if (n < 0)
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "%s: read its state", f->label);
	if (check_size(f, t, (uint64_t)n, e))
		return -1;
	t->bytes += (uint64_t)n;
	return n;
}

int64_t ferry_vhost_fe_save_read(struct ferry_vhost_fe *f, void *data,
				 size_t bytes, int stop_fd,
				 struct ferry_err *e)
{
	struct ferry_vf_transfer t;
	FERRY_AUTO_FD fd = borrow(f, false, &t, e);
	ssize_t n;

	if (fd < 0)
		return -1;
	if (!bytes)		/* 0 is the end */
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%s: read 0 octets"
				     " of its state", f->label);
	n = read_some(f, fd, data, bytes, stop_fd, &t, e);
	if (n < 0)
		return -1;
	give_back(f, &t);
	return n ? n : check(f, false, e);
}

static int write_all(struct ferry_vhost_fe *f, int fd, const uint8_t *p,
		     size_t bytes, int stop_fd, struct ferry_vf_transfer *t,
		     struct ferry_err *e)
{
	while (bytes) {
		ssize_t n;

		if (await(f, fd, POLLOUT, stop_fd, t, e))
			return -1;
		n = ferry_write_quietly(fd, p, bytes);
		if (n < 0 && n != -EAGAIN && n != -EINTR)
			return ferry_err_set(e, FERRY_E_IO, (int)-n,
					     "%s: write its state", f->label);
		if (n <= 0)
			continue;
		p += n;
		bytes -= (size_t)n;
		t->bytes += (uint64_t)n;
	}
	return 0;
}

int ferry_vhost_fe_load_write(struct ferry_vhost_fe *f, const void *data,
			      size_t bytes, int stop_fd, struct ferry_err *e)
{
	struct ferry_vf_transfer t;
	FERRY_AUTO_FD fd = borrow(f, true, &t, e);

	if (fd < 0 || check_size(f, &t, bytes, e) ||
	    write_all(f, fd, data, bytes, stop_fd, &t, e))
		return -1;
	give_back(f, &t);
	return 0;
}

int ferry_vhost_fe_load_end(struct ferry_vhost_fe *f, struct ferry_err *e)
{
	return check(f, true, e);
}

void ferry_vhost_fe_state_cancel(struct ferry_vhost_fe *f)
{
	ferry_vf_enter(f);
	ferry_vf_transfer_end(f);
	ferry_vf_unlock(f);
}
