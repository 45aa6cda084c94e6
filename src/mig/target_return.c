/* SPDX-License-Identifier: MIT */
/*
 * A ferry that lost its link comes back, on a main whose header has this
 * migration's session id and `recover` among what is mandatory.
 *
 *   door     the id is ours, else nothing happens.  A main that seems to live
 *            is taken down: who knows the id has given it up.  The reader
 *            has let go of all that belonged to the link: main is answered,
 *            and handed to it.  Or all is over here, and the last word may
 *            have been lost: it is said again by the door itself.
 *   reader   says what became of the VM; is asked what has come; waits for
 *            the other channels with RESUME, and lets who waits for pages
 *            ask again; in the end a target that ends with the migration
 *            stays until the source is known to have heard
 *
 * How the reader waits is target_recover.c's, for QEMUs as well.
 */
#include "mig/target_impl.h"

#include <poll.h>
#include <string.h>

#include "base/clock.h"

#define LOOK_NS	(10 * FERRY_NS_PER_MS)

/* ---- the door ----------------------------------------------------------------- */

/* What there is for one who comes back. */
enum fate { FATE_STRANGER, FATE_NOT_NOW, FATE_BACK, FATE_ALL_HERE,
	    FATE_GIVEN_UP };

/* Caller holds the lock. */
static bool is_ours(struct ferry_target *t, struct ferry_chan *chan,
		    const struct ferry_channel_head *h)
{
	struct ferry_err ignored;

	return t->in.receiver && t->dialect == FERRY_DIALECT_FERRY &&
	       ferry_session_same(h->session, t->session) &&
	       (!t->tls || !ferry_bond_check(&t->bond, chan, h, &ignored));
}

/* Caller holds the lock. */
static enum fate look(struct ferry_target *t, struct ferry_chan *chan,
		      const struct ferry_channel_head *h)
{
	struct ferry_recovery *r = &t->recovery;

	if (!is_ours(t, chan, h) || r->rescued)
		return FATE_STRANGER;
	switch (ferry_status_state(&t->status)) {
	case FERRY_STATE_COMPLETED:
		return FATE_ALL_HERE;
	case FERRY_STATE_FAILED:
	case FERRY_STATE_CANCELLED:
		return FATE_GIVEN_UP;
	default:
		break;
	}
	if (t->end.quit)
		return FATE_STRANGER;
	return r->waiting && !r->coming && !r->here ? FATE_BACK : FATE_NOT_NOW;
}

/* Who is back has given up the link that there is.  Caller holds the lock. */
static void take_down(struct ferry_target *t)
{
	if (t->recovery.possible && !t->recovery.waiting && t->main)
		t->main->ops->shutdown(t->main);
}

/* Until it is decided; what is, is reserved for the caller. */
static enum fate await_fate(struct ferry_target *t, struct ferry_chan *chan,
			    const struct ferry_channel_head *h)
{
	uint64_t now, until = ferry_now_ns() + FERRY_NS_PER_MS *
			      ferry_param(&t->params, FERRY_P_TIMEOUT) / 2;
	enum fate fate;

	pthread_mutex_lock(&t->lock);
	fate = look(t, chan, h);
	if (fate == FATE_NOT_NOW)
		take_down(t);
	while (fate == FATE_NOT_NOW && (now = ferry_now_ns()) < until) {
		ferry_cond_wait_until(&t->changed, &t->lock, now + LOOK_NS);
		fate = look(t, chan, h);
	}
	if (fate == FATE_BACK)
		t->recovery.coming = true;
	pthread_mutex_unlock(&t->lock);
	return fate;
}

static int refuse(struct ferry_target *t, struct ferry_chan *chan,
		  const struct ferry_channel_head *h, enum fate fate,
		  struct ferry_err *e)
{
	struct ferry_err ignored;

	ferry_err_set(e, FERRY_E_STATE, 0, fate == FATE_STRANGER ?
		      "a source comes back to a migration that is not here" :
		      "a source comes back, and its last link is not given "
		      "up here yet");
	(void)!ferry_admit_answer(t, chan, h, 0, e, &ignored);
	return -1;
}

static int check_channels(struct ferry_target *t,
			  const struct ferry_hello *h, struct ferry_err *e)
{
	if (h->has_channels && h->data == t->in.data &&
	    h->urgent == t->in.urgent && !h->device)
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0, "a source comes back with "
			     "%u data and %u urgent channels, it had %u and "
			     "%u", h->data, h->urgent, t->in.data,
			     t->in.urgent);
}

/* One command of those that may come behind the last word: none counts but
 * HEARD.  -1: it has closed. */
static int hear_out(struct ferry_inbuf *in, bool *heard)
{
	struct ferry_section s = { 0 };
	struct ferry_err ignored;
	struct ferry_rd rd;

	if (ferry_stream_section(in, &s, &ignored) ||
	    s.type != FERRY_SECTION_COMMAND ||
	    ferry_stream_payload(in, s.bytes, &rd, &ignored))
		return -1;
	if (s.command == FERRY_COMMAND_HEARD)
		*heard = true;
	return 0;
}

bool ferry_return_await_heard(struct ferry_target *t, struct ferry_inbuf *in)
{
	uint64_t until = ferry_now_ns() + FERRY_NS_PER_MS *
			 ferry_param(&t->params, FERRY_P_TIMEOUT);
	struct ferry_chan *chan = in->chan;
	bool heard = false;

	while (ferry_now_ns() < until && !ferry_target_is_quitting(t)) {
		if (!ferry_inbuf_have(in) && !chan->ops->wait(chan, POLLIN, 10))
			continue;
		if (hear_out(in, &heard))
			break;
	}
	return heard;
}

void ferry_return_linger(struct ferry_target *t)
{
	uint64_t until = ferry_now_ns() + FERRY_NS_PER_MS *
			 ferry_param(&t->params, FERRY_P_RECOVER);

	pthread_mutex_lock(&t->lock);
	while (t->recovery.lingers && !t->recovery.heard && !t->end.quit &&
	       ferry_cond_wait_until(&t->changed, &t->lock, until))
		;
	t->recovery.lingers = false;
	pthread_mutex_unlock(&t->lock);
}

static void note_heard(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	t->recovery.heard = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

/* The last word once more, and until it is heard. */
static int say_last(struct ferry_target *t, struct ferry_inbuf *in,
		    enum fate fate)
{
	struct ferry_stats st = FERRY_STATS_INIT;
	struct ferry_answer a;
	struct ferry_err err;

	ferry_status_stats(&t->status, &st);
	ferry_answer_init(&a);
	ferry_answer_open(&a, in->chan, FERRY_DIALECT_FERRY);
	if (fate == FATE_ALL_HERE)
		(void)!ferry_answer_say(&a, FERRY_RP_SHUT, 0, &err);
	else
		ferry_answer_give_up(&a, st.error);
	if (ferry_return_await_heard(t, in))
		note_heard(t);
	ferry_answer_fini(&a);
	ferry_chan_close(in->chan);
	ferry_inbuf_fini(in);
	*in = (struct ferry_inbuf){ 0 };
	return 0;
}

/* False when the reader does not wait any more. */
static bool hand_over(struct ferry_target *t, struct ferry_inbuf *in, bool ok)
{
	struct ferry_recovery *r = &t->recovery;
	bool given;

	pthread_mutex_lock(&t->lock);
	r->coming = false;
	given = ok && r->waiting && !t->end.quit;
	if (given) {
		r->in = *in;
		r->here = true;
		*in = (struct ferry_inbuf){ 0 };
	}
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	return given;
}

int ferry_return_admit(struct ferry_target *t, struct ferry_inbuf *in,
		       const struct ferry_channel_head *head,
		       const struct ferry_hello *theirs, struct ferry_err *e)
{
	enum fate fate = await_fate(t, in->chan, head);
	struct ferry_err note = { 0 };
	bool ok;

	if (fate == FATE_STRANGER || fate == FATE_NOT_NOW)
		return refuse(t, in->chan, head, fate, e);
	ok = !check_channels(t, theirs, e);
	if (!ok)
		(void)!ferry_admit_answer(t, in->chan, head, 0, e, &note);
	else
		ok = !ferry_admit_answer(t, in->chan, head, t->features,
					 &note, e);
	if (fate != FATE_BACK)
		return ok ? say_last(t, in, fate) : -1;
	ferry_chan_set_name(in->chan, "main");
	if (hand_over(t, in, ok))
		return 0;
	return ok ? ferry_err_set(e, FERRY_E_STATE, 0, "a source comes back, "
				  "and is not waited for any more") : -1;
}

/* ---- the reader ----------------------------------------------------------------- */

bool ferry_return_may_wait(struct ferry_target *t,
			   const struct ferry_err *why, uint64_t *until)
{
	bool wait, handed = ferry_status_is_handed(&t->status);

	pthread_mutex_lock(&t->lock);
	wait = t->recovery.possible && !t->end.given_up &&
	       (handed || (t->loader.state == FERRY_LOAD_READY &&
			   ferry_err_is_link(why) &&
			   ferry_param(&t->params, FERRY_P_RECOVER)));
	pthread_mutex_unlock(&t->lock);
	/* Who did not say RUN has the VM, and comes to say so; or is dead. */
	*until = handed ? UINT64_MAX : ferry_now_ns() + FERRY_NS_PER_MS *
		 ferry_param(&t->params, FERRY_P_RECOVER);
	return wait;
}

/* Receivers may be waiting for room in memory: not any more; what they hold
 * comes again. */
static void stop_receivers(struct ferry_target *t)
{
	struct ferry_inflow *in = &t->in;

	ferry_place_stop_waiting(&in->place);
	ferry_marks_close(&in->gate);
	for (unsigned i = 0; i < ferry_inflow_channels(in); i++)
		ferry_receiver_stop(&in->receiver[i]);
	pthread_mutex_lock(&t->lock);
	in->device = 0;		/* their state is here */
	memset(in->receiver, 0, (in->data + (size_t)in->urgent) *
	       sizeof(*in->receiver));
	in->here = 0;
	pthread_mutex_unlock(&t->lock);
	ferry_marks_reopen(&in->gate);
	ferry_place_wait_again(&in->place);
}

void ferry_return_let_go(struct ferry_target *t)
{
	ferry_heart_stop(&t->heart);
	ferry_fault_mute(&t->in.fault);
	ferry_answer_close(&t->in.answer);
	stop_receivers(t);
	t->returning = t->may_ask = false;
	atomic_store(&t->watched, false);
}

void ferry_return_begin(struct ferry_target *t)
{
	struct ferry_err err = { 0 };
	bool runs;

	t->returning = true;
	ferry_answer_open(&t->in.answer, t->main, FERRY_DIALECT_FERRY);
	if (ferry_target_start_heart(t, &err))
		ferry_log(&t->status.log, FERRY_LOG_WARN, "%s", err.msg);
	ferry_lease_loads(t);
	/* The loader says RUNNING behind this note, if it comes later. */
	runs = ferry_status_is_heard(&t->status);
	(void)!ferry_answer_say(&t->in.answer, runs ? FERRY_RP_RUNNING :
				FERRY_RP_LOADED, 0, &err);
}

/* Whoever waits for a page is let out by an error: the VM ends here. */
int ferry_return_void(struct ferry_target *t, const char *reason,
		      struct ferry_err *e)
{
	bool ran = ferry_status_is_handed(&t->status);

	ferry_lease_forbid(t);
	pthread_mutex_lock(&t->lock);
	t->recovery.possible = false;
	t->end.given_up = true;
	pthread_mutex_unlock(&t->lock);
	ferry_status_renounced(&t->status);
	if (ran)
		ferry_place_abandon(&t->in.place);
	return ferry_err_set(e, FERRY_E_PEER, 0, "this VM is void: %.200s",
			     reason);
}

static bool channels_here(struct ferry_target *t)
{
	bool all;

	pthread_mutex_lock(&t->lock);
	if (t->in.here < t->in.data + t->in.urgent)
		ferry_cond_wait_until(&t->changed, &t->lock,
				      ferry_now_ns() + LOOK_NS);
	all = t->in.here == t->in.data + t->in.urgent || t->end.quit ||
	      t->end.why.code;
	pthread_mutex_unlock(&t->lock);
	return all;
}

int ferry_return_resume(struct ferry_target *t, struct ferry_err *e)
{
	uint64_t until = ferry_now_ns() + FERRY_NS_PER_MS *
			 ferry_param(&t->params, FERRY_P_TIMEOUT);

	while (!channels_here(t))
		if (ferry_now_ns() > until)
			return ferry_err_set(e, FERRY_E_TIMEOUT, 0, "not all "
					     "data and urgent channels came "
					     "back");
	if (ferry_answer_say(&t->in.answer, FERRY_RP_RESUME_ACK, 1, e))
		return -1;
	t->returning = false;
	ferry_verify_restart(t);
	ferry_status_advance(&t->status, FERRY_STATE_POSTCOPY_RECOVER,
			     FERRY_STATE_POSTCOPY_ACTIVE);
	return ferry_fault_ask_again(&t->in.fault, e);
}
