/* SPDX-License-Identifier: MIT */
/*
 * Senders.  Each waits for a job, works on its own share without locks, and
 * reports; the last to report wakes the conductor.
 */
#include "send/crew.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

#define LAG_PART	8u	/* of what its own share took, who is done waits */

void ferry_crew_init(struct ferry_crew *c, struct ferry_select *select,
		     struct ferry_send_counters *count,
		     struct ferry_bitmap *at_target)
{
	*c = (struct ferry_crew){
		.select = select, .count = count, .at_target = at_target,
	};
	ferry_pace_init(&c->pace);
	pthread_mutex_init(&c->lock, NULL);
	ferry_cond_init(&c->job_given);
	ferry_cond_init(&c->job_done);
}

static void note_sent(struct ferry_crew *c, const struct ferry_batch *b)
{
	struct ferry_bitmap *map = &c->at_target[b->block->index];

	for (uint32_t i = 0; i < b->n; i++)
		ferry_bitmap_set(map, b->page[i]);
}

/* The next batch of the pass: a halt lets it finish the stripe it is at,
 * because the rest of a huge page must follow on this channel first. */
static int next_batch(struct ferry_sender *s)
{
	struct ferry_crew *c = s->crew;

	if (atomic_load_explicit(&c->halt, memory_order_relaxed))
		return ferry_select_rest(c->select, &s->cursor, &s->batch);
	return ferry_select_next(c->select, &s->cursor, &s->batch);
}

/* One stripe's worth, or a batch: the turn is given up in between only when no
 * host page is left half sent. */
static int send_some(struct ferry_sender *s, struct ferry_err *e)
{
	int rc = next_batch(s);

	while (rc > 0) {
		if (s->lane.enc.ops->pages(&s->lane.enc, &s->batch, e))
			return -1;
		s->pass.pages += s->batch.n;
		note_sent(s->crew, &s->batch);
		if (s->crew->release)
			ferry_batch_release(&s->batch);
		if (s->cursor.word == s->cursor.word_end ||
		    s->batch.block->host_pages == 1)
			return 1;
		rc = next_batch(s);
	}
	if (rc < 0)
		return ferry_err_set(e, FERRY_E_IO, -rc,
				     "re-arm the dirty log");
	return 0;
}

/* A turn of the lane, after so long a wait for it to be allowed. */
static int take_turn(struct ferry_sender *s, uint64_t waited_ns,
		     uint64_t *bytes, struct ferry_err *e)
{
	struct ferry_encoder *x = &s->lane.enc;
	int rc;

	ferry_lane_enter_bulk(&s->lane);
	ferry_packer_waited(&x->packer, waited_ns);
	*bytes = x->sent_bytes;
	rc = send_some(s, e);
	*bytes = x->sent_bytes - *bytes;
	ferry_lane_leave(&s->lane);
	return rc;
}

/* Everything owed in this sender's share.  Until what was sent before is paid
 * for, the turn is not taken and nothing claimed: what is asked for meanwhile
 * need not wait as well. */
static int run_pass(struct ferry_sender *s, struct ferry_err *e)
{
	struct ferry_pace *pace = &s->crew->pace;
	uint64_t waited_ns = 0, begin = ferry_now_ns();
	int rc;

	ferry_cursor_rewind(&s->cursor, s->share, s->crew->shares);
	s->pass.pages = 0;
	do {
		uint64_t bytes = 0;

		waited_ns += ferry_pace_take(pace, 0);
		rc = take_turn(s, waited_ns, &bytes, e);
		waited_ns = ferry_pace_take(pace, bytes);
	} while (rc > 0);
	s->pass.ns = ferry_now_ns() - begin;
	return rc;
}

static int do_job(struct ferry_sender *s, enum ferry_job job,
		  uint32_t sequence, struct ferry_err *e)
{
	int rc;

	switch (job) {
	case FERRY_JOB_PASS:
		return run_pass(s, e);
	case FERRY_JOB_SYNC:
		ferry_lane_enter_bulk(&s->lane);
		rc = s->lane.enc.ops->sync(&s->lane.enc, sequence, e);
		ferry_lane_leave(&s->lane);
		return rc;
	case FERRY_JOB_NONE:
	case FERRY_JOB_QUIT:
		break;
	}
	return 0;
}

void ferry_crew_halt(struct ferry_crew *c)
{
	atomic_store(&c->halt, true);
	ferry_pace_stop(&c->pace);
}

/* Caller holds the lock. */
static unsigned left(const struct ferry_crew *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->senders; i++)
		n += !c->sender[i]->lost;
	return n;
}

/* True when it is this channel alone that is lost.  Caller holds the lock. */
static bool lose(struct ferry_sender *s, const struct ferry_err *why)
{
	struct ferry_crew *c = s->crew;

	if (s->lost)
		return true;
	if (!c->may_lose || !ferry_err_is_link(why) || left(c) == 1)
		return false;
	s->lost = true;
	s->lane.chan->ops->shutdown(s->lane.chan);
	return true;
}

static void report(struct ferry_sender *s, const struct ferry_err *why)
{
	struct ferry_crew *c = s->crew;

	if (why)	/* the others take its share over, or end as well */
		ferry_crew_halt(c);
	pthread_mutex_lock(&c->lock);
	if (why && !lose(s, why) && !c->failed) {
		c->failed = true;
		c->why = *why;
	}
	s->speed = s->pass;
	if (!c->first_ns)
		c->first_ns = ferry_now_ns();
	if (--c->busy == 0 || c->failed)
		pthread_cond_broadcast(&c->job_done);
	pthread_mutex_unlock(&c->lock);
}

static void sender_main(void *arg)
{
	struct ferry_sender *s = arg;
	struct ferry_crew *c = s->crew;
	struct ferry_err err = { 0 };
	uint64_t seen = 0;

	for (;;) {
		enum ferry_job job;
		uint32_t sequence;
		int rc;

		pthread_mutex_lock(&c->lock);
		while (c->turn == seen || (s->idle && c->job != FERRY_JOB_QUIT))
			pthread_cond_wait(&c->job_given, &c->lock);
		seen = c->turn;
		job = c->job;
		sequence = c->sequence;
		pthread_mutex_unlock(&c->lock);

		if (job == FERRY_JOB_QUIT)
			return;
		rc = do_job(s, job, sequence, &err);
		report(s, rc ? &err : NULL);
	}
}

int ferry_crew_add(struct ferry_crew *c, struct ferry_chan *chan, bool owned,
		   ferry_encoder_init *encoder, struct ferry_err *e)
{
	struct ferry_sender *s = calloc(1, sizeof(*s));
	char name[16];

	if (!s) {
		if (owned)
			ferry_chan_close(chan);
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "sender");
	}
	s->crew = c;
	s->index = c->senders;
	ferry_lane_init(&s->lane, chan, owned, encoder, c->count);
	c->sender[c->senders++] = s;	/* fini frees it, started or not */
	c->to = c->senders;

	snprintf(name, sizeof(name), "ferry-data-%u", s->index);
	return ferry_thread_start(&s->thread, name, sender_main, s, e);
}

void ferry_crew_assign(struct ferry_crew *c, unsigned from, unsigned to)
{
	pthread_mutex_lock(&c->lock);
	c->from = from;
	c->to = to;
	pthread_mutex_unlock(&c->lock);
}

void ferry_crew_begin(struct ferry_crew *c, enum ferry_job job,
		      uint32_t sequence)
{
	pthread_mutex_lock(&c->lock);
	c->job = job;
	c->sequence = sequence;
	c->shares = 0;
	for (unsigned i = 0; i < c->senders; i++) {
		struct ferry_sender *s = c->sender[i];

		s->idle = s->lost || i < c->from || i >= c->to;
		s->share = c->shares;
		c->shares += !s->idle;
	}
	c->busy = c->shares;
	c->begun_ns = ferry_now_ns();
	c->first_ns = 0;
	c->turn++;
	if (!c->failed)
		atomic_store(&c->halt, false);
	pthread_cond_broadcast(&c->job_given);
	pthread_mutex_unlock(&c->lock);
	ferry_pace_go(&c->pace);
}

int ferry_crew_wait(struct ferry_crew *c, uint64_t until_ns,
		    struct ferry_err *e)
{
	int rc = 1;

	pthread_mutex_lock(&c->lock);
	while (c->busy && !c->failed) {
		if (!ferry_cond_wait_until(&c->job_done, &c->lock, until_ns))
			break;
	}
	if (c->failed) {
		if (e)
			*e = c->why;
		rc = -1;
	} else if (c->busy) {
		rc = 0;
	}
	pthread_mutex_unlock(&c->lock);
	return rc;
}

bool ferry_crew_lags(struct ferry_crew *c, uint64_t least_ns)
{
	uint64_t now = ferry_now_ns(), lag, own;
	bool lags;

	pthread_mutex_lock(&c->lock);
	lag = now - c->first_ns;
	own = c->first_ns - c->begun_ns;
	lags = c->job == FERRY_JOB_PASS && c->first_ns && c->busy &&
	       lag > least_ns && lag > own / LAG_PART;
	pthread_mutex_unlock(&c->lock);
	return lags;
}

void ferry_crew_deal(struct ferry_crew *c)
{
	struct ferry_speed speed[FERRY_DATA_CHANNELS_MAX];
	unsigned n = 0;

	pthread_mutex_lock(&c->lock);
	for (unsigned i = c->from; i < c->to; i++)
		if (!c->sender[i]->lost)
			speed[n++] = c->sender[i]->speed;
	pthread_mutex_unlock(&c->lock);
	if (n)
		ferry_deal(&c->select->deal, speed, n);
}

void ferry_crew_may_lose(struct ferry_crew *c, bool may)
{
	pthread_mutex_lock(&c->lock);
	c->may_lose = may;
	pthread_mutex_unlock(&c->lock);
}

void ferry_crew_lose(struct ferry_crew *c, unsigned sender)
{
	struct ferry_chan *chan = c->sender[sender]->lane.chan;

	pthread_mutex_lock(&c->lock);
	c->sender[sender]->lost = true;
	pthread_mutex_unlock(&c->lock);
	chan->ops->shutdown(chan);
}

unsigned ferry_crew_left(struct ferry_crew *c)
{
	unsigned n;

	pthread_mutex_lock(&c->lock);
	n = left(c);
	pthread_mutex_unlock(&c->lock);
	return n;
}

bool ferry_crew_is_lost(struct ferry_crew *c, unsigned sender)
{
	bool lost;

	pthread_mutex_lock(&c->lock);
	lost = c->sender[sender]->lost;
	pthread_mutex_unlock(&c->lock);
	return lost;
}

void ferry_crew_shutdown(struct ferry_crew *c)
{
	ferry_crew_halt(c);
	for (unsigned i = 0; i < c->senders; i++) {
		struct ferry_chan *chan = c->sender[i]->lane.chan;

		chan->ops->shutdown(chan);
	}
}

void ferry_crew_limit_unsent(struct ferry_crew *c, uint32_t bytes)
{
	for (unsigned i = 0; i < c->senders; i++) {
		struct ferry_chan *chan = c->sender[i]->lane.chan;

		chan->ops->limit_unsent(chan, bytes);
	}
}

static void quit_threads(struct ferry_crew *c)
{
	pthread_mutex_lock(&c->lock);
	c->job = FERRY_JOB_QUIT;
	c->turn++;
	pthread_cond_broadcast(&c->job_given);
	pthread_mutex_unlock(&c->lock);
	for (unsigned i = 0; i < c->senders; i++)
		ferry_thread_join(&c->sender[i]->thread);
}

void ferry_crew_stop(struct ferry_crew *c)
{
	if (!c->select)
		return;
	ferry_crew_shutdown(c);
	quit_threads(c);
	for (unsigned i = 0; i < c->senders; i++) {
		ferry_lane_fini(&c->sender[i]->lane);
		free(c->sender[i]);
	}
	pthread_mutex_lock(&c->lock);
	c->senders = c->busy = 0;
	c->from = c->to = 0;
	c->job = FERRY_JOB_NONE;
	c->turn = 0;
	c->failed = c->may_lose = false;
	c->select->deal.shares = 0;
	pthread_mutex_unlock(&c->lock);
}

void ferry_crew_fini(struct ferry_crew *c)
{
	if (!c->select)
		return;
	ferry_crew_stop(c);
	pthread_cond_destroy(&c->job_done);
	pthread_cond_destroy(&c->job_given);
	pthread_mutex_destroy(&c->lock);
	ferry_pace_fini(&c->pace);
	*c = (struct ferry_crew){ 0 };
}
