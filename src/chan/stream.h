/* SPDX-License-Identifier: MIT */
/*
 * Internal to chan/: a channel over one fd.
 *
 * The loop "try the system call; if it would block, poll; try again" is
 * written once, in stream.c.  What differs between sockets, pipes and files is
 * a row of struct ferry_stream_kind.
 *
 * Threads: as chan.h; `shut` and the timeouts are written by any thread.
 * Order:   shutdown sets `shut`, then wakes; who wakes looks at `shut` first.
 */
#ifndef FERRY_CHAN_STREAM_H
#define FERRY_CHAN_STREAM_H

#include <limits.h>
#include <stdbool.h>

#include "chan/chan.h"

struct ferry_stream;

struct ferry_stream_kind {
	struct ferry_chan_ops ops;

	/* One system call that does not wait (but for a disk).  -EAGAIN when
	 * it would have to, else as readv and writev in chan.h. */
	ssize_t (*try_readv)(struct ferry_stream *s, const struct iovec *iov,
			     int n);
	ssize_t (*try_writev)(struct ferry_stream *s, const struct iovec *iov,
			      int n);

	/* Make the fd fit for try_*.  0 or -1. */
	int (*prepare)(struct ferry_stream *s, struct ferry_err *e);

	/* Make a blocked poll() return; `shut` is set.  Any thread. */
	void (*wake)(struct ferry_stream *s);

	/* Undo prepare, before the fd is closed. */
	void (*release)(struct ferry_stream *s);
};

struct ferry_stream {
	struct ferry_chan base;
	const struct ferry_stream_kind *kind;
	int		 fd;
	int		 wake_fd;	/* eventfd, or -1 where not needed */
	int		 old_flags;	/* of the description; -1: untouched */
	unsigned	 features;
	_Atomic bool	 shut;
	bool		 ack_at_once;	/* the reader's */
	_Atomic uint64_t undo_at;	/* file.c; FERRY_STREAM_KEEP: nothing */
	_Atomic uint32_t read_ms, write_ms;
};

#define FERRY_STREAM_KEEP	UINT64_MAX

static inline struct ferry_stream *ferry_stream_of(struct ferry_chan *c)
{
	return (struct ferry_stream *)c;
}

/* How much of an iovec one system call may take. */
static inline int ferry_stream_iovs(int n)
{
	return n < IOV_MAX ? n : IOV_MAX;
}

/* Takes the fd, also on failure. */
struct ferry_chan *ferry_stream_new(const struct ferry_stream_kind *kind,
				    int fd, unsigned features,
				    struct ferry_err *e);

/* The slots of ferry_chan_ops that are the same for every kind. */
ssize_t ferry_stream_readv(struct ferry_chan *c, const struct iovec *iov,
			   int n);
ssize_t ferry_stream_writev(struct ferry_chan *c, const struct iovec *iov,
			    int n);
void ferry_stream_shutdown(struct ferry_chan *c);
int ferry_stream_wait(struct ferry_chan *c, short events, int timeout_ms);
unsigned ferry_stream_features(struct ferry_chan *c);
void ferry_stream_set_timeout(struct ferry_chan *c, uint32_t read_ms,
			      uint32_t write_ms);
void ferry_stream_close(struct ferry_chan *c);

/* And for kinds that have nothing to do there. */
void ferry_stream_no_limit(struct ferry_chan *c, uint32_t bytes);
void ferry_stream_no_ack(struct ferry_chan *c);
int ferry_stream_no_flush(struct ferry_chan *c);
int ferry_stream_no_key(struct ferry_chan *c, const char *label,
			const void *context, size_t bytes, uint8_t *key,
			size_t key_bytes);
void ferry_stream_no_wake(struct ferry_stream *s);
void ferry_stream_no_release(struct ferry_stream *s);

/* ---- the kinds --------------------------------------------------------- */

extern const struct ferry_stream_kind ferry_stream_pipe;
extern const struct ferry_stream_kind ferry_stream_device;
extern const struct ferry_stream_kind ferry_stream_file;

/* What this fd is; NULL and *e if it cannot be a channel. */
const struct ferry_stream_kind *ferry_fd_kind(int fd, unsigned *features,
					      struct ferry_err *e);
const struct ferry_stream_kind *ferry_socket_kind(int fd, unsigned *features,
						  struct ferry_err *e);

/* A stream socket that was just connected or accepted (its peer may have gone
 * again: that is for the first read to find), of an address that can be dialled
 * again.  Takes the fd, also on failure. */
struct ferry_chan *ferry_socket_new(int fd, struct ferry_err *e);

#endif
