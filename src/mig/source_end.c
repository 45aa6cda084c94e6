/* SPDX-License-Identifier: MIT */
/*
 * How a migration ends at the source, or pauses: completed, with the VM
 * running on here, or handed over and without a link.  Conductor thread.
 */
#include "mig/source_impl.h"

#include "base/clock.h"

/* SHUT(1) is the target's word that it does not run the VM and will not; it
 * counts until the target was heard running. */
static bool is_renounced(struct ferry_source *s)
{
	return (ferry_replies_seen(&s->replies) & FERRY_REPLY_REFUSED) &&
	       !ferry_status_is_heard(&s->status);
}

/* How the link ended, as the return path saw it: no more than is known. */
static bool is_only_the_end(const struct ferry_err *e)
{
	return e->code == FERRY_E_CLOSED || e->code == FERRY_E_IO;
}

/* What the user or the target said is the better reason, if it comes. */
static void hear_last_word(struct ferry_source *s, struct ferry_err *e)
{
	uint64_t until = ferry_now_ns() + s->last_word_ns;
	struct ferry_err why = { 0 };

	while (ferry_err_is_link(e) && ferry_returns_run(&s->out.returns) &&
	       ferry_now_ns() < until &&
	       !(ferry_replies_wait(&s->replies, FERRY_REPLY_REFUSED, until) &
		 (FERRY_REPLY_REFUSED | FERRY_REPLY_BROKEN)))
		;
	if (ferry_source_check(s, &why) && !is_only_the_end(&why))
		*e = why;
}

static void unthrottle(struct ferry_source *s)
{
	if (atomic_exchange(&s->fig.throttle_percent, 0))
		s->vm->ops.throttle(s->vm->opaque, 0);
}

/* Handed over, and then something went wrong: the VM stays stopped here, and
 * nothing is freed but what belongs to the link.  True when it was the user's
 * order that there is none. */
static bool pause_here(struct ferry_source *s, struct ferry_err *err)
{
	bool halted = atomic_load(&s->orders.halt);

	ferry_heart_stop(&s->heart);
	ferry_source_break_main(s);
	ferry_outflow_stop(s);
	ferry_source_close_main(s);
	if (halted)
		(void)!ferry_source_check(s, err);
	ferry_source_note_pause(s, halted);
	ferry_status_fail(&s->status, FERRY_STATE_POSTCOPY_PAUSED, err);
	return halted;
}

/* Not handed over: the VM goes on here, before anything else is tidied up. */
void ferry_source_fall_back(struct ferry_source *s,
			    const struct ferry_err *err)
{
	bool cancelled = atomic_load(&s->orders.gate) == FERRY_GATE_CANCELLED;

	if (cancelled)
		ferry_status_set(&s->status, FERRY_STATE_CANCELLING);
	ferry_crew_halt(&s->out.crew);
	ferry_heart_stop(&s->heart);
	if (s->main && !ferry_status_is_handed(&s->status))
		ferry_speak_abort(&s->speak, err->msg);
	ferry_source_break_main(s);
	ferry_status_renounced(&s->status);
	unthrottle(s);
	ferry_source_bulk_cancel(s);
	if (s->stopped)
		s->vm->ops.resume(s->vm->opaque);
	ferry_outflow_stop(s);
	ferry_outflow_stop_tracking(s);
	ferry_source_plan_leave(s, err);
	ferry_status_fail(&s->status, cancelled ? FERRY_STATE_CANCELLED :
			  FERRY_STATE_FAILED, err);
	ferry_source_take_leave(s, err);
}

/* The target need not wait for us to come back. */
static void say_heard(struct ferry_source *s)
{
	struct ferry_err ignored;

	if (s->features & FERRY_FEATURE_RECOVER)
		(void)!ferry_speak(&s->speak, FERRY_COMMAND_HEARD, &ignored);
}

/*
 * The target reads on until it has said SHUT: nothing is closed before that was
 * heard, or before it is known that it will not be.  Then all is closed, here
 * first: that is how the target knows that SHUT has arrived.
 */
static void hang_up(struct ferry_source *s)
{
	ferry_heart_stop(&s->heart);
	say_heard(s);
	ferry_returns_stop(&s->out.returns);
	ferry_outflow_stop(s);
	ferry_source_close_main(s);
}

void ferry_source_complete(struct ferry_source *s)
{
	hang_up(s);
	ferry_bulk_out_end(&s->bulk);
	ferry_outflow_stop_tracking(s);
	unthrottle(s);
	ferry_status_set(&s->status, FERRY_STATE_COMPLETED);
}

bool ferry_source_broke(struct ferry_source *s, struct ferry_err *why)
{
	hear_last_word(s, why);
	if (ferry_replies_seen(&s->replies) & FERRY_REPLY_DIFFERS) {
		atomic_store(&s->fig.verified, FERRY_VERIFIED_WRONG);
		atomic_store(&s->orders.halt, FERRY_HALT_PAUSED);
	}
	if (!ferry_status_is_handed(&s->status) ||
	    is_renounced(s)) {
		ferry_source_fall_back(s, why);
		return false;
	}
	return ferry_source_await_turn(s, pause_here(s, why));
}
