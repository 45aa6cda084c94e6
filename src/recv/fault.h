/* SPDX-License-Identifier: MIT */
/*
 * Faults: whoever touches a page that is missing waits; this thread finds out
 * and asks the source, or fills the page when it is known to be zero.
 *
 * Threads: one, "ferry-fault", which alone reads the userfaultfd.
 */
#ifndef FERRY_RECV_FAULT_H
#define FERRY_RECV_FAULT_H

#include "base/thread.h"
#include "recv/answer.h"
#include "recv/place.h"

struct ferry_fault_thread {
	struct ferry_place *place;
	struct ferry_answer *answer;
	void		(*failed)(void *arg, const struct ferry_err *why);
	void		*arg;
	int		 stop_fd;	/* eventfd */
	_Atomic uint64_t faults;
	_Atomic uint64_t zero_filled;
	struct ferry_thread thread;
};

/* place, answer, failed and arg are filled by the caller; failed runs on the
 * thread when a request cannot be sent (faults are still read then). */
FERRY_CHECKED int ferry_fault_start(struct ferry_fault_thread *f,
				    struct ferry_err *e);
void ferry_fault_stop(struct ferry_fault_thread *f);

#endif
