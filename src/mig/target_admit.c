/* SPDX-License-Identifier: MIT */
/*
 * Who may come in: one source at a time as main, and the data and urgent
 * channels that belong to it.  What a source finds here fits what it said of
 * itself, or it is answered why not.
 *
 * Threads: the door's, one for each connection; ferry_admit_next() the
 * reader's.
 */
#include "mig/target_impl.h"

#include <stdlib.h>
#include <string.h>

#include "wire/text.h"

/* ---- the main connection --------------------------------------------------------- */

/* Only one may try at a time; -1 when somebody is in, or being let in, or when
 * nobody will be any more. */
static int take_main(struct ferry_target *t, struct ferry_err *e)
{
	int rc = 0;

	pthread_mutex_lock(&t->lock);
	if (t->end.quit) {
		*e = t->end.why;
		rc = -1;
	} else if (t->taken) {
		rc = ferry_err_set(e, FERRY_E_STATE, 0,
				   "another migration is coming in already");
	}
	t->taken = true;
	pthread_mutex_unlock(&t->lock);
	return rc;
}

static void untake_main(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	t->taken = false;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

/* The reader goes on with it. */
static void main_arrived(struct ferry_target *t, struct ferry_inbuf *in,
			 enum ferry_dialect dialect, uint64_t features)
{
	uint32_t ms = (uint32_t)ferry_param(&t->params, FERRY_P_TIMEOUT);
	struct ferry_err why;
	bool late;

	ferry_chan_set_name(in->chan, "main");
	/* A QEMU has no heartbeat: it may be silent for as long as it likes. */
	if (dialect == FERRY_DIALECT_FERRY)
		in->chan->ops->set_timeout(in->chan, ms, ms);
	else
		in->chan->ops->set_timeout(in->chan, 0,
					   ferry_patience_ms(&t->params));
	pthread_mutex_lock(&t->lock);
	t->dialect = dialect;
	t->features = features;
	t->main = in->chan;
	t->main_in = *in;
	*in = (struct ferry_inbuf){ 0 };
	ferry_inbuf_count(&t->main_in, &t->in.place.received_bytes);
	/* Between ferries the way back is open since the answer. */
	if (dialect == FERRY_DIALECT_FERRY)
		ferry_answer_open(&t->in.answer, t->main, dialect);
	t->arrived = true;
	late = t->end.quit || t->end.done;
	why = t->end.why;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	if (late) {	/* nobody will read it */
		ferry_answer_give_up(&t->in.answer, why.msg);
		t->main->ops->shutdown(t->main);
	}
}

int ferry_admit_answer(struct ferry_target *t, struct ferry_chan *chan,
		       const struct ferry_channel_head *offer, uint64_t taken,
		       const struct ferry_err *verdict, struct ferry_err *e)
{
	struct ferry_channel_head head = {
		.answer = true, .type = FERRY_CHANNEL_MAIN, .features = taken,
	};
	struct ferry_hello ours;
	int rc = ferry_greet_describe(t->vm, &ours, e);

	memcpy(head.session, offer->session, sizeof(head.session));
	ours.has_verdict = true;
	ours.verdict = verdict ? (uint32_t)verdict->code : 0;
	if (verdict)
		memcpy(ours.verdict_text, verdict->msg, sizeof(verdict->msg));
	if (!rc)
		rc = ferry_greet_send(chan, &head, &ours, e);
	ferry_hello_fini(&ours);
	return rc;
}

/* Does what the source described fit what we are? */
static int compare(struct ferry_target *t, const struct ferry_hello *theirs,
		   struct ferry_err *e)
{
	struct ferry_hello ours;
	int rc = ferry_greet_describe(t->vm, &ours, e);

	if (!rc)
		rc = ferry_hello_check(theirs, &ours, e);
	ferry_hello_fini(&ours);
	return rc;
}

static int check_channels(const struct ferry_hello *h, struct ferry_err *e)
{
	if (!h->has_channels || !h->data ||
	    h->data > FERRY_DATA_CHANNELS_MAX ||
	    h->urgent > FERRY_URGENT_CHANNELS_MAX ||
	    (h->device && !h->bulks))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%u data, %u urgent and %u device "
				     "channels cannot be had here", h->data,
				     h->urgent, h->device);
	return 0;
}

/* Memory is emptied now, so that pages may come as soon as we have agreed. */
static int prepare(struct ferry_target *t,
		   const struct ferry_channel_head *head,
		   const struct ferry_bond *bond,
		   const struct ferry_hello *theirs, struct ferry_err *e)
{
	struct ferry_inflow *in = &t->in;

	if (check_channels(theirs, e) ||
	    (t->vm->adopt && ferry_adopt_ferry(t, theirs, e)) ||
	    compare(t, theirs, e) ||
	    ferry_target_bulk_expect(t, theirs, e) ||
	    ferry_place_begin(&in->place, e))
		return -1;
	in->receiver = calloc(theirs->data + (size_t)theirs->urgent +
			      theirs->device, sizeof(*in->receiver));
	if (!in->receiver)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "receivers");
	pthread_mutex_lock(&t->lock);
	in->data = theirs->data;
	in->urgent = theirs->urgent;
	in->device = theirs->device;
	memcpy(t->session, head->session, sizeof(t->session));
	t->bond = *bond;
	pthread_mutex_unlock(&t->lock);
	return 0;
}

/* With TLS: between us and who opened this main. */
static int bind_main(struct ferry_target *t, struct ferry_chan *main,
		     const struct ferry_channel_head *head,
		     struct ferry_bond *bond, struct ferry_err *e)
{
	if (!t->tls)
		return 0;
	return ferry_bond_make(bond, main, head->session, e) ||
	       ferry_bond_check(bond, main, head, e) ? -1 : 0;
}

/* Caller holds the lock. */
static void forget_session(struct ferry_target *t)
{
	free(t->in.receiver);
	t->in.receiver = NULL;
	t->in.data = t->in.urgent = t->in.device = t->in.here = 0;
	ferry_bulk_in_forget(&t->bulk);
	memset(t->session, 0, sizeof(t->session));
	explicit_bzero(&t->bond, sizeof(t->bond));
}

static void forget(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	forget_session(t);
	pthread_mutex_unlock(&t->lock);
	untake_main(t);
}

/* Main is the caller's from here on; NULL when somebody has called quits, who
 * may be using it. */
static struct ferry_chan *take_back_main(struct ferry_target *t,
					 struct ferry_err *e)
{
	struct ferry_chan *main = NULL;

	pthread_mutex_lock(&t->lock);
	if (t->end.quit) {
		*e = t->end.why;
	} else {
		main = t->main;
		t->main = NULL;
		t->arrived = t->end.done = t->end.given_up = false;
		t->end.why = (struct ferry_err){ 0 };
		forget_session(t);
	}
	pthread_mutex_unlock(&t->lock);
	return main;
}

int ferry_admit_next(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_chan *main = take_back_main(t, e);
	struct ferry_inflow *in = &t->in;

	if (!main)
		return -1;
	ferry_inbuf_fini(&t->main_in);
	ferry_chan_close(main);
	if (in->body.pages)
		ferry_rambody_fini(&in->body);
	in->body = (struct ferry_rambody){ 0 };
	ferry_marks_reopen(&in->gate);
	ferry_place_wait_again(&in->place);
	/* Memory is emptied for whoever is next; so is what we know of it. */
	if (t->vm->adopt) {
		ferry_preempt_stop(t);
		ferry_lanes_stop(&t->adopted.lanes);
		untake_main(t);
		return 0;
	}
	ferry_map_fini(&in->map);
	if (ferry_map_init(&in->map, &t->vm->mem, e))
		return -1;
	untake_main(t);
	return 0;
}

/*
 * Without userfaultfd there is no postcopy here, nor with a device that cannot
 * wait for pages.  A source that must have it is
 * told what to do; any other hears of it (in a verdict that accepts) and goes
 * on by precopy.
 */
static int check_postcopy(struct ferry_target *t,
			  const struct ferry_channel_head *head,
			  uint64_t *taken, struct ferry_err *e,
			  struct ferry_err *note)
{
	struct ferry_err why = { 0 };

	if (!ferry_place_can_listen(&t->in.place, &why) &&
	    !ferry_foreign_can(t->vm, FERRY_FOREIGN_FAULT, &why))
		return 0;
	if (head->mandatory & FERRY_FEATURE_POSTCOPY) {
		*e = why;
		return ferry_err_wrap(e, "no postcopy");
	}
	*taken &= ~(uint64_t)FERRY_FEATURE_POSTCOPY;
	*note = why;
	note->code = FERRY_E_OK;
	return 0;
}

/* Who has one connection for all is never found again. */
static uint64_t can(const struct ferry_target *t)
{
	uint64_t can = FERRY_FEATURES_CAN;

	if (t->vm->adopt)
		can &= ~(uint64_t)(FERRY_FEATURE_VERIFY | FERRY_FEATURE_BULK |
				   FERRY_FEATURE_SURVIVE);
	if (!t->others_may_come || (t->vm->adopt && !t->vm->how.recover))
		can &= ~(uint64_t)FERRY_FEATURE_RECOVER;
	if (!t->vm->ops.run_until)
		can &= ~(uint64_t)FERRY_FEATURE_FENCE;
	if (!t->tls)
		can &= ~(uint64_t)FERRY_FEATURE_BOUND;
	return can;
}

static int check_header(struct ferry_target *t, struct ferry_err *e)
{
	if (ferry_param(&t->params, FERRY_P_CHANNEL_HEADER))
		return 0;
	return ferry_err_set(e, FERRY_E_MISMATCH, 0, "channel-header is off "
			     "at the target, and on at the source");
}

int ferry_admit_main(struct ferry_target *t, struct ferry_inbuf *in,
		     const struct ferry_channel_head *head,
		     const struct ferry_hello *theirs, struct ferry_err *e)
{
	struct ferry_err ignored, note = { 0 };
	struct ferry_bond bond = { 0 };
	uint64_t taken = 0;
	int rc;

	if (head->mandatory & FERRY_FEATURE_RECOVER)
		return ferry_return_admit(t, in, head, theirs, e);
	if (take_main(t, e)) {
		(void)!ferry_admit_answer(t, in->chan, head, 0, e, &ignored);
		return -1;
	}
	rc = check_header(t, e);
	if (!rc)
		rc = ferry_channel_take(head, can(t), &taken, e);
	if (!rc)
		rc = bind_main(t, in->chan, head, &bond, e);
	if (!rc)
		rc = prepare(t, head, &bond, theirs, e);
	if (!rc)
		rc = check_postcopy(t, head, &taken, e, &note);
	if (!rc && (taken & FERRY_FEATURE_VERIFY))
		rc = ferry_verify_begin(t, e);
	if (rc)
		(void)!ferry_admit_answer(t, in->chan, head, 0, e, &ignored);
	else
		rc = ferry_admit_answer(t, in->chan, head, taken, &note, e);
	if (rc) {
		forget(t);
		return -1;
	}
	main_arrived(t, in, FERRY_DIALECT_FERRY, taken);
	return 0;
}

int ferry_admit_check_name(struct ferry_target *t,
			   const struct ferry_config *c, struct ferry_err *e)
{
	if (strcmp(c->machine, t->vm->name))
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "the VM is '%s' at the source and '%s' "
				     "here", FERRY_SHOW(c->machine),
				     t->vm->name);
	return 0;
}

int ferry_admit_qemu(struct ferry_target *t, struct ferry_inbuf *in,
		     const struct ferry_config *c, struct ferry_err *e)
{
	if (!t->vm->adopt && ferry_admit_check_name(t, c, e))
		return -1;
	if (take_main(t, e))
		return -1;
	if ((t->vm->adopt && ferry_adopt_qemu(t, c, e)) ||
	    ferry_place_begin(&t->in.place, e)) {
		untake_main(t);
		return -1;
	}
	main_arrived(t, in, FERRY_DIALECT_QEMU, 0);
	return 0;
}

int ferry_admit_lane(struct ferry_target *t, struct ferry_inbuf *in,
		     struct ferry_err *e)
{
	uint32_t ms = ferry_patience_ms(&t->params);

	if (!t->vm->how.multifd)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "a multifd "
				     "connection, which was not asked for "
				     "here%s", t->vm->adopt ?
				     ": say --multifd, as at the source" : "");
	in->chan->ops->set_timeout(in->chan, 0, ms);
	return ferry_lanes_admit(&t->adopted.lanes, in, e);
}

/* ---- other connections -------------------------------------------------------------- */

/* As recv/sums.h counts them. */
static unsigned number_of(const struct ferry_channel_head *h)
{
	return h->index + (h->type == FERRY_CHANNEL_DATA ? FERRY_SUMS_DATA :
							   FERRY_SUMS_URGENT);
}

/* Who waits for a page shall not wait for a stream as well. */
static uint32_t methods_of(const struct ferry_target *t,
			   const struct ferry_channel_head *h)
{
	return t->features & FERRY_FEATURE_COMPRESS &&
	       h->type == FERRY_CHANNEL_DATA ? FERRY_UNPACK_METHODS : 0;
}

static struct ferry_flow *flow_of(struct ferry_target *t,
				  const struct ferry_channel_head *h)
{
	if (h->type == FERRY_CHANNEL_DEVICE)
		return NULL;
	return &t->in.flow[h->type == FERRY_CHANNEL_DATA ? h->index :
			   FERRY_DATA_CHANNELS_MAX + h->index];
}

static void receiver_failed(void *arg, struct ferry_receiver *r,
			    const struct ferry_err *why)
{
	struct ferry_target *t = arg;

	/* What it was for is here. */
	if (r->no_pages && ferry_bulk_in_is_done(&t->bulk) &&
	    ferry_err_is_link(why))
		return;
	if (!ferry_survive_loss(t, r, why))
		ferry_target_failed(t, why);
}

static struct ferry_receiver *
place_for(struct ferry_target *t, const struct ferry_channel_head *h)
{
	struct ferry_inflow *in = &t->in;

	if (!in->receiver || t->recovery.waiting ||
	    !ferry_session_same(h->session, t->session))
		return NULL;
	if (h->type == FERRY_CHANNEL_DATA && h->index < in->data)
		return &in->receiver[h->index];
	if (h->type == FERRY_CHANNEL_URGENT && h->index < in->urgent)
		return &in->receiver[in->data + h->index];
	if (h->type == FERRY_CHANNEL_DEVICE && h->index < in->device)
		return &in->receiver[in->data + in->urgent + h->index];
	return NULL;
}

/* Packets of bulk devices come on channels of their own, or among pages. */
static void let_devices_in(struct ferry_target *t, struct ferry_receiver *r,
			   uint16_t type)
{
	r->no_pages = type == FERRY_CHANNEL_DEVICE;
	if (r->no_pages || (type == FERRY_CHANNEL_DATA && !t->in.device &&
			    t->bulk.loaders))
		r->sink = &t->sink;
}

/* The main connection has its answer, but may not have been let in quite yet;
 * if it never is, there are no receivers.  Caller holds the lock. */
static struct ferry_receiver *
await_place(struct ferry_target *t, const struct ferry_channel_head *h)
{
	struct ferry_receiver *r;

	while ((r = place_for(t, h)) && !t->arrived && !t->end.quit)
		pthread_cond_wait(&t->changed, &t->lock);
	return r;
}

int ferry_admit_other(struct ferry_target *t, struct ferry_inbuf *in,
		      const struct ferry_channel_head *h, struct ferry_err *e)
{
	uint32_t ms = (uint32_t)ferry_param(&t->params, FERRY_P_TIMEOUT);
	struct ferry_receiver *r;
	int rc;

	ferry_chan_set_name(in->chan, "%s %u", ferry_channel_type_name(h->type),
			    h->index);
	pthread_mutex_lock(&t->lock);
	r = await_place(t, h);
	/* In this order: who has ended may be closing it. */
	if (t->end.quit || t->end.done || !r || r->chan) {
		rc = ferry_err_set(e, FERRY_E_PROTO, 0,
				   "channel %s %u belongs to no migration "
				   "that is coming in",
				   ferry_channel_type_name(h->type), h->index);
	} else if (t->tls && ferry_bond_check(&t->bond, in->chan, h, e)) {
		rc = -1;
	} else {
		r->gate = &t->in.gate;
		r->place = &t->in.place;
		r->number = number_of(h);
		r->methods = methods_of(t, h);
		r->flow = flow_of(t, h);
		r->failed = receiver_failed;
		r->arg = t;
		let_devices_in(t, r, h->type);
		/* Pages come when they come: silence is for main to judge. */
		in->chan->ops->set_timeout(in->chan, 0, ms);
		rc = ferry_receiver_start(r, in, e);
		t->in.here++;
		pthread_cond_broadcast(&t->changed);
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}
