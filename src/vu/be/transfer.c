/* SPDX-License-Identifier: MIT */
/*
 * Framing of a device's state, so that a truncated or foreign one is told from
 * a whole one before the device runs on it:
 *
 *  0         8         12   16
 *  | magic   | version | 0  | chunk ... | be32 0 | be64 XXH64 of all data |
 *  chunk: be32 n (1 to 65536), n octets
 *
 * Integers are big-endian.  Behind the sum the writer closes.
 *
 * Threads: the stream is the transfer's thread's alone.  The control thread
 *          ends it with the eventfd `quit`, for which every wait looks.
 */
#include "vu/be/transfer.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "vu/be/device.h"

#define MAGIC		0x4665727279565344ull	/* "FerryVSD" */
#define VERSION		1u
#define HEAD_BYTES	16
#define CHUNK_MAX	65536u

struct ferry_vhost_stream {
	int			fd;
	int			quit;
	XXH64_state_t		sum;
	uint8_t			buf[4 + CHUNK_MAX];
	size_t			at, end;	/* of the chunk's data */
	bool			whole;		/* read: the end was there */
};

/* 0: ready; -1 with *e. */
static int wait_for(struct ferry_vhost_stream *s, short events,
		    struct ferry_err *e)
{
	struct pollfd p[] = {
		{ .fd = s->fd, .events = events },
		{ .fd = s->quit, .events = POLLIN },
	};

	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			return ferry_err_set(e, FERRY_E_IO, errno, "poll");
	if (p[1].revents)
		return ferry_err_set(e, FERRY_E_CANCELLED, 0,
				     "the front-end went");
	return 0;
}

static int write_all(struct ferry_vhost_stream *s, const void *data, size_t n,
		     struct ferry_err *e)
{
	const uint8_t *p = data;

	while (n) {
		ssize_t done;

		if (wait_for(s, POLLOUT, e))
			return -1;
		done = write(s->fd, p, n);
		if (done < 0 && errno != EAGAIN && errno != EINTR)
			return ferry_err_set(e, FERRY_E_IO, errno,
					     "device state: write");
		if (done > 0) {
			p += done;
			n -= (size_t)done;
		}
	}
	return 0;
}

static int read_all(struct ferry_vhost_stream *s, void *data, size_t n,
		    struct ferry_err *e)
{
	uint8_t *p = data;

	while (n) {
		ssize_t done;

		if (wait_for(s, POLLIN, e))
			return -1;
		done = read(s->fd, p, n);
		if (!done)
			return ferry_err_set(e, FERRY_E_CLOSED, 0,
					     "device state: it ends too soon");
		if (done < 0 && errno != EAGAIN && errno != EINTR)
			return ferry_err_set(e, FERRY_E_IO, errno,
					     "device state: read");
		if (done > 0) {
			p += done;
			n -= (size_t)done;
		}
	}
	return 0;
}

/* ---- writing ------------------------------------------------------------ */

static int write_chunk(struct ferry_vhost_stream *s, struct ferry_err *e)
{
	struct ferry_wr w = ferry_wr_over(s->buf, 4);
	size_t n = s->at;

	if (!n)
		return 0;
	ferry_wr_be32(&w, (uint32_t)n);
	XXH64_update(&s->sum, s->buf + 4, n);
	s->at = 0;
	return write_all(s, s->buf, 4 + n, e);
}

int ferry_vhost_stream_write(struct ferry_vhost_stream *s, const void *data,
			     size_t bytes, struct ferry_err *e)
{
	const uint8_t *p = data;

	while (bytes) {
		size_t n = CHUNK_MAX - s->at;

		if (n > bytes)
			n = bytes;
		memcpy(s->buf + 4 + s->at, p, n);
		s->at += n;
		p += n;
		bytes -= n;
		if (s->at == CHUNK_MAX && write_chunk(s, e))
			return -1;
	}
	return 0;
}

static int save(struct ferry_vhost *v, struct ferry_vhost_stream *s,
		struct ferry_err *e)
{
	uint8_t octets[HEAD_BYTES];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	ferry_wr_be64(&w, MAGIC);
	ferry_wr_be32(&w, VERSION);
	ferry_wr_be32(&w, 0);
	if (write_all(s, octets, sizeof(octets), e) ||
	    v->ops.save(v->opaque, s, e) || write_chunk(s, e))
		return -1;
	w = ferry_wr_over(octets, sizeof(octets));
	ferry_wr_be32(&w, 0);
	ferry_wr_be64(&w, XXH64_digest(&s->sum));
	return write_all(s, octets, 12, e);
}

/* ---- reading ------------------------------------------------------------ */

static int read_end(struct ferry_vhost_stream *s, struct ferry_err *e)
{
	uint8_t octets[8];
	struct ferry_rd r = ferry_rd_over(octets, sizeof(octets));

	if (read_all(s, octets, sizeof(octets), e))
		return -1;
	if (ferry_rd_be64(&r) != XXH64_digest(&s->sum))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "device state: its checksum is wrong");
	s->whole = true;
	return 0;
}

/* The next chunk into buf; at its end `whole` is set. */
static int read_chunk(struct ferry_vhost_stream *s, struct ferry_err *e)
{
	struct ferry_rd r = ferry_rd_over(s->buf, 4);
	uint32_t n;

	if (read_all(s, s->buf, 4, e))
		return -1;
	n = ferry_rd_be32(&r);
	if (!n)
		return read_end(s, e);
	if (n > CHUNK_MAX)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "device state: a chunk of %u octets", n);
	if (read_all(s, s->buf + 4, n, e))
		return -1;
	XXH64_update(&s->sum, s->buf + 4, n);
	s->at = 0;
	s->end = n;
	return 0;
}

int ferry_vhost_stream_read(struct ferry_vhost_stream *s, void *data,
			    size_t bytes, struct ferry_err *e)
{
	uint8_t *p = data;

	while (bytes) {
		size_t n;

		if (s->at == s->end && !s->whole && read_chunk(s, e))
			return -1;
		if (s->whole)
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "device state: the device expects"
					     " more of it");
		n = s->end - s->at < bytes ? s->end - s->at : bytes;
		memcpy(p, s->buf + 4 + s->at, n);
		s->at += n;
		p += n;
		bytes -= n;
	}
	return 0;
}

static int load(struct ferry_vhost *v, struct ferry_vhost_stream *s,
		struct ferry_err *e)
{
	uint8_t octets[HEAD_BYTES];
	struct ferry_rd r = ferry_rd_over(octets, sizeof(octets));

	if (read_all(s, octets, sizeof(octets), e))
		return -1;
	if (ferry_rd_be64(&r) != MAGIC)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "device state: another backend wrote it");
	if (ferry_rd_be32(&r) != VERSION || ferry_rd_be32(&r))
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "device state: of another version");
	if (v->ops.load(v->opaque, s, e))
		return -1;
	if (!s->whole && (s->at != s->end || read_chunk(s, e)))
		return -1;
	if (!s->whole)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "device state: the device did not take"
				     " all of it");
	return 0;
}

/* ---- the thread --------------------------------------------------------- */

static void close_eventfds(struct ferry_vb_transfer *t)
{
	if (t->quit >= 0)
		close(t->quit);
	if (t->done >= 0)
		close(t->done);
	t->quit = t->done = -1;
}

static void run(void *arg)
{
	struct ferry_vb_transfer *t = arg;
	FERRY_AUTO_FREE struct ferry_vhost_stream *s = calloc(1, sizeof(*s));

	if (!s) {
		t->result = ferry_err_set(&t->error, FERRY_E_NOMEM, 0,
					  "device state");
	} else {
		s->fd = t->fd;
		s->quit = t->quit;
		XXH64_reset(&s->sum, 0);
		t->result = t->load ? load(t->v, s, &t->error) :
				      save(t->v, s, &t->error);
	}
	/* The end of file is what the front-end waits for. */
	close(t->fd);
	t->fd = -1;
	eventfd_write(t->done, 1);
}

int ferry_vb_transfer_start(struct ferry_vhost *v, bool to_load, int fd,
			    struct ferry_err *e)
{
	struct ferry_vb_transfer *t = &v->session.transfer;
	FERRY_AUTO_FD own = fd;

	if (t->started)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "the state is on its way already");
	t->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	t->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->quit < 0 || t->done < 0 ||
	    fcntl(fd, F_SETFL, O_NONBLOCK | fcntl(fd, F_GETFL)) < 0) {
		ferry_err_set(e, FERRY_E_IO, errno, "device state");
		close_eventfds(t);
		return -1;
	}
	t->v = v;
	t->fd = ferry_steal_fd(&own);
	t->load = to_load;
	if (ferry_thread_start(&t->thread, "vhost-state", run, t, e)) {
		close(t->fd);
		t->fd = -1;
		close_eventfds(t);
		return -1;
	}
	t->started = true;
	return 0;
}

static void join(struct ferry_vb_transfer *t)
{
	ferry_thread_join(&t->thread);
	close_eventfds(t);
	t->started = false;
}

/* The front-end may go, and we may be told to end, in the meantime. */
static void await(struct ferry_vhost *v)
{
	struct ferry_vb_transfer *t = &v->session.transfer;
	struct pollfd p[] = {
		{ .fd = t->done, .events = POLLIN },
		{ .fd = v->session.sock.fd, .events = POLLRDHUP },
		{ .fd = v->stop, .events = POLLIN },
	};

	while (poll(p, 3, -1) < 0 && errno == EINTR)
		;
	if (!p[0].revents)
		eventfd_write(t->quit, 1);
}

int ferry_vb_transfer_check(struct ferry_vhost *v, struct ferry_err *e)
{
	struct ferry_vb_transfer *t = &v->session.transfer;

	if (!t->started)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "no state is on its way");
	await(v);
	join(t);
	if (!t->result)
		return 0;
	if (e)
		*e = t->error;
	return -1;
}

void ferry_vb_transfer_stop(struct ferry_vhost *v)
{
	struct ferry_vb_transfer *t = &v->session.transfer;

	if (!t->started)
		return;
	eventfd_write(t->quit, 1);
	join(t);
}
