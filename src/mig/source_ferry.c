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

static int mark_lane(struct ferry_source *s, struct ferry_lane *l,
		     uint32_t sequence, struct ferry_err *e)
{
	int rc;

	if (ferry_source_await_room(s, l->chan, e))
		return -1;
	ferry_lane_enter_urgent(l);
	rc = l->enc.ops->sync(&l->enc, sequence, e);
	ferry_lane_leave(l);
	return rc;
}

/* In postcopy it may be lost. */
static int mark_urgent(struct ferry_source *s, unsigned i, uint32_t sequence,
		       struct ferry_err *e)
{
	if ((s->out.lost.urgent >> i & 1) ||
	    !mark_lane(s, &s->out.urgent[i], sequence, e))
		return 0;
	return ferry_survive_note(s, i, e);
}

/* A mark on every channel, and its number on main.  1: channels were lost
 * meanwhile, it was not said. */
static int mark(struct ferry_source *s, enum ferry_command command,
		struct ferry_err *e)
{
	uint32_t sequence = ++s->out.sequence;

	if (ferry_source_job(s, FERRY_JOB_SYNC, sequence, e))
		return -1;
	for (unsigned i = 0; i < s->urgent; i++)
		if (mark_urgent(s, i, sequence, e))
			return -1;
	if (ferry_survive_has_losses(s))
		return 1;
	return ferry_speak_u32(&s->speak, command, sequence, e);
}

/* 1: channels are lost, what is waited for may not come. */
static int await_or_loss(struct ferry_source *s, unsigned word,
			 struct ferry_err *e)
{
	for (;;) {
		unsigned seen = ferry_replies_wait(&s->replies, word |
						   FERRY_REPLY_LOST,
						   ferry_now_ns() +
						   500 * FERRY_NS_PER_MS);

		if (seen & word) {
			ferry_replies_clear(&s->replies, word);
			return 0;
		}
		if (ferry_source_check(s, e))
			return -1;
		if (ferry_survive_has_losses(s))
			return 1;
	}
}

/* 1: as mark(). */
static int barrier(struct ferry_source *s, struct ferry_err *e)
{
	int rc = mark(s, FERRY_COMMAND_BARRIER, e);
	uint32_t synced;

	while (!rc && (synced = ferry_replies_synced(&s->replies)) !=
		      s->out.sequence) {
		if (synced > s->out.sequence)
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "target: barrier %" PRIu32 " is "
					     "answered, the last was %" PRIu32,
					     synced, s->out.sequence);
		rc = await_or_loss(s, FERRY_REPLY_SYNCED, e);
	}
	return rc;
}

/* Before the switchover, when a lost channel is a lost link. */
static int ferry_barrier(struct ferry_source *s, struct ferry_err *e)
{
	return barrier(s, e) ? -1 : 0;
}

static void beat(void *source)
{
	struct ferry_source *s = source;
	uint32_t n = atomic_load(&s->lease.asked);

	if (!s->lease.length_ns || atomic_load(&s->lease.over) ||
	    n == s->lease.answered) {
		ferry_speak_beat(&s->speak, FERRY_COMMAND_PING, 0);
		return;
	}
	/* Behind n was read, and before it is answered. */
	ferry_lease_give(&s->lease, ferry_boot_ns());
	if (ferry_speak_beat(&s->speak, FERRY_COMMAND_RENEW, n))
		s->lease.answered = n;
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
	if (s->lease.length_ns &&
	    ferry_speak_u32(sp, FERRY_COMMAND_LEASE, (uint32_t)
			    (s->lease.length_ns / FERRY_NS_PER_MS), e))
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

/* The target has compared all of it. */
static void verified(struct ferry_source *s)
{
	atomic_store(&s->fig.verified, FERRY_VERIFIED_RIGHT);
	ferry_log(&s->status.log, FERRY_LOG_INFO, "verify: all %llu pages are "
		  "at the target as they are here",
		  (unsigned long long)s->vm->mem.pages);
}

static int ferry_all_sent(struct ferry_source *s, struct ferry_err *e)
{
	if (mark(s, FERRY_COMMAND_FINISH, e))	/* none is lost in precopy */
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
	ferry_lease_give(&s->lease, ferry_boot_ns());
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

	ferry_survive_begin(s);
	atomic_store(&s->out.count.pass, 0);	/* nobody writes any more */
	for (unsigned i = 0; i < s->urgent; i++)
		ferry_requests_add(&o->requests, &o->urgent[i], false);
	for (unsigned i = 0; i < s->data; i++)
		ferry_requests_add(&o->requests, &o->crew.sender[i]->lane,
				   s->urgent || i);
}

static int ferry_hand_over(struct ferry_source *s,
			   const struct ferry_save *dev, struct ferry_err *e)
{
	if (s->postcopy)	/* loading devices may touch memory */
		take_requests(s);
	s->packaged = true;
	if (ferry_speak_package(&s->speak, s->postcopy, dev->data, dev->bytes,
				e) ||
	    ferry_source_await(s, FERRY_REPLY_LOADED, e) ||
	    ferry_source_bulk_all_sent(s, e))
		return -1;
	ferry_source_note(s, "target has loaded");
	if (!s->postcopy && verifies(s))	/* else it had not */
		verified(s);
	if (run(s, e) || ferry_source_await(s, FERRY_REPLY_RUNNING, e))
		return -1;
	ferry_source_note(s, "target runs");
	ferry_status_heard(&s->status);
	if (s->postcopy)
		ferry_crew_limit_unsent(&s->out.crew,
					FERRY_UNSENT_POSTCOPY_BYTES);
	return 0;
}

/* Something is to be said behind RUN. */
static bool goes_on(struct ferry_source *s)
{
	return s->postcopy || s->lease.length_ns;
}

static int verify(struct ferry_source *s, struct ferry_err *e)
{
	int rc = barrier(s, e);

	if (!rc && ferry_tell_sums(&s->speak, e))
		return -1;
	if (!rc)
		rc = barrier(s, e);
	if (!rc)
		rc = ferry_source_check(s, e);
	if (!rc)
		verified(s);
	return rc;
}

static bool was_heard(struct ferry_source *s)
{
	return s->finished &&
	       (ferry_replies_seen(&s->replies) & FERRY_REPLY_SHUT);
}

static int ferry_finish(struct ferry_source *s, struct ferry_err *e)
{
	int rc;

	/* In precopy all pages were there before it began to run. */
	if (!goes_on(s) || was_heard(s))
		return 0;
	if (s->postcopy && verifies(s)) {
		rc = verify(s, e);
		if (rc)
			return rc;
	}
	/* With it the lease ends: who has read it runs the VM for good.  Not
	 * said into a link that is dead already. */
	if (s->lease.length_ns) {
		rc = barrier(s, e);
		if (rc)
			return rc;
	}
	atomic_store(&s->lease.free, true);
	rc = mark(s, FERRY_COMMAND_FINISH, e);
	if (rc)
		return rc;
	s->finished = true;
	return await_or_loss(s, FERRY_REPLY_SHUT, e);
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
	atomic_store(&s->lease.asked, s->lease.answered);
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
	ferry_lease_give(&s->lease, ferry_boot_ns());
	if (ferry_speak(&s->speak, FERRY_COMMAND_POSTCOPY_RUN, e))
		return -1;
	if (goes_on(s))
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
	/* FINISH on an earlier link was not read, and will not be. */
	if (!(seen & FERRY_REPLY_SHUT))
		atomic_store(&s->lease.free, false);
	*all = seen & (goes_on(s) ? FERRY_REPLY_SHUT :
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
