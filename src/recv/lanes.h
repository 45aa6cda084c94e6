/* SPDX-License-Identifier: MIT */
/*
 * QEMU's multifd channels: each begins with INIT and carries packets of pages
 * in precopy.  Their order relative to main is defined by marks alone: at a
 * mark on main each lane has placed what came before its next SYNC, and reads
 * on only when main has seen them all.
 *
 * A lane may be there before main is: it holds its packets back until the
 * blocks are known.
 *
 * Threads: one per lane, which owns its channel; admit by the door; open, sync
 *          by the reader of main; stop by whoever ends it all.
 */
#ifndef FERRY_RECV_LANES_H
#define FERRY_RECV_LANES_H

#include "base/thread.h"
#include "chan/inbuf.h"
#include "recv/place.h"
#include "recv/unpack.h"
#include "wire/multifd.h"

#define FERRY_LANE_BUF_BYTES	(2ul * FERRY_PACKET_PAGES_MAX * \
				 FERRY_PAGE_BYTES)

struct ferry_lanes;

struct ferry_multifd_lane {
	struct ferry_lanes *all;
	struct ferry_chan *chan;	/* owned; all->lock */
	uint32_t	 synced;	/* all->lock: SYNCs read, and: */
	bool		 broken;
	struct ferry_err why;
	uint8_t		*pages;		/* of one packet */
	uint8_t		*packed;
	struct ferry_unpack *unpack;	/* from the first packet that wants
					 * it to the last */
	struct ferry_packet packet;
	struct ferry_device_packet device;	/* if flags say so: */
	uint32_t	 flags;		/* of the packet that came last */
	struct ferry_placer placer;
	struct ferry_inbuf in;
	struct ferry_thread thread;
};

struct ferry_lanes {
	struct ferry_place *place;
	void		(*failed)(void *arg, const struct ferry_err *why);
	/* Takes the octets of a packet of device state off `in`; `buf` has
	 * FERRY_LANE_BUF_BYTES and is the lane's thread's. */
	int		(*device)(void *arg, unsigned lane,
				  const struct ferry_device_packet *p,
				  struct ferry_inbuf *in, uint8_t *buf,
				  struct ferry_err *e);
	void		*arg;
	unsigned	 n;
	struct ferry_multifd_lane *lane;

	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	bool		 opened;	/* blocks are known */
	bool		 closed;
	uint32_t	 released;	/* SYNCs that main has seen */
	uint8_t		 uuid[16];	/* of the VM, as INIT says */
};

/* n may be 0; place, failed, device and arg are filled by the caller.  failed
 * runs on the lane's thread when what came cannot be right, or not be placed;
 * that a lane ended is told by the next sync only. */
FERRY_CHECKED int ferry_lanes_init(struct ferry_lanes *l, unsigned n,
				   struct ferry_err *e);
void ferry_lanes_fini(struct ferry_lanes *l);

/* A connection that begins with INIT; takes the buffer and its channel when
 * it succeeds. */
FERRY_CHECKED int ferry_lanes_admit(struct ferry_lanes *l,
				    struct ferry_inbuf *in,
				    struct ferry_err *e);
bool ferry_lanes_all_here(struct ferry_lanes *l);
/* All have ended, or are being stopped: nothing more will come of them. */
bool ferry_lanes_over(struct ferry_lanes *l);
/* False when none has said one. */
bool ferry_lanes_uuid(struct ferry_lanes *l, uint8_t uuid[16]);

void ferry_lanes_open(struct ferry_lanes *l);

/* A mark on main.  FERRY_E_TIMEOUT when a lane has not come, or has been
 * silent, for silence_ms. */
FERRY_CHECKED int ferry_lanes_sync(struct ferry_lanes *l, uint32_t silence_ms,
				   struct ferry_err *e);

/* Ends and forgets all lanes; others may come then. */
void ferry_lanes_stop(struct ferry_lanes *l);

#endif
