/* SPDX-License-Identifier: MIT */
/*
 * What the target has said so far, for the conductor to wait on.
 *
 * Threads: the threads of the return path post, the conductor waits, any thread pokes
 *          it.  Lock: leaf.
 */
#ifndef FERRY_MIG_REPLIES_H
#define FERRY_MIG_REPLIES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "wire/rp.h"

enum ferry_reply {
	FERRY_REPLY_PONG	= 1,	/* any */
	FERRY_REPLY_SYNCED	= 2,	/* up to `synced` */
	FERRY_REPLY_LOADED	= 4,
	FERRY_REPLY_RUNNING	= 8,
	FERRY_REPLY_SHUT	= 16,	/* SHUT(0) */
	FERRY_REPLY_REFUSED	= 32,	/* SHUT(not 0): does not run there and
					 * will not */
	FERRY_REPLY_BROKEN	= 64,	/* nothing more will come */
	FERRY_REPLY_MAP		= 128,	/* one more received map, see `maps` */
	FERRY_REPLY_RESUMED	= 256,	/* RESUME_ACK */
	FERRY_REPLY_DIFFERS	= 512,	/* a page there is not ours */
	FERRY_REPLY_LOST	= 1024,	/* channels are lost, here or there */
};

/* Channels, a bit each. */
struct ferry_losses {
	uint64_t	 data, urgent;
};

struct ferry_replies {
	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	unsigned	 seen;		/* enum ferry_reply */
	uint32_t	 synced;
	uint32_t	 maps;
	struct ferry_losses lost;	/* said by the target */
	bool		 poked;
	struct ferry_err why;		/* of REFUSED, BROKEN */
};

void ferry_replies_init(struct ferry_replies *r);
void ferry_replies_fini(struct ferry_replies *r);

/* Another link: nothing was said on it yet. */
void ferry_replies_reset(struct ferry_replies *r);

/* Note a message; false when it was the last one that may come (SHUT). */
bool ferry_replies_post(struct ferry_replies *r, const struct ferry_rp *m);
void ferry_replies_broken(struct ferry_replies *r,
			  const struct ferry_err *why);

/* A channel was lost here. */
void ferry_replies_note_loss(struct ferry_replies *r);
/* Those that the target has named since the last call; no LOST is left. */
void ferry_replies_take_losses(struct ferry_replies *r,
			       struct ferry_losses *out);
/* They are counted anew. */
void ferry_replies_forget_maps(struct ferry_replies *r);

/* Make a waiter return 0 early. */
void ferry_replies_poke(struct ferry_replies *r);

/* Wait for any of `wanted`, for bad news (REFUSED, BROKEN), a poke
 * or until_ns; returns what was seen, as of now. */
unsigned ferry_replies_wait(struct ferry_replies *r, unsigned wanted,
			    uint64_t until_ns);
/* Forget these bits: the next wait is for the next message. */
void ferry_replies_clear(struct ferry_replies *r, unsigned bits);
unsigned ferry_replies_seen(struct ferry_replies *r);
uint32_t ferry_replies_synced(struct ferry_replies *r);
uint32_t ferry_replies_maps(struct ferry_replies *r);

/* Copies the reason; returns -1. */
int ferry_replies_why(struct ferry_replies *r, struct ferry_err *e);

#endif
