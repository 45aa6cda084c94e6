/* SPDX-License-Identifier: MIT */
/*
 * A source that lost the link comes back: which pages are here?  It sends the
 * others.
 *
 *   reader   main breaks; waits, and everything stays as it is
 *   door     lets one connection in
 *   reader   answers RECV_BITMAPs and RESUME, and reads on
 *
 * A ferry is known by its session id, see target_return.c.  A QEMU says nothing
 * of itself: with `migrate` and resume it makes a connection that begins with
 * RECV_BITMAP, and the first block it names must be one of ours.  That is only
 * for a VM that is adopted.  A source that comes back while main seems to live
 * has given that up; then so do we.
 */
#include "mig/target_impl.h"

#include <stdio.h>

#include "base/clock.h"
#include "mig/recover.h"
#include "wire/text.h"

bool ferry_target_awaits_source(struct ferry_target *t)
{
	bool waiting;

	pthread_mutex_lock(&t->lock);
	waiting = t->recovery.waiting || t->recovery.lingers;
	pthread_mutex_unlock(&t->lock);
	return waiting;
}

bool ferry_target_met_stray(struct ferry_target *t)
{
	bool strayed;

	pthread_mutex_lock(&t->lock);
	strayed = t->recovery.strayed;
	pthread_mutex_unlock(&t->lock);
	return strayed;
}

/* Under the lock nobody begins to wait, and who ends it has said before that
 * it recovers: paused and not waiting is for good. */
bool ferry_target_is_over(struct ferry_target *t)
{
	enum ferry_state state;
	bool waiting;

	pthread_mutex_lock(&t->lock);
	waiting = t->recovery.waiting || t->recovery.lingers;
	state = ferry_status_state(&t->status);
	pthread_mutex_unlock(&t->lock);
	return ferry_state_is_final(state) && !waiting;
}

/* ---- the door ------------------------------------------------------------------------ */

/* Nothing is consumed: the reader answers it. */
static int read_opening(struct ferry_inbuf *in, char *name,
			struct ferry_err *e)
{
	const uint8_t *p = ferry_inbuf_need(in, FERRY_COMMAND_WIRE, e);
	struct ferry_rd rd;
	size_t bytes;

	if (!p)
		return -1;
	bytes = (size_t)p[3] << 8 | p[4];
	if (bytes > 1 + FERRY_NAME_MAX)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "RECV_BITMAP of %zu octets", bytes);
	p = ferry_inbuf_need(in, FERRY_COMMAND_WIRE + bytes, e);
	if (!p)
		return -1;
	rd = ferry_rd_over(p + FERRY_COMMAND_WIRE, bytes);
	return ferry_recv_bitmap_decode(&rd, name, e);
}

static int check_opening(struct ferry_target *t, struct ferry_inbuf *in,
			 struct ferry_err *e)
{
	char name[FERRY_NAME_MAX + 1];

	if (read_opening(in, name, e))
		return -1;
	return ferry_mem_by_name(&t->vm->mem, name) ? 0 :
	       ferry_err_set(e, FERRY_E_MISMATCH, 0, "the VM that comes back "
			     "has a block %s, which there is not here",
			     FERRY_SHOW(name));
}

static bool is_possible(struct ferry_target *t)
{
	bool possible;

	pthread_mutex_lock(&t->lock);
	possible = t->recovery.possible && !t->recovery.here && !t->end.quit &&
		   !t->end.done;
	pthread_mutex_unlock(&t->lock);
	return possible;
}

/* Caller holds the lock. */
static bool hand_over(struct ferry_target *t, struct ferry_inbuf *in,
		      uint64_t until)
{
	struct ferry_recovery *r = &t->recovery;

	if (!r->waiting && t->main)
		t->main->ops->shutdown(t->main);
	while (!r->waiting && r->possible && !t->end.quit && !t->end.done &&
	       ferry_cond_wait_until(&t->changed, &t->lock, until))
		;
	if (!r->waiting || r->here || t->end.quit)
		return false;
	r->in = *in;
	r->here = true;
	*in = (struct ferry_inbuf){ 0 };
	pthread_cond_broadcast(&t->changed);
	return true;
}

/* Any stranger may begin like one. */
static int turn_stray(struct ferry_target *t, struct ferry_inbuf *in,
		      struct ferry_err *e)
{
	char name[FERRY_NAME_MAX + 1];

	if (read_opening(in, name, e))
		return -1;
	pthread_mutex_lock(&t->lock);
	t->recovery.strayed = true;
	pthread_mutex_unlock(&t->lock);
	return ferry_err_set(e, FERRY_E_STATE, 0, "a source comes back, and "
			     "there is nothing here that it could go on with");
}

int ferry_recover_admit(struct ferry_target *t, struct ferry_inbuf *in,
			struct ferry_err *e)
{
	uint32_t ms = ferry_patience_ms(&t->params);
	bool ok;

	if (!is_possible(t))
		return turn_stray(t, in, e);
	if (check_opening(t, in, e))
		return -1;
	in->chan->ops->set_timeout(in->chan, 0, ms);
	ferry_chan_set_name(in->chan, "main");
	pthread_mutex_lock(&t->lock);
	ok = hand_over(t, in, ferry_now_ns() + ms * FERRY_NS_PER_MS);
	pthread_mutex_unlock(&t->lock);
	return ok ? 0 : ferry_err_set(e, FERRY_E_STATE, 0, "a source comes "
				      "back, and is not waited for any more");
}

/* ---- the reader ----------------------------------------------------------------------- */

/* What another thread noted first is the cause. */
static bool begin_waiting(struct ferry_target *t, struct ferry_err *why)
{
	bool wait;

	pthread_mutex_lock(&t->lock);
	wait = t->recovery.possible && !t->end.quit;
	if (wait) {
		t->recovery.waiting = true;
		t->arrived = false;
		t->main->ops->shutdown(t->main);
		if (t->end.why.code)
			*why = t->end.why;
		t->end.why = (struct ferry_err){ 0 };
	}
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	return wait;
}

static void end_waiting(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	t->recovery.waiting = t->recovery.here = false;
	pthread_mutex_unlock(&t->lock);
}

/* False when it is to be waited for no more; nor is it when the VM would not
 * start. */
static bool await_source(struct ferry_target *t, uint64_t until,
			 struct ferry_inbuf *old)
{
	struct ferry_recovery *r = &t->recovery;
	bool here;

	pthread_mutex_lock(&t->lock);
	while (!r->here && !t->end.quit &&
	       t->loader.state != FERRY_LOAD_FAILED)
		if (!ferry_cond_wait_until(&t->changed, &t->lock,
					   r->coming ? UINT64_MAX : until) &&
		    !r->coming && !r->here)
			break;
	here = r->here;
	if (here) {
		*old = t->main_in;
		t->main = r->in.chan;
		t->main_in = r->in;
		ferry_inbuf_count(&t->main_in, &t->in.place.received_bytes);
		t->arrived = true;
	}
	pthread_mutex_unlock(&t->lock);
	if (!here)
		end_waiting(t);
	return here;
}

/* What was being put together when main broke comes again. */
static void forget_half_done(struct ferry_rambody *b)
{
	struct ferry_place *place = b->placer.place;

	ferry_placer_fini(&b->placer);
	ferry_placer_init(&b->placer, place);
	b->last = NULL;
	b->n = 0;
}

static bool is_ferry(const struct ferry_target *t)
{
	return t->dialect == FERRY_DIALECT_FERRY;
}

static bool may_wait(struct ferry_target *t, const struct ferry_err *why,
		     uint64_t *until)
{
	*until = UINT64_MAX;
	if (is_ferry(t))
		return ferry_return_may_wait(t, why, until);
	return ferry_err_is_link(why) && t->phase == FERRY_PHASE_RUNNING;
}

/* All that belonged to the link but main ends; then, if the VM is ours, it is
 * told. */
static void pause_here(struct ferry_target *t, const struct ferry_err *why)
{
	uint64_t ms = ferry_param(&t->params, FERRY_P_RECOVER);

	if (is_ferry(t))
		ferry_return_let_go(t);
	else
		ferry_preempt_stop(t);
	if (!ferry_status_is_handed(&t->status))
		return;
	if (t->differs)		/* a person decides, and nobody comes */
		ms = 0;
	if (is_ferry(t))
		ferry_status_hope(&t->status, ms ? ferry_now_ns() +
				  ms * FERRY_NS_PER_MS : 0);
	ferry_status_fail(&t->status, FERRY_STATE_POSTCOPY_PAUSED, why);
}

/* The source is back on another main. */
static void go_on(struct ferry_target *t)
{
	bool paused = ferry_status_state(&t->status) ==
		      FERRY_STATE_POSTCOPY_PAUSED;

	/* In this order: paused and not waiting means that it is over. */
	if (paused)
		ferry_status_set(&t->status, is_ferry(t) ?
				 FERRY_STATE_POSTCOPY_RECOVER_SETUP :
				 FERRY_STATE_POSTCOPY_RECOVER);
	end_waiting(t);
	if (is_ferry(t)) {
		ferry_return_begin(t);
		return;
	}
	ferry_answer_open(&t->in.answer, t->main, t->dialect);
	ferry_preempt_listen(t);
	t->returning = true;
}

/* Before that there is nobody to come back; the door may be letting one in, who
 * finds that it is late. */
static bool has_arrived(struct ferry_target *t)
{
	bool arrived;

	pthread_mutex_lock(&t->lock);
	arrived = t->arrived;
	pthread_mutex_unlock(&t->lock);
	return arrived;
}

bool ferry_recover_await(struct ferry_target *t, struct ferry_err *why)
{
	struct ferry_inbuf old = { 0 };
	uint64_t until;

	if (!has_arrived(t) || !may_wait(t, why, &until) ||
	    !begin_waiting(t, why))
		return false;
	pause_here(t, why);
	if (t->vm->adopt && !is_ferry(t))
		ferry_adopt_pause(t);
	if (t->differs)
		ferry_log(&t->status.log, FERRY_LOG_WARN, "%s; the source "
			  "pauses, and comes back only when it is told to",
			  why->msg);
	else
		ferry_log(&t->status.log, FERRY_LOG_WARN, "the connection "
			  "broke (%s); waiting for the source to come back",
			  why->msg);
	if (!await_source(t, until, &old))
		return false;
	ferry_answer_close(&t->in.answer);
	ferry_chan_close(old.chan);
	ferry_inbuf_fini(&old);
	forget_half_done(&t->in.body);
	go_on(t);
	return true;
}

static int check_turn(struct ferry_target *t, enum ferry_command command,
		      struct ferry_err *e)
{
	return t->returning ? 0 :
	       ferry_err_set(e, FERRY_E_PROTO, 0, "command %s comes out of "
			     "turn", ferry_command_name((uint16_t)command));
}

int ferry_recover_bitmap(struct ferry_target *t, struct ferry_rd *rd,
			 struct ferry_err *e)
{
	char name[FERRY_NAME_MAX + 1];
	const struct ferry_mem_block *b;

	if ((!t->may_ask && check_turn(t, FERRY_COMMAND_RECV_BITMAP, e)) ||
	    ferry_recv_bitmap_decode(rd, name, e))
		return -1;
	b = ferry_mem_by_name(&t->vm->mem, name);
	if (!b)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "RECV_BITMAP of "
				     "block %s, which there is not",
				     FERRY_SHOW(name));
	ferry_status_advance(&t->status, FERRY_STATE_POSTCOPY_RECOVER_SETUP,
			     FERRY_STATE_POSTCOPY_RECOVER);
	return ferry_answer_bitmap(&t->in.answer, b, &t->in.map, e);
}

int ferry_recover_resume(struct ferry_target *t, struct ferry_rd *rd,
			 struct ferry_err *e)
{
	(void)rd;
	if (check_turn(t, FERRY_COMMAND_POSTCOPY_RESUME, e))
		return -1;
	if (is_ferry(t))
		return ferry_return_resume(t, e);
	t->returning = false;
	if (ferry_answer_say(&t->in.answer, FERRY_RP_RESUME_ACK, 1, e))
		return -1;
	ferry_status_set(&t->status, FERRY_STATE_POSTCOPY_ACTIVE);
	return 0;
}
