/* SPDX-License-Identifier: MIT */
/*
 * The other end for tests of the backend library: a front-end with a guest's
 * memory and a driver for split and packed rings, all in this process.
 *
 * It writes the protocol with our own codec; that the codec's octets are right
 * is the business of msg.c, which has them from other peers.
 */
#ifndef FERRY_TESTS_VU_RIG_H
#define FERRY_TESTS_VU_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <sys/uio.h>

#include <ferry/vhost.h>

#include "vu/be/ring.h"
#include "vu/msg/sock.h"

#define RIG_BYTES	(8u << 20)
#define RIG_GPA		0x40000000ull
#define RIG_UADDR	0x7f1200000000ull
#define RIG_QUEUES	4
#define RIG_SCRATCH	(1u << 20)	/* at the end: the test's own */

/* A driver's side of one queue. */
struct rig_queue {
	uint32_t	size;
	uint64_t	desc, avail, used;	/* offsets in memory */
	int		kick, call;
	uint16_t	free_at;	/* the next descriptor */
	uint16_t	avail_idx, used_idx;
	bool		avail_wrap, used_wrap;	/* packed */
	uint16_t	chain[1024];	/* packed: of each id */
};

struct rig {
	struct ferry_vhost *v;		/* NULL: in a child */
	pid_t		child;
	bool		forks;
	int		inflight_fd;	/* the area that we keep; -1 */
	struct ferry_vu_inflight inflight;
	struct ferry_vu_sock sock;
	int		mem_fd;
	uint8_t		*mem;
	uint64_t	features;	/* taken */
	bool		no_ack;		/* REPLY_ACK was not taken */
	struct rig_queue q[RIG_QUEUES];
	/* What rig_put() does to buffer id before the device can see it; or
	 * NULL. */
	void		(*spoil)(struct rig *r, const struct rig_queue *q,
				 uint16_t id, const void *arg);
	const void	*spoil_arg;
	uint64_t	heap;		/* next free octet of memory */
};

/* The guest's memory and driver alone, for who has another front-end: give it
 * r->mem_fd, take features into r->features, place queues. */
void rig_make(struct rig *r);
void rig_unmake(struct rig *r);
/* A ring in memory, and its eventfds. */
void rig_place_queue(struct rig *r, unsigned i, uint32_t size);

/* A device, attached; its features asked; all taken but without. */
void rig_open(struct rig *r, const struct ferry_vhost_shape *shape,
	      const struct ferry_vhost_ops *ops, void *opaque,
	      uint64_t without);
/* The same, the device in a process of its own, which rig_reopen() kills. */
void rig_open_forked(struct rig *r, const struct ferry_vhost_shape *shape,
		     const struct ferry_vhost_ops *ops, void *opaque,
		     uint64_t without);
/* Ask for an in-flight area, once; hand it over, from then on after each
 * rig_reopen(). */
void rig_track_inflight(struct rig *r, uint16_t queues, uint16_t size);
/* The front-end goes, the device ends. */
void rig_close(struct rig *r);
/* Another front-end for the same memory (it was kept), and a new device. */
void rig_reopen(struct rig *r, const struct ferry_vhost_shape *shape,
		const struct ferry_vhost_ops *ops, void *opaque);

/*
 * Send a request; if it has an answer, or an ack can be asked for, wait for it.
 * The answer's u64, or of an ack 0 or 1; fds that come are in *fds.
 * Fails the test when the connection breaks.
 */
uint64_t rig_ask(struct rig *r, struct ferry_vu_msg *m, const int *fds,
		 unsigned n_fds, struct ferry_vu_fds *got);
/* Of a request that has a u64, a state. */
uint64_t rig_ask_u64(struct rig *r, uint32_t request, uint64_t value);
uint64_t rig_ask_state(struct rig *r, uint32_t request, uint32_t index,
		       uint32_t num);

/* The guest's memory, as one region, or two that touch. */
void rig_give_memory(struct rig *r, bool in_two);

/* Octets of guest memory that nobody uses: their offset. */
uint64_t rig_alloc(struct rig *r, uint64_t bytes, uint64_t align);

/* An offset in the part of memory that rig_alloc() leaves alone. */
static inline uint64_t rig_scratch(const struct rig *r, uint64_t at)
{
	(void)r;
	return RIG_BYTES - RIG_SCRATCH + at;
}

/* Set queue i up, begin at base, enable and kick it. */
void rig_start_queue(struct rig *r, unsigned i, uint32_t size, uint32_t base,
		     bool logged);
/* GET_VRING_BASE: its num. */
uint32_t rig_stop_queue(struct rig *r, unsigned i);

/* Turn the log of its used part on or off while it runs. */
void rig_log_queue(struct rig *r, unsigned i, bool logged);

/* A part of a buffer. */
struct rig_part {
	uint64_t	gpa;
	uint32_t	bytes;
	bool		write;
};

/* Make a buffer available; its id.  indirect: through a table. */
uint16_t rig_put(struct rig *r, unsigned i, const struct rig_part *parts,
		 unsigned n, bool indirect);
void rig_kick(struct rig *r, unsigned i);

/* Wait until a buffer is used: its id, and in *bytes how much was written. */
uint16_t rig_get(struct rig *r, unsigned i, uint32_t *bytes);
/* One that is there, without waiting. */
bool rig_try_get(struct rig *r, unsigned i, uint16_t *id, uint32_t *bytes);

/* What an echo device does: copies out to in.  Ops for tests. */
void rig_echo(void *opaque, struct ferry_vhost_queue *q, unsigned why);

#endif
