/* SPDX-License-Identifier: MIT */
/*
 * One setter for the state; events leave in the order of the changes because
 * the events lock is held from change to callback.
 */
#include "mig/status.h"

#include <assert.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/thread.h"

void ferry_status_init(struct ferry_status *s, enum ferry_side side,
		       const struct ferry_callbacks *cb)
{
	*s = (struct ferry_status){ .side = side };
	if (cb)
		s->cb = *cb;
	s->log = (struct ferry_log){ s->cb.opaque, s->cb.log };
	pthread_mutex_init(&s->events, NULL);
	pthread_mutex_init(&s->lock, NULL);
	ferry_cond_init(&s->changed);
}

void ferry_status_fini(struct ferry_status *s)
{
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->events);
}

static enum ferry_where where_locked(struct ferry_status *s)
{
	return ferry_where_of(s->side, s->state, s->handed, s->heard);
}

/* Caller holds events, not lock. */
static void emit(struct ferry_status *s, enum ferry_event_type type,
		 unsigned pass, const char *text)
{
	struct ferry_event ev = {
		.size = sizeof(ev), .type = type, .pass = pass, .text = text,
		.time_ns = ferry_now_ns(),
	};

	if (!s->cb.event)
		return;

	pthread_mutex_lock(&s->lock);
	ev.state = s->state;
	ev.where = where_locked(s);
	ev.safe = ferry_safe_of(ev.where);
	pthread_mutex_unlock(&s->lock);
	s->cb.event(s->cb.opaque, &ev);
}

static bool is_recovering(enum ferry_state s)
{
	return s == FERRY_STATE_POSTCOPY_RECOVER_SETUP ||
	       s == FERRY_STATE_POSTCOPY_RECOVER;
}

/* How often, and for how long, there was no link.  Caller holds lock. */
static void count_pause(struct ferry_status *s, enum ferry_state to,
			uint64_t now)
{
	if (to == FERRY_STATE_POSTCOPY_PAUSED) {
		if (!s->paused_ns)
			s->paused_ns = s->last_pause_ns = now;
		return;
	}
	if (!is_recovering(s->state) && is_recovering(to))
		s->attempts++;
	if (is_recovering(to) || !s->paused_ns)
		return;
	s->apart_ns += now - s->paused_ns;
	s->paused_ns = 0;
	s->recoveries += to != FERRY_STATE_FAILED;
}

/* Caller holds lock. */
static bool is_over(struct ferry_status *s, uint64_t now)
{
	if (s->state == FERRY_STATE_POSTCOPY_PAUSED)
		return now >= s->hope_ns;
	return ferry_state_is_final(s->state);
}

/* Caller holds events. */
static void change(struct ferry_status *s, enum ferry_state to,
		   const struct ferry_err *why)
{
	uint64_t now = ferry_now_ns();
	bool was_paused;

	pthread_mutex_lock(&s->lock);
	was_paused = s->state == FERRY_STATE_POSTCOPY_PAUSED;
	assert(ferry_transition_legal(s->side, s->state, to));
	count_pause(s, to, now);
	s->state = to;
	if (is_recovering(to))		/* it goes on */
		s->why = (struct ferry_err){ 0 };
	/* What ends it is more than why it was paused. */
	if (why && (!s->why.code || was_paused))
		s->why = *why;
	if (!s->since_ns[to])
		s->since_ns[to] = now;
	s->ended_ns = is_over(s, now) ? now : 0;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);

	ferry_log(&s->log, why ? FERRY_LOG_INFO : FERRY_LOG_DEBUG,
		  "migration is %s%s%s", ferry_state_name(to),
		  why ? ": " : "", why ? why->msg : "");
	emit(s, FERRY_EVENT_STATE, 0, why ? why->msg : "");
}

void ferry_status_fail(struct ferry_status *s, enum ferry_state to,
		       const struct ferry_err *why)
{
	pthread_mutex_lock(&s->events);
	change(s, to, why);
	pthread_mutex_unlock(&s->events);
}

void ferry_status_set(struct ferry_status *s, enum ferry_state to)
{
	ferry_status_fail(s, to, NULL);
}

void ferry_status_advance(struct ferry_status *s, enum ferry_state from,
			  enum ferry_state to)
{
	/* Only who holds events changes the state. */
	pthread_mutex_lock(&s->events);
	if (ferry_status_state(s) == from)
		change(s, to, NULL);
	pthread_mutex_unlock(&s->events);
}

void ferry_status_hope(struct ferry_status *s, uint64_t until_ns)
{
	pthread_mutex_lock(&s->lock);
	s->hope_ns = until_ns;
	if (is_over(s, ferry_now_ns()) && !s->ended_ns)
		s->ended_ns = ferry_now_ns();
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

bool ferry_status_has_hope(struct ferry_status *s)
{
	bool hope;

	pthread_mutex_lock(&s->lock);
	hope = ferry_now_ns() < s->hope_ns;
	pthread_mutex_unlock(&s->lock);
	return hope;
}

void ferry_status_remark(struct ferry_status *s, const struct ferry_err *why)
{
	pthread_mutex_lock(&s->events);
	pthread_mutex_lock(&s->lock);
	s->why = *why;
	pthread_mutex_unlock(&s->lock);
	ferry_log(&s->log, FERRY_LOG_INFO, "migration is %s: %s",
		  ferry_state_name(ferry_status_state(s)), why->msg);
	emit(s, FERRY_EVENT_STATE, 0, why->msg);
	pthread_mutex_unlock(&s->events);
}

static void set_flags(struct ferry_status *s, bool handed, bool heard)
{
	pthread_mutex_lock(&s->lock);
	s->handed = handed;
	s->heard = heard;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

void ferry_status_handed(struct ferry_status *s)
{
	set_flags(s, true, false);
}

void ferry_status_heard(struct ferry_status *s)
{
	set_flags(s, true, true);
}

void ferry_status_renounced(struct ferry_status *s)
{
	set_flags(s, false, false);
}

enum ferry_state ferry_status_state(struct ferry_status *s)
{
	enum ferry_state state;

	pthread_mutex_lock(&s->lock);
	state = s->state;
	pthread_mutex_unlock(&s->lock);
	return state;
}

enum ferry_where ferry_status_where(struct ferry_status *s)
{
	enum ferry_where where;

	pthread_mutex_lock(&s->lock);
	where = where_locked(s);
	pthread_mutex_unlock(&s->lock);
	return where;
}

bool ferry_status_is_handed(struct ferry_status *s)
{
	bool handed;

	pthread_mutex_lock(&s->lock);
	handed = s->handed;
	pthread_mutex_unlock(&s->lock);
	return handed;
}

bool ferry_status_is_heard(struct ferry_status *s)
{
	bool heard;

	pthread_mutex_lock(&s->lock);
	heard = s->heard;
	pthread_mutex_unlock(&s->lock);
	return heard;
}

void ferry_status_event(struct ferry_status *s, enum ferry_event_type type,
			unsigned pass, const char *text)
{
	pthread_mutex_lock(&s->events);
	emit(s, type, pass, text);
	pthread_mutex_unlock(&s->events);
}

/* When to look again; caller holds lock. */
static uint64_t next_look(struct ferry_status *s, uint64_t until)
{
	if (s->state == FERRY_STATE_POSTCOPY_PAUSED && s->hope_ns < until)
		return s->hope_ns;
	return until;
}

int ferry_status_wait(struct ferry_status *s, int timeout_ms,
		      struct ferry_err *e)
{
	uint64_t until = timeout_ms < 0 ? UINT64_MAX :
		ferry_now_ns() + (uint64_t)timeout_ms * FERRY_NS_PER_MS;
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	while (!is_over(s, ferry_now_ns()))
		if (!ferry_cond_wait_until(&s->changed, &s->lock,
					   next_look(s, until)) &&
		    ferry_now_ns() >= until)
			break;

	if (!is_over(s, ferry_now_ns()))
		rc = ferry_err_set(e, FERRY_E_TIMEOUT, 0,
				   "the migration is still %s after %d ms",
				   ferry_state_name(s->state), timeout_ms);
	else if (s->state != FERRY_STATE_COMPLETED) {
		if (e)
			*e = s->why;
		rc = -1;
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void ferry_status_stats(struct ferry_status *s, struct ferry_stats *out)
{
	uint64_t begin, end, active;

	pthread_mutex_lock(&s->lock);
	out->state = s->state;
	out->where = where_locked(s);
	out->safe = ferry_safe_of(out->where);
	begin = s->since_ns[FERRY_STATE_SETUP];
	active = s->since_ns[FERRY_STATE_ACTIVE];
	end = s->ended_ns ? s->ended_ns : ferry_now_ns();
	out->total_ns = begin ? end - begin : 0;
	out->recoveries = s->recoveries;
	out->recover_attempts = s->attempts;
	out->apart_ns = s->apart_ns + (s->paused_ns ?
			ferry_now_ns() - s->paused_ns : 0);
	out->last_pause_ns = s->last_pause_ns;
	out->seeking = is_recovering(s->state) ||
		       (s->state == FERRY_STATE_POSTCOPY_PAUSED &&
			!is_over(s, ferry_now_ns()));
	out->setup_ns = begin && active ? active - begin : 0;
	if (s->state == FERRY_STATE_COMPLETED)
		out->error[0] = '\0';
	else
		snprintf(out->error, sizeof(out->error), "%s", s->why.msg);
	pthread_mutex_unlock(&s->lock);
}
