/* SPDX-License-Identifier: MIT */
/*
 * The public API when the link is lost for good: each side writes what it has.
 * Who has done so has given the migration up: the two halves make another VM,
 * and neither side comes back to this one.
 *
 * Threads: any but the engine's.
 */
#include "mig/half.h"
#include "mig/source_impl.h"
#include "mig/target_impl.h"

#define SETTLE_MS	10000

#define GIVEN_UP	"its half was dumped for a rescue: it does not come " \
			"back"

/* ---- the source --------------------------------------------------------- */

/* No attempt to come back is under way, and none will be. */
static int give_up(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_comeback *c = &s->comeback;
	enum ferry_state state = ferry_status_state(&s->status);

	if (state < FERRY_STATE_POSTCOPY_PAUSED ||
	    state > FERRY_STATE_POSTCOPY_RECOVER)
		return ferry_err_set(e, FERRY_E_STATE, 0, "only a migration "
				     "that has lost its link in postcopy has "
				     "halves: it is %s",
				     ferry_state_name(state));
	pthread_mutex_lock(&c->lock);
	c->asked = false;
	c->rescued = true;
	ferry_err_set(&c->never, FERRY_E_STATE, 0, GIVEN_UP);
	pthread_mutex_unlock(&c->lock);
	if (ferry_source_halt(s, FERRY_HALT_PAUSED, e))
		return -1;
	(void)!ferry_status_wait(&s->status, SETTLE_MS, NULL);
	state = ferry_status_state(&s->status);
	if (state == FERRY_STATE_POSTCOPY_PAUSED) {
		ferry_status_remark(&s->status, &c->never);
		return 0;
	}
	return ferry_err_set(e, FERRY_E_STATE, 0, "the migration is %s now",
			     ferry_state_name(state));
}

int ferry_source_rescue(struct ferry_source *s, int fd, struct ferry_err *e)
{
	struct ferry_half half = {
		.vm = s->vm, .side = FERRY_HALF_SOURCE,
		.session = s->session,
	};

	if (give_up(s, e))
		return -1;
	/* What was sent is gone; what was on the way is nowhere. */
	if (s->out.crew.release)
		half.has = s->out.owed.map;
	return ferry_half_write(&half, fd, e);
}

/* ---- the target --------------------------------------------------------- */

static int let_go(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_recovery *r = &t->recovery;
	struct ferry_err why;
	enum ferry_state state;
	bool back;

	pthread_mutex_lock(&t->lock);
	state = ferry_status_state(&t->status);
	back = r->coming || r->here;
	if (state == FERRY_STATE_POSTCOPY_PAUSED && !back)
		r->rescued = true;
	pthread_mutex_unlock(&t->lock);
	if (t->vm->adopt)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "a VM that is "
				     "being parked has no half");
	if (state != FERRY_STATE_POSTCOPY_PAUSED)
		return ferry_err_set(e, FERRY_E_STATE, 0, "only a migration "
				     "that has lost its link in postcopy has "
				     "halves: it is %s",
				     ferry_state_name(state));
	if (back)
		return ferry_err_set(e, FERRY_E_STATE, 0, "the source has "
				     "just come back");
	ferry_err_set(&why, FERRY_E_STATE, 0, GIVEN_UP);
	ferry_status_hope(&t->status, 0);
	ferry_status_remark(&t->status, &why);
	return 0;
}

int ferry_target_abandon(struct ferry_target *t, struct ferry_err *e)
{
	if (let_go(t, e))
		return -1;
	ferry_foreign_end(t, false);
	ferry_place_abandon(&t->in.place);
	return 0;
}

int ferry_target_rescue(struct ferry_target *t, int running, int fd,
			struct ferry_err *e)
{
	struct ferry_half half = {
		.vm = t->vm, .side = FERRY_HALF_TARGET,
		.session = t->session, .has = t->in.map.here,
		.has_too = t->in.map.zero, .sums = t->in.place.sums,
	};
	struct ferry_save dev = { 0 };
	int rc;

	if (let_go(t, e))
		return -1;
	t->vm->was_running = running;
	half.devices = &dev;
	rc = ferry_dev_save_all(&t->vm->devices, FERRY_RAM_SECTION_ID + 1,
				&dev, e);
	if (!rc)
		rc = ferry_half_write(&half, fd, e);
	ferry_save_fini(&dev);
	return rc;
}
