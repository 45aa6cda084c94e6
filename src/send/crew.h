/* SPDX-License-Identifier: MIT */
/*
 * The senders: one thread per data channel, which work on one job at a time
 * that the conductor gives to all of them.
 *
 * Threads: begin, wait and end by the conductor; stop by any.
 * Life:    channels are owned by the crew from add on; threads end in stop.
 */
#ifndef FERRY_SEND_CREW_H
#define FERRY_SEND_CREW_H

#include <stdatomic.h>

#include "base/thread.h"
#include "send/lane.h"
#include "send/pace.h"

enum ferry_job {
	FERRY_JOB_NONE,
	FERRY_JOB_PASS,		/* everything owed, once, in stripe order */
	FERRY_JOB_SYNC,		/* a mark on every channel */
	FERRY_JOB_QUIT,
};

struct ferry_sender {
	struct ferry_crew *crew;
	unsigned	 index;
	struct ferry_lane lane;
	struct ferry_cursor cursor;
	struct ferry_batch batch;
	struct ferry_speed pass;	/* so far */
	/* crew->lock: */
	unsigned	 share;		/* of the job's */
	struct ferry_speed speed;	/* in the last pass */
	bool		 idle;		/* no part in this job */
	bool		 lost;		/* its channel is, and will not be
					 * used any more */
	struct ferry_thread thread;
};

struct ferry_crew {
	struct ferry_select *select;
	struct ferry_send_counters *count;
	struct ferry_bitmap *at_target;	/* per block: sent in precopy */
	struct ferry_pace pace;
	_Atomic bool	 release;	/* free pages once sent; set between
					 * jobs, as: */
	unsigned	 from, to;	/* senders that jobs are for */

	pthread_mutex_t	 lock;		/* all below but the sender's own */
	pthread_cond_t	 job_given, job_done;
	enum ferry_job	 job;
	uint32_t	 sequence;	/* of SYNC */
	uint64_t	 turn;		/* counts jobs */
	unsigned	 busy;
	unsigned	 shares;	/* senders at this job */
	uint64_t	 begun_ns;
	uint64_t	 first_ns;	/* the first had done its share; 0 */
	bool		 failed;
	bool		 may_lose;	/* as long as one is left, a link that
					 * breaks ends the job early, no more */
	struct ferry_err why;
	_Atomic bool	 halt;		/* end the pass early */

	unsigned	 senders;
	struct ferry_sender *sender[FERRY_DATA_CHANNELS_MAX];
};

/* at_target: one bitmap per block, set for each page that was sent. */
void ferry_crew_init(struct ferry_crew *c, struct ferry_select *select,
		     struct ferry_send_counters *count,
		     struct ferry_bitmap *at_target);

/*
 * One more sender on this channel, with this encoder; before the first job.
 * Not `owned`: the channel stays the caller's, who must not write while a job
 * is under way.  An owned one is closed also on failure.
 */
FERRY_CHECKED int ferry_crew_add(struct ferry_crew *c, struct ferry_chan *chan,
				 bool owned, ferry_encoder_init *encoder,
				 struct ferry_err *e);

/* From now on jobs are for these alone, who share the memory among them; by
 * default for all that were added.  Between jobs. */
void ferry_crew_assign(struct ferry_crew *c, unsigned from, unsigned to);

/* Give a job to all; the last one must be done. */
void ferry_crew_begin(struct ferry_crew *c, enum ferry_job job,
		      uint32_t sequence);

/* Until the job is done (or ended early: channels were lost) or until_ns: 1
 * done, 0 time is up, -1 a sender failed (all have stopped then, or will
 * soon). */
FERRY_CHECKED int ferry_crew_wait(struct ferry_crew *c, uint64_t until_ns,
				  struct ferry_err *e);

/* Some have done their share of the pass, and others are late by more than
 * least_ns, and by a good part of what that share took. */
bool ferry_crew_lags(struct ferry_crew *c, uint64_t least_ns);

/* From now on shares are as the speeds in the last pass were.  Between jobs,
 * and before the switchover behind a barrier. */
void ferry_crew_deal(struct ferry_crew *c);

/* Let the pass end early: each sender finishes the batch it is at. */
void ferry_crew_halt(struct ferry_crew *c);

/* From here on (false: any more) a channel may be lost; no job is under way. */
void ferry_crew_may_lose(struct ferry_crew *c, bool may);

/* This channel is: it is broken, and no job is given to it again. */
void ferry_crew_lose(struct ferry_crew *c, unsigned sender);
unsigned ferry_crew_left(struct ferry_crew *c);
bool ferry_crew_is_lost(struct ferry_crew *c, unsigned sender);

/* Break all channels; senders fail soon. */
void ferry_crew_shutdown(struct ferry_crew *c);

/* Cap what waits unsent in the kernel on every data channel. */
void ferry_crew_limit_unsent(struct ferry_crew *c, uint32_t bytes);

/* Breaks channels, joins threads, closes channels; halt() stays harmless.
 * Then senders may be added again. */
void ferry_crew_stop(struct ferry_crew *c);
void ferry_crew_fini(struct ferry_crew *c);

#endif
