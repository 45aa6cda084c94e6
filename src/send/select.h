/* SPDX-License-Identifier: MIT */
/*
 * Selection: which pages go next, on which channel.
 *
 * Memory is cut into stripes: 64 pages (one word of the pages owed), or one
 * host page where that is larger.  Before the switchover a stripe belongs to
 * one channel, s % n or as it was dealt (send/deal.h), and to another one only
 * behind a barrier: two copies of a page ride one channel, in order.  After it
 * the source is still; draining a page's bit (for huge pages: setting the host
 * page's claim bit) decides who sends it.
 *
 * Threads: each cursor belongs to one sender; requests are claimed by any
 *          thread at the same time.
 * Order:   arm the dirty log, drain the bit, *then* read the page.
 */
#ifndef FERRY_SEND_SELECT_H
#define FERRY_SEND_SELECT_H

#include "mem/dirty.h"
#include "mem/owed.h"
#include "send/deal.h"

/* Pages of one block that leave together, ascending within each stripe. */
struct ferry_batch {
	struct ferry_mem_block *block;
	uint32_t	n;
	uint64_t	page[FERRY_PACKET_PAGES_MAX];
};

enum ferry_order { FERRY_ORDER_LINEAR, FERRY_ORDER_NEAR, FERRY_ORDER_HOT };

struct ferry_select {
	struct ferry_mem *mem;
	struct ferry_owed *owed;
	struct ferry_dirty **dirty;	/* armed before pages are read */
	unsigned	 trackers;

	uint64_t	*first_stripe;	/* of each block, and the total */
	struct ferry_bitmap *claimed;	/* per block: host pages taken, huge
					 * blocks only, after switchover */
	const struct ferry_bitmap *later;	/* per block: passes leave them
					 * out, or NULL */
	struct ferry_deal deal;		/* set between passes */
	bool		 stopped;	/* the VM is: no write to be noticed */
	bool		 still;		/* for good: claims decide */

	enum ferry_order order;		/* of the push after switchover */
	uint32_t	*heat;		/* per stripe, decaying; or NULL */
	uint32_t	*by_heat;	/* stripes, hottest first; or NULL */
	_Atomic uint64_t near;		/* stripe of the last request, + 1 */
};

/* One sender's place. */
struct ferry_cursor {
	unsigned	 share, shares;	/* whose stripes */
	uint64_t	 next;		/* position in the order */
	uint64_t	 near_next;	/* stripe after the last request */
	uint64_t	 near_seen;	/* value of near when it was set */
	uint64_t	 word, word_end;	/* rest of a stripe begun */
	uint32_t	 block;			/* whose words these are */
	uint64_t	 armed_block, armed_end;
};

FERRY_CHECKED int ferry_select_init(struct ferry_select *s,
				    struct ferry_mem *mem,
				    struct ferry_owed *owed,
				    struct ferry_dirty **dirty,
				    unsigned trackers, bool keep_heat,
				    struct ferry_err *e);
void ferry_select_fini(struct ferry_select *s);

/* After a harvest: remember where writes happen (order hot). */
void ferry_select_note_heat(struct ferry_select *s);

/* The VM is stopped and the last harvest is over: nothing is armed any more.
 * Caller: conductor, no sender at work. */
void ferry_select_stopped(struct ferry_select *s);

/* The same for good, with everything owed known: from now on claims decide. */
FERRY_CHECKED int ferry_select_still(struct ferry_select *s,
				     enum ferry_order order,
				     struct ferry_err *e);

/*
 * Passes leave these pages out from now on (but for those of huge blocks);
 * requests do not.  NULL: none.  The map must live on.  Caller: conductor, no
 * sender at work.
 */
void ferry_select_later(struct ferry_select *s,
			const struct ferry_bitmap *pages);

/* The pages owed were made anew after a lost link: nothing is claimed. */
void ferry_select_restart(struct ferry_select *s);

/*
 * What was on its way on a channel that was lost is not known: all that was
 * taken and has not been received is owed again, as whole host pages, and
 * nobody has claimed it.  Some of it may be on its way elsewhere.  received:
 * one bitmap per block.  Caller: conductor, no sender at work; requests may
 * be.  Returns how many pages.
 */
uint64_t ferry_select_owe_again(struct ferry_select *s,
				const struct ferry_bitmap *received);

/* Begin a pass. */
void ferry_cursor_rewind(struct ferry_cursor *c, unsigned share,
			 unsigned shares);

/*
 * The next pages of this cursor's share; 0 when the pass is done, 1 when
 * batch is filled, -errno when a dirty log cannot be armed.
 */
int ferry_select_next(struct ferry_select *s, struct ferry_cursor *c,
		      struct ferry_batch *batch);

/* The same, but begins no new stripe: what is left of one that a halted pass
 * had begun (the rest of a huge page). */
int ferry_select_rest(struct ferry_select *s, struct ferry_cursor *c,
		      struct ferry_batch *batch);

/*
 * The pages of one request, at most FERRY_PACKET_PAGES_MAX from *at on, that
 * the caller shall send now; advances *at.  With `again`, pages that were
 * claimed before are included.  Batch may come out empty.
 */
void ferry_select_claim(struct ferry_select *s, struct ferry_mem_block *block,
			uint64_t *at, uint64_t end, bool again,
			struct ferry_batch *batch);

/* Give the memory of these pages back: they were sent and nobody will read
 * them here again.  Best effort. */
void ferry_batch_release(const struct ferry_batch *batch);

/* Steer the push (order near) behind this page. */
void ferry_select_hint(struct ferry_select *s, struct ferry_mem_block *block,
		       uint64_t page);

#endif
