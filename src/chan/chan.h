/* SPDX-License-Identifier: MIT */
/*
 * A channel: an ordered stream of octets to and from the peer.
 *
 * Variation lives behind the ops table, whose slots are all filled: sockets,
 * files, TLS, and layers that wrap another channel (rate limit, faults) look
 * alike from above.
 *
 * Threads: one reader and one writer at the same time.  shutdown() may be
 *          called by any third thread and makes both return.
 * Life:    close() frees, and may run only when no other call is under way.
 *          A layer owns what it wraps.
 * Errors:  hot calls return -errno and make no text; -ETIMEDOUT when the peer
 *          was silent (or took nothing) for the channel's timeout; -ESHUTDOWN
 *          after shutdown(), so that our own end of the stream is never taken
 *          for the peer's.
 */
#ifndef FERRY_CHAN_CHAN_H
#define FERRY_CHAN_CHAN_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"

/* What a channel can do; bits. */
enum ferry_chan_features {
	FERRY_CHAN_READ		= 1,
	FERRY_CHAN_WRITE	= 2,
	FERRY_CHAN_TWO_WAY	= 4,	/* what is written reaches a peer that
					 * can answer on the same channel */
	FERRY_CHAN_SEEK		= 8,	/* a file */
	FERRY_CHAN_MORE		= 16,	/* its URI can be dialled again */
};

struct ferry_chan;

struct ferry_chan_ops {
	const char *kind;	/* "tcp", "file", "rate", ... for messages */

	/*
	 * Read at least one octet, at most what iov holds.  Blocks.
	 * >0: octets; 0: end of stream; <0: -errno.  Never called with an
	 * empty iov.  iov is not changed.
	 */
	ssize_t (*readv)(struct ferry_chan *c, const struct iovec *iov, int n);

	/*
	 * Write at least one octet, at most what iov holds.  Blocks.
	 * >0: octets; <0: -errno (EPIPE, never a signal).
	 */
	ssize_t (*writev)(struct ferry_chan *c, const struct iovec *iov,
			  int n);

	/* Make this and every later read and write, here and at the peer,
	 * fail or end soon (the peer of a pipe sees it at close()).  Any
	 * thread, any number of times. */
	void (*shutdown)(struct ferry_chan *c);

	/*
	 * Wait until a read (POLLIN, by the reader) or write (POLLOUT, by the
	 * writer) would make progress, be it by failing.
	 * timeout_ms < 0: for ever.  1: ready; 0: time is up; <0: -errno.
	 */
	int (*wait)(struct ferry_chan *c, short events, int timeout_ms);

	/* enum ferry_chan_features. */
	unsigned (*features)(struct ferry_chan *c);

	/* Limit what may wait unsent in the kernel (TCP_NOTSENT_LOWAT); a
	 * hint, ignored where there is no such thing. */
	void (*limit_unsent)(struct ferry_chan *c, uint32_t bytes);

	/* From now on tell the peer of each read at once (TCP_QUICKACK): one
	 * that holds small messages back until the last one was acknowledged
	 * (Nagle) is not kept for tens of ms.  A hint, for channels on which
	 * little is read.  By the reader, or before there is one. */
	void (*ack_at_once)(struct ferry_chan *c);

	/*
	 * Silence longer than this is -ETIMEDOUT; 0: never.  Time in which we
	 * stood still ourselves does not count.  From the
	 * next wait on; a call that is blocked already keeps its time.  With TCP
	 * write_ms also bounds how long octets that the kernel took may stay
	 * unacknowledged, or wait for a receiver that reads nothing: then the
	 * connection fails, even if nobody writes.
	 */
	void (*set_timeout)(struct ferry_chan *c, uint32_t read_ms,
			    uint32_t write_ms);

	/* Push what is buffered towards the medium (file: fdatasync).
	 * By the writer.  0 or -errno. */
	int (*flush)(struct ferry_chan *c);

	/*
	 * A key that only the two ends of this connection know, and that is
	 * this connection's alone (RFC 8446, 7.5).  0 or -errno; -EOPNOTSUPP
	 * without TLS.  Any thread.
	 */
	int (*export_key)(struct ferry_chan *c, const char *label,
			  const void *context, size_t bytes,
			  uint8_t *key, size_t key_bytes);

	/* Free everything; the only call that ends the object. */
	void (*close)(struct ferry_chan *c);
};

/* The head of every implementation's struct. */
struct ferry_chan {
	const struct ferry_chan_ops *ops;
	_Atomic uint64_t read_bytes;	/* by the implementation's readv */
	_Atomic uint64_t written_bytes;
	const char *_Atomic why;	/* what -EPROTO was; NULL, or lives as
					 * long as the channel */
	char name[48];			/* "main", "data 3": for messages */
};

void ferry_chan_set_name(struct ferry_chan *c, const char *fmt, ...)
	FERRY_PRINTF(2, 3);

/*
 * Exactly `bytes`.  0 or -1; the message names the channel, e.g.
 * "channel data 3: read: Connection reset by peer".  FERRY_E_CLOSED for end of
 * stream, FERRY_E_TIMEOUT for silence.
 */
FERRY_CHECKED int ferry_chan_read(struct ferry_chan *c, void *data,
				  size_t bytes, struct ferry_err *e);
FERRY_CHECKED int ferry_chan_write(struct ferry_chan *c, const void *data,
				   size_t bytes, struct ferry_err *e);

/* All of iov; iov is consumed (changed).  Any n. */
FERRY_CHECKED int ferry_chan_writev(struct ferry_chan *c, struct iovec *iov,
				    int n, struct ferry_err *e);
FERRY_CHECKED int ferry_chan_readv(struct ferry_chan *c, struct iovec *iov,
				   int n, struct ferry_err *e);

/* Text for a hot call that returned rc (0: end of stream, or -errno), as
 * "channel data 3: <op>: ...".  Returns -1. */
int ferry_chan_err(const struct ferry_chan *c, const char *op, ssize_t rc,
		   struct ferry_err *e);

/* close() that accepts NULL, for FERRY_AUTO_CHAN. */
void ferry_chan_close(struct ferry_chan *c);

static inline void ferry_cleanup_chan(struct ferry_chan **c)
{
	ferry_chan_close(*c);
}

#define FERRY_AUTO_CHAN \
	__attribute__((cleanup(ferry_cleanup_chan))) struct ferry_chan *

/* ---- sockets and files ------------------------------------------------ */

/*
 * A connected stream socket, pipe, tty or open file; takes the fd (also on
 * failure).  The kind (tcp, unix, pipe, ...) and its features are found out.
 *
 * O_NONBLOCK belongs to the open file description, which others may share (a
 * shell its terminal, a parent its pipe).  Sockets do not need it and keep
 * theirs.  A pipe or tty gets it while the channel lives; close() puts back
 * what was there.  So one description, one channel (a pipe's two ends are two
 * descriptions).
 */
struct ferry_chan *ferry_chan_fd(int fd, struct ferry_err *e);

/* Two ends of an in-memory connection (a socketpair). */
FERRY_CHECKED int ferry_chan_pair(struct ferry_chan *end[2],
				  struct ferry_err *e);

/* A file: write truncates or creates it (mode 0600), read opens it.  A fifo
 * or device at that path can be read, but is not written.  What is written is there
 * once flush() has said so; a shutdown() or close() before drops it again. */
struct ferry_chan *ferry_chan_file(const char *path, int for_write,
				   struct ferry_err *e);

/* The same from `offset` on: write keeps what is before it and drops what is
 * behind. */
struct ferry_chan *ferry_chan_file_at(const char *path, int for_write,
				      uint64_t offset, struct ferry_err *e);

/* ---- layers ------------------------------------------------------------ */

/*
 * Limit writes to *rate bytes/s (0: none), read at each write and at least
 * every 50 ms while one waits, so that it may change; owns inner.  A write
 * takes at most 5 ms worth, so that the wire is never silent for long.
 * NULL on failure (inner is then still the caller's).
 */
struct ferry_chan *ferry_chan_rate(struct ferry_chan *inner,
				   const _Atomic uint64_t *rate,
				   struct ferry_err *e);

/*
 * Fault injection.  `at` counts octets of one direction since the channel was
 * made; UINT64_MAX: never.  A cut looks like a lost connection: exactly `at`
 * octets pass, then inner is shut down and every call here, reads and writes,
 * returns -ECONNRESET.  A stall ends with shutdown() or the channel's timeout.
 */
struct ferry_fault {
	uint64_t	cut_write_at;	/* shut down when written == at */
	uint64_t	cut_read_at;
	uint64_t	corrupt_write_at;	/* flip bits of this octet */
	uint64_t	corrupt_read_at;
	uint8_t		corrupt_mask;	/* 0: 0xff */
	uint64_t	stall_write_at;	/* take no more (until shutdown) */
	uint64_t	stall_read_at;
	uint32_t	delay_us;	/* before each write */
	uint32_t	most_bytes;	/* of one call; 0: no limit */
};

#define FERRY_FAULT_NONE {						\
	.cut_write_at = UINT64_MAX, .cut_read_at = UINT64_MAX,		\
	.corrupt_write_at = UINT64_MAX, .corrupt_read_at = UINT64_MAX,	\
	.stall_write_at = UINT64_MAX, .stall_read_at = UINT64_MAX }

/* Owns inner, as ferry_chan_rate() does; *fault is copied. */
struct ferry_chan *ferry_chan_fault(struct ferry_chan *inner,
				    const struct ferry_fault *fault,
				    struct ferry_err *e);

#endif
