/* SPDX-License-Identifier: MIT */
/*
 * A lost link is found again.
 *
 * From RUN on nothing that fails ends the migration at the source: it pauses,
 * which frees what belonged to the link and nothing else, and waits for its
 * turn.  That comes by itself between two ferries - at once, then at growing
 * distances (backoff.h), over all addresses in turn, the last good one first,
 * for x-ferry-recover - or when the user asks for it.  An attempt is a list of calls, each of which may fail and
 * leads back to paused:
 *
 *	reconnect	main; the target knows the migration by its session id
 *	settle		what became of the VM there; RUN again if need be
 *	ask maps	what has come; all else is owed, whatever we believed
 *	rejoin		the other channels
 *	RESUME		the target asks again for what is waited for
 *
 * An undecided source knows after `settle`.  One that lost its link before RUN
 * has its VM, but a target that has said LOADED cannot know that RUN will not
 * come: it is looked for in the same way, and told.  Conductor thread.
 */
#include "mig/source_impl.h"

#include <string.h>

#include "base/clock.h"

#define REFUSALS	3u	/* then there is no leave to be taken */
#define LEAVE_NS	FERRY_NS_PER_S	/* so long a new one waits for it */

/* ---- turns ---------------------------------------------------------------- */

static uint64_t hope_until(struct ferry_source *s)
{
	uint64_t ms = ferry_param(&s->params, FERRY_P_RECOVER);

	if (!s->dialect->tries_by_itself || s->comeback.never.code || !ms)
		return 0;
	return s->comeback.backoff.since_ns + ms * FERRY_NS_PER_MS;
}

void ferry_source_note_pause(struct ferry_source *s, bool halted)
{
	struct ferry_comeback *c = &s->comeback;
	struct ferry_err never = { 0 };

	ferry_backoff_lost(&c->backoff, ferry_now_ns());
	if (s->out.crew.release)
		ferry_err_set(&never, FERRY_E_STATE, 0, "what was sent was "
			      "freed here (release-ram): it cannot be sent "
			      "again");
	else
		(void)!s->dialect->may_return(s, &never);
	pthread_mutex_lock(&c->lock);
	if (!c->rescued)
		c->never = never;
	pthread_mutex_unlock(&c->lock);
	ferry_status_hope(&s->status, halted ? 0 : hope_until(s));
}

static uint64_t seed(const struct ferry_source *s)
{
	uint64_t n;

	memcpy(&n, s->session, sizeof(n));
	return n;
}

/* When to try by itself; UINT64_MAX: never. */
static uint64_t next_turn(struct ferry_source *s, uint64_t since)
{
	struct ferry_comeback *c = &s->comeback;
	uint64_t at = since + ferry_backoff_ns(c->backoff.attempt, c->paths,
					       seed(s));

	return at < hope_until(s) && !atomic_load(&s->orders.halt) ?
	       at : UINT64_MAX;
}

/* The user's word: what was halted is no more.  Caller holds the lock. */
static void begin_anew(struct ferry_source *s)
{
	s->comeback.asked = false;
	ferry_backoff_anew(&s->comeback.backoff, ferry_now_ns());
	atomic_store(&s->orders.halt, FERRY_HALT_NONE);
	atomic_store(&s->orders.cancel, false);
	if (atomic_load(&s->orders.quit))	/* it came in between */
		atomic_store(&s->orders.cancel, true);
}

/* Paused or cancelled while nothing was under way. */
static void note_halt(struct ferry_source *s)
{
	struct ferry_err why;

	if (!ferry_source_check(s, &why))
		return;
	ferry_status_remark(&s->status, &why);
	ferry_status_hope(&s->status, 0);	/* who waits reads it */
}

/* Until then, or something was asked; false when it was, or time is up.  Caller
 * holds the lock. */
static bool rest(struct ferry_source *s, uint64_t since)
{
	struct ferry_comeback *c = &s->comeback;
	uint64_t at = next_turn(s, since);

	return !atomic_load(&s->orders.quit) && !c->asked && !c->back &&
	       ferry_now_ns() < at &&
	       (ferry_cond_wait_until(&c->changed, &c->lock, at) || true);
}

/* True when it is to be rolled back. */
static bool await_turn(struct ferry_source *s, bool halted)
{
	struct ferry_comeback *c = &s->comeback;
	uint64_t since = ferry_now_ns();
	bool quit, back;

	pthread_mutex_lock(&c->lock);
	do {
		if (halted || c->back || !atomic_load(&s->orders.halt))
			continue;
		halted = true;
		pthread_mutex_unlock(&c->lock);
		note_halt(s);
		pthread_mutex_lock(&c->lock);
	} while (rest(s, since));
	quit = atomic_load(&s->orders.quit);
	back = c->back && !quit;
	if (c->asked && !quit && !back)
		begin_anew(s);
	else if (c->paths)
		c->at = (c->good + c->backoff.attempt) % c->paths;
	c->backoff.attempt++;
	pthread_mutex_unlock(&c->lock);
	return back;
}

bool ferry_source_await_turn(struct ferry_source *s, bool halted)
{
	while (await_turn(s, halted)) {
		halted = true;
		if (!ferry_source_roll_back(s))
			continue;
		ferry_source_tell_void(s);
		return false;
	}
	return !atomic_load(&s->orders.quit);
}

/* ---- leave -------------------------------------------------------------------- */

static void set_leaving(struct ferry_source *s, bool leaving)
{
	struct ferry_comeback *c = &s->comeback;

	pthread_mutex_lock(&c->lock);
	c->leaving = leaving;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

/* True when there is no more to say. */
static bool say_leave(struct ferry_source *s, const struct ferry_err *why)
{
	struct ferry_err err = { 0 };
	bool said = !ferry_greet_target(s, true, &err);

	if (said)
		ferry_speak_abort(&s->speak, why->msg);
	ferry_source_close_main(s);
	/* Who does not let go of the last link yet will in a moment. */
	if (err.code != FERRY_E_STATE)
		set_leaving(s, false);
	/* It knows nothing of us, or does not let go of the last link. */
	return said || (err.code == FERRY_E_STATE &&
			s->comeback.backoff.attempt > REFUSALS);
}

void ferry_source_plan_leave(struct ferry_source *s,
			     const struct ferry_err *why)
{
	/* Else it was told on the link that there is. */
	if (ferry_err_is_link(why) && s->packaged &&
	    (s->features & FERRY_FEATURE_RECOVER))
		set_leaving(s, true);
}

void ferry_source_take_leave(struct ferry_source *s,
			     const struct ferry_err *why)
{
	struct ferry_comeback *c = &s->comeback;

	if (!c->leaving)
		return;
	ferry_source_close_main(s);
	ferry_backoff_anew(&c->backoff, ferry_now_ns());
	while (next_turn(s, ferry_now_ns()) != UINT64_MAX &&
	       ferry_source_await_turn(s, true) && !say_leave(s, why))
		;
	set_leaving(s, false);
}

void ferry_source_await_leave(struct ferry_source *s)
{
	struct ferry_comeback *c = &s->comeback;
	uint64_t until = ferry_now_ns() + LEAVE_NS;

	pthread_mutex_lock(&c->lock);
	while (c->leaving && ferry_cond_wait_until(&c->changed, &c->lock,
						   until))
		;
	pthread_mutex_unlock(&c->lock);
}

/* ---- one attempt -------------------------------------------------------------- */

static int ask_maps(struct ferry_source *s, struct ferry_err *e)
{
	const struct ferry_mem *mem = &s->vm->mem;

	for (uint32_t i = 0; i < mem->blocks; i++)
		if (ferry_speak_ask_map(&s->speak, mem->block[i].name, e))
			return -1;
	while (ferry_replies_maps(&s->replies) < mem->blocks)
		if (ferry_source_await(s, FERRY_REPLY_MAP, e))
			return -1;
	return 0;
}

/* All that is not there is owed, and nobody has claimed any of it.  Returns how
 * many pages that is. */
static uint64_t owe_the_rest(struct ferry_source *s)
{
	uint64_t missing;

	ferry_owed_rebuild(&s->out.owed, s->out.returns.received);
	ferry_select_restart(&s->out.select);
	missing = ferry_owed_pages(&s->out.owed);
	ferry_log(&s->status.log, FERRY_LOG_INFO, "%llu pages are missing at "
		  "the target", (unsigned long long)missing);
	return missing;
}

static void note_joined(struct ferry_source *s, uint64_t missing)
{
	struct ferry_comeback *c = &s->comeback;

	ferry_backoff_joined(&c->backoff, ferry_now_ns(), missing);
	pthread_mutex_lock(&c->lock);
	c->good = c->at;
	pthread_mutex_unlock(&c->lock);
}

static int resume(struct ferry_source *s, struct ferry_err *e)
{
	uint64_t missing;

	if (ask_maps(s, e))
		return -1;
	missing = owe_the_rest(s);
	if (s->dialect->rejoin(s, e) ||
	    ferry_speak(&s->speak, FERRY_COMMAND_POSTCOPY_RESUME, e) ||
	    ferry_source_await(s, FERRY_REPLY_RESUMED, e))
		return -1;
	if (!ferry_status_is_heard(&s->status)) {
		if (ferry_source_await(s, FERRY_REPLY_RUNNING, e))
			return -1;
		ferry_status_heard(&s->status);
	}
	note_joined(s, missing);
	return 0;
}

static int attempt(struct ferry_source *s, bool *all, struct ferry_err *e)
{
	if (s->dialect->reconnect(s, e))
		return -1;
	ferry_status_set(&s->status, FERRY_STATE_POSTCOPY_RECOVER);
	if (ferry_source_check(s, e) || s->dialect->settle(s, all, e))
		return -1;
	return *all ? 0 : resume(s, e);
}

int ferry_source_reconnect(struct ferry_source *s, bool *all,
			   struct ferry_err *e)
{
	struct ferry_returns *r = &s->out.returns;

	*all = false;
	ferry_status_set(&s->status, FERRY_STATE_POSTCOPY_RECOVER_SETUP);
	ferry_replies_reset(&s->replies);
	atomic_store(&r->received, ferry_outflow_new_maps(&s->vm->mem, e));
	return atomic_load(&r->received) ? attempt(s, all, e) : -1;
}
