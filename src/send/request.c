/* SPDX-License-Identifier: MIT */
/*
 * Answering a request: first what was asked for, then its surroundings.
 *
 * A page that bulk has claimed but not delivered is sent again where the peer
 * can drop second copies (`again`); towards a QEMU a page goes once only.
 */
#include "send/request.h"

/* again: also what was claimed before, where that is allowed at all. */
static int send_range(struct ferry_requests *r, struct ferry_mem_block *block,
		      uint64_t first, uint64_t end, bool again,
		      struct ferry_err *e)
{
	struct ferry_lane *lane = atomic_load(&r->lane);
	uint64_t at = first;
	int rc = 0;

	/* The turn is kept: a huge page's pieces stay together. */
	ferry_lane_enter_urgent(lane);
	again = again && atomic_load(&r->again);
	while (!rc && at < end) {
		ferry_select_claim(r->select, block, &at, end, again,
				   &r->batch);
		if (!r->batch.n)
			continue;
		ferry_count(&r->count->request_pages, r->batch.n);
		rc = lane->enc.ops->pages(&lane->enc, &r->batch, e);
		if (!rc && atomic_load(&r->release))
			ferry_batch_release(&r->batch);
	}
	ferry_lane_leave(lane);
	return rc;
}

static int send_window(struct ferry_requests *r, struct ferry_mem_block *block,
		       uint64_t first, uint64_t end, struct ferry_err *e)
{
	uint64_t forward = atomic_load(r->forward);
	uint64_t backward = atomic_load(r->backward);
	uint64_t from, to;

	/* Whole host pages only. */
	forward -= forward % block->host_pages;
	backward -= backward % block->host_pages;
	from = backward < first ? first - backward : 0;
	to = forward < block->pages - end ? end + forward : block->pages;

	if (to > end && send_range(r, block, end, to, false, e))
		return -1;
	if (from < first && send_range(r, block, from, first, false, e))
		return -1;
	return 0;
}

int ferry_requests_answer(struct ferry_requests *r,
			  struct ferry_mem_block *block, uint64_t first,
			  uint64_t pages, struct ferry_err *e)
{
	ferry_count(&r->count->requests, 1);
	if (!atomic_load(&r->lane))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "the target asks for pages of block %s "
				     "before postcopy has begun", block->name);
	ferry_select_hint(r->select, block, first);
	if (send_range(r, block, first, first + pages, true, e))
		return -1;
	return send_window(r, block, first, first + pages, e);
}
