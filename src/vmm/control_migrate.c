/* SPDX-License-Identifier: MIT */
/*
 * Migrations begin and end here, and are told about.  Only the control thread
 * makes and frees sources and targets; one that has ended stays, for
 * query-migrate, until the next begins.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "vmm/control_priv.h"

/* ---- which one, and who uses it ----------------------------------------- */

/* Pinned, they are not freed.  Both may be NULL. */
void ferry_control_pin(struct ferry_control *c, struct ferry_source **source,
		       struct ferry_target **target)
{
	pthread_mutex_lock(&c->lock);
	c->mig.users++;
	*source = c->mig.source;
	*target = c->mig.target;
	pthread_mutex_unlock(&c->lock);
}

void ferry_control_unpin(struct ferry_control *c)
{
	pthread_mutex_lock(&c->lock);
	if (!--c->mig.users)
		pthread_cond_signal(&c->mig.unused);
	pthread_mutex_unlock(&c->lock);
}

/* Free what there is.  Blocks; not under run_lock. */
void ferry_control_retire(struct ferry_control *c)
{
	struct ferry_source *source;
	struct ferry_target *target;

	pthread_mutex_lock(&c->lock);
	source = c->mig.source;
	target = c->mig.target;
	c->mig.source = NULL;
	c->mig.target = NULL;
	while (c->mig.users)
		pthread_cond_wait(&c->mig.unused, &c->lock);
	pthread_mutex_unlock(&c->lock);

	if (source)
		ferry_source_free(source);
	if (target)
		ferry_target_free(target);

	pthread_mutex_lock(&c->lock);
	c->mig.state = FERRY_STATE_NONE;
	c->mig.where = FERRY_WHERE_SOURCE;
	pthread_mutex_unlock(&c->lock);
}

enum ferry_phase ferry_control_phase(struct ferry_control *c)
{
	enum ferry_side side = FERRY_SIDE_NONE;
	enum ferry_phase phase;

	pthread_mutex_lock(&c->lock);
	if (c->mig.source)
		side = FERRY_SIDE_SOURCE;
	else if (c->mig.target)
		side = FERRY_SIDE_TARGET;
	phase = c->mig.rescued ? FERRY_PHASE_RESCUED :
		ferry_phase_of(side, c->has_vm, c->mig.state, c->mig.where);
	pthread_mutex_unlock(&c->lock);
	return phase;
}

/* 0, or -1 with the table's reason why not.  What has only to be preceded by
 * a cancel is not refused. */
int ferry_control_check(struct ferry_control *c, enum ferry_ask ask,
			struct ferry_err *e)
{
	struct ferry_rule rule = ferry_rule_for(ferry_control_phase(c), ask);

	if (rule.act == FERRY_ACT_REFUSE)
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s", rule.why);
	return 0;
}

/* ---- events, on the engine's threads ------------------------------------ */

/* Take over the news; true when the state's name has changed. */
static bool take_state_locked(struct ferry_control *c,
			      const struct ferry_event *ev)
{
	bool completed = ev->state == FERRY_STATE_COMPLETED;
	bool changed = c->mig.told != ev->state;

	c->mig.told = c->mig.state = ev->state;
	c->mig.where = ev->where;
	/* It has been here, and its source has it again: what is left of it
	 * here is good for nothing. */
	if (ev->state == FERRY_STATE_FAILED && c->mig.target &&
	    (c->runstate == FERRY_RUN_RUNNING ||
	     c->runstate == FERRY_RUN_PAUSED)) {
		c->runstate = FERRY_RUN_POSTMIGRATE;
		c->mig.exit_on_error = true;
	}
	if (completed)
		c->has_vm = c->mig.target != NULL;
	if (completed && c->mig.source)
		c->runstate = FERRY_RUN_POSTMIGRATE;
	return changed;
}

/*
 * The event is queued under the same lock as the change: who hears of it finds
 * it true, and the process does not end between the two.
 */
static void tell_state(struct ferry_control *c, const struct ferry_event *ev)
{
	struct json_object *data = json_object_new_object();
	bool changed;

	ferry_json_add_str(data, "status", ferry_state_name(ev->state));
	pthread_mutex_lock(&c->lock);
	changed = take_state_locked(c, ev);
	if (changed)
		ferry_qmp_server_event(c->qmp, "MIGRATION", data);
	else
		json_object_put(data);
	pthread_mutex_unlock(&c->lock);

	/* What fails before its caller's eyes is the caller's to tell. */
	if (changed && !pthread_equal(pthread_self(), c->thread) &&
	    (ev->state == FERRY_STATE_FAILED ||
	     ev->state == FERRY_STATE_POSTCOPY_PAUSED))
		ferry_control_say(c, "migration %s: %s",
				  ferry_state_name(ev->state), ev->text);
}

static void on_event(void *opaque, const struct ferry_event *ev)
{
	struct ferry_control *c = opaque;
	struct json_object *data;

	switch ((enum ferry_event_type)ev->type) {
	case FERRY_EVENT_STATE:
		tell_state(c, ev);
		break;
	case FERRY_EVENT_PASS:
		data = json_object_new_object();
		ferry_json_add_u64(data, "pass", ev->pass);
		ferry_qmp_server_event(c->qmp, "MIGRATION_PASS", data);
		break;
	case FERRY_EVENT_BULK:
		data = json_object_new_object();
		ferry_json_add_str(data, "device", ev->text);
		ferry_qmp_server_event(c->qmp, "MIGRATION_BULK", data);
		break;
	case FERRY_EVENT_LEASE:
		data = json_object_new_object();
		ferry_json_add_bool(data, "out", ev->text[0] != '\0');
		ferry_qmp_server_event(c->qmp, "X_FERRY_LEASE", data);
		break;
	case FERRY_EVENT_LISTENING:
		ferry_control_say(c, "waiting for the VM at %s", ev->text);
		break;
	}
	ferry_control_wake(c);
}

static void on_log(void *opaque, enum ferry_log_level level, const char *line)
{
	if (level <= FERRY_LOG_WARN)
		ferry_control_say(opaque, "%s", line);
}

static struct ferry_callbacks callbacks(struct ferry_control *c)
{
	return (struct ferry_callbacks){
		.size = sizeof(struct ferry_callbacks),
		.opaque = c,
		.event = on_event,
		.log = on_log,
	};
}

/* ---- begin -------------------------------------------------------------- */

void ferry_control_forget_dump(struct ferry_control *c)
{
	free(c->mig.dump.file);
	c->mig.dump = (struct ferry_control_dump){ 0 };
}

/* Known to events from here on. */
static void adopt(struct ferry_control *c, struct ferry_source *source,
		  struct ferry_target *target)
{
	pthread_mutex_lock(&c->lock);
	c->mig.source = source;
	c->mig.target = target;
	c->mig.state = FERRY_STATE_SETUP;
	c->mig.told = FERRY_STATE_NONE;
	c->mig.where = FERRY_WHERE_SOURCE;
	c->mig.cancel_sent = c->mig.cancel_refused = false;
	c->mig.rescued = c->mig.rescue_ran = false;
	ferry_control_forget_dump(c);
	pthread_mutex_unlock(&c->lock);
}

static int can_migrate(struct ferry_control *c, struct ferry_err *e)
{
	enum ferry_runstate now = ferry_control_runstate(c);

	if (ferry_control_check(c, FERRY_ASK_MIGRATE, e))
		return -1;
	if (now == FERRY_RUN_SHUTDOWN || now == FERRY_RUN_INTERNAL_ERROR)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "the guest has ended (%s): there is "
				     "nothing to migrate",
				     ferry_runstate_name(now));
	return 0;
}

/* Further addresses of the same target. */
static int add_paths(struct ferry_source *source, struct json_object *paths,
		     struct ferry_err *e)
{
	size_t n = paths ? json_object_array_length(paths) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(paths, i);

		if (!json_object_is_type(o, json_type_string))
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "Invalid parameter type for "
					     "'x-ferry-paths', expected: "
					     "array of strings");
		if (ferry_source_add_path(source, json_object_get_string(o),
					  e))
			return -1;
	}
	return 0;
}

int ferry_control_migrate(struct ferry_control *c, const char *uri,
			  struct json_object *paths, struct ferry_err *e)
{
	struct ferry_callbacks cb = callbacks(c);
	struct ferry_source *source;

	if (can_migrate(c, e) ||
	    ferry_inherited_check(&c->config->inherited, uri, e))
		return -1;
	ferry_control_retire(c);
	source = ferry_source_new(c->vm, c->params, &cb, e);
	if (!source)
		return -1;
	adopt(c, source, NULL);
	if (!add_paths(source, paths, e) &&
	    !ferry_source_start(source, uri, e))
		return 0;
	ferry_control_retire(c);
	return -1;
}

/* No VM is here from now on, until one has come. */
static void make_room(struct ferry_control *c)
{
	pthread_mutex_lock(&c->lock);
	/* A VM that was stopped by its leaving is nobody's order to pause. */
	if (c->runstate != FERRY_RUN_INMIGRATE)
		c->arrive_paused = false;
	c->runstate = FERRY_RUN_INMIGRATE;
	pthread_mutex_unlock(&c->lock);

	pthread_mutex_lock(&c->run_lock);
	c->held = false;
	pthread_mutex_unlock(&c->run_lock);
}

int ferry_control_incoming(struct ferry_control *c, const char *uri,
			   bool exit_on_error, struct ferry_err *e)
{
	struct ferry_callbacks cb = callbacks(c);
	struct ferry_target *target;

	if (ferry_control_check(c, FERRY_ASK_INCOMING, e) ||
	    ferry_inherited_check(&c->config->inherited, uri, e))
		return -1;
	ferry_control_retire(c);
	if (c->vhost && ferry_vhost_devices_arriving(c->vhost, e))
		return -1;
	target = ferry_target_new(c->vm, c->params, &cb, e);
	if (!target)
		return -1;
	make_room(c);
	adopt(c, NULL, target);
	c->mig.exit_on_error = exit_on_error;
	if (!ferry_target_listen(target, uri, e))
		return 0;
	ferry_control_retire(c);
	return -1;
}

/* ---- orders, from the control or the qmp thread ------------------------- */

static int cancel_pinned(struct ferry_control *c, struct ferry_source *source,
			 struct ferry_target *target, struct ferry_err *e)
{
	enum ferry_phase phase = ferry_control_phase(c);

	if (phase == FERRY_PHASE_HOME || phase == FERRY_PHASE_ABSENT)
		return 0;	/* nothing to cancel, as in QEMU */
	if (source)
		return ferry_source_cancel(source, e);
	return target ? ferry_target_cancel(target, e) : 0;
}

static bool is_seeking(struct ferry_source *source)
{
	struct ferry_stats st = FERRY_STATS_INIT;

	ferry_source_stats(source, &st);
	return st.seeking;
}

int ferry_control_cancel(struct ferry_control *c, struct ferry_err *e)
{
	struct ferry_source *source;
	struct ferry_target *target;
	int rc;

	ferry_control_pin(c, &source, &target);
	rc = ferry_control_check(c, FERRY_ASK_CANCEL, e);
	if (!rc)
		rc = cancel_pinned(c, source, target, e);
	else if (source && is_seeking(source))	/* then only that ends */
		rc = ferry_source_cancel(source, e);
	ferry_control_unpin(c);
	return rc;
}

/* By the engine's word, which may be ahead of its event: a migration that was
 * not to be cancelled because it has ended, not because of the commit. */
bool ferry_control_is_over(struct ferry_control *c)
{
	struct ferry_stats st = FERRY_STATS_INIT;
	struct ferry_source *source;
	struct ferry_target *target;

	ferry_control_pin(c, &source, &target);
	if (source)
		ferry_source_stats(source, &st);
	else if (target)
		ferry_target_stats(target, &st);
	ferry_control_unpin(c);
	return ferry_phase_ended(st.state);
}

int ferry_control_postcopy(struct ferry_control *c, struct ferry_err *e)
{
	struct ferry_source *source;
	struct ferry_target *target;
	int rc;

	ferry_control_pin(c, &source, &target);
	if (source)
		rc = ferry_source_start_postcopy(source, e);
	else
		rc = ferry_err_set(e, FERRY_E_STATE, 0,
				   "no migration from here was started");
	ferry_control_unpin(c);
	return rc;
}

int ferry_control_pause(struct ferry_control *c, struct ferry_err *e)
{
	struct ferry_source *source;
	struct ferry_target *target;
	int rc;

	ferry_control_pin(c, &source, &target);
	if (source)
		rc = ferry_source_pause(source, e);
	else if (target)
		rc = ferry_target_pause(target, e);
	else
		rc = ferry_err_set(e, FERRY_E_STATE, 0, "there is no migration "
				   "to be paused");
	ferry_control_unpin(c);
	return rc;
}

/* At the target: be found at this address too. */
int ferry_control_recover(struct ferry_control *c, const char *uri,
			  struct ferry_err *e)
{
	struct ferry_source *source;
	struct ferry_target *target;
	int rc;

	ferry_control_pin(c, &source, &target);
	if (target)
		rc = ferry_target_recover(target, uri, e);
	else
		rc = ferry_err_set(e, FERRY_E_STATE, 0, "migrate-recover is for "
				   "the target of a postcopy; the source has "
				   "migrate with resume");
	ferry_control_unpin(c);
	return rc;
}

/* At the source: find it again, at this address first (NULL: where it was). */
int ferry_control_resume(struct ferry_control *c, const char *uri,
			 struct ferry_err *e)
{
	struct ferry_source *source;
	struct ferry_target *target;
	int rc;

	ferry_control_pin(c, &source, &target);
	if (source)
		rc = ferry_source_recover(source, uri, e);
	else
		rc = ferry_err_set(e, FERRY_E_STATE, 0, "Cannot resume: there "
				   "is no migration from here%s", target ?
				   "; the target has migrate-recover" : "");
	ferry_control_unpin(c);
	return rc;
}

/* At the source: it is not found again, and the VM goes on here. */
int ferry_control_rollback(struct ferry_control *c, bool target_is_dead,
			   struct ferry_err *e)
{
	if (!c->mig.source)
		return ferry_err_set(e, FERRY_E_STATE, 0, "there is no "
				     "migration from here that could be "
				     "rolled back");
	if (!target_is_dead)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "a rollback needs "
				     "\"target-is-dead\": true: what the "
				     "guest did there is lost");
	if (c->vhost && ferry_vhost_devices_check_rollback(c->vhost, e))
		return -1;
	return ferry_source_rollback(c->mig.source, e);
}

/* Of either side; the other is NULL. */
static void add_channels(struct json_object *o, struct ferry_source *source,
			 struct ferry_target *target)
{
	struct json_object *list = json_object_new_array();
	struct ferry_channel_stats st = FERRY_CHANNEL_STATS_INIT;

	for (unsigned i = 0; source ? !ferry_source_channel(source, i, &st) :
				      !ferry_target_channel(target, i, &st);
	     i++)
		ferry_control_add_channel(list, &st);
	json_object_object_add(o, "x-ferry-channels", list);
}

/* The engine's word may be ahead of its event: who reads of an end that moves
 * the VM finds that it is not here, too. */
static void catch_up(struct ferry_control *c, const struct ferry_stats *st)
{
	const struct ferry_event ev = {
		.state = st->state, .where = st->where,
	};
	bool told;

	pthread_mutex_lock(&c->lock);
	told = c->mig.told == st->state;
	pthread_mutex_unlock(&c->lock);
	if (st->state == FERRY_STATE_COMPLETED && !told)
		tell_state(c, &ev);
}

/* Nobody comes back to what was dumped. */
static void add_dumped(struct json_object *o, struct ferry_control *c)
{
	const struct ferry_control_dump *d = &c->mig.dump;
	struct json_object *said = NULL;

	pthread_mutex_lock(&c->lock);
	if (d->file) {
		said = json_object_new_object();
		ferry_json_add_str(said, "file", d->file);
		ferry_json_add_bool(said, "written", d->written);
		ferry_json_add_u64(said, "ms-ago", (ferry_now_ns() -
				   d->at_ns) / FERRY_NS_PER_MS);
	}
	pthread_mutex_unlock(&c->lock);
	if (said)
		json_object_object_add(o, "x-ferry-dumped", said);
}

/* {} when there never was one. */
struct json_object *ferry_control_query_migrate(struct ferry_control *c)
{
	struct ferry_stats st = FERRY_STATS_INIT;
	struct json_object *o = NULL;
	struct ferry_source *source;
	struct ferry_target *target;
	char uri[300] = "";

	ferry_control_pin(c, &source, &target);
	if (source) {
		ferry_source_stats(source, &st);
		catch_up(c, &st);
		o = ferry_control_stats(&st, false, "");
	} else if (target) {
		ferry_target_stats(target, &st);
		catch_up(c, &st);
		if (ferry_target_uri(target, uri, sizeof(uri), NULL))
			uri[0] = '\0';
		o = ferry_control_stats(&st, true, uri);
	}
	if (o) {
		ferry_control_add_bulk(o, source, target, st.state);
		add_channels(o, source, target);
		add_dumped(o, c);
	}
	ferry_control_unpin(c);
	return o ? o : json_object_new_object();
}
