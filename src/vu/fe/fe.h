/* SPDX-License-Identifier: MIT */
/*
 * A vhost-user front-end's device, inside vu/fe/ only.
 *
 * What the VMM sets is kept in `want` and in the queues, and sent to the
 * backend when it is there.  A backend that comes is told all of it, in
 * ferry_vf_replay(); so there is one description of how a device is set up, and
 * the first backend gets it in pieces, later ones at once.
 *
 * Threads: `lock` is held for a whole exchange, so answers meet their
 *          requests.  The keeper, a thread of the device, alone closes the
 *          socket and connects again; who finds the backend at fault shuts the
 *          socket down, and the keeper sees that.
 *          A handshake is the keeper's alone and needs no lock.  Whether there
 *          is a backend, and what it can do, is told under seen_lock.
 * Order:   lock, seen_lock; nothing is held while callbacks run, but for faults() and
 *          some lines for the log.
 */
#ifndef FERRY_VU_FE_FE_H
#define FERRY_VU_FE_FE_H

#include <pthread.h>
#include <stdatomic.h>

#include <ferry/vhost_fe.h>

#include "base/thread.h"
#include "vu/msg/sock.h"

#define FERRY_VF_REQUEST_MS	10000

#define FERRY_VF_PACKED		(1ull << 34)	/* VIRTIO_F_RING_PACKED */

/* Addresses of "our" memory that the backend gets to see.  No process has
 * memory there, so one that gives them back as its own is found out. */
#define FERRY_VF_ADDR(gpa)	((gpa) | 1ull << 62)
#define FERRY_VF_GPA_MAX	(1ull << 46)

enum ferry_vf_level {
	FERRY_VF_ERROR, FERRY_VF_WARNING, FERRY_VF_INFO, FERRY_VF_DEBUG,
};

/* One connection, from handshake to end. */
struct ferry_vf_link {
	struct ferry_vu_sock sock;	/* fd -1: none */
	bool		up;		/* it may be talked to */
	bool		agreed;		/* protocol features were chosen */
	int		requests;	/* the backend's; our end, -1: none */
	int		uffd;		/* between ADVISE and END, else -1 */
	uint64_t	offered;	/* virtio features, with vhost's */
	uint64_t	protocol;
	uint64_t	queues;
	struct ferry_err why;		/* !up: what became of it */
};

struct ferry_vf_inflight {
	struct ferry_vu_inflight area;	/* queues 0: none is wanted */
	int		fd;		/* -1: there is none yet */
};

/* What the VMM wants of the device, but for queues. */
struct ferry_vf_want {
	bool		features_set;
	bool		status_set;
	bool		listening;	/* postcopy */
	bool		loaded;		/* a state, and no queue since */
	bool		state_lost;	/* it died with its backend */
	uint8_t		status;
	uint16_t	mtu;		/* 0: not set */
	uint64_t	features;
	size_t		regions;
	struct ferry_vhost_region region[FERRY_VHOST_FE_REGIONS_MAX];
	struct ferry_vhost_log *log;	/* NULL: none */
	struct ferry_vf_inflight inflight;
};

struct ferry_vf_queue {
	bool		started;
	bool		ran;		/* a backend has had it */
	bool		lost;		/* its place is not known any more */
	bool		enabled;
	struct ferry_vhost_fe_queue q;
};

/* See dirty.c. */
struct ferry_vhost_log {
	int		fd;
	uint64_t	words;
	_Atomic uint64_t *word;
	size_t		regions;
	struct ferry_vhost_region region[FERRY_VHOST_FE_REGIONS_MAX];
};

/* A state on its way. */
struct ferry_vf_transfer {
	int		fd;		/* -1: none */
	bool		loads;
	uint64_t	bytes;		/* so far */
	uint64_t	waited_ns;	/* for the backend */
};

/* A backend that moves, but hardly: while its state is on its way the VM
 * stands.  Each 64 KiB may take as long as an answer. */
#define FERRY_VF_PER_ANSWER	(64u << 10)

/* How long it may be waited for now. */
static inline uint64_t
ferry_vf_patience_ns(const struct ferry_vf_transfer *t, uint64_t request_ns)
{
	uint64_t in_all = request_ns * (1 + t->bytes / FERRY_VF_PER_ANSWER);
	uint64_t left = in_all > t->waited_ns ? in_all - t->waited_ns : 0;

	return left < request_ns ? left : request_ns;
}

/* What is told without waiting: as of the lock's last release. */
struct ferry_vf_seen {
	bool		up;
	uint64_t	offered, protocol, queues;
	uint64_t	connections, lost;
};

struct ferry_vhost_fe {
	char		label[160];	/* "disk0 at /run/disk0.sock" */
	char		*path;		/* NULL: cannot be found again */
	uint32_t	request_ms;
	uint64_t	features;	/* that the VMM can do */
	uint64_t	flags;
	uint64_t	state_bytes_max;
	struct ferry_vhost_fe_ops ops;
	void		*opaque;
	void		(*log)(void *opaque, int level, const char *line);

	pthread_mutex_t	lock;		/* all of this: */
	struct ferry_vf_link link;
	struct ferry_vf_want want;
	struct ferry_vf_queue *queue;	/* ..QUEUES_MAX */
	struct ferry_vf_transfer transfer;
	uint64_t	connections, lost;

	pthread_mutex_t	seen_lock;	/* innermost; nothing waits under it */
	struct ferry_vf_seen seen;

	int		stop;		/* eventfd: waits end */
	struct ferry_thread keeper;
};

void ferry_vf_say(struct ferry_vhost_fe *f, enum ferry_vf_level level,
		  const char *fmt, ...) FERRY_PRINTF(3, 4);

/* ---- talk.c: with the lock held ---- */

static inline bool ferry_vf_link_agreed(const struct ferry_vf_link *l,
					enum ferry_vu_protocol_feature bit)
{
	return l->protocol >> bit & 1;
}

static inline bool ferry_vf_agreed(const struct ferry_vhost_fe *f,
				   enum ferry_vu_protocol_feature bit)
{
	return ferry_vf_link_agreed(&f->link, bit);
}

/* The connection is of no use any more; the keeper will see to it. */
void ferry_vf_break(struct ferry_vhost_fe *f, const struct ferry_err *why);

/* Descriptors of a request. */
struct ferry_vf_fds {
	const int	*fd;
	unsigned	n;
};

#define FERRY_VF_NO_FDS ((struct ferry_vf_fds){ NULL, 0 })

/*
 * Send *m, and wait until it is done: for its answer (in *m) where it has one,
 * for an ack where the backend gives any, else for the answer to another
 * request behind it.  got: descriptors that came; NULL where none may come.
 * -1 with *e: FERRY_E_PEER when the backend refused, else the link is down.
 */
FERRY_CHECKED int ferry_vf_ask(struct ferry_vhost_fe *f,
			       struct ferry_vu_msg *m, struct ferry_vf_fds fds,
			       struct ferry_vu_fds *got, struct ferry_err *e);
FERRY_CHECKED int ferry_vf_ask_u64(struct ferry_vhost_fe *f, uint32_t request,
				   uint64_t value, struct ferry_err *e);
FERRY_CHECKED int ferry_vf_ask_plain(struct ferry_vhost_fe *f,
				     uint32_t request, uint64_t *value,
				     struct ferry_err *e);
FERRY_CHECKED int ferry_vf_ask_state(struct ferry_vhost_fe *f,
				     uint32_t request, uint32_t index,
				     uint32_t num, struct ferry_err *e);

/* The same on a link that is not the device's yet; no lock. */
FERRY_CHECKED int ferry_vf_link_ask(struct ferry_vf_link *l,
				    struct ferry_vu_msg *m,
				    struct ferry_vf_fds fds,
				    struct ferry_vu_fds *got,
				    struct ferry_err *e);
FERRY_CHECKED int ferry_vf_link_ask_u64(struct ferry_vf_link *l,
					uint32_t request, uint64_t value,
					struct ferry_err *e);
FERRY_CHECKED int ferry_vf_link_ask_plain(struct ferry_vf_link *l,
					  uint32_t request, uint64_t *value,
					  struct ferry_err *e);

/* The parts, for the one exchange that is another: a request that goes
 * unanswered; and an answer of this form to what was sent. */
FERRY_CHECKED int ferry_vf_send(struct ferry_vhost_fe *f,
				struct ferry_vu_msg *m, enum ferry_vu_form form,
				struct ferry_vf_fds fds, struct ferry_err *e);
FERRY_CHECKED int ferry_vf_answer(struct ferry_vhost_fe *f,
				  struct ferry_vu_msg *m,
				  enum ferry_vu_form form,
				  struct ferry_vu_fds *got,
				  struct ferry_err *e);

/*
 * Begin and end of a public function: take the lock; let it go, and name the
 * device in what went wrong.  With `remembered` it is no failure that the
 * backend is away, as it will be told when it comes; but rc FERRY_VF_NEVER is.
 */
#define FERRY_VF_NEVER	(-2)	/* what the VMM asked for cannot be */

static inline int ferry_vf_never(int rc)
{
	return rc ? FERRY_VF_NEVER : 0;
}

void ferry_vf_enter(struct ferry_vhost_fe *f);
void ferry_vf_unlock(struct ferry_vhost_fe *f);
int ferry_vf_leave(struct ferry_vhost_fe *f, int rc, bool remembered,
		   const struct ferry_err *why, struct ferry_err *e);

/* ---- connect.c ---- */

/*
 * Dial and shake hands, on a link that is nobody's yet: without the lock, so
 * that nobody waits for a backend that hangs in it, and no longer than
 * request_ms in all.  On failure nothing is left open.
 */
FERRY_CHECKED int ferry_vf_dial(struct ferry_vhost_fe *f,
				struct ferry_vf_link *l, struct ferry_err *e);
FERRY_CHECKED int ferry_vf_greet(struct ferry_vhost_fe *f, int fd,
				 struct ferry_vf_link *l, struct ferry_err *e);
/* Lock held: the device's from now on; -1: it cannot be, and was closed. */
FERRY_CHECKED int ferry_vf_adopt(struct ferry_vhost_fe *f,
				 const struct ferry_vf_link *l,
				 struct ferry_err *e);
/* Close what there is of a link. */
void ferry_vf_hang_up(struct ferry_vhost_fe *f);

/* ---- keeper.c ---- */

FERRY_CHECKED int ferry_vf_keeper_start(struct ferry_vhost_fe *f,
					struct ferry_err *e);

/* ---- what is sent when it is set, and again; lock held ---- */

FERRY_CHECKED int ferry_vf_send_features(struct ferry_vhost_fe *f,
					 struct ferry_err *e);
FERRY_CHECKED int ferry_vf_send_status(struct ferry_vhost_fe *f,
				       uint8_t status, struct ferry_err *e);
FERRY_CHECKED int ferry_vf_send_mtu(struct ferry_vhost_fe *f,
				    struct ferry_err *e);
FERRY_CHECKED int ferry_vf_send_listen(struct ferry_vhost_fe *f,
				       struct ferry_err *e);
FERRY_CHECKED int ferry_vf_send_memory(struct ferry_vhost_fe *f,
				       struct ferry_err *e);
FERRY_CHECKED int ferry_vf_send_inflight(struct ferry_vhost_fe *f,
					 struct ferry_err *e);
FERRY_CHECKED int ferry_vf_send_log(struct ferry_vhost_fe *f,
				    struct ferry_err *e);
FERRY_CHECKED int ferry_vf_send_queue(struct ferry_vhost_fe *f,
				      struct ferry_vf_queue *q,
				      struct ferry_err *e);
FERRY_CHECKED int ferry_vf_send_addr(struct ferry_vhost_fe *f,
				     const struct ferry_vf_queue *q,
				     struct ferry_err *e);

/* All of it, to a backend that has just come.  *kept: no queue was lost. */
FERRY_CHECKED int ferry_vf_replay(struct ferry_vhost_fe *f, bool *kept,
				  struct ferry_err *e);

/* ---- memory.c ---- */

/* NULL: a region can be like this. */
const char *ferry_vf_wrong_with(const struct ferry_vhost_region *r);

/* ---- queue.c ---- */

/* Where this process has [gpa, gpa + bytes), or NULL: not, or not in one
 * region. */
void *ferry_vf_host(const struct ferry_vhost_fe *f, uint64_t gpa,
		    uint64_t bytes);
static inline bool ferry_vf_is_packed(const struct ferry_vhost_fe *f)
{
	return f->want.features & FERRY_VF_PACKED;
}

/* The backend went: queues keep the place that memory knows.  What it may have
 * written and not marked is marked. */
void ferry_vf_queues_lost(struct ferry_vhost_fe *f);

/* ---- place.c ---- */

/* Where a dead backend left it, in q->base; false: nobody knows. */
bool ferry_vf_find_place(const struct ferry_vhost_fe *f,
			 struct ferry_vhost_fe_queue *q);

/* ---- dirty.c ---- */

/* Mark, as a backend would. */
void ferry_vf_log_mark(struct ferry_vhost_log *l, uint64_t gpa,
		       uint64_t bytes);

/* ---- state.c ---- */

void ferry_vf_transfer_end(struct ferry_vhost_fe *f);
/* The backend went: what was loaded into it and never used went with it. */
void ferry_vf_state_lost(struct ferry_vhost_fe *f);
/* The device begins anew, or a queue runs with it. */
void ferry_vf_state_forget(struct ferry_vhost_fe *f);
/* -1: nothing may be started. */
FERRY_CHECKED int ferry_vf_state_check(const struct ferry_vhost_fe *f,
				       struct ferry_err *e);

#endif
