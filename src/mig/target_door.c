/* SPDX-License-Identifier: MIT */
/*
 * The door: new connections, who they are, and whether they may come in.
 *
 * One thread accepts; each new connection is classified on a short-lived
 * thread of its own with a timeout, so that a silent or slow one never holds
 * up another.  They are few: when all places are taken, the oldest of those
 * that have not said who they are is shown out.  A stranger costs a log line
 * and changes nothing.
 */
#include "mig/target_impl.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "wire/kind.h"

/* ---- the main connection --------------------------------------------------------- */

/* Only one may try at a time; -1 when somebody is in, or being let in, or when
 * nobody will be any more. */
static int take_main(struct ferry_target *t, struct ferry_err *e)
{
	int rc = 0;

	pthread_mutex_lock(&t->lock);
	if (t->quit) {
		*e = t->why;
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
	in->chan->ops->set_timeout(in->chan, dialect == FERRY_DIALECT_FERRY ?
				   ms : 0, ms);
	pthread_mutex_lock(&t->lock);
	t->dialect = dialect;
	t->features = features;
	t->main = in->chan;
	t->main_in = *in;
	*in = (struct ferry_inbuf){ 0 };
	/* Between ferries the way back is open since the answer. */
	if (dialect == FERRY_DIALECT_FERRY)
		ferry_answer_open(&t->in.answer, t->main, dialect);
	t->arrived = true;
	late = t->quit || t->ended;
	why = t->why;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	if (late) {	/* nobody will read it */
		ferry_answer_give_up(&t->in.answer, why.msg);
		t->main->ops->shutdown(t->main);
	}
}

static int answer(struct ferry_target *t, struct ferry_chan *chan,
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
	    h->urgent > FERRY_URGENT_CHANNELS_MAX || h->device)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%u data, %u urgent and %u device "
				     "channels cannot be had here", h->data,
				     h->urgent, h->device);
	return 0;
}

/* Memory is emptied now, so that pages may come as soon as we have agreed. */
static int prepare(struct ferry_target *t,
		   const struct ferry_channel_head *head,
		   const struct ferry_hello *theirs, struct ferry_err *e)
{
	struct ferry_inflow *in = &t->in;

	if (check_channels(theirs, e) || compare(t, theirs, e) ||
	    ferry_place_begin(&in->place, e))
		return -1;
	in->receiver = calloc(theirs->data + (size_t)theirs->urgent,
			      sizeof(*in->receiver));
	if (!in->receiver)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "receivers");
	pthread_mutex_lock(&t->lock);
	in->data = theirs->data;
	in->urgent = theirs->urgent;
	memcpy(t->session, head->session, sizeof(t->session));
	pthread_mutex_unlock(&t->lock);
	return 0;
}

/* Caller holds the lock. */
static void forget_session(struct ferry_target *t)
{
	free(t->in.receiver);
	t->in.receiver = NULL;
	t->in.data = t->in.urgent = t->in.here = 0;
	memset(t->session, 0, sizeof(t->session));
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
	if (t->quit) {
		*e = t->why;
	} else {
		main = t->main;
		t->main = NULL;
		t->arrived = t->ended = t->given_up = false;
		t->why = (struct ferry_err){ 0 };
		forget_session(t);
	}
	pthread_mutex_unlock(&t->lock);
	return main;
}

int ferry_door_dismiss(struct ferry_target *t, struct ferry_err *e)
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
	ferry_map_fini(&in->map);
	if (ferry_map_init(&in->map, &t->vm->mem, e))
		return -1;
	untake_main(t);
	return 0;
}

/* Takes the buffer when it succeeds. */
/*
 * Without userfaultfd there is no postcopy here.  A source that must have it is
 * told what to do; any other hears of it (in a verdict that accepts) and goes
 * on by precopy.
 */
static int check_postcopy(struct ferry_target *t,
			  const struct ferry_channel_head *head,
			  uint64_t *taken, struct ferry_err *e,
			  struct ferry_err *note)
{
	struct ferry_err why = { 0 };

	if (!ferry_place_can_listen(&t->in.place, &why))
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

static int admit_main(struct ferry_target *t, struct ferry_inbuf *in,
		      const struct ferry_channel_head *head,
		      const struct ferry_hello *theirs, struct ferry_err *e)
{
	struct ferry_err ignored, note = { 0 };
	uint64_t taken = 0;
	int rc;

	if (take_main(t, e)) {
		(void)!answer(t, in->chan, head, 0, e, &ignored);
		return -1;
	}
	rc = ferry_channel_take(head, FERRY_FEATURES_CAN, &taken, e);
	if (!rc)
		rc = prepare(t, head, theirs, e);
	if (!rc)
		rc = check_postcopy(t, head, &taken, e, &note);
	if (rc)
		(void)!answer(t, in->chan, head, 0, e, &ignored);
	else
		rc = answer(t, in->chan, head, taken, &note, e);
	if (rc) {
		forget(t);
		return -1;
	}
	main_arrived(t, in, FERRY_DIALECT_FERRY, taken);
	return 0;
}

static int admit_qemu(struct ferry_target *t, struct ferry_inbuf *in,
		      const struct ferry_config *c, struct ferry_err *e)
{
	if (ferry_target_check_name(t, c, e))
		return -1;
	if (take_main(t, e))
		return -1;
	if (ferry_place_begin(&t->in.place, e)) {
		untake_main(t);
		return -1;
	}
	main_arrived(t, in, FERRY_DIALECT_QEMU, 0);
	return 0;
}

/* ---- other connections -------------------------------------------------------------- */

static void receiver_failed(void *arg, const struct ferry_err *why)
{
	ferry_target_failed(arg, why);
}

static struct ferry_receiver *
place_for(struct ferry_target *t, const struct ferry_channel_head *h)
{
	struct ferry_inflow *in = &t->in;

	if (!in->receiver || memcmp(h->session, t->session, sizeof(h->session)))
		return NULL;
	if (h->type == FERRY_CHANNEL_DATA && h->index < in->data)
		return &in->receiver[h->index];
	if (h->type == FERRY_CHANNEL_URGENT && h->index < in->urgent)
		return &in->receiver[in->data + h->index];
	return NULL;
}

/* The main connection has its answer, but may not have been let in quite yet;
 * if it never is, there are no receivers.  Caller holds the lock. */
static struct ferry_receiver *
await_place(struct ferry_target *t, const struct ferry_channel_head *h)
{
	struct ferry_receiver *r;

	while ((r = place_for(t, h)) && !t->arrived && !t->quit)
		pthread_cond_wait(&t->changed, &t->lock);
	return r;
}

/* Takes the buffer and its channel when it gets as far as to a receiver. */
static int admit_other(struct ferry_target *t, struct ferry_inbuf *in,
		       const struct ferry_channel_head *h,
		       struct ferry_err *e)
{
	uint32_t ms = (uint32_t)ferry_param(&t->params, FERRY_P_TIMEOUT);
	struct ferry_receiver *r;
	int rc;

	ferry_chan_set_name(in->chan, "%s %u", ferry_channel_type_name(h->type),
			    h->index);
	pthread_mutex_lock(&t->lock);
	r = await_place(t, h);
	if (!r || r->chan || t->quit || t->ended) {
		rc = ferry_err_set(e, FERRY_E_PROTO, 0,
				   "channel %s %u belongs to no migration "
				   "that is coming in",
				   ferry_channel_type_name(h->type), h->index);
	} else {
		r->gate = &t->in.gate;
		r->place = &t->in.place;
		r->failed = receiver_failed;
		r->arg = t;
		/* Pages come when they come: silence is for main to judge. */
		in->chan->ops->set_timeout(in->chan, 0, ms);
		rc = ferry_receiver_start(r, in, e);
		t->in.here++;
		pthread_cond_broadcast(&t->changed);
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

/* ---- visitors ------------------------------------------------------------------------ */

/* What a connection has said of itself. */
struct introduction {
	enum ferry_conn_kind kind;
	uint8_t		 first[FERRY_CONN_KIND_WIRE];
	struct ferry_channel_head head;	/* FERRY */
	struct ferry_hello hello;	/* FERRY, main */
	struct ferry_config config;	/* QEMU_MAIN */
};

/* All that has to be said before anything is decided: reading it may take as
 * long as the peer likes. */
static int hear(struct ferry_inbuf *in, struct introduction *i,
		struct ferry_err *e)
{
	const uint8_t *first = ferry_inbuf_need(in, sizeof(i->first), e);

	if (!first)
		return -1;
	memcpy(i->first, first, sizeof(i->first));
	i->kind = ferry_conn_kind(first);
	if (i->kind == FERRY_CONN_QEMU_MAIN)
		return ferry_stream_open(in, &i->config, e);
	if (i->kind != FERRY_CONN_FERRY)
		return 0;
	if (ferry_greet_read_head(in, false, &i->head, e))
		return -1;
	return i->head.type == FERRY_CHANNEL_MAIN ?
	       ferry_greet_read_hello(in, false, &i->hello, e) : 0;
}

static int decide(struct ferry_target *t, struct ferry_inbuf *in,
		  const struct introduction *i, struct ferry_err *e)
{
	switch (i->kind) {
	case FERRY_CONN_FERRY:
		return i->head.type == FERRY_CHANNEL_MAIN ?
		       admit_main(t, in, &i->head, &i->hello, e) :
		       admit_other(t, in, &i->head, e);
	case FERRY_CONN_QEMU_MAIN:
		return admit_qemu(t, in, &i->config, e);
	case FERRY_CONN_QEMU_MULTIFD:
	case FERRY_CONN_QEMU_RECOVERY:
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "a multifd or recovery connection of a "
				     "QEMU is not supported here");
	case FERRY_CONN_UNKNOWN:
		break;
	}
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "this is no migration: it begins with %02x %02x "
			     "%02x %02x", i->first[0], i->first[1],
			     i->first[2], i->first[3]);
}

/* Who has said all may stay: from here on nobody shows it out. */
static void heard(struct ferry_target *t, struct ferry_visitor *v)
{
	if (!v)
		return;
	pthread_mutex_lock(&t->lock);
	v->chan = NULL;
	pthread_mutex_unlock(&t->lock);
}

static int admit(struct ferry_target *t, struct ferry_chan *chan,
		 struct ferry_visitor *v, struct ferry_err *e)
{
	uint32_t ms = (uint32_t)ferry_param(&t->params, FERRY_P_TIMEOUT);
	struct introduction i = { 0 };
	struct ferry_inbuf in = { 0 };
	int rc;

	chan->ops->set_timeout(chan, ms, ms);
	rc = ferry_inbuf_init(&in, chan, FERRY_GREET_BUF_BYTES, e);
	if (!rc)
		rc = hear(&in, &i, e);
	heard(t, v);
	if (!rc)
		rc = decide(t, &in, &i, e);
	ferry_hello_fini(&i.hello);
	if (!rc)
		return 0;
	ferry_log(&t->status.log, FERRY_LOG_WARN,
		  "turned a connection away: %s", e->msg);
	if (in.chan)	/* nobody has taken it */
		ferry_chan_close(chan);
	ferry_inbuf_fini(&in);
	return -1;
}

int ferry_door_admit(struct ferry_target *t, struct ferry_chan *chan,
		     struct ferry_err *e)
{
	return admit(t, chan, NULL, e);
}

static void visit(void *arg)
{
	struct ferry_visitor *v = arg;
	struct ferry_err err = { 0 };

	(void)!admit(v->target, v->chan, v, &err);
	atomic_store(&v->done, true);
}

/* Who is still silent gets no more time. */
static void show_out(struct ferry_target *t, struct ferry_visitor *v)
{
	pthread_mutex_lock(&t->lock);
	if (v->chan)
		v->chan->ops->shutdown(v->chan);
	pthread_mutex_unlock(&t->lock);
	ferry_thread_join(&v->thread);
}

static bool is_silent(struct ferry_target *t, struct ferry_visitor *v)
{
	bool silent;

	pthread_mutex_lock(&t->lock);
	silent = v->chan != NULL;
	pthread_mutex_unlock(&t->lock);
	return silent;
}

static struct ferry_visitor *free_place(struct ferry_target *t)
{
	struct ferry_visitor *oldest = NULL;

	for (size_t i = 0; i < FERRY_LEN(t->door.visitor); i++) {
		struct ferry_visitor *v = &t->door.visitor[i];

		if (v->thread.started && !atomic_load(&v->done)) {
			if (is_silent(t, v) &&
			    (!oldest || v->since_ns < oldest->since_ns))
				oldest = v;
			continue;
		}
		ferry_thread_join(&v->thread);
		return v;
	}
	/* If none is silent, all will be done in a moment. */
	if (!oldest)
		oldest = &t->door.visitor[0];
	show_out(t, oldest);
	return oldest;
}

static void let_in(struct ferry_target *t)
{
	struct ferry_err err = { 0 };
	struct ferry_chan *chan = ferry_listener_accept(t->door.listener,
							&err);
	struct ferry_visitor *v;

	if (!chan)
		return;
	ferry_chan_set_name(chan, "new");
	v = free_place(t);
	v->target = t;
	v->chan = chan;
	v->since_ns = ferry_now_ns();
	atomic_store(&v->done, false);
	if (ferry_thread_start(&v->thread, "ferry-visitor", visit, v, &err)) {
		v->chan = NULL;
		ferry_chan_close(chan);
	}
}

static void door_main(void *arg)
{
	struct ferry_target *t = arg;
	struct pollfd fds[2] = {
		{ .fd = ferry_listener_fd(t->door.listener),
		  .events = POLLIN },
		{ .fd = t->door.wake_fd, .events = POLLIN },
	};

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents)
			return;
		if (fds[0].revents)
			let_in(t);
	}
}

int ferry_door_open(struct ferry_target *t, const struct ferry_uri *u,
		    struct ferry_err *e)
{
	struct ferry_door *d = &t->door;

	d->listener = ferry_listen(u, e);
	if (!d->listener)
		return -1;
	ferry_listener_uri(d->listener, d->uri, sizeof(d->uri));
	d->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (d->wake_fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "eventfd");
	return ferry_thread_start(&d->thread, "ferry-accept", door_main, t, e);
}

void ferry_door_close(struct ferry_target *t)
{
	struct ferry_door *d = &t->door;
	uint64_t one = 1;

	if (d->thread.started) {
		(void)!write(d->wake_fd, &one, sizeof(one));
		ferry_thread_join(&d->thread);
	}
	for (size_t i = 0; i < FERRY_LEN(d->visitor); i++)
		show_out(t, &d->visitor[i]);
	if (d->wake_fd >= 0)
		close(d->wake_fd);
	d->wake_fd = -1;
	ferry_listener_close(d->listener);
	d->listener = NULL;
}
