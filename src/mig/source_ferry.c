/* SPDX-License-Identifier: MIT */
/*
 * The source towards another ferry: pages in packets on data channels of their
 * own, requested pages on an urgent one, and a commit that is a message
 * (docs/wire.md):
 *
 *	source				target
 *	PACKAGED  ------------------->	loads the devices
 *		  <-------------------	LOADED
 *	commits
 *	RUN	  ------------------->	runs
 *		  <-------------------	RUNNING
 *
 * Conductor thread.
 */
#include "mig/source_impl.h"

#include <inttypes.h>

#include "base/clock.h"
#include "send/tell_sums.h"

static int ferry_connect(struct ferry_source *s, struct ferry_err *e)
{
	if (ferry_greet_target(s, false, e) || ferry_greet_others(s, e))
		return -1;
	return ferry_source_listen_back(s, FERRY_DIALECT_FERRY, e);
}

/* What was never touched is zero at both ends: said once, sent never. */
static int tell_zero(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_mem *mem = &s->vm->mem;

	for (uint32_t i = 0; i < mem->blocks; i++) {
		struct ferry_bitmap *owed = &s->out.owed.map[i];
		uint64_t at = 0, end;

		if (ferry_speak_ranges(&s->speak, FERRY_COMMAND_ZERO_RANGES,
				       &mem->block[i], owed, false, e))
			return -1;
		for (; (at = ferry_bitmap_next_clear(owed, at)) < owed->bits;
		     at = end) {
			end = ferry_bitmap_next_set(owed, at);
			ferry_bitmap_set_range(&s->out.at_target[i], at,
					       end - at);
		}
	}
	return 0;
}

static int nothing(struct ferry_source *s, bool last, struct ferry_err *e)
{
	(void)s;
	(void)last;
	(void)e;
	return 0;
}

static int nothing_more(struct ferry_source *s, struct ferry_err *e)
{
	(void)s;
	(void)e;
	return 0;
}

/* A mark on every data channel, and its number on main. */
static int mark(struct ferry_source *s, enum ferry_command command,
		struct ferry_err *e)
{
	uint32_t sequence = ++s->out.sequence;

	if (ferry_source_job(s, FERRY_JOB_SYNC, sequence, e))
		return -1;
	if (s->out.urgent.chan) {
		struct ferry_lane *l = &s->out.urgent;
		int rc;

		if (ferry_source_await_room(s, l->chan, e))
			return -1;
		ferry_lane_enter_urgent(l);
		rc = l->enc.ops->sync(&l->enc, sequence, e);
		ferry_lane_leave(l);
		if (rc)
			return -1;
	}
	return ferry_speak_u32(&s->speak, command, sequence, e);
}

static int ferry_barrier(struct ferry_source *s, struct ferry_err *e)
{
	uint32_t synced;

	if (mark(s, FERRY_COMMAND_BARRIER, e))
		return -1;
	while ((synced = ferry_replies_synced(&s->replies)) !=
	       s->out.sequence) {
		if (synced > s->out.sequence)
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "target: barrier %" PRIu32 " is "
					     "answered, the last was %" PRIu32,
					     synced, s->out.sequence);
		if (ferry_source_await(s, FERRY_REPLY_SYNCED, e))
			return -1;
	}
	return 0;
}

static void beat(void *source)
{
	struct ferry_source *s = source;

	ferry_speak_beat(&s->speak);
}

/* From here on main is never silent for long, whatever the VM's owner, the
 * kernel or a slow channel keeps the conductor busy with. */
static int start_heart(struct ferry_source *s, struct ferry_err *e)
{
	if (!(s->features & FERRY_FEATURE_HEARTBEAT))
		return 0;
	s->heart.beat = beat;
	s->heart.arg = s;
	return ferry_heart_start(&s->heart, e);
}

static int ferry_begin(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_speaker *sp = &s->speak;

	if (ferry_speak_open(sp, s->vm->name, e) ||
	    ferry_speak(sp, FERRY_COMMAND_OPEN_RETURN_PATH, e) ||
	    ferry_speak_u32(sp, FERRY_COMMAND_PING, 1, e))
		return -1;
	if (ferry_param(&s->params, FERRY_P_POSTCOPY_RAM) &&
	    ferry_speak_advise(sp, e))
		return -1;
	if (ferry_speak_ram_start(sp, e) || start_heart(s, e) ||
	    ferry_outflow_survey(s, false, e) || tell_zero(s, e))
		return -1;
	/* The target has agreed to all of it before a page is sent. */
	return ferry_barrier(s, e);
}

/* Also what was agreed on may be switched off later. */
static bool verifies(struct ferry_source *s)
{
	return (s->features & FERRY_FEATURE_VERIFY) &&
	       ferry_param(&s->params, FERRY_P_VERIFY);
}

static int ferry_all_sent(struct ferry_source *s, struct ferry_err *e)
{
	if (mark(s, FERRY_COMMAND_FINISH, e))
		return -1;
	return verifies(s) ? ferry_tell_sums(&s->speak, e) : 0;
}

static int run(struct ferry_source *s, struct ferry_err *e)
{
	if (!ferry_source_commit(s))
		return ferry_source_check(s, e);
	/*
	 * Noted before it is said: the target may run before the call below
	 * returns, and nobody may be told meanwhile that the VM is here.
	 *
	 * All of RUN was taken, or the target can never see it: a speaker
	 * that failed inside an utterance says nothing more.  Then nothing
	 * was handed over.  Main stays open to hear why.
	 */
	ferry_status_handed(&s->status);
	if (ferry_speak(&s->speak, FERRY_COMMAND_POSTCOPY_RUN, e)) {
		ferry_status_renounced(&s->status);
		return ferry_err_wrap(e, "hand over");
	}
	atomic_store(&s->fig.pause_ns, ferry_now_ns() - s->stopped_ns);
	return 0;
}

/* From here on they are answered. */
static void take_requests(struct ferry_source *s)
{
	struct ferry_outflow *o = &s->out;

	atomic_store(&o->requests.lane, o->urgent.chan ? &o->urgent :
		     &o->crew.sender[0]->lane);
}

static int ferry_hand_over(struct ferry_source *s,
			   const struct ferry_save *dev, struct ferry_err *e)
{
	if (s->postcopy)	/* loading devices may touch memory */
		take_requests(s);
	if (ferry_speak_package(&s->speak, s->postcopy, dev->data, dev->bytes,
				e) ||
	    ferry_source_await(s, FERRY_REPLY_LOADED, e))
		return -1;
	ferry_source_note(s, "target has loaded");
	if (run(s, e) || ferry_source_await(s, FERRY_REPLY_RUNNING, e))
		return -1;
	ferry_source_note(s, "target runs");
	ferry_status_heard(&s->status);
	if (s->postcopy)
		ferry_crew_limit_unsent(&s->out.crew,
					FERRY_UNSENT_POSTCOPY_BYTES);
	return 0;
}

static int ferry_finish(struct ferry_source *s, struct ferry_err *e)
{
	/* In precopy all pages were there before it began to run. */
	if (!s->postcopy)
		return 0;
	if (verifies(s) &&
	    (ferry_barrier(s, e) || ferry_tell_sums(&s->speak, e) ||
	     ferry_barrier(s, e) || ferry_source_check(s, e)))
		return -1;
	if (mark(s, FERRY_COMMAND_FINISH, e))
		return -1;
	return ferry_source_await(s, FERRY_REPLY_SHUT, e);
}

/* ---- after a lost link ------------------------------------------------------- */

static int ferry_may_return(struct ferry_source *s, struct ferry_err *e)
{
	if (s->features & FERRY_FEATURE_RECOVER)
		return 0;
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "the target cannot "
			     "go on after a lost link");
}

static int ferry_reconnect(struct ferry_source *s, struct ferry_err *e)
{
	if (ferry_greet_target(s, true, e) ||
	    ferry_source_listen_back(s, FERRY_DIALECT_FERRY, e))
		return -1;
	return start_heart(s, e);
}

/*
 * LOADED: it does not run it yet, and waits for RUN, or has read it and is
 * starting it: then RUN says nothing new.  In postcopy it may need pages to
 * start; RUNNING is waited for behind them.
 */
static int run_again(struct ferry_source *s, bool *all, struct ferry_err *e)
{
	if (ferry_speak(&s->speak, FERRY_COMMAND_POSTCOPY_RUN, e))
		return -1;
	if (s->postcopy)
		return 0;
	*all = true;
	return ferry_source_await(s, FERRY_REPLY_RUNNING, e);
}

static int ferry_settle(struct ferry_source *s, bool *all, struct ferry_err *e)
{
	const unsigned words = FERRY_REPLY_LOADED | FERRY_REPLY_RUNNING |
			       FERRY_REPLY_SHUT;
	unsigned seen;

	do {
		seen = ferry_replies_wait(&s->replies, words, ferry_now_ns() +
					  100 * FERRY_NS_PER_MS);
		if (ferry_source_check(s, e))
			return -1;
	} while (!(seen & words));
	if (seen & (FERRY_REPLY_SHUT | FERRY_REPLY_RUNNING))
		ferry_status_heard(&s->status);
	*all = seen & (s->postcopy ? FERRY_REPLY_SHUT :
		       FERRY_REPLY_SHUT | FERRY_REPLY_RUNNING);
	return seen & (FERRY_REPLY_SHUT | FERRY_REPLY_RUNNING) ? 0 :
	       run_again(s, all, e);
}

static int ferry_rejoin(struct ferry_source *s, struct ferry_err *e)
{
	if (ferry_greet_others(s, e))
		return -1;
	take_requests(s);
	ferry_crew_limit_unsent(&s->out.crew, FERRY_UNSENT_POSTCOPY_BYTES);
	return 0;
}

const struct ferry_dialect_ops ferry_dialect_ferry = {
	.name = "ferry",
	.connect = ferry_connect,
	.begin = ferry_begin,
	.pass_begin = nothing,
	.pass_end = nothing_more,
	.barrier = ferry_barrier,
	.discard = ferry_outflow_discard,
	.all_sent = ferry_all_sent,
	.hand_over = ferry_hand_over,
	.finish = ferry_finish,
	.may_return = ferry_may_return,
	.reconnect = ferry_reconnect,
	.settle = ferry_settle,
	.rejoin = ferry_rejoin,
	.tries_by_itself = true,
};
