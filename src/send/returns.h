/* SPDX-License-Identifier: MIT */
/*
 * The return path: reads what the target says, answers page requests at once,
 * and passes the rest on.
 *
 * Threads: one of its own, "ferry-return".  The callbacks run on it.
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

	/* Nothing more will come; why says whether that is bad.  Last call. */
	void (*broken)(void *arg, const struct ferry_err *why);
};

struct ferry_returns {
	const struct ferry_returns_ops *ops;
	void		*arg;
	const struct ferry_mem *mem;
	struct ferry_requests *requests;
	enum ferry_dialect dialect;
	/* After a lost link: one per block, filled in the order of the blocks,
	 * a message for each; NULL: none is expected. */
	struct ferry_bitmap *received;
	uint32_t	 maps;		/* that have come */
	uint64_t	 last_word_ns;	/* when no answer can be written any
					 * more: so long the target is heard */
	const struct ferry_mem_block *last;	/* block of the last request */
	struct ferry_inbuf in;
	struct ferry_thread thread;
};

/* What `in` must hold at least: a message, or a piece of a map. */
#define FERRY_RETURNS_BUF_BYTES	8192u

/*
 * A link that takes no answer is often the echo of a target that gave up and
 * says why on this path: what it says is passed on before broken().
 *
 * All fields but last and thread are filled by the caller; `in` may hold
 * octets already, and is freed here on failure too.
 */
FERRY_CHECKED int ferry_returns_start(struct ferry_returns *r,
				      struct ferry_err *e);

/* Joins; the channel was shut down before, or SHUT was read. */
void ferry_returns_stop(struct ferry_returns *r);

#endif
