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

#include "base/thread.h"
#include "chan/inbuf.h"
#include "recv/place.h"
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
	void		(*failed)(void *arg, const struct ferry_err *why);
	void		*arg;
	struct ferry_chan *chan;	/* owned */
	uint32_t	 synced;	/* under gate->lock, as are: */
	bool		 broken;	/* no further mark will come */
	struct ferry_err why;
	uint8_t		*pages;		/* one packet's payload */
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
void ferry_marks_close(struct ferry_marks *g);
/* As after init; nobody waits. */
void ferry_marks_reopen(struct ferry_marks *g);

/*
 * gate, place, number, failed, arg filled by the caller; takes the buffer and its
 * channel, also when it fails (then stop() gives them back).  failed runs on
 * the thread, once, when the channel breaks.
 */
FERRY_CHECKED int ferry_receiver_start(struct ferry_receiver *r,
				       struct ferry_inbuf *in,
				       struct ferry_err *e);

/* Breaks the channel, joins, closes it.  Safe when never started. */
void ferry_receiver_stop(struct ferry_receiver *r);

#endif
