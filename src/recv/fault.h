/* SPDX-License-Identifier: MIT */
/*
 * Faults: whoever touches a page that is missing waits; this thread finds out
 * and asks the source, or fills the page when it is known to be zero.
 *
 * Threads: one, "ferry-fault", which alone reads the userfaultfd; mute and
 *          ask again by the reader of main.
 * Others:  faults of other processes (recv/foreign.h) are served by it too.
 * Mute:    the link is lost.  Faults are taken and remembered (`asked` of the
 *          map), and asked for, once each, when there is a link again.
 */
#ifndef FERRY_RECV_FAULT_H
#define FERRY_RECV_FAULT_H

#include <pthread.h>

#include "base/thread.h"
#include "recv/answer.h"
#include "recv/place.h"

struct ferry_fault_thread {
	struct ferry_place *place;
	struct ferry_answer *answer;
	/* With the lock held: must not call back here.  It is mute then. */
	void		(*failed)(void *arg, const struct ferry_err *why);
	void		*arg;
	int		 stop_fd;	/* eventfd */
	/* One asks at a time; PTHREAD_MUTEX_INITIALIZER, for a receiver may ask
	 * when there is no thread yet, or any more. */
	pthread_mutex_t	 lock;
	bool		 on;		/* lock: there is one */
	bool		 mute;		/* lock */
	_Atomic uint64_t faults;
	_Atomic uint64_t zero_filled;
	struct ferry_thread thread;
};

/* place, answer, failed and arg are filled by the caller; failed runs on the
 * thread when a request cannot be sent (faults are still read then). */
FERRY_CHECKED int ferry_fault_start(struct ferry_fault_thread *f,
				    struct ferry_err *e);
void ferry_fault_stop(struct ferry_fault_thread *f);

/* From here on nothing is asked, and failed() has returned.  Nothing happens
 * when there is no thread, as below. */
void ferry_fault_mute(struct ferry_fault_thread *f);

/* Whoever waits and has not got the page is served once more, unless it is
 * mute: a channel was lost.  What fails is told to failed(). */
void ferry_fault_ask_once_more(struct ferry_fault_thread *f);

/* No more mute: whoever waits and has not got the page is served, be it by
 * asking the source. */
FERRY_CHECKED int ferry_fault_ask_again(struct ferry_fault_thread *f,
					struct ferry_err *e);

#endif
