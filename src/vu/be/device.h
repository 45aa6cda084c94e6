/* SPDX-License-Identifier: MIT */
/*
 * Inside of the backend: a device, the front-end it serves now, its queues.
 *
 * Threads.  The control thread (session.c) owns all of it and never touches
 * guest memory.  A worker (worker.c) owns the rings of its queues while they
 * run; the control thread changes what a ring looks at (memory, log, features,
 * where it is) only while it *holds* that queue.  Data goes the other way through
 * atomics: counters, `touch`.
 * Life.  A device lives from ferry_vhost_new() to _free(); what belongs to one
 * front-end is in `session`, empty between two.
 */
#ifndef FERRY_VU_BE_DEVICE_H
#define FERRY_VU_BE_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include <ferry/vhost.h>

#include "base/thread.h"
#include "vu/be/dirty.h"
#include "vu/be/inflight.h"
#include "vu/be/memory.h"
#include "vu/be/postcopy.h"
#include "vu/be/ring.h"
#include "vu/be/touch.h"
#include "vu/be/transfer.h"
#include "vu/msg/sock.h"

enum ferry_vb_level {
	FERRY_VB_ERROR,
	FERRY_VB_WARNING,
	FERRY_VB_INFO,
	FERRY_VB_DEBUG,
};

/* What the control thread asks of a queue's thread. */
enum ferry_vb_order {
	FERRY_VB_RUN,
	FERRY_VB_HOLD,		/* stand still */
	FERRY_VB_DRAIN,		/* finish what is out, then stand still */
	FERRY_VB_STOP,		/* finish, and end */
};

/* As the front-end said. */
struct ferry_vb_queue_said {
	uint32_t		size, base;
	struct ferry_vb_ring_at	where;
	bool			placed;		/* `where` was said */
};

/* A thread, and the queues that are its own. */
struct ferry_vb_worker {
	struct ferry_vhost_queue *queue;	/* n of them, in a row */
	uint32_t		n;

	/* Control thread. */
	struct ferry_thread	thread;
	uint32_t		members;	/* > 0: there is a thread */

	/* The worker itself. */
	unsigned		looks;		/* > 0: before it sleeps */
	uint32_t		passed;		/* poll()s that were not made */
};

struct ferry_vhost_queue {
	struct ferry_vhost	*v;
	struct ferry_vb_worker	*worker;
	uint32_t		index;
	void			*priv;		/* the author's */

	/* Control thread. */
	struct ferry_vb_queue_said said;
	bool			started;	/* a worker has it */
	_Atomic bool		enabled;
	int			kick;		/* -1: poll */

	pthread_mutex_t		lock;		/* of the rest */
	_Atomic enum ferry_vb_order order;
	bool			obeyed;
	int			call, err;	/* -1: none */
	int			wake;		/* eventfd: look at order */
	int			done;		/* eventfd: obeyed */

	_Atomic bool		member;		/* set by control, cleared by
						 * the worker */

	/* The worker, while it is a member. */
	bool			begun;
	bool			failed;		/* to begin */
	bool			standing;
	unsigned		why;		/* to call handle(); bits */
	enum ferry_vb_order	heard;
	struct ferry_vb_ring	ring;
	int			watch_fd;
	short			watch_events;
	bool			polling;
	bool			dry;		/* the last pop found none */
	bool			again;		/* there are more, after all */
	_Atomic uint64_t	popped, pushed;	/* written by it alone */
	bool			told;		/* `wrong` was logged */
	_Atomic bool		poked;		/* ferry_vhost_wake() */
	_Atomic bool		changed_enable;
};

struct ferry_vb_counts {
	_Atomic uint64_t connections, kicks, calls;
	_Atomic uint64_t resubmitted, broken;
	_Atomic uint32_t connected;
};

/* What belongs to one front-end. */
struct ferry_vb_session {
	struct ferry_vu_sock	sock;
	uint64_t		features;	/* virtio, taken */
	uint64_t		protocol;	/* protocol features, taken */
	uint64_t		status;
	int			backend_fd;	/* our own requests; -1 */
	struct ferry_vb_inflight inflight;
	struct ferry_vb_postcopy postcopy;
	struct ferry_vb_transfer transfer;
};

struct ferry_vhost {
	struct ferry_vhost_shape shape;
	struct ferry_vhost_ops	ops;
	void			*opaque;
	char			name[32];
	void			(*log)(void *opaque, int level,
				       const char *line);

	struct ferry_vb_session	session;
	struct ferry_vb_memory	memory;
	struct ferry_vb_dirty	dirty;
	struct ferry_vb_touch	touch;
	struct ferry_vb_counts	counts;
	struct ferry_vhost_queue *queue;	/* shape.queues of them */
	struct ferry_vb_worker	*worker;	/* of shape.together each */
	pthread_mutex_t		backend_lock;	/* of session.backend_fd */

	/* Where front-ends come from (door.c). */
	struct ferry_thread	thread;		/* control */
	int			stop;		/* eventfd: end */
	int			ended;		/* eventfd: the thread has */
	int			listener;	/* or -1 */
	int			attached;	/* or -1 */
	char			*path;		/* of listener, or to dial */
	bool			dials;
	int			uffd;		/* handed in; -1 */
	struct ferry_err	error;		/* when ended */
};

/* say.c */
void ferry_vb_log(struct ferry_vhost *v, enum ferry_vb_level level,
		  const char *fmt, ...) FERRY_PRINTF(3, 4);

/* What we can offer. */
uint64_t ferry_vb_features(const struct ferry_vhost *v);
uint64_t ferry_vb_protocol_features(struct ferry_vhost *v);

/* Serve the front-end at sock.fd (taken) until it goes, fails or stop. */
void ferry_vb_session_serve(struct ferry_vhost *v, int fd);

static inline bool ferry_vb_agreed(const struct ferry_vhost *v, unsigned bit)
{
	return v->session.protocol >> bit & 1;
}

/* ---- queue.c: by the control thread -------------------------------------- */

/* All queues of the shape, and their workers. */
FERRY_CHECKED int ferry_vb_queues_init(struct ferry_vhost *v,
				       struct ferry_err *e);
void ferry_vb_queues_fini(struct ferry_vhost *v);

/* To its worker, which maps the ring, so that its faults are not ours. */
FERRY_CHECKED int ferry_vb_queue_start(struct ferry_vhost_queue *q,
				       struct ferry_err *e);

/* Waits until all that was out is finished.  The base.  told: the front-end
 * hears it. */
uint32_t ferry_vb_queue_stop(struct ferry_vhost_queue *q, bool told);

/* All started queues stand still (drained: and have nothing out) between
 * these two. */
void ferry_vb_queues_hold(struct ferry_vhost *v, bool drain);
void ferry_vb_queues_release(struct ferry_vhost *v);

/* Stop all, and forget what the front-end said of them. */
void ferry_vb_queues_reset(struct ferry_vhost *v);

/* fd is taken; -1: none. */
void ferry_vb_queue_set_call(struct ferry_vhost_queue *q, int fd);
void ferry_vb_queue_set_err(struct ferry_vhost_queue *q, int fd);
void ferry_vb_queue_set_enabled(struct ferry_vhost_queue *q, bool enabled);

/* ---- requests: on_*.c ----------------------------------------------------- */

struct ferry_vb_reply {
	struct ferry_vu_msg	msg;
	int			fd;	/* sent with it and closed; -1 */
	bool			sent;	/* the handler has sent it itself */
};

/* One row per request; the last one's is 0. */
struct ferry_vb_on {
	uint8_t	request;

	/* Decoded, its descriptors counted.  0; or -1 with *e. */
	int	(*fn)(struct ferry_vhost *v, struct ferry_vu_msg *m,
		      struct ferry_vu_fds *fds, struct ferry_vb_reply *reply,
		      struct ferry_err *e);
};

extern const struct ferry_vb_on ferry_vb_on_device[];
extern const struct ferry_vb_on ferry_vb_on_memory[];
extern const struct ferry_vb_on ferry_vb_on_ring[];

#endif
