/* SPDX-License-Identifier: MIT */
/*
 * The door: new connections, and who they say they are; whether they may come
 * in is target_admit.c's to say.
 *
 * One thread accepts; each new connection is classified on a short-lived
 * thread of its own with a timeout, so that a silent or slow one never holds
 * up another.  They are few: when all places are taken, the oldest of those
 * that have not said who they are is shown out.  A stranger costs a log line
 * and changes nothing.
 */
#include "mig/target_impl.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "wire/kind.h"

/* So long a connection that is none may take for its first octet. */
#define SILENT_MS	50

/* ---- visitors ------------------------------------------------------------------------ */

/* What a connection has said of itself. */
struct introduction {
	enum ferry_conn_kind kind;
	bool		 silent;	/* a preempt channel, by the order */
	uint8_t		 first[FERRY_CONN_KIND_WIRE];
	struct ferry_channel_head head;	/* FERRY */
	struct ferry_hello hello;	/* FERRY, main */
	struct ferry_config config;	/* QEMU_MAIN */
};

/*
 * A preempt channel says nothing of itself, and nothing at all before somebody
 * misses a page: it is what comes behind all the others, where one is wanted.
 */
static bool says_nothing(struct ferry_target *t, struct ferry_chan *chan)
{
	uint64_t until = ferry_now_ns() + FERRY_NS_PER_MS *
			 ferry_patience_ms(&t->params);

	if (!t->vm->how.preempt)
		return false;
	while (chan->ops->wait(chan, POLLIN, SILENT_MS) == 0 &&
	       ferry_now_ns() < until)
		if (ferry_preempt_wanted(t))
			return true;
	return false;
}

/* All that has to be said before anything is decided: reading it may take as
 * long as the peer likes. */
static int hear(struct ferry_target *t, struct ferry_inbuf *in,
		struct introduction *i, struct ferry_err *e)
{
	const uint8_t *first;

	if (says_nothing(t, in->chan)) {
		i->silent = true;
		return 0;
	}
	first = ferry_inbuf_need(in, sizeof(i->first), e);
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
	if (i->silent)
		return ferry_preempt_admit(t, in, e);
	switch (i->kind) {
	case FERRY_CONN_FERRY:
		return i->head.type == FERRY_CHANNEL_MAIN ?
		       ferry_admit_main(t, in, &i->head, &i->hello, e) :
		       ferry_admit_other(t, in, &i->head, e);
	case FERRY_CONN_QEMU_MAIN:
		return ferry_admit_qemu(t, in, &i->config, e);
	case FERRY_CONN_QEMU_MULTIFD:
		return ferry_admit_lane(t, in, e);
	case FERRY_CONN_QEMU_RECOVERY:
		return ferry_recover_admit(t, in, e);
	case FERRY_CONN_UNKNOWN:
		if (t->vm->how.preempt && ferry_preempt_wanted(t))
			return ferry_preempt_admit(t, in, e);
		break;
	}
	if (i->first[0] == 0x16 && i->first[1] == 0x03)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "the peer speaks "
				     "TLS, and tls-creds is not set here");
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

static void turn_away(struct ferry_target *t, const char *who,
		      const struct ferry_err *why)
{
	ferry_log(&t->status.log, FERRY_LOG_WARN,
		  "turned a connection away (%s): %s", who, why->msg);
}

/* Takes it, also when it is turned away. */
static struct ferry_chan *greet(struct ferry_target *t, struct ferry_chan *chan,
				struct ferry_visitor *v, struct ferry_err *e)
{
	struct ferry_chan *tls;

	if (!t->tls)
		return chan;
	tls = ferry_chan_tls(chan, t->tls, "", ferry_patience_ms(&t->params),
			     NULL, e);
	if (tls)
		return tls;
	heard(t, v);
	turn_away(t, chan->name, e);
	ferry_chan_close(chan);
	return NULL;
}

static int admit(struct ferry_target *t, struct ferry_chan *chan,
		 struct ferry_visitor *v, struct ferry_err *e)
{
	uint32_t ms = ferry_patience_ms(&t->params);
	struct introduction i = { 0 };
	struct ferry_inbuf in = { 0 };
	char who[sizeof(chan->name)];
	int rc;

	snprintf(who, sizeof(who), "%s", chan->name);
	chan = greet(t, chan, v, e);
	if (!chan)
		return -1;
	chan->ops->set_timeout(chan, ms, ms);
	rc = ferry_inbuf_init(&in, chan, FERRY_GREET_BUF_BYTES, e);
	if (!rc)
		rc = hear(t, &in, &i, e);
	heard(t, v);
	if (!rc)
		rc = decide(t, &in, &i, e);
	ferry_hello_fini(&i.hello);
	if (!rc)
		return 0;
	turn_away(t, who, e);
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

static void let_in(struct ferry_target *t, struct ferry_listener *l)
{
	struct ferry_err err = { 0 };
	struct ferry_chan *chan = ferry_listener_accept(l, &err);
	struct ferry_visitor *v;

	if (!chan)
		return;
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

/* Somebody has an order; false: to go. */
static bool take_order(struct ferry_target *t)
{
	struct ferry_door *d = &t->door;
	struct ferry_listener *old = NULL;
	bool closing;
	uint64_t n;

	(void)!read(d->wake_fd, &n, sizeof(n));
	pthread_mutex_lock(&t->lock);
	closing = d->closing;
	if (d->next && !closing) {
		old = d->also;
		d->also = d->next;
		d->next = NULL;
	}
	pthread_mutex_unlock(&t->lock);
	ferry_listener_close(old);
	return !closing;
}

static void door_main(void *arg)
{
	struct ferry_target *t = arg;
	struct ferry_door *d = &t->door;

	for (;;) {
		struct pollfd fds[3] = {
			{ .fd = d->wake_fd, .events = POLLIN },
			{ .fd = ferry_listener_fd(d->listener),
			  .events = POLLIN },
			{ .fd = d->also ? ferry_listener_fd(d->also) : -1,
			  .events = POLLIN },
		};

		if (poll(fds, 3, -1) < 0)
			continue;
		if (fds[1].revents)
			let_in(t, d->listener);
		if (fds[2].revents)
			let_in(t, d->also);
		if (fds[0].revents && !take_order(t))
			return;
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

static void wake(struct ferry_door *d)
{
	uint64_t one = 1;

	(void)!write(d->wake_fd, &one, sizeof(one));
}

int ferry_door_open_also(struct ferry_target *t, const struct ferry_uri *u,
			 struct ferry_err *e)
{
	struct ferry_door *d = &t->door;
	struct ferry_listener *old, *l;
	char uri[sizeof(d->uri)];

	if (!d->thread.started)		/* came by a descriptor */
		return ferry_door_open(t, u, e);
	l = ferry_listen(u, e);
	if (!l)
		return -1;
	ferry_listener_uri(l, uri, sizeof(uri));
	pthread_mutex_lock(&t->lock);
	old = d->next;
	d->next = l;
	pthread_mutex_unlock(&t->lock);
	ferry_listener_close(old);
	wake(d);
	ferry_status_event(&t->status, FERRY_EVENT_LISTENING, 0, uri);
	return 0;
}

void ferry_door_close(struct ferry_target *t)
{
	struct ferry_door *d = &t->door;

	if (d->thread.started) {
		pthread_mutex_lock(&t->lock);
		d->closing = true;
		pthread_mutex_unlock(&t->lock);
		wake(d);
		ferry_thread_join(&d->thread);
	}
	for (size_t i = 0; i < FERRY_LEN(d->visitor); i++)
		show_out(t, &d->visitor[i]);
	if (d->wake_fd >= 0)
		close(d->wake_fd);
	d->wake_fd = -1;
	ferry_listener_close(d->listener);
	ferry_listener_close(d->also);
	ferry_listener_close(d->next);
	d->listener = d->also = d->next = NULL;
}
