/* SPDX-License-Identifier: MIT */
/*
 * Receivers: one thread per data or urgent channel, which reads packets and
 * places their pages; and the gate where the main thread waits until all of
 * them have read a mark.
 *
 * Threads: each receiver owns its channel; gate calls by the main thread.
 * Order:   `synced` is raised after all pages before the mark were placed.
 */
#ifndef FERRY_RECV_RECEIVER_H
#define FERRY_RECV_RECEIVER_H

#include "base/flow.h"
#include "base/thread.h"
#include "chan/inbuf.h"
#include "recv/device.h"
#include "recv/place.h"
#include "recv/unpack.h"
#include "wire/multifd.h"

struct ferry_marks {
	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	bool		 closed;	/* stop waiting */
};

struct ferry_receiver {
	struct ferry_marks *gate;
	struct ferry_place *place;
	unsigned	 number;	/* of the channel: recv/sums.h */
	uint32_t	 methods;	/* FERRY_PACKET_METHODS that may come */
	struct ferry_flow *flow;	/* or NULL */
	void		(*failed)(void *arg, struct ferry_receiver *r,
				  const struct ferry_err *why);
	void		*arg;
	/* Where packets of bulk devices go; NULL: none may come. */
	const struct ferry_device_sink *sink;
	bool		 no_pages;	/* and nothing else may */
	struct ferry_chan *chan;	/* owned */
	uint32_t	 synced;	/* under gate->lock, as are: */
	bool		 broken;	/* no further mark will come */
	bool		 dropped;	/* nothing is expected of it */
	struct ferry_err why;
	uint8_t		*pages;		/* of one packet */
	uint8_t		*packed;	/* its payload, when compressed */
	struct ferry_unpack *unpack;	/* from the first of those on */
	struct ferry_packet packet;
	struct ferry_placer placer;
	struct ferry_inbuf in;
	struct ferry_thread thread;
};

void ferry_marks_init(struct ferry_marks *g);
void ferry_marks_fini(struct ferry_marks *g);

/*
 * Wait until r has placed everything before mark `sequence`; -1 with the
 * reason when r failed before it, FERRY_E_TIMEOUT when nothing was read for
 * silence_ms, FERRY_E_CANCELLED when closed.  Others may have ended meanwhile:
 * a source that gives up closes them all, and says why on main, which is read
 * behind the mark.
 */
FERRY_CHECKED int ferry_marks_wait(struct ferry_marks *g,
				   struct ferry_receiver *r,
				   uint32_t sequence, uint32_t silence_ms,
				   struct ferry_err *e);
/* The source knows that this channel is lost: it is broken here too, and no
 * mark is waited for. */
void ferry_receiver_drop(struct ferry_receiver *r);
/* Of n, those that still read. */
unsigned ferry_marks_alive(struct ferry_marks *g,
			   const struct ferry_receiver *r, unsigned n);
bool ferry_receiver_is_dropped(struct ferry_receiver *r);

void ferry_marks_close(struct ferry_marks *g);
/* As after init; nobody waits. */
void ferry_marks_reopen(struct ferry_marks *g);

/*
 * All above chan is filled by the caller; takes the buffer and its
 * channel, also when it fails (then stop() gives them back).  failed runs on
 * the thread, once, when the channel breaks.
 */
FERRY_CHECKED int ferry_receiver_start(struct ferry_receiver *r,
				       struct ferry_inbuf *in,
				       struct ferry_err *e);

/* Breaks the channel, joins, closes it.  Safe when never started. */
void ferry_receiver_stop(struct ferry_receiver *r);

#endif
