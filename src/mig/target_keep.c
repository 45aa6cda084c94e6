/* SPDX-License-Identifier: MIT */
/*
 * A target without a VM keeps what came and runs nothing.  It keeps it in two
 * steps: `prepare` makes all of it durable, `commit` lets it take effect.  When
 * that is, so that there are never two VMs and never none:
 *
 *   a ferry, precopy     prepare before LOADED.  The source sends RUN and lets
 *                        go of it; commit; RUNNING.  Broken before RUN: nothing
 *                        took effect, the source resumes.  Commit fails: the
 *                        source is told so, and has it.
 *   a ferry, postcopy    RUN comes when state is in hand; the memory is at the
 *                        source until FINISH, and it is stopped.  Then prepare,
 *                        commit, SHUT 0.  A full disk is waited out.
 *   QEMU, precopy        prepare, commit aside, SHUT 0, settle.  Without SHUT 0
 *                        the source resumes; one that has left is not
 *                        committed.  If SHUT cannot be said, commit is revoked;
 *                        where nobody can tell whether it was read, it stays
 *                        aside.
 *   QEMU, precopy,       the source is done when its octets are on their way:
 *   no return path       prepare and commit are tried until they succeed.
 *   QEMU >= 10.2,        the source resumes until it hears PONG 0x42, and sends
 *   postcopy             all pages before; from there to SHUT 0 a lost
 *                        connection may pause it or resume it: prepare, commit
 *                        aside, PONG 0x42, SHUT 0, settle.
 *   QEMU < 10.2,         the source lets go of the VM with the package, and
 *   postcopy             keeps its memory: prepare, commit aside, SHUT 0,
 *                        settle.  A full disk is waited out.  Broken with all
 *                        pages here: prepare, commit aside, and wait.
 *
 * "Aside" is under a name that says so: whatever ends this process between
 * commit and settle leaves a VM that somebody must look at, and not a second
 * one.
 *
 * Threads: as the target's; each function says whose.
 */
#include "mig/target_impl.h"

#include <poll.h>

#include "base/clock.h"

#define LOOK_NS		(2 * FERRY_NS_PER_MS)
#define RETRY_NS	FERRY_NS_PER_S
#define QUIET_MS	500u	/* five signs of life */

/* CONFIGURATION has one only if the source was to have it checked. */
static const uint8_t *uuid_of(struct ferry_adoption *a)
{
	if (!a->has_uuid)
		a->has_uuid = ferry_lanes_uuid(&a->lanes, a->uuid);
	return a->has_uuid ? a->uuid : NULL;
}

static int prepare(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_adoption *a = &t->adopted;
	struct ferry_adopt_state state = {
		.who = {
			.vm = t->vm, .dialect = a->dialect,
			.uuid = uuid_of(a),
		},
		.map = &t->in.map,
		.sections = t->loader.devices,
		.sections_bytes = t->loader.device_bytes,
		.vmdesc = a->vmdesc, .vmdesc_bytes = a->vmdesc_bytes,
	};
	int rc;

	if (a->prepared)
		return 0;
	rc = ferry_place_trim(&t->in.place);
	if (rc)
		return ferry_err_set(e, FERRY_E_IO, -rc, "image");
	if (t->vm->adopt->prepare(t->vm->opaque, &state, e))
		return -1;
	a->prepared = true;
	return 0;
}

/* The source is done with it whatever we answer: there never was a way back.
 * One that a failing channel has just given up was one. */
static bool is_one_way(const struct ferry_target *t)
{
	return !t->in.answer.chan;
}

/* It may not be, whatever it was answered. */
static bool may_resume(const struct ferry_target *t)
{
	return t->dialect == FERRY_DIALECT_QEMU && !is_one_way(t);
}

static int commit(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_adoption *a = &t->adopted;

	if (!a->committed &&
	    t->vm->adopt->commit(t->vm->opaque, may_resume(t), e))
		return -1;
	a->committed = true;
	return 0;
}

/* True when the target is being taken down. */
static bool pause_for(struct ferry_target *t, uint64_t ns)
{
	uint64_t until = ferry_now_ns() + ns;
	bool quit;

	pthread_mutex_lock(&t->lock);
	while (!t->end.quit && !t->loader.give_up &&
	       ferry_cond_wait_until(&t->changed, &t->lock, until))
		;
	quit = t->end.quit || t->loader.give_up;
	pthread_mutex_unlock(&t->lock);
	return quit;
}

/* With the only copy of the VM in hand there is no giving up. */
static int insist(struct ferry_target *t, bool only_copy,
		  int (*step)(struct ferry_target *t, struct ferry_err *e),
		  struct ferry_err *e)
{
	while (step(t, e)) {
		if (!only_copy)
			return -1;
		ferry_log(&t->status.log, FERRY_LOG_WARN, "%s; this is the "
			  "only copy of the VM: trying again", e->msg);
		if (pause_for(t, RETRY_NS))
			return -1;
	}
	return 0;
}

static bool holds_pong(const struct ferry_target *t)
{
	const struct ferry_loader *l = &t->loader;

	for (uint32_t i = 0; i < l->pongs; i++)
		if (l->pong[i] == FERRY_PING_LOADED)
			return true;
	return false;
}

/* Until all pages are here; as long as they come. */
static int await_pages(struct ferry_target *t, struct ferry_err *e)
{
	uint64_t silence = FERRY_NS_PER_MS *
			   ferry_patience_ms(&t->params);
	uint64_t now, before = UINT64_MAX, since = ferry_now_ns();

	while ((now = ferry_map_missing(&t->in.map))) {
		if (now != before)
			since = ferry_now_ns();
		else if (ferry_now_ns() - since > silence)
			return ferry_target_check_all(t, e);
		before = now;
		if (pause_for(t, LOOK_NS))
			return ferry_err_set(e, FERRY_E_CANCELLED, 0,
					     "gave up waiting for pages");
	}
	return 0;
}

static void source_may_return(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	t->recovery.possible = t->dialect == FERRY_DIALECT_QEMU &&
			       t->vm->how.recover && t->others_may_come;
	pthread_mutex_unlock(&t->lock);
}

static int make_room(struct ferry_target *t, struct ferry_err *e)
{
	return ferry_place_listen(&t->in.place, e);
}

/* A QEMU before 10.2 has let go of the VM with this package. */
int ferry_adopt_listen(struct ferry_target *t, struct ferry_err *e)
{
	bool let_go = t->dialect == FERRY_DIALECT_QEMU && !holds_pong(t);

	ferry_status_set(&t->status, FERRY_STATE_DEVICE);
	if ((let_go && !ferry_target_take_over(t, e)) ||
	    insist(t, let_go, make_room, e))
		return -1;
	ferry_preempt_listen(t);
	if (let_go)
		source_may_return(t);
	return 0;
}

int ferry_adopt_load(struct ferry_target *t, struct ferry_err *e)
{
	if (t->postcopy && !holds_pong(t))
		return 0;
	if (t->postcopy && await_pages(t, e))
		return -1;
	if (is_one_way(t) && !ferry_target_take_over(t, e))
		return -1;
	if (insist(t, is_one_way(t), prepare, e))
		return -1;
	if (!t->postcopy)
		return 0;
	/* Whoever hears PONG 0x42 may be gone before it is known to be said. */
	if (commit(t, e) || !ferry_target_take_over(t, e))
		return -1;
	source_may_return(t);
	return 0;
}

/* A QEMU that waits for SHUT says nothing; one that gave up has left. */
static int check_still_there(struct ferry_target *t, struct ferry_err *e)
{
	if (!may_resume(t) ||
	    (!ferry_inbuf_have(&t->main_in) &&
	     t->main->ops->wait(t->main, POLLIN, 0) == 0))
		return 0;
	return ferry_err_set(e, FERRY_E_CLOSED, 0, "the source left while the "
			     "image was written");
}

int ferry_adopt_start(struct ferry_target *t, struct ferry_err *e)
{
	if (t->postcopy)
		return 0;
	return check_still_there(t, e) ? -1 :
	       insist(t, is_one_way(t), commit, e);
}

/* The last pages may still be on their way on another channel. */
int ferry_adopt_finish(struct ferry_target *t, struct ferry_err *e)
{
	if (await_pages(t, e) ||
	    ferry_target_await_load(t, 1u << FERRY_LOAD_STARTED, e))
		return -1;
	return insist(t, true, prepare, e) || insist(t, true, commit, e) ?
	       -1 : 0;
}

/* ---- the end ---------------------------------------------------------------------------- */

/*
 * Who has read SHUT closes; a QEMU that closed without reading it resets the
 * connection.  A ferry says that it has heard, if it could come back; one that
 * could not, and keeps it open, has heard when it gives no more signs of life.
 * What they say until then is read, for closing on it would take SHUT back.
 */
static int await_close(struct ferry_target *t, struct ferry_err *e)
{
	uint32_t ms = t->dialect == FERRY_DIALECT_FERRY ? QUIET_MS :
		      ferry_patience_ms(&t->params);

	t->main->ops->set_timeout(t->main, ms, ms);
	while (ferry_inbuf_need(&t->main_in, 1, e))
		ferry_inbuf_consume(&t->main_in,
				    ferry_inbuf_have(&t->main_in));
	return e->code == FERRY_E_CLOSED ? 0 : -1;
}

static int take_back(struct ferry_target *t, const struct ferry_err *why,
		     struct ferry_err *e)
{
	t->vm->adopt->revoke(t->vm->opaque);
	ferry_status_renounced(&t->status);
	return ferry_err_set(e, why->code, 0, "the source could not be told "
			     "that all is here: %.160s", why->msg);
}

/* It looks for us until it has heard, and this process is all that can tell
 * it: its end would leave the VM in two halves for all that it knows. */
static void end_with_ferry(struct ferry_target *t, bool said)
{
	bool heard = said && ferry_return_await_heard(t, &t->main_in);

	t->main->ops->shutdown(t->main);
	if (heard)
		return;
	ferry_log(&t->status.log, FERRY_LOG_WARN, "all of the VM is here, and "
		  "the source has not heard so: waiting for it to come back");
	pthread_mutex_lock(&t->lock);
	t->recovery.lingers = true;
	pthread_mutex_unlock(&t->lock);
}

int ferry_adopt_end(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_err why = { 0 };
	bool said, closed;

	if (is_one_way(t))
		return 0;
	said = !ferry_answer_say(&t->in.answer, FERRY_RP_SHUT, 0, &why);
	if (!said && may_resume(t) && !t->postcopy)
		return take_back(t, &why, e);
	if (t->features & FERRY_FEATURE_RECOVER) {
		end_with_ferry(t, said);
		return 0;
	}
	closed = said && !await_close(t, &why);
	if (!may_resume(t))
		return 0;
	if (closed)
		return t->vm->adopt->settle(t->vm->opaque, e);
	return ferry_err_set(e, why.code, 0, "nobody knows whether the source "
			     "heard that all is here: %.140s", why.msg);
}

/* All but the end of the stream. */
static bool is_whole(struct ferry_target *t)
{
	bool started;

	pthread_mutex_lock(&t->lock);
	started = t->loader.state == FERRY_LOAD_STARTED;
	pthread_mutex_unlock(&t->lock);
	return t->postcopy && started && !ferry_map_missing(&t->in.map);
}

/*
 * The connection broke in postcopy: what is whole, but for the end of the
 * stream, is not thrown away.  A QEMU 7.2 that has said the end, and waits for
 * SHUT, can neither resume its migration nor its guest; 10.0 resumes the guest.
 */
void ferry_adopt_pause(struct ferry_target *t)
{
	struct ferry_err err = { 0 };

	if (t->adopted.committed || (!t->adopted.prepared && !is_whole(t)))
		return;
	if (prepare(t, &err) || commit(t, &err))
		ferry_log(&t->status.log, FERRY_LOG_WARN, "%s", err.msg);
}
