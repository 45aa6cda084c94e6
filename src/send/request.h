/* SPDX-License-Identifier: MIT */
/*
 * Requested pages: sent at once, by the thread that read the request, and with
 * them a window of pages around them that are still owed.
 *
 * There may be several ways for them.  A request takes the next one that is
 * free and takes something; so one that is stuck is passed by, and holds up
 * only the thread that was caught on it.
 *
 * Threads: those of the return path; the conductor says which ways there are.
 *          Lock: leaf.
 */
#ifndef FERRY_SEND_REQUEST_H
#define FERRY_SEND_REQUEST_H

#include "send/lane.h"

struct ferry_way {
	struct ferry_lane *lane;	/* borrowed */
	bool		 spare;		/* only when no other is left */
	bool		 busy;
	bool		 lost;
};

#define FERRY_WAYS_MAX	(FERRY_URGENT_CHANNELS_MAX + FERRY_DATA_CHANNELS_MAX)

struct ferry_requests {
	struct ferry_select *select;
	struct ferry_send_counters *count;
	/* Set by the conductor, at any time. */
	_Atomic bool	 again;		/* a page may be sent a second time */
	_Atomic bool	 release;	/* free pages once sent; never with
					 * `again` */
	const _Atomic uint64_t *forward;	/* pages; change while running */
	const _Atomic uint64_t *backward;

	pthread_mutex_t	 lock;		/* all below */
	pthread_cond_t	 freed;
	/* None until the VM is stopped for postcopy: a request before that is
	 * an error. */
	struct ferry_way way[FERRY_WAYS_MAX];
	unsigned	 ways;
	unsigned	 next;
	/* Not NULL: a way whose link breaks is one less.  By who was at it,
	 * without the lock. */
	void		(*on_loss)(void *arg);
	void		*arg;
};

void ferry_requests_init(struct ferry_requests *r, struct ferry_select *select,
			 struct ferry_send_counters *count,
			 const _Atomic uint64_t *forward,
			 const _Atomic uint64_t *backward);
void ferry_requests_fini(struct ferry_requests *r);

/* One more way; from the first on requests are answered. */
void ferry_requests_add(struct ferry_requests *r, struct ferry_lane *lane,
			bool spare);

/* From here on a way may be lost (NULL: any more); an answer that fails goes
 * by another. */
void ferry_requests_may_lose(struct ferry_requests *r,
			     void (*on_loss)(void *arg), void *arg);

/* By the number of the way, as they were added.  Nobody is at it any more: what
 * was claimed for it has been sent on it, or will be on another. */
void ferry_requests_lose(struct ferry_requests *r, unsigned way);
bool ferry_requests_is_lost(struct ferry_requests *r, unsigned way);

/* There are none any more, and nobody is at work; nor may one be lost. */
void ferry_requests_clear(struct ferry_requests *r);
bool ferry_requests_open(struct ferry_requests *r);

/* No second copies from here on: what is being answered now has been. */
void ferry_requests_once(struct ferry_requests *r);

/* Answer one; first and pages are checked against the block already. */
FERRY_CHECKED int ferry_requests_answer(struct ferry_requests *r,
					struct ferry_mem_block *block,
					uint64_t first, uint64_t pages,
					struct ferry_err *e);

#endif
