/* SPDX-License-Identifier: MIT */
/*
 * Answering a request: first what was asked for, then its surroundings.
 *
 * A page that bulk has claimed but not delivered is sent again where the peer
 * can drop second copies (`again`); towards a QEMU a page goes once only.
 */
#include "send/request.h"

#include <assert.h>
#include <poll.h>

#include "base/thread.h"

void ferry_requests_init(struct ferry_requests *r, struct ferry_select *select,
			 struct ferry_send_counters *count,
			 const _Atomic uint64_t *forward,
			 const _Atomic uint64_t *backward)
{
	*r = (struct ferry_requests){
		.select = select, .count = count, .forward = forward,
		.backward = backward,
	};
	pthread_mutex_init(&r->lock, NULL);
	ferry_cond_init(&r->freed);
}

void ferry_requests_fini(struct ferry_requests *r)
{
	if (!r->select)
		return;
	pthread_cond_destroy(&r->freed);
	pthread_mutex_destroy(&r->lock);
	r->select = NULL;
}

/* ---- ways ----------------------------------------------------------------- */

void ferry_requests_add(struct ferry_requests *r, struct ferry_lane *lane,
			bool spare)
{
	pthread_mutex_lock(&r->lock);
	assert(r->ways < FERRY_WAYS_MAX);
	r->way[r->ways++] = (struct ferry_way){ .lane = lane, .spare = spare };
	pthread_cond_broadcast(&r->freed);
	pthread_mutex_unlock(&r->lock);
}

void ferry_requests_clear(struct ferry_requests *r)
{
	if (!r->select)
		return;
	pthread_mutex_lock(&r->lock);
	r->ways = r->next = 0;
	r->on_loss = NULL;
	pthread_mutex_unlock(&r->lock);
}

bool ferry_requests_open(struct ferry_requests *r)
{
	bool open;

	pthread_mutex_lock(&r->lock);
	open = r->ways;
	pthread_mutex_unlock(&r->lock);
	return open;
}

void ferry_requests_may_lose(struct ferry_requests *r,
			     void (*on_loss)(void *arg), void *arg)
{
	pthread_mutex_lock(&r->lock);
	r->on_loss = on_loss;
	r->arg = arg;
	pthread_mutex_unlock(&r->lock);
}

void ferry_requests_lose(struct ferry_requests *r, unsigned way)
{
	struct ferry_chan *chan = r->way[way].lane->chan;

	pthread_mutex_lock(&r->lock);
	r->way[way].lost = true;
	pthread_mutex_unlock(&r->lock);
	chan->ops->shutdown(chan);
	pthread_mutex_lock(&r->lock);
	while (r->way[way].busy)	/* it fails now */
		pthread_cond_wait(&r->freed, &r->lock);
	pthread_cond_broadcast(&r->freed);
	pthread_mutex_unlock(&r->lock);
}

bool ferry_requests_is_lost(struct ferry_requests *r, unsigned way)
{
	bool lost;

	pthread_mutex_lock(&r->lock);
	lost = r->way[way].lost;
	pthread_mutex_unlock(&r->lock);
	return lost;
}

void ferry_requests_once(struct ferry_requests *r)
{
	if (!atomic_exchange(&r->again, false))
		return;
	pthread_mutex_lock(&r->lock);
	for (unsigned i = 0; i < r->ways; i++)
		while (r->way[i].busy)
			pthread_cond_wait(&r->freed, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static bool has_room(const struct ferry_way *w)
{
	struct ferry_chan *chan = w->lane->chan;

	return chan->ops->wait(chan, POLLOUT, 0) != 0;
}

/* Those that may be taken: spare ones only when there is no other.  Caller
 * holds the lock. */
static unsigned count_ways(const struct ferry_requests *r, bool spare)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->ways; i++)
		n += !r->way[i].lost && r->way[i].spare == spare;
	return n;
}

/* One that is free and takes something, else one that is free.  Caller holds
 * the lock. */
static struct ferry_way *find_way(struct ferry_requests *r, bool spare,
				  bool alone)
{
	struct ferry_way *stuck = NULL;

	for (unsigned i = 0; i < r->ways; i++) {
		struct ferry_way *w = &r->way[(r->next + i) % r->ways];

		if (w->busy || w->lost || w->spare != spare)
			continue;
		/* Who else writes to a spare one is not to be looked at. */
		if (alone || spare || has_room(w))
			return w;
		if (!stuck)
			stuck = w;
	}
	return stuck;
}

/* Caller holds the lock.  NULL: there is none, yet or any more. */
static struct ferry_way *await_way(struct ferry_requests *r)
{
	for (;;) {
		unsigned n = count_ways(r, false);
		bool spare = !n;
		struct ferry_way *w;

		if (spare)
			n = count_ways(r, true);
		if (!n)
			return NULL;
		w = find_way(r, spare, n == 1);
		if (w)
			return w;
		pthread_cond_wait(&r->freed, &r->lock);
	}
}

static struct ferry_way *take_way(struct ferry_requests *r)
{
	struct ferry_way *w;

	pthread_mutex_lock(&r->lock);
	w = await_way(r);
	if (w) {
		w->busy = true;
		r->next = (unsigned)(w - r->way) + 1;
	}
	pthread_mutex_unlock(&r->lock);
	return w;
}

static void give_way(struct ferry_requests *r, struct ferry_way *w)
{
	pthread_mutex_lock(&r->lock);
	w->busy = false;
	pthread_cond_broadcast(&r->freed);
	pthread_mutex_unlock(&r->lock);
}

/* The same when its link broke: true when another may be taken. */
static bool lose_way(struct ferry_requests *r, struct ferry_way *w)
{
	void (*on_loss)(void *arg);
	bool others;
	void *arg;

	pthread_mutex_lock(&r->lock);
	on_loss = r->on_loss;
	arg = r->arg;
	w->busy = false;
	w->lost = w->lost || on_loss;
	others = w->lost && count_ways(r, false) + count_ways(r, true);
	pthread_cond_broadcast(&r->freed);
	pthread_mutex_unlock(&r->lock);
	if (on_loss) {
		w->lane->chan->ops->shutdown(w->lane->chan);
		on_loss(arg);
	}
	return others;
}

/* ---- an answer -------------------------------------------------------------- */

struct range {
	struct ferry_mem_block *block;
	uint64_t first, end;
	bool	 again;		/* also what was claimed before, where that is
				 * allowed at all */
};

static int send_range(struct ferry_requests *r, struct ferry_lane *lane,
		      const struct range *g, struct ferry_err *e)
{
	struct ferry_batch batch;
	uint64_t at = g->first;
	bool again;
	int rc = 0;

	/* The turn is kept: a huge page's pieces stay together. */
	ferry_lane_enter_urgent(lane);
	again = g->again && atomic_load(&r->again);
	while (!rc && at < g->end) {
		ferry_select_claim(r->select, g->block, &at, g->end, again,
				   &batch);
		if (!batch.n)
			continue;
		ferry_count(&r->count->request_pages, batch.n);
		rc = lane->enc.ops->pages(&lane->enc, &batch, e);
		if (!rc && atomic_load(&r->release))
			ferry_batch_release(&batch);
	}
	ferry_lane_leave(lane);
	return rc;
}

static int send_window(struct ferry_requests *r, struct ferry_lane *lane,
		       const struct range *asked, struct ferry_err *e)
{
	struct ferry_mem_block *block = asked->block;
	uint64_t forward = atomic_load(r->forward);
	uint64_t backward = atomic_load(r->backward);
	struct range ahead = { block, asked->end, block->pages, false };
	struct range behind = { block, 0, asked->first, false };

	/* Whole host pages only. */
	forward -= forward % block->host_pages;
	backward -= backward % block->host_pages;
	if (backward < asked->first)
		behind.first = asked->first - backward;
	if (forward < block->pages - asked->end)
		ahead.end = asked->end + forward;

	if (ahead.end > ahead.first && send_range(r, lane, &ahead, e))
		return -1;
	return behind.first < behind.end ? send_range(r, lane, &behind, e) : 0;
}

/* What was asked for, and its window. */
static int send_all(struct ferry_requests *r, struct ferry_lane *lane,
		    const struct range *asked, struct ferry_err *e)
{
	return send_range(r, lane, asked, e) ||
	       send_window(r, lane, asked, e) ? -1 : 0;
}

int ferry_requests_answer(struct ferry_requests *r,
			  struct ferry_mem_block *block, uint64_t first,
			  uint64_t pages, struct ferry_err *e)
{
	struct range asked = { block, first, first + pages, true };
	struct ferry_way *way;

	ferry_count(&r->count->requests, 1);
	if (!ferry_requests_open(r))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "the target asks for pages of block %s "
				     "before postcopy has begun", block->name);
	ferry_select_hint(r->select, block, first);
	while ((way = take_way(r))) {
		if (!send_all(r, way->lane, &asked, e)) {
			give_way(r, way);
			return 0;
		}
		if (!ferry_err_is_link(e)) {
			give_way(r, way);
			return -1;
		}
		if (!lose_way(r, way))
			return -1;
	}
	return ferry_err_set(e, FERRY_E_CLOSED, 0, "no channel is left for "
			     "requested pages");
}
