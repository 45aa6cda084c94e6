/* SPDX-License-Identifier: MIT */
/*
 * The return path's writer: what the target tells the source.
 *
 * Threads: any; one lock, so that messages do not mix.
 */
#ifndef FERRY_RECV_ANSWER_H
#define FERRY_RECV_ANSWER_H

#include <pthread.h>
#include <stdbool.h>

#include "chan/chan.h"
#include "mem/mem.h"
#include "recv/map.h"
#include "wire/rp.h"

struct ferry_answer {
	struct ferry_chan *chan;	/* borrowed; NULL: there is no way back */
	enum ferry_dialect dialect;
	pthread_mutex_t	 lock;
	bool		 open;		/* the source reads it */
	const struct ferry_mem_block *last;	/* block of the last request */
};

void ferry_answer_init(struct ferry_answer *a);
void ferry_answer_fini(struct ferry_answer *a);
void ferry_answer_open(struct ferry_answer *a, struct ferry_chan *chan,
		       enum ferry_dialect dialect);

/* The link is gone: nothing is said until it is opened again. */
void ferry_answer_close(struct ferry_answer *a);

/* A message with a value, or without any.  FERRY_E_PROTO when the source
 * never opened the return path. */
FERRY_CHECKED int ferry_answer_say(struct ferry_answer *a,
				   enum ferry_rp_type type, uint32_t value,
				   struct ferry_err *e);

/* One of BULK_*. */
FERRY_CHECKED int ferry_answer_bulk(struct ferry_answer *a,
				    enum ferry_rp_type type, uint32_t device,
				    uint64_t wide, struct ferry_err *e);

/* Ask for pages. */
FERRY_CHECKED int ferry_answer_request(struct ferry_answer *a,
				       const struct ferry_mem_block *b,
				       uint64_t first, uint64_t pages,
				       struct ferry_err *e);

/* RECV_BITMAP: which pages of the block are here, or known to be zero. */
FERRY_CHECKED int ferry_answer_bitmap(struct ferry_answer *a,
				      const struct ferry_mem_block *b,
				      const struct ferry_map *map,
				      struct ferry_err *e);

/* REASON (to a ferry) and SHUT(1): the VM does not run here and will not;
 * best effort.  Nothing is said behind it. */
void ferry_answer_give_up(struct ferry_answer *a, const char *reason);

/* DIFFERS: a page is not what the source has. */
FERRY_CHECKED int ferry_answer_differs(struct ferry_answer *a,
				       const char *reason,
				       struct ferry_err *e);

/* A sign of life (PONG 0, or what else is due), unless something is being said
 * already or there is no room for it; never blocks. */
void ferry_answer_beat(struct ferry_answer *a, enum ferry_rp_type type,
		       uint32_t value);

/* FAULTS in its place: true when it was said. */
bool ferry_answer_report(struct ferry_answer *a,
			 const struct ferry_rp_faults *f);

#endif
