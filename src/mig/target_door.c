/* SPDX-License-Identifier: MIT */
/*
 * The door: new connections, who they are, and whether they may come in.
 *
 * One thread accepts; each new connection is classified on a short-lived
 * thread of its own with a timeout, so that a silent or slow one never holds
 * up another.  They are few: when all places are taken the oldest visitor is
 * shown out.  A stranger costs a log line and changes nothing.
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

/* Only one may try at a time; false when somebody is in, or being let in. */
static bool take_main(struct ferry_target *t)
{
	bool mine;

	pthread_mutex_lock(&t->lock);
	mine = !t->taken && !t->quit;
	if (mine)
		t->taken = true;
	pthread_mutex_unlock(&t->lock);
	return mine;
}

static void untake_main(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	t->taken = false;
	pthread_mutex_unlock(&t->lock);
}

/* The reader goes on with it. */
static void main_arrived(struct ferry_target *t, struct ferry_inbuf *in,
			 enum ferry_dialect dialect)
{
	uint32_t ms = (uint32_t)ferry_param(&t->params, FERRY_P_TIMEOUT);

	ferry_chan_set_name(in->chan, "main");
	/* A QEMU has no heartbeat: it may be silent for as long as it likes. */
	in->chan->ops->set_timeout(in->chan, dialect == FERRY_DIALECT_FERRY ?
				   ms : 0, ms);
	pthread_mutex_lock(&t->lock);
	t->dialect = dialect;
	t->main = in->chan;
	t->main_in = *in;
	*in = (struct ferry_inbuf){ 0 };
	t->arrived = true;
	if (t->quit || t->ended)	/* too late: nobody will read it */
		t->main->ops->shutdown(t->main);
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
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
	    ferry_place_begin(&in->place, false, e))
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

static void forget(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	free(t->in.receiver);
	t->in.receiver = NULL;
	t->in.data = t->in.urgent = 0;
	memset(t->session, 0, sizeof(t->session));
	pthread_mutex_unlock(&t->lock);
	untake_main(t);
}

static int admit_main(struct ferry_target *t, struct ferry_inbuf *in,
		      const struct ferry_channel_head *head,
		      struct ferry_err *e)
{
	struct ferry_hello theirs = { 0 };
	struct ferry_err ignored;
	uint64_t taken = 0;
	int rc;

	if (ferry_greet_read_hello(in, false, &theirs, e))
		return -1;
	if (!take_main(t)) {
		ferry_hello_fini(&theirs);
		ferry_err_set(e, FERRY_E_STATE, 0,
			      "another migration is coming in already");
		(void)!answer(t, in->chan, head, 0, e, &ignored);
		return -1;
	}
	rc = ferry_channel_take(head, FERRY_FEATURES_CAN, &taken, e);
	if (!rc)
		rc = prepare(t, head, &theirs, e);
	ferry_hello_fini(&theirs);
	if (rc)
		(void)!answer(t, in->chan, head, 0, e, &ignored);
	else
		rc = answer(t, in->chan, head, taken, NULL, e);
	if (rc) {
		forget(t);
		return -1;
	}
	main_arrived(t, in, FERRY_DIALECT_FERRY);
	return 0;
}

static int admit_qemu(struct ferry_target *t, struct ferry_inbuf *in,
		      struct ferry_err *e)
{
	if (!take_main(t))
		return ferry_err_set(e, FERRY_E_STATE, 0, "another migration "
				     "is coming in already");
	if (ferry_place_begin(&t->in.place, false, e)) {
		untake_main(t);
		return -1;
	}
	main_arrived(t, in, FERRY_DIALECT_QEMU);
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
	r = place_for(t, h);
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

static int classify(struct ferry_target *t, struct ferry_inbuf *in,
		    struct ferry_err *e)
{
	const uint8_t *first = ferry_inbuf_need(in, FERRY_CONN_KIND_WIRE, e);
	struct ferry_channel_head head;

	if (!first)
		return -1;
	switch (ferry_conn_kind(first)) {
	case FERRY_CONN_FERRY:
		if (ferry_greet_read_head(in, false, &head, e))
			return -1;
		return head.type == FERRY_CHANNEL_MAIN ?
		       admit_main(t, in, &head, e) :
		       admit_other(t, in, &head, e);
	case FERRY_CONN_QEMU_MAIN:
		return admit_qemu(t, in, e);
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
			     "%02x %02x", first[0], first[1], first[2],
			     first[3]);
}

void ferry_door_admit(struct ferry_target *t, struct ferry_chan *chan)
{
	uint32_t ms = (uint32_t)ferry_param(&t->params, FERRY_P_TIMEOUT);
	struct ferry_inbuf in = { 0 };
	struct ferry_err err = { 0 };

	chan->ops->set_timeout(chan, ms, ms);
	if (ferry_inbuf_init(&in, chan, FERRY_GREET_BUF_BYTES, &err) ||
	    classify(t, &in, &err)) {
		ferry_log(&t->status.log, FERRY_LOG_WARN,
			  "turned a connection away: %s", err.msg);
		/* Not taken over by anybody. */
		if (in.chan || !in.data)
			ferry_chan_close(chan);
		ferry_inbuf_fini(&in);
	}
}

static void visit(void *arg)
{
	struct ferry_visitor *v = arg;
	struct ferry_chan *chan = v->chan;

	ferry_door_admit(v->target, chan);
	atomic_store(&v->done, true);
}

static void show_out(struct ferry_visitor *v)
{
	ferry_thread_join(&v->thread);
	v->chan = NULL;
}

static struct ferry_visitor *free_place(struct ferry_target *t)
{
	struct ferry_visitor *oldest = NULL;

	for (size_t i = 0; i < FERRY_LEN(t->door.visitor); i++) {
		struct ferry_visitor *v = &t->door.visitor[i];

		if (v->chan && atomic_load(&v->done))
			show_out(v);
		if (!v->chan)
			return v;
		if (!oldest || v->since_ns < oldest->since_ns)
			oldest = v;
	}
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
	if (v->chan) {
		/* All places are taken by visitors who say nothing. */
		ferry_chan_close(chan);
		return;
	}
	v->target = t;
	v->chan = chan;
	v->since_ns = ferry_now_ns();
	atomic_store(&v->done, false);
	if (ferry_thread_start(&v->thread, "ferry-visitor", visit, v, &err)) {
		ferry_chan_close(chan);
		v->chan = NULL;
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
		if (d->visitor[i].chan)
			show_out(&d->visitor[i]);
	if (d->wake_fd >= 0)
		close(d->wake_fd);
	d->wake_fd = -1;
	ferry_listener_close(d->listener);
	d->listener = NULL;
}
