/* SPDX-License-Identifier: MIT */
/*
 * A thread that places runs of pages while their reader reads on: what it is
 * given is placed in turn.  It is there for long runs, which come in quick
 * succession; whoever places anything else waits for it first, so that
 * everything is placed in the order in which it came.
 *
 * Threads: the reader's; "ferry-place" inside.
 * Memory:  FERRY_HELPER_RUNS runs.
 */
#ifndef FERRY_RECV_HELPER_H
#define FERRY_RECV_HELPER_H

#include "base/thread.h"
#include "recv/place.h"

#define FERRY_RAMBODY_RUN	64u	/* pages placed together */
#define FERRY_HELPER_RUNS	8u

struct ferry_helper_run {
	struct ferry_mem_block *block;
	uint64_t	 first;
	uint32_t	 n;
	uint8_t		*pages;		/* FERRY_RAMBODY_RUN of them */
};

struct ferry_helper {
	struct ferry_placer *placer;
	struct ferry_thread thread;
	pthread_mutex_t	 lock;		/* all below */
	pthread_cond_t	 given_more, done_more;
	struct ferry_helper_run run[FERRY_HELPER_RUNS];
	uint64_t	 given, done;	/* runs; run[i % FERRY_HELPER_RUNS] */
	uint64_t	 until;		/* so many done: the reader waits */
	bool		 pressed;	/* for all of it */
	bool		 quit;
	bool		 failed;	/* then nothing more is placed */
	struct ferry_err why;
};

/* The first run's buffer is the caller's until fini. */
FERRY_CHECKED int ferry_helper_start(struct ferry_helper *h,
				     struct ferry_placer *placer,
				     uint8_t *pages, struct ferry_err *e);
static inline bool ferry_helper_is_there(const struct ferry_helper *h)
{
	return h->thread.started;
}

/* A run that lies in the buffer.  *pages is the buffer for the next: waits
 * until one is free. */
FERRY_CHECKED int ferry_helper_give(struct ferry_helper *h,
				    struct ferry_mem_block *block,
				    uint64_t first, uint32_t n,
				    uint8_t **pages, struct ferry_err *e);
/* All that was given is placed. */
FERRY_CHECKED int ferry_helper_settle(struct ferry_helper *h,
				      struct ferry_err *e);
void ferry_helper_fini(struct ferry_helper *h);

#endif
