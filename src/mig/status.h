/* SPDX-License-Identifier: MIT */
/*
 * The state of one migration, seen from one side: one setter, an event out of
 * each change, and a place to wait.
 *
 * Threads: any.  Lock order: events, then lock; no other lock of the engine
 *          is taken inside either.  The event callback runs with only
 *          `events` held, which no API call takes: it may call back in.
 */
#ifndef FERRY_MIG_STATUS_H
#define FERRY_MIG_STATUS_H

#include <pthread.h>

#include <ferry/event.h>

#include "base/log.h"
#include "mig/states.h"

struct ferry_status {
	enum ferry_side	 side;
	struct ferry_callbacks cb;
	struct ferry_log log;

	pthread_mutex_t	 events;	/* keeps events in order */
	pthread_mutex_t	 lock;		/* all below */
	pthread_cond_t	 changed;
	enum ferry_state state;
	bool		 handed;	/* see ferry_where_of() */
	bool		 heard;
	struct ferry_err why;		/* of a failure or pause */
	uint64_t	 since_ns[FERRY_STATES];	/* first entry, or 0 */
	uint64_t	 ended_ns;
	uint64_t	 hope_ns;	/* paused: until then it is no end */
	uint64_t	 paused_ns;	/* since when there is no link, or 0 */
	uint64_t	 apart_ns;	/* without a link, all together, before */
	uint64_t	 last_pause_ns;	/* when it was lost last */
	unsigned	 recoveries;
	unsigned	 attempts;
};

void ferry_status_init(struct ferry_status *s, enum ferry_side side,
		       const struct ferry_callbacks *cb);
void ferry_status_fini(struct ferry_status *s);

/* The one setter.  An illegal transition is our bug: assert. */
void ferry_status_set(struct ferry_status *s, enum ferry_state to);

/* The same if the state is `from`; else nothing happens. */
void ferry_status_advance(struct ferry_status *s, enum ferry_state from,
			  enum ferry_state to);

/* The same with the reason; the first reason stays, until it goes on. */
void ferry_status_fail(struct ferry_status *s, enum ferry_state to,
		       const struct ferry_err *why);

/* Paused or not, a pause is no end until then (0: it is one): the two sides
 * try to find each other again. */
void ferry_status_hope(struct ferry_status *s, uint64_t until_ns);

bool ferry_status_has_hope(struct ferry_status *s);

/* The reason of a state that stays as it is; told as an event. */
void ferry_status_remark(struct ferry_status *s, const struct ferry_err *why);

/* RUN was sent or received; the target was heard running. */
void ferry_status_handed(struct ferry_status *s);
void ferry_status_heard(struct ferry_status *s);
/* The target said that it will not run: the VM is at the source again. */
void ferry_status_renounced(struct ferry_status *s);

enum ferry_state ferry_status_state(struct ferry_status *s);
enum ferry_where ferry_status_where(struct ferry_status *s);
bool ferry_status_is_handed(struct ferry_status *s);
bool ferry_status_is_heard(struct ferry_status *s);

/* Another event than a state change. */
void ferry_status_event(struct ferry_status *s, enum ferry_event_type type,
			unsigned pass, const char *text);

/* Until final, and there is no hope: 0 for completed, else -1 with the reason. */
FERRY_CHECKED int ferry_status_wait(struct ferry_status *s, int timeout_ms,
				    struct ferry_err *e);

/* Fills state, where, safe, error and the times. */
void ferry_status_stats(struct ferry_status *s, struct ferry_stats *out);

#endif
