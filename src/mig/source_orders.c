/* SPDX-License-Identifier: MIT */
/*
 * The source's public API, second part: addresses, and what may be asked of a
 * migration in postcopy whose link is to be given up, or to be found again.
 *
 * Any thread; what is asked is noted, and the conductor is poked.
 */
#include "mig/source_impl.h"

#include <string.h>

#include "base/clock.h"

void ferry_source_break_main(struct ferry_source *s)
{
	struct ferry_chan *main;

	pthread_mutex_lock(&s->comeback.lock);
	main = atomic_load(&s->main);
	if (main)
		main->ops->shutdown(main);
	pthread_mutex_unlock(&s->comeback.lock);
}

void ferry_source_path(struct ferry_source *s, struct ferry_uri *uri)
{
	pthread_mutex_lock(&s->comeback.lock);
	*uri = s->comeback.path[s->comeback.at];
	pthread_mutex_unlock(&s->comeback.lock);
}

/* Caller holds the lock.  In front: it is tried next. */
static void add_first(struct ferry_comeback *c, const struct ferry_uri *uri)
{
	if (c->paths < FERRY_PATHS_MAX)
		c->paths++;
	memmove(&c->path[1], &c->path[0],
		(c->paths - 1) * sizeof(c->path[0]));
	c->path[0] = *uri;
	c->at = c->good = 0;
}

/* Before those that were added. */
void ferry_source_begin_path(struct ferry_source *s,
			     const struct ferry_uri *uri)
{
	pthread_mutex_lock(&s->comeback.lock);
	add_first(&s->comeback, uri);
	pthread_mutex_unlock(&s->comeback.lock);
}

/* Only who can be dialled again and again. */
static int parse(struct ferry_uri *uri, const char *text, struct ferry_err *e)
{
	if (ferry_uri_parse(uri, text, e))
		return -1;
	if (ferry_uri_features(uri) & FERRY_CHAN_MORE)
		return 0;
	return ferry_err_set(e, FERRY_E_INVALID, 0, "%.200s: a lost link is "
			     "found again by tcp: or unix: only", text);
}

int ferry_source_add_path(struct ferry_source *s, const char *uri,
			  struct ferry_err *e)
{
	struct ferry_comeback *c = &s->comeback;
	struct ferry_uri parsed;
	int rc = 0;

	if (parse(&parsed, uri, e))
		return -1;
	pthread_mutex_lock(&c->lock);
	/* The first is what it is started with. */
	if (c->paths + !atomic_load(&s->begun) >= FERRY_PATHS_MAX)
		rc = ferry_err_set(e, FERRY_E_INVALID, 0, "%.200s: more than "
				   "%u addresses", uri, FERRY_PATHS_MAX);
	else
		c->path[c->paths++] = parsed;
	pthread_mutex_unlock(&c->lock);
	return rc;
}

static int not_now(enum ferry_state state, const char *what,
		   struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_STATE, 0, "%s: the migration is %s",
			     what, ferry_state_name(state));
}

static bool is_without_link(enum ferry_state state)
{
	return state == FERRY_STATE_POSTCOPY_PAUSED ||
	       state == FERRY_STATE_POSTCOPY_RECOVER_SETUP ||
	       state == FERRY_STATE_POSTCOPY_RECOVER;
}

int ferry_source_halt(struct ferry_source *s, enum ferry_halt why,
		      struct ferry_err *e)
{
	enum ferry_state state = ferry_status_state(&s->status);

	if (!is_without_link(state) && (why == FERRY_HALT_CANCELLED ||
	    state != FERRY_STATE_POSTCOPY_ACTIVE))
		return not_now(state, "there is no link to be given up", e);
	atomic_store(&s->orders.halt, why);
	atomic_store(&s->orders.cancel, true);
	ferry_source_break_main(s);
	ferry_source_poke(s);
	return 0;
}

int ferry_source_pause(struct ferry_source *s, struct ferry_err *e)
{
	return ferry_source_halt(s, FERRY_HALT_PAUSED, e);
}

/* Caller holds the lock. */
static int ask(struct ferry_source *s, const struct ferry_uri *uri,
	       struct ferry_err *e)
{
	struct ferry_comeback *c = &s->comeback;
	enum ferry_state state = ferry_status_state(&s->status);
	bool paused = state == FERRY_STATE_POSTCOPY_PAUSED ||
		      state == FERRY_STATE_POSTCOPY_RECOVER_SETUP;

	if (c->never.code && (paused || c->burnt)) {
		*e = c->never;
		return -1;
	}
	if (!paused)
		return not_now(state, "there is nothing to recover", e);
	if (uri)
		add_first(c, uri);
	c->asked = true;
	/* Who waits from now on waits for what comes of it. */
	ferry_status_hope(&s->status, UINT64_MAX);
	pthread_cond_broadcast(&c->changed);
	return 0;
}

int ferry_source_recover(struct ferry_source *s, const char *uri,
			 struct ferry_err *e)
{
	struct ferry_err ignored;
	struct ferry_uri parsed;
	int rc;

	if (uri && parse(&parsed, uri, e))
		return -1;
	pthread_mutex_lock(&s->comeback.lock);
	rc = ask(s, uri ? &parsed : NULL, e ? e : &ignored);
	pthread_mutex_unlock(&s->comeback.lock);
	return rc;
}
