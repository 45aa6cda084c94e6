/* SPDX-License-Identifier: MIT */
/*
 * The target is lost for good, and the VM goes on at the source as it was at
 * the switchover.
 *
 * The user's word that the target is dead is not all where more can be known:
 * with a lease the VM stands still there when the last word that this side may
 * have said is older than the lease (mig/lease.h).  The conductor decides, while
 * there is no link: nobody renews anything then.
 *
 * Behind it the session is burnt: nothing but VOID is ever said in it.  A target
 * that was only cut off waits to be found again; it is looked for, and told.
 */
#include "mig/source_impl.h"

#include "base/clock.h"
#include "mig/backoff.h"

#define SETTLE_NS	(10 * FERRY_NS_PER_S)

/* ---- may it? -------------------------------------------------------------- */

static bool is_without_link(enum ferry_state state)
{
	return state == FERRY_STATE_POSTCOPY_PAUSED ||
	       state == FERRY_STATE_POSTCOPY_RECOVER_SETUP ||
	       state == FERRY_STATE_POSTCOPY_RECOVER;
}

static bool is_rescued(struct ferry_source *s)
{
	bool rescued;

	pthread_mutex_lock(&s->comeback.lock);
	rescued = s->comeback.rescued;
	pthread_mutex_unlock(&s->comeback.lock);
	return rescued;
}

static enum ferry_rollback judge(struct ferry_source *s, uint64_t *left_ns)
{
	*left_ns = 0;
	if (!is_without_link(ferry_status_state(&s->status)) ||
	    s->out.crew.release || is_rescued(s))
		return FERRY_ROLLBACK_NO;
	if (!s->lease.length_ns)
		return FERRY_ROLLBACK_UNPROVEN;
	if (atomic_load(&s->lease.free))
		return FERRY_ROLLBACK_NO;
	*left_ns = ferry_lease_left_ns(&s->lease, ferry_boot_ns());
	return *left_ns ? FERRY_ROLLBACK_LATER : FERRY_ROLLBACK_PROVEN;
}

static int refuse(struct ferry_source *s, struct ferry_err *e)
{
	enum ferry_state state = ferry_status_state(&s->status);

	if (!is_without_link(state))
		return ferry_err_set(e, FERRY_E_STATE, 0, "only a migration "
				     "that has lost its link after the "
				     "switchover is rolled back: it is %s",
				     ferry_state_name(state));
	if (is_rescued(s))
		return ferry_err_set(e, FERRY_E_STATE, 0, "its half was "
				     "dumped for a rescue: the VM goes on "
				     "from the image that is made of both");
	if (s->out.crew.release)
		return ferry_err_set(e, FERRY_E_STATE, 0, "what was sent was "
				     "freed here (release-ram): there is "
				     "nothing to be rolled back to");
	return ferry_err_set(e, FERRY_E_STATE, 0, "all was sent, and with "
			     "that the lease ended: the target may have all "
			     "of the VM, and run it");
}

static int check(struct ferry_source *s, struct ferry_err *e)
{
	uint64_t left = 0;

	switch (judge(s, &left)) {
	case FERRY_ROLLBACK_UNPROVEN:
	case FERRY_ROLLBACK_PROVEN:
		return 0;
	case FERRY_ROLLBACK_LATER:
		return ferry_err_set(e, FERRY_E_STATE, 0, "the target's lease "
				     "has not run out: it may run the VM for "
				     "another %.1f s",
				     (double)left / (double)FERRY_NS_PER_S);
	case FERRY_ROLLBACK_NO:
	case FERRY_ROLLBACKS:
		break;
	}
	return refuse(s, e);
}

void ferry_source_rollback_stats(struct ferry_source *s,
				 struct ferry_stats *st)
{
	st->rollback = judge(s, &st->lease_left_ns);
	st->lease_ns = s->lease.length_ns;
	st->freed = s->out.crew.release;
}

/* ---- the API ---------------------------------------------------------------- */

/* Caller holds the lock. */
static int await_answer(struct ferry_comeback *c, struct ferry_err *e)
{
	uint64_t until = ferry_now_ns() + SETTLE_NS;

	while (c->back && ferry_cond_wait_until(&c->changed, &c->lock, until))
		;
	if (c->burnt)
		return 0;
	if (c->back)
		ferry_err_set(&c->refused, FERRY_E_TIMEOUT, 0, "a link is "
			      "being given up: look again");
	c->back = false;
	*e = c->refused;
	return -1;
}

static void ask(struct ferry_source *s, bool back)
{
	struct ferry_comeback *c = &s->comeback;

	pthread_mutex_lock(&c->lock);
	c->back = back;
	c->was_halted = atomic_load(&s->orders.halt);
	pthread_mutex_unlock(&c->lock);
}

int ferry_source_rollback(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_err why = { 0 };
	int rc = check(s, &why);

	if (!rc) {
		ask(s, true);
		rc = ferry_source_halt(s, FERRY_HALT_BACK, &why);
		if (rc)		/* it has just come back */
			ask(s, false);
	}
	if (!rc) {
		pthread_mutex_lock(&s->comeback.lock);
		rc = await_answer(&s->comeback, &why);
		pthread_mutex_unlock(&s->comeback.lock);
	}
	if (rc && e)
		*e = why;
	return rc;
}

bool ferry_source_was_rolled_back(struct ferry_source *s)
{
	bool burnt;

	pthread_mutex_lock(&s->comeback.lock);
	burnt = s->comeback.burnt;
	pthread_mutex_unlock(&s->comeback.lock);
	return burnt;
}

/* ---- the conductor ------------------------------------------------------------ */

/* Who dumps this half asks under the lock: the one, or the other. */
static bool burn(struct ferry_source *s)
{
	struct ferry_comeback *c = &s->comeback;
	struct ferry_err refused = { 0 };
	bool may = !check(s, &refused);

	pthread_mutex_lock(&c->lock);
	c->burnt = may && !c->rescued;
	if (c->burnt) {
		ferry_err_set(&c->never, FERRY_E_STATE, 0, "it was rolled "
			      "back: its session is burnt, and nobody comes "
			      "back to it");
		atomic_store(&s->lease.over, true);
	} else {
		if (may)
			ferry_err_set(&refused, FERRY_E_STATE, 0, "its half "
				      "was dumped for a rescue");
		c->refused = refused;
		c->asked = !c->was_halted;	/* it goes on as before */
		c->back = false;
		pthread_cond_broadcast(&c->changed);
	}
	may = c->burnt;
	pthread_mutex_unlock(&c->lock);
	return may;
}

bool ferry_source_roll_back(struct ferry_source *s)
{
	struct ferry_err why;

	if (!burn(s))
		return false;
	ferry_err_set(&why, FERRY_E_STATE, 0, "rolled back by the user, who "
		      "says that the target is dead%s: the VM goes on as it "
		      "was at the switchover", s->lease.length_ns ?
		      ", and its lease has run out" : "");
	ferry_source_fall_back(s, &why);
	pthread_mutex_lock(&s->comeback.lock);
	s->comeback.back = s->comeback.asked = false;
	pthread_cond_broadcast(&s->comeback.changed);
	pthread_mutex_unlock(&s->comeback.lock);
	return true;
}

/* ---- the target hears of it ----------------------------------------------------- */

#define WORDS	(FERRY_REPLY_LOADED | FERRY_REPLY_RUNNING | FERRY_REPLY_SHUT)
#define ENDS	(FERRY_REPLY_REFUSED | FERRY_REPLY_BROKEN)

static unsigned hear(struct ferry_source *s, unsigned wanted)
{
	uint64_t until = ferry_now_ns() + FERRY_NS_PER_MS *
			 ferry_param(&s->params, FERRY_P_TIMEOUT);
	unsigned seen;

	do
		seen = ferry_replies_wait(&s->replies, wanted, until);
	while (!(seen & (wanted | ENDS)) && ferry_now_ns() < until &&
	       !atomic_load(&s->orders.quit));
	return seen;
}

static int say_void(struct ferry_source *s, struct ferry_err *e)
{
	unsigned seen = hear(s, WORDS);

	if (seen & FERRY_REPLY_SHUT) {	/* the user's word was not true */
		ferry_log(&s->status.log, FERRY_LOG_ERROR, "the target, which "
			  "was said to be dead, has all of the VM, and may "
			  "run it: end one of the two");
		return 0;
	}
	if (seen & FERRY_REPLY_REFUSED)	/* it has none any more */
		return 0;
	if (!(seen & WORDS))
		return ferry_err_set(e, FERRY_E_TIMEOUT, 0, "no word of it");
	if (ferry_speak_void(&s->speak, "the source was rolled back, and the "
			     "VM goes on there", e))
		return -1;
	return hear(s, FERRY_REPLY_REFUSED) & FERRY_REPLY_REFUSED ? 0 :
	       ferry_err_set(e, FERRY_E_TIMEOUT, 0, "no answer to VOID");
}

static int find_and_tell(struct ferry_source *s, struct ferry_err *e)
{
	int rc;

	ferry_replies_reset(&s->replies);
	rc = s->dialect->reconnect(s, e) || say_void(s, e) ? -1 : 0;
	ferry_heart_stop(&s->heart);
	ferry_source_break_main(s);
	ferry_outflow_stop(s);
	ferry_source_close_main(s);
	return rc;
}

/* What was ordered before does not end this; until when is it tried? */
static uint64_t begin(struct ferry_source *s)
{
	struct ferry_comeback *c = &s->comeback;

	pthread_mutex_lock(&c->lock);
	ferry_backoff_anew(&c->backoff, ferry_now_ns());
	atomic_store(&s->orders.halt, FERRY_HALT_NONE);
	atomic_store(&s->orders.cancel, false);
	if (atomic_load(&s->orders.quit))	/* it came in between */
		atomic_store(&s->orders.cancel, true);
	pthread_mutex_unlock(&c->lock);
	return ferry_now_ns() + FERRY_NS_PER_MS *
	       ferry_param(&s->params, FERRY_P_RECOVER);
}

static bool await_next(struct ferry_source *s, uint64_t until)
{
	struct ferry_comeback *c = &s->comeback;
	uint64_t at = ferry_now_ns();

	pthread_mutex_lock(&c->lock);
	at += ferry_backoff_ns(c->backoff.attempt, c->paths,
			       s->session[0]);
	while (!atomic_load(&s->orders.quit) && at < until &&
	       ferry_cond_wait_until(&c->changed, &c->lock, at))
		;
	if (c->paths)
		c->at = (c->good + c->backoff.attempt) % c->paths;
	c->backoff.attempt++;
	pthread_mutex_unlock(&c->lock);
	return at < until && !atomic_load(&s->orders.quit);
}

/* One that cannot be told cannot be found again either: it waits in vain. */
static bool can_be_told(const struct ferry_source *s)
{
	const uint64_t both = FERRY_FEATURE_FENCE | FERRY_FEATURE_RECOVER;

	return s->dialect->tries_by_itself && (s->features & both) == both;
}

void ferry_source_tell_void(struct ferry_source *s)
{
	uint64_t until = begin(s);
	struct ferry_err why = { 0 };

	if (!can_be_told(s))
		return;
	while (await_next(s, until)) {
		if (find_and_tell(s, &why))
			continue;
		ferry_log(&s->status.log, FERRY_LOG_INFO, "the target was "
			  "told that its VM is void");
		return;
	}
}
