/* SPDX-License-Identifier: MIT */
/*
 * What the target's threads tell each other: that something failed, how far
 * loading has come, and that the VM is taken over, started or refused, of
 * which one comes first and rules the others out.  The other parts call this
 * one, and it calls none of them.  Any of the target's threads.
 */
#include "mig/target_impl.h"

#include <inttypes.h>

#include "base/clock.h"

/* ---- failures --------------------------------------------------------------- */

/* True when the VM is given up: from then on it is not taken over, or it was
 * before.  Both in one, so that SHUT 1 is never said of a VM that starts. */
static bool note_failure(struct ferry_target *t, const struct ferry_err *why)
{
	bool given_up;

	pthread_mutex_lock(&t->lock);
	if (!t->end.why.code)
		t->end.why = *why;
	given_up = !ferry_status_is_handed(&t->status);
	t->end.given_up = t->end.given_up || given_up;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	return given_up;
}

/* True when the source may come back: then only the link is given up. */
static bool break_link(struct ferry_target *t, const struct ferry_err *why)
{
	bool may_return, handed = ferry_status_is_handed(&t->status);

	pthread_mutex_lock(&t->lock);
	may_return = t->dialect == FERRY_DIALECT_FERRY &&
		     t->recovery.possible &&
		     (handed || ferry_err_is_link(why));
	/* All at once: it is this link that is meant, not the next; nor one
	 * whose end is only being waited for. */
	if (may_return && !t->recovery.waiting && !t->end.done) {
		if (!t->end.why.code)
			t->end.why = *why;
		t->main->ops->shutdown(t->main);
		ferry_marks_close(&t->in.gate);
		pthread_cond_broadcast(&t->changed);
	}
	pthread_mutex_unlock(&t->lock);
	return may_return;
}

/* A source that gave up says why on main.  True when the reader has ended. */
static bool hear_last_word(struct ferry_target *t)
{
	uint64_t until = ferry_now_ns() + t->last_word_ns;
	bool ended;

	pthread_mutex_lock(&t->lock);
	while (!t->end.done && !t->end.quit && !t->recovery.waiting &&
	       ferry_cond_wait_until(&t->changed, &t->lock, until))
		;
	ended = t->end.done;
	pthread_mutex_unlock(&t->lock);
	return ended;
}

void ferry_target_failed(struct ferry_target *t, const struct ferry_err *why)
{
	bool handed = ferry_status_is_handed(&t->status);

	if (handed && break_link(t, why))
		return;
	if (ferry_err_is_link(why) && hear_last_word(t))
		return;
	if (break_link(t, why))
		return;

	if (note_failure(t, why))
		ferry_answer_give_up(&t->in.answer, why->msg);
	ferry_marks_close(&t->in.gate);
	pthread_mutex_lock(&t->lock);
	if (t->main)		/* it may not have arrived yet */
		t->main->ops->shutdown(t->main);
	pthread_mutex_unlock(&t->lock);
}

/* ---- whose the VM is -------------------------------------------------------- */

bool ferry_target_take_over(struct ferry_target *t, struct ferry_err *e)
{
	bool late;

	pthread_mutex_lock(&t->lock);
	late = t->end.quit || t->end.done || t->end.given_up;
	if (late)
		*e = t->end.why;
	else
		ferry_status_handed(&t->status);
	pthread_mutex_unlock(&t->lock);
	return !late;
}

bool ferry_target_may_start(struct ferry_target *t, struct ferry_err *e)
{
	bool late;

	pthread_mutex_lock(&t->lock);
	late = t->end.quit;
	if (late)
		*e = t->end.why;
	else
		t->loader.starting = true;
	pthread_mutex_unlock(&t->lock);
	return !late;
}

bool ferry_target_refuse(struct ferry_target *t, bool cancelled)
{
	bool handed;

	pthread_mutex_lock(&t->lock);
	handed = ferry_status_is_handed(&t->status);
	if (handed && !cancelled && !t->loader.starting) {
		ferry_status_renounced(&t->status);
		handed = false;
	}
	if (!handed || !cancelled) {
		t->end.quit = true;
		t->end.cancelled = t->end.cancelled || cancelled;
	}
	if (!handed && !t->end.why.code)
		ferry_err_set(&t->end.why, FERRY_E_CANCELLED, 0, cancelled ?
			      "cancelled by the user of the target" :
			      "the target was taken down");
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	return !handed;
}

/* ---- loading ---------------------------------------------------------------- */

int ferry_target_await_load(struct ferry_target *t, unsigned states,
			    struct ferry_err *e)
{
	enum ferry_load_state state;
	int rc = 0;

	pthread_mutex_lock(&t->lock);
	while (!(states >> t->loader.state & 1) && !t->end.quit &&
	       t->loader.state != FERRY_LOAD_FAILED)
		pthread_cond_wait(&t->changed, &t->lock);
	state = t->loader.state;
	if (!(states >> state & 1)) {
		*e = t->end.why;
		rc = -1;
		if (!e->code)
			ferry_err_set(e, FERRY_E_CANCELLED, 0,
				      "the target is being taken down");
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

int ferry_target_check_all(struct ferry_target *t, struct ferry_err *e)
{
	uint64_t page = 0, missing = ferry_map_missing(&t->in.map);
	uint32_t block = 0;

	if (!missing)
		return 0;
	ferry_map_next_missing(&t->in.map, &block, &page);
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "%" PRIu64 " pages were never sent, the first is "
			     "page %" PRIu64 " of block %s", missing, page,
			     t->vm->mem.block[block].name);
}
