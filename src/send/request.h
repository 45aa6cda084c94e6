/* SPDX-License-Identifier: MIT */
/*
 * Requested pages: sent at once, by the thread that read the request, and with
 * them a window of pages around them that are still owed.
 *
 * Threads: the return-path thread.
 */
#ifndef FERRY_SEND_REQUEST_H
#define FERRY_SEND_REQUEST_H

#include "send/lane.h"

struct ferry_requests {
	struct ferry_select *select;
	/* Borrowed; NULL until the VM is stopped for postcopy: a request
	 * before that is an error. */
	_Atomic(struct ferry_lane *) lane;
	struct ferry_send_counters *count;
	/* Set by the conductor, at any time. */
	_Atomic bool	 again;		/* a page may be sent a second time */
	_Atomic bool	 release;	/* free pages once sent; never with
					 * `again` */
	const _Atomic uint64_t *forward;	/* pages; change while running */
	const _Atomic uint64_t *backward;
	struct ferry_batch batch;
};

/* Answer one; first and pages are checked against the block already. */
FERRY_CHECKED int ferry_requests_answer(struct ferry_requests *r,
					struct ferry_mem_block *block,
					uint64_t first, uint64_t pages,
					struct ferry_err *e);

#endif
