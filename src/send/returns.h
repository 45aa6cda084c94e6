/* SPDX-License-Identifier: MIT */
/*
 * The return path: reads what the target says, answers page requests at once,
 * and passes the rest on.
 *
 * Threads: "ferry-return", as many as there are ways for what is requested.
 *          They take turns in reading; who has read a request gives the turn
 *          away before it answers, so that one that is stuck in an answer
 *          holds up nobody while there are others.  message() runs on who has
 *          the turn.  Lock: leaf.
 */
#ifndef FERRY_SEND_RETURNS_H
#define FERRY_SEND_RETURNS_H

#include "base/thread.h"
#include "chan/inbuf.h"
#include "send/request.h"
#include "wire/rp.h"

struct ferry_returns_ops {
	/* Everything but page requests; RECV_BITMAP when its map is read.
	 * Returns false to end the thread. */
	bool (*message)(void *arg, const struct ferry_rp *m);

	/* Nothing more will come; why says whether that is bad.  Once; another
	 * thread may be about to pass on what it has read. */
	void (*broken)(void *arg, const struct ferry_err *why);
};

struct ferry_returns {
	const struct ferry_returns_ops *ops;
	void		*arg;
	const struct ferry_mem *mem;
	struct ferry_requests *requests;
	enum ferry_dialect dialect;
	/* After a lost link or channel: one per block, filled in the order of
	 * the blocks, a message for each; NULL: none is expected. */
	struct ferry_bitmap *_Atomic received;
	_Atomic uint32_t maps;		/* that have come */
	uint64_t	 last_word_ns;	/* when no answer can be written any
					 * more: so long the target is heard */
	unsigned	 threads;	/* 0 is 1 */

	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	/* lock: */
	bool		 reading;	/* somebody has the turn, and so: */
	bool		 mute;		/* no answer can be written */
	bool		 ended;
	/* Who has the turn. */
	const struct ferry_mem_block *last;	/* block of the last request */
	struct ferry_inbuf in;
	struct ferry_thread thread[FERRY_URGENT_CHANNELS_MAX];
};

/* What `in` must hold at least: a message, or a piece of a map. */
#define FERRY_RETURNS_BUF_BYTES	8192u

/*
 * A link that takes no answer is often the echo of a target that gave up and
 * says why on this path: what it says is passed on before broken().
 *
 * The fields down to `threads` are filled by the caller, and `in`, which may hold
 * octets already, and is freed here on failure too.
 */
FERRY_CHECKED int ferry_returns_start(struct ferry_returns *r,
				      struct ferry_err *e);

/* From here on these are filled; NULL: all that was asked for has come. */
void ferry_returns_expect(struct ferry_returns *r, struct ferry_bitmap *maps);

/* They were started, and not stopped. */
bool ferry_returns_run(const struct ferry_returns *r);

/* Joins; the channel was shut down before, or SHUT was read. */
void ferry_returns_stop(struct ferry_returns *r);

#endif
