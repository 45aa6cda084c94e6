/* SPDX-License-Identifier: MIT */
/*
 * libferry-vhost: the backend of a vhost-user device.
 *
 * A device is a set of virtqueues in the memory of a virtual machine, and this
 * process serves them.  Its author writes callbacks: what the device offers,
 * and what to do with a buffer.  The library does the rest: the socket, the
 * handshake, the memory, split and packed rings, in-flight tracking, and all of
 * a migration: the dirty log, postcopy, the device's state.
 *
 * Threads.  The library runs two kinds.  The *control thread* of a device talks
 * to the front-end and never touches guest memory.  Each started queue has a
 * *queue thread*, which alone calls start(), handle() and stop() for it, and
 * alone may call the ferry_vhost_queue_*() functions.  Every other function may
 * be called by any thread.
 *
 * Guest memory.  What a buffer points to is the guest's: it may change while
 * it is read, so read what is decided on once.  It stays valid until the
 * buffer is pushed.  In postcopy ferry_vhost_queue_pop() waits until all of it
 * is here, so neither the device nor a system call it makes ever waits for a
 * page: guest memory may be handed to the kernel, by an ordinary user too.
 *
 * Failures cost one device: a front-end that breaks the protocol, a guest whose
 * ring makes no sense, a front-end that dies.  pop() then says so, the device
 * stops, and the library waits for the next front-end.
 *
 * Source of the protocol's numbers: the vhost-user specification (QEMU's
 * documentation, interop), restated in docs/VHOST.md.
 */
#ifndef FERRY_VHOST_H
#define FERRY_VHOST_H

#include <stddef.h>
#include <stdint.h>

#include <ferry/err.h>
#include <ferry/sized.h>

#ifdef __cplusplus
extern "C" {
#endif

struct iovec;			/* <sys/uio.h> */
struct ferry_vhost;		/* a device */
struct ferry_vhost_queue;	/* one of its queues, while it is started */
struct ferry_vhost_stream;	/* the device's state on its way */

enum {
	FERRY_VHOST_QUEUES_MAX		= 256,
	FERRY_VHOST_QUEUE_SIZE_MAX	= 32768, /* buffers in a queue */
	FERRY_VHOST_CONFIG_BYTES_MAX	= 256,
	FERRY_VHOST_SEGMENTS_MAX	= 1024,	/* of one buffer */
	FERRY_VHOST_TOGETHER_MAX	= 16,	/* queues on one thread */
};

/* ---- a buffer --------------------------------------------------------- */

/*
 * What the guest's driver made available in one go.  out: for the device to
 * read; in: for the device to write.  The arrays are the library's, valid until
 * the buffer is pushed.  The struct is the caller's and may be moved; as many
 * may be out as the queue has.  priv is the device's own.
 */
struct ferry_vhost_buffer {
	const struct iovec *out;
	const struct iovec *in;
	uint32_t outs;			/* entries of out */
	uint32_t ins;
	uint64_t out_bytes;
	uint64_t in_bytes;
	uint32_t id;			/* the library's */
	uint32_t reserved;
	void *priv;
};

/*
 * The next buffer.  1: *b is filled; 0: there is none, and the guest will kick
 * the queue when there is; -1: the queue is broken or is to stop: return from
 * handle().  In postcopy it waits for the buffer's memory.
 */
int ferry_vhost_queue_pop(struct ferry_vhost_queue *q,
			  struct ferry_vhost_buffer *b);

/*
 * Give a buffer back, with in_bytes_written from the start of `in` on (at most
 * in_bytes).  In any order.  The guest sees it after ferry_vhost_queue_flush().
 */
void ferry_vhost_queue_push(struct ferry_vhost_queue *q,
			    const struct ferry_vhost_buffer *b,
			    uint32_t in_bytes_written);

/* Give the last buffers back unused, as if they had not been popped: the last
 * one first.  With in-flight tracking too. */
void ferry_vhost_queue_unpop(struct ferry_vhost_queue *q,
			     const struct ferry_vhost_buffer *b);

/* Show the guest what was pushed, and notify it if it wants that.  Called by
 * the library too, after each handle(). */
void ferry_vhost_queue_flush(struct ferry_vhost_queue *q);

/* ---- a queue ---------------------------------------------------------- */

uint32_t ferry_vhost_queue_index(const struct ferry_vhost_queue *q);
uint32_t ferry_vhost_queue_size(const struct ferry_vhost_queue *q);
/* As start() set it with ..._set_priv(), else NULL. */
void *ferry_vhost_queue_priv(const struct ferry_vhost_queue *q);
void ferry_vhost_queue_set_priv(struct ferry_vhost_queue *q, void *priv);

/* Virtio features that the driver took; and whether the front-end has the
 * queue enabled: a disabled one of a network drops what it should send. */
uint64_t ferry_vhost_queue_features(const struct ferry_vhost_queue *q);
int ferry_vhost_queue_enabled(const struct ferry_vhost_queue *q);

/*
 * Call handle() too when fd is ready (events as of poll(2)), until stop().
 * One fd a queue: -1 ends it.  For a tap, or an eventfd of completions.
 */
void ferry_vhost_queue_watch(struct ferry_vhost_queue *q, int fd, short events);

/*
 * Another queue, of those that share q's thread (shape.together): what may be
 * done with q in its callbacks may be done with that one, too; flush it
 * afterwards.  For the time of this callback.  NULL: it does not run, or has a
 * thread of its own.
 */
struct ferry_vhost_queue *ferry_vhost_queue_beside(struct ferry_vhost_queue *q,
						   uint32_t index);

/*
 * Without kicks: handle() is called again and again, for devices that poll.
 * The guest is told not to kick.  0 ends it.
 */
void ferry_vhost_queue_poll(struct ferry_vhost_queue *q, int polling);

/* ---- the device's callbacks ------------------------------------------- */

/* Why handle() is called; bits. */
enum {
	FERRY_VHOST_KICKED	= 1,	/* buffers may be there */
	FERRY_VHOST_READY	= 2,	/* the watched fd is ready */
	FERRY_VHOST_CHANGED	= 4,	/* enabled or disabled */
};

/*
 * Slots may be NULL where it says so.  Those without a queue are called by the
 * control thread and must not block for long.
 */
struct ferry_vhost_ops {
	uint32_t size;
	uint32_t reserved;

	/* The device's space of configuration: read or write `bytes` from
	 * `offset` on; offset + bytes <= config_bytes.  0 or -errno.
	 * config_set NULL: read-only. */
	int (*config_get)(void *opaque, uint32_t offset, void *data,
			  uint32_t bytes);
	int (*config_set)(void *opaque, uint32_t offset, const void *data,
			  uint32_t bytes);

	/* Queue thread.  The ring is ready.  0, or -1 with *e: the queue
	 * stays stopped and the front-end sees it broken.  May be NULL. */
	int (*start)(void *opaque, struct ferry_vhost_queue *q,
		     struct ferry_err *e);

	/* Queue thread.  Pop, work, push; return to wait.  why: bits above.
	 * The guest kicks for what comes after pop found none; with buffers
	 * left over, something else (a watched fd) has to call again. */
	void (*handle)(void *opaque, struct ferry_vhost_queue *q, unsigned why);

	/*
	 * Queue thread.  The queue stops: what was popped is to be finished
	 * and pushed (or given back with unpop) before this returns.  `broken`:
	 * the guest's memory is no longer to be trusted, and pushes have no
	 * effect; finish or cancel what the kernel has of it.  May be NULL.
	 */
	void (*stop)(void *opaque, struct ferry_vhost_queue *q, int broken);

	/*
	 * A front-end came (0 or -1 with *e: it is turned away) and went.  A
	 * new migration target's front-end comes while the source's is served
	 * in another process.  May be NULL.
	 */
	int (*connected)(void *opaque, struct ferry_err *e);
	void (*disconnected)(void *opaque);

	/* The driver took these features (a subset of those offered).
	 * May be NULL. */
	void (*features)(void *opaque, uint64_t features);

	/* Network: send RARP for this MAC; use this MTU.  0 or -errno.
	 * May be NULL: then it is not offered. */
	int (*announce)(void *opaque, const uint8_t mac[6]);
	int (*set_mtu)(void *opaque, uint16_t mtu);

	/* The guest's driver resets the device.  May be NULL. */
	void (*reset)(void *opaque);

	/*
	 * On a thread of their own, all queues stopped: write the device's
	 * state; take it.  0, or -1 with *e: the migration fails with these
	 * words.  After save() the device may be started here again.  Both
	 * NULL: the device has no state beyond its queues, and none is
	 * offered.
	 */
	int (*save)(void *opaque, struct ferry_vhost_stream *s,
		    struct ferry_err *e);
	int (*load)(void *opaque, struct ferry_vhost_stream *s,
		    struct ferry_err *e);
};

#define FERRY_VHOST_OPS_INIT FERRY_SIZED(ferry_vhost_ops)

/* All of it, in order.  0, or -1 with *e (load: also at the end of what was
 * saved). */
int ferry_vhost_stream_write(struct ferry_vhost_stream *s, const void *data,
			     size_t bytes, struct ferry_err *e);
int ferry_vhost_stream_read(struct ferry_vhost_stream *s, void *data,
			    size_t bytes, struct ferry_err *e);

/* ---- a device --------------------------------------------------------- */

/* What the author says of a device, once. */
struct ferry_vhost_shape {
	uint32_t size;
	uint32_t queues;		/* 1 to ..QUEUES_MAX */
	uint32_t queue_size_max;	/* 0: ..QUEUE_SIZE_MAX */
	uint32_t config_bytes;		/* 0: no space of configuration */
	/*
	 * Features of the device's type, bits 0 to 23 and from 41 on.  What
	 * belongs to rings and to vhost (VERSION_1, RING_PACKED, INDIRECT_DESC,
	 * EVENT_IDX, IN_ORDER not, LOG_ALL, ...) the library adds.
	 */
	uint64_t features;
	uint64_t without;	/* of those that the library adds: not these */
	uint64_t flags;		/* enum below */
	const char *name;	/* for messages; NULL: "vhost" */
	/*
	 * So many neighbours share a thread: queues 0 to together - 1, and so
	 * on; 1 to ..TOGETHER_MAX, 0: 1.  For queues that work on the same
	 * things, such as both of a network's pair, or where there are more
	 * of them than cores.
	 */
	uint32_t together;
	uint32_t reserved;
};

enum {
	/* Do not offer postcopy, nor packed rings, nor in-flight tracking. */
	FERRY_VHOST_NO_POSTCOPY	= 1,
	FERRY_VHOST_NO_PACKED	= 2,
	FERRY_VHOST_NO_INFLIGHT	= 4,
	/* In-flight tracking for packed rings alone: what a dead process had
	 * taken may be lost, as a network's frames may, but where a packed ring
	 * stands nothing else tells. */
	FERRY_VHOST_INFLIGHT_PACKED_ONLY = 8,
};

#define FERRY_VHOST_SHAPE_INIT FERRY_SIZED(ferry_vhost_shape)

/*
 * A device without a front-end yet.  shape and ops are copied; opaque is
 * handed to each callback.  log may be NULL; it is called with one line at a
 * time (level: 0 error, 1 warning, 2 information, 3 debug), on any thread.
 * NULL, and *e, on failure.
 */
struct ferry_vhost *ferry_vhost_new(const struct ferry_vhost_shape *shape,
				    const struct ferry_vhost_ops *ops,
				    void *opaque,
				    void (*log)(void *opaque, int level,
						const char *line),
				    struct ferry_err *e);

/*
 * Be found at this unix socket (a path; "fd:N": a listening socket that was
 * inherited), or connect to one where the front-end listens, again and again
 * when it goes.  One front-end at a time; the next one is taken when it has
 * gone.  Returns at once.  A dead socket at the path is replaced.
 */
int ferry_vhost_listen(struct ferry_vhost *v, const char *path,
		       struct ferry_err *e);
int ferry_vhost_connect(struct ferry_vhost *v, const char *path,
			struct ferry_err *e);

/* Serve the front-end at this connected socket, which is taken; when it goes
 * no other comes. */
int ferry_vhost_attach(struct ferry_vhost *v, int fd, struct ferry_err *e);

/*
 * For postcopy, before a front-end comes: use this userfaultfd (taken; fresh,
 * its API not negotiated), where neither /dev/userfaultfd nor the system call
 * works for this process.  Good for one connection.
 */
int ferry_vhost_set_uffd(struct ferry_vhost *v, int fd, struct ferry_err *e);

/* Why postcopy cannot be offered (a sentence with the fix), or 0 when it can.
 * In `e`; what `ferry doctor` shows. */
int ferry_vhost_probe_postcopy(struct ferry_err *e);

/* The space of configuration has changed: tell the driver. */
void ferry_vhost_config_changed(struct ferry_vhost *v);

/* Call handle() of a started queue with no bit set, on its thread.  For work
 * that another thread has for it. */
void ferry_vhost_wake(struct ferry_vhost *v, uint32_t queue);

/*
 * Until no front-end is there and none will come (0), or the time is up (1).
 * -1 with *e: the device failed, e.g. cannot listen any more.  timeout_ms < 0:
 * for ever.
 */
int ferry_vhost_wait(struct ferry_vhost *v, int timeout_ms,
		     struct ferry_err *e);

/* End all threads and connections, and free.  Not from a callback. */
void ferry_vhost_free(struct ferry_vhost *v);

/* ---- figures ----------------------------------------------------------- */

enum { FERRY_VHOST_WAIT_BUCKETS = 32 };

struct ferry_vhost_stats {
	uint32_t size;
	uint32_t connected;		/* 0 or 1 */
	uint64_t connections;		/* since the beginning */
	uint64_t popped;		/* buffers, of all queues */
	uint64_t pushed;
	uint64_t kicks;			/* seen */
	uint64_t calls;			/* notifications of the guest */
	uint64_t logged_pages;		/* marked in the dirty log */
	uint64_t resubmitted;		/* found in flight after a restart */
	uint64_t broken;		/* queues that were given up */
	/*
	 * Postcopy: pages that were waited for.  Bucket i counts waits shorter
	 * than 2^i us that are not in a lower one; the last one the rest.
	 */
	uint64_t waits[FERRY_VHOST_WAIT_BUCKETS];
	uint64_t wait_sum_ns;
	uint64_t wait_max_ns;
};

#define FERRY_VHOST_STATS_INIT FERRY_SIZED(ferry_vhost_stats)

void ferry_vhost_stats(struct ferry_vhost *v, struct ferry_vhost_stats *out);

#ifdef __cplusplus
}
#endif
#endif
