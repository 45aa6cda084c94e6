/* SPDX-License-Identifier: MIT */
/*
 * The target's public API, second part: what may be asked of a migration in
 * postcopy whose link is to be given up, or to be found again.  Any thread.
 */
#include "mig/target_impl.h"

static int not_now(enum ferry_state state, const char *what,
		   struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_STATE, 0, "%s: the migration is %s",
			     what, ferry_state_name(state));
}

int ferry_target_pause(struct ferry_target *t, struct ferry_err *e)
{
	enum ferry_state state = ferry_status_state(&t->status);
	struct ferry_err why;

	if (state != FERRY_STATE_POSTCOPY_ACTIVE &&
	    state != FERRY_STATE_POSTCOPY_RECOVER_SETUP &&
	    state != FERRY_STATE_POSTCOPY_RECOVER)
		return not_now(state, "there is no link to be given up", e);
	ferry_err_set(&why, FERRY_E_CLOSED, 0, "paused by the user of the "
		      "target");
	ferry_target_failed(t, &why);
	return 0;
}

static bool is_rescued(struct ferry_target *t)
{
	bool rescued;

	pthread_mutex_lock(&t->lock);
	rescued = t->recovery.rescued;
	pthread_mutex_unlock(&t->lock);
	return rescued;
}

/* Nobody listens here yet, or comes in this way. */
static bool may_open(struct ferry_target *t)
{
	enum ferry_state state = ferry_status_state(&t->status);

	return state >= FERRY_STATE_POSTCOPY_ACTIVE &&
	       state <= FERRY_STATE_POSTCOPY_RECOVER;
}

int ferry_target_recover(struct ferry_target *t, const char *uri,
			 struct ferry_err *e)
{
	struct ferry_uri u;

	if (is_rescued(t))
		return ferry_err_set(e, FERRY_E_STATE, 0, "its half was "
				     "dumped for a rescue: nobody comes back "
				     "to it");
	if (!may_open(t))
		return not_now(ferry_status_state(&t->status), "there is "
			       "nothing to recover", e);
	if (ferry_uri_parse(&u, uri, e))
		return -1;
	if (!(ferry_uri_features(&u) & FERRY_CHAN_MORE))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%.200s: a source "
				     "comes back by tcp: or unix: only", uri);
	return ferry_door_open_also(t, &u, e);
}
