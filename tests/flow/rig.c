/* SPDX-License-Identifier: MIT */
/*
 * The rig: channels, the course of a migration, the verdict; see rig.h.
 */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "mig/source_test.h"
#include "mig/target_test.h"

/* ---- channels ------------------------------------------------------------------ */

static struct rig_counter *counter_of(struct ferry_chan *c)
{
	return (struct rig_counter *)(uintptr_t)c->ops;
}

static void note_hang_up(struct rig *r)
{
	uint64_t none = 0, octets[2];

	rig_carried(r, 0, octets);
	atomic_compare_exchange_strong(&r->heard, &none, octets[1] + 1);
}

static void noting_shutdown(struct ferry_chan *c)
{
	note_hang_up(counter_of(c)->rig);
	counter_of(c)->shutdown(c);
}

/* The engine closes its channels: note before that what they carried. */
static void counting_close(struct ferry_chan *c)
{
	struct rig_counter *k = counter_of(c);

	note_hang_up(k->rig);
	pthread_mutex_lock(&k->rig->closing);
	k->written = atomic_load(&c->written_bytes);
	k->read = atomic_load(&c->read_bytes);
	k->chan = NULL;
	pthread_mutex_unlock(&k->rig->closing);
	k->close(c);
}

void rig_carried(const struct rig *r, unsigned channel, uint64_t octets[2])
{
	const struct rig_counter *k = &r->counter[channel];

	octets[0] = k->chan ? atomic_load(&k->chan->written_bytes) : k->written;
	octets[1] = k->chan ? atomic_load(&k->chan->read_bytes) : k->read;
}

bool rig_has_hung_up(const struct rig *r)
{
	for (unsigned i = 0; i < r->channels; i++)
		if (r->counter[i].chan)
			return false;
	return true;
}

static void count(struct rig *r, struct ferry_chan *c, unsigned n)
{
	struct rig_counter *k = &r->counter[n];

	k->ops = *c->ops;
	k->close = c->ops->close;
	k->ops.close = counting_close;
	k->shutdown = c->ops->shutdown;
	k->ops.shutdown = noting_shutdown;
	k->rig = r;
	k->chan = c;
	c->ops = &k->ops;
}

struct offer {
	struct rig *rig;
	struct ferry_chan *chan;
};

static void *offer_main(void *arg)
{
	struct offer o = *(struct offer *)arg;

	free(arg);
	ferry_target_offer(o.rig->target, o.chan);
	return NULL;
}

static const struct ferry_fault *fault_of(const struct rig *r, unsigned n)
{
	if (r->cfg.fault_all ||
	    (r->cfg.has_fault && r->cfg.fault.channel == n))
		return &r->cfg.fault.fault;
	if (r->cfg.has_again && r->cfg.again.channel == n)
		return &r->cfg.again.fault;
	return NULL;
}

static struct ferry_chan *rig_dial(void *arg, enum ferry_channel_type type,
				   unsigned index, struct ferry_err *e)
{
	struct rig *r = arg;
	struct ferry_chan *end[2], *mine;
	struct offer *o = malloc(sizeof(*o));
	unsigned n;

	(void)type;
	(void)index;
	if (r->cfg.hook)
		r->cfg.hook(r, RIG_DIAL, r->channels);
	if (atomic_load(&r->apart)) {
		free(o);
		e->code = FERRY_E_IO;
		snprintf(e->msg, sizeof(e->msg), "the network is gone");
		return NULL;
	}
	pthread_mutex_lock(&r->dialling);
	n = r->channels;
	assert(o && n < RIG_CHANNELS_MAX);
	if (ferry_chan_pair(end, e))
		abort();
	mine = end[0];
	if (fault_of(r, n)) {
		mine = ferry_chan_fault(end[0], fault_of(r, n), e);
		assert(mine);
	}
	*o = (struct offer){ r->to, end[1] };
	count(r, mine, n);
	r->channels++;
	assert(!pthread_create(&r->offer[n], NULL, offer_main, o));
	pthread_mutex_unlock(&r->dialling);
	return mine;
}

/* ---- events --------------------------------------------------------------------- */

static void on_event(struct rig *r, enum rig_moment m,
		     const struct ferry_event *ev)
{
	bool at_source = ev->where == FERRY_WHERE_SOURCE;

	if (!!(ev->safe & FERRY_SAFE_SOURCE) != at_source ||
	    (ev->state == FERRY_STATE_COMPLETED &&
	     ev->where != FERRY_WHERE_TARGET))
		atomic_fetch_add(&r->odd_events, 1);
	if (r->cfg.hook && ev->type == FERRY_EVENT_STATE)
		r->cfg.hook(r, m, ev->state);
}

static void source_event(void *opaque, const struct ferry_event *ev)
{
	struct rig *r = opaque;

	on_event(r, RIG_SOURCE_EVENT, ev);
	/* A pass begins: this is owed after it, fast or slow as the writer's
	 * thread may be. */
	if (ev->type == FERRY_EVENT_PASS)
		rig_bulk_touch(&r->src, ev->pass);
	if (r->cfg.pass && ev->type == FERRY_EVENT_PASS)
		r->cfg.pass(r, ev->pass);
	if (r->cfg.restless && ev->type == FERRY_EVENT_PASS)
		rig_write_some(&r->src);
}

static void target_event(void *opaque, const struct ferry_event *ev)
{
	on_event(opaque, RIG_TARGET_EVENT, ev);
}

/* ---- the course of a migration ----------------------------------------------- */

static void must(int rc, const struct ferry_err *err)
{
	if (!rc)
		return;
	fprintf(stderr, "rig: %s\n", err ? err->msg : "?");
	abort();
}

static struct ferry_params *params(const char *const (*list)[2], size_t n,
				   bool recovers, const char *looks)
{
	struct ferry_params *p = ferry_params_new();

	must(ferry_params_set(p, "multifd-channels", "1", NULL), NULL);
	must(ferry_params_set(p, "x-ferry-recover", recovers ? looks : "0",
			      NULL), NULL);
	/* A machine that stands still for seconds is no silent peer. */
	must(ferry_params_set(p, "x-ferry-timeout", "30000", NULL), NULL);
	for (size_t i = 0; i < n && list[i][0]; i++) {
		struct ferry_err err;

		if (ferry_params_set(p, list[i][0], list[i][1], &err)) {
			fprintf(stderr, "%s\n", err.msg);
			abort();
		}
	}
	return p;
}

/* To see what happened: RIG_LOG=1. */
static void on_log(void *opaque, enum ferry_log_level level, const char *line)
{
	struct timespec t;

	(void)level;
	clock_gettime(CLOCK_MONOTONIC, &t);
	(void)opaque;
	fprintf(stderr, "%ld.%06ld %s\n", (long)t.tv_sec % 1000,
		t.tv_nsec / 1000, line);
}

static void make_engines(struct rig *r)
{
	struct ferry_callbacks cb = FERRY_CALLBACKS_INIT;
	struct ferry_params *p = params(r->cfg.param, RIG_PARAMS_MAX,
				       r->cfg.recovers, "30000");

	cb.opaque = r;
	cb.event = source_event;
	cb.log = getenv("RIG_LOG") ? on_log : NULL;
	r->source = ferry_source_new(r->src.vm, p, &cb, NULL);
	ferry_params_free(p);
	cb.event = target_event;
	/* Longer than anybody waits for a test: one that has said LOADED is
	 * told when RUN will not come. */
	p = params(r->cfg.target_param, RIG_PARAMS_MAX, r->cfg.recovers, "3600000");
	r->target = ferry_target_new(r->dst.vm, p, &cb, NULL);
	ferry_params_free(p);
	assert(r->source && r->target);
	r->source->last_word_ns = r->target->last_word_ns =
		r->cfg.hasty ? 1000000 : 30000000000;
	if (r->cfg.recovers)	/* a target that heard ABORT does not wait */
		r->target->last_word_ns = 100000000;
}

void rig_init(struct rig *r, const struct rig_config *cfg)
{
	memset(r, 0, sizeof(*r));
	pthread_mutex_init(&r->dialling, NULL);
	pthread_mutex_init(&r->closing, NULL);
	r->cfg = *cfg;
	r->to = r;
	r->src.rig = r->dst.rig = r;
	r->dst.is_target = true;
	rig_side_init(&r->src);
	rig_side_init(&r->dst);
	rig_side_fill(&r->src);
	memset(r->dst.device_state, 0, sizeof(r->dst.device_state));
	atomic_store(&r->src.running, !cfg->stopped);
	make_engines(r);
	if (cfg->writer)
		rig_begin_writer(&r->src);
}

void rig_start_target(struct rig *r)
{
	struct ferry_err err = { 0 };

	must(r->cfg.uri ? ferry_target_listen(r->target, r->cfg.uri, &err) :
			  ferry_target_begin(r->target, &err), &err);
}

void rig_start_source(struct rig *r)
{
	struct ferry_dialer d = {
		.arg = r, .dial = rig_dial,
		.features = FERRY_CHAN_READ | FERRY_CHAN_WRITE |
			    FERRY_CHAN_TWO_WAY | FERRY_CHAN_MORE,
	};
	struct ferry_err err = { 0 };
	char uri[512];

	if (!r->cfg.uri) {
		must(ferry_source_start_with(r->source, &d, &err), &err);
		return;
	}
	must(ferry_target_uri(r->to->target, uri, sizeof(uri), &err), &err);
	must(ferry_source_start(r->source, uri, &err), &err);
}

void rig_start(struct rig *r)
{
	rig_start_target(r);
	rig_start_source(r);
}

void rig_await(struct rig *r, enum ferry_state state)
{
	struct ferry_stats st = FERRY_STATS_INIT;

	do {
		usleep(500);
		ferry_source_stats(r->source, &st);
	} while (st.state < state);
}

static bool hangs(int rc, const struct ferry_err *e)
{
	return rc && e->code == FERRY_E_TIMEOUT && strstr(e->msg, "still");
}

/* Who is still on the way in has to be inside before the door goes. */
static void join_offers(struct rig *r)
{
	pthread_mutex_lock(&r->dialling);
	while (r->joined < r->channels) {
		pthread_t offer = r->offer[r->joined++];

		pthread_mutex_unlock(&r->dialling);
		pthread_join(offer, NULL);
		pthread_mutex_lock(&r->dialling);
	}
	pthread_mutex_unlock(&r->dialling);
}

void rig_finish_source(struct rig *r)
{
	r->source_rc = ferry_source_wait(r->source, 60000, &r->source_err);
	r->source_stats = (struct ferry_stats)FERRY_STATS_INIT;
	ferry_source_stats(r->source, &r->source_stats);
	join_offers(r);
	rig_end_guest(&r->src);
}

bool rig_is_waiting(struct rig *r)
{
	struct ferry_target *t = r->target;
	bool taken;

	pthread_mutex_lock(&t->lock);
	taken = t->taken;
	pthread_mutex_unlock(&t->lock);
	return !taken && ferry_status_state(&t->status) == FERRY_STATE_SETUP;
}

#define TURN_MS	20

void rig_finish_target(struct rig *r)
{
	int turns = 60000 / TURN_MS;

	do {
		/* One that was never reached, or by a source that left at
		 * once, waits for ever. */
		if (rig_is_waiting(r))
			(void)!ferry_target_cancel(r->target, NULL);
		r->target_rc = ferry_target_wait(r->target, TURN_MS,
						 &r->target_err);
	} while (hangs(r->target_rc, &r->target_err) && --turns);
	r->target_stats = (struct ferry_stats)FERRY_STATS_INIT;
	ferry_target_stats(r->target, &r->target_stats);
	if (r->target_rc == 0)
		rig_end_guest(&r->dst);
}

void rig_finish(struct rig *r)
{
	rig_finish_source(r);
	rig_finish_target(r);
}

void rig_again(struct rig *r)
{
	rig_free_source(r);
	ferry_target_free(r->target);
	memset(r->counter, 0, sizeof(r->counter));
	r->channels = r->joined = 0;
	r->cfg.has_fault = r->cfg.has_again = false;
	r->cfg.hook = NULL;
	atomic_store(&r->apart, false);
	atomic_store(&r->src.quit, false);
	atomic_store(&r->dst.quit, false);
	r->has_sum = r->dst.saw_torn = false;
	r->source_err = r->target_err = (struct ferry_err){ 0 };
	rig_bulk_again(r);
	make_engines(r);
	if (r->cfg.writer)
		rig_begin_writer(&r->src);
	rig_start(r);
	rig_finish(r);
}

void rig_run(struct rig *r, const struct rig_config *cfg)
{
	rig_init(r, cfg);
	rig_start(r);
	rig_finish(r);
}

void rig_free_source(struct rig *r)
{
	ferry_source_free(r->source);
	r->source = NULL;
	join_offers(r);
}

void rig_free_target(struct rig *r)
{
	assert(r->cfg.uri);	/* nothing of ours is on its way in */
	atomic_store(&r->dst.quit, true);
	ferry_target_free(r->target);
	r->target = NULL;
}

void rig_fini(struct rig *r)
{
	rig_free_source(r);
	atomic_store(&r->dst.quit, true);
	ferry_target_free(r->target);
	rig_end_guest(&r->dst);
	rig_end_guest(&r->src);
	rig_side_fini(&r->src);
	rig_side_fini(&r->dst);
}

void rig_cut(struct rig *r)
{
	atomic_store(&r->apart, true);
	for (unsigned i = 0; i < r->channels; i++)
		rig_break(r, i);
}

void rig_break(struct rig *r, unsigned channel)
{
	struct ferry_chan *c;

	pthread_mutex_lock(&r->closing);
	c = r->counter[channel].chan;
	if (c)
		c->ops->shutdown(c);
	pthread_mutex_unlock(&r->closing);
}

const char *rig_unix_uri(void)
{
	static char uri[64];

	snprintf(uri, sizeof(uri), "unix:/tmp/ferry-flow-%d", getpid());
	return uri;
}

/* ---- the verdict ---------------------------------------------------------------- */

uint64_t rig_differs(struct rig *r)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < r->cfg.blocks; i++)
		for (uint64_t p = 0; p < r->src.bytes[i] / RIG_PAGE; p++)
			if (memcmp(r->src.mem[i] + p * RIG_PAGE,
				   r->dst.mem[i] + p * RIG_PAGE, RIG_PAGE))
				n++;
	return n;
}

/* Both embedders ask whether they may run the VM: never yes twice. */
static bool both_may_run(struct rig *r)
{
	return r->source && r->target &&
	       !ferry_source_may_run(r->source, NULL) &&
	       !ferry_target_may_run(r->target, NULL);
}

const char *rig_verdict_of_course(struct rig *r)
{
	if (r->both)
		return "both sides ran";
	if (both_may_run(r))
		return "both sides may run";
	if (r->odd_events)
		return "an event contradicts itself";
	if (hangs(r->source_rc, &r->source_err))
		return "the source hangs";
	if (hangs(r->target_rc, &r->target_err))
		return "the target hangs";
	if (r->source_rc && !r->source_err.msg[0])
		return "the source failed without a reason";
	if (r->target_rc && !r->target_err.msg[0])
		return "the target failed without a reason";
	return "";
}

static const char *verdict_of_end(struct rig *r)
{
	bool src = atomic_load(&r->src.running);
	bool dst = atomic_load(&r->dst.running);
	bool at_source = r->source_stats.where == FERRY_WHERE_SOURCE;
	bool whole = at_source || !r->cfg.freed;

	if (r->torn)
		return "the target saw a wrong page";
	if (!r->source_rc && r->target_rc)
		return "the source says completed, the target failed";
	if (!r->source_rc && whole && rig_differs(r))
		return "the source says completed, the target differs";
	if (!r->source_rc && memcmp(r->src.device_state, r->dst.device_state,
				    sizeof(r->src.device_state)))
		return "device state differs";
	if (rig_bulk_verdict(r)[0])
		return rig_bulk_verdict(r);
	if (at_source && dst)
		return "it runs at the target, the source says it has it";
	if (at_source && !src && !r->cfg.stopped)
		return "the source has it and does not run it";
	if (!at_source && src)
		return "the source runs what it says it gave away";
	if (r->has_sum && whole && r->sum != rig_side_sum(&r->src))
		return "the source's memory was damaged";
	return "";
}

const char *rig_verdict(struct rig *r)
{
	const char *course = rig_verdict_of_course(r);

	return course[0] ? course : verdict_of_end(r);
}

static void complain(struct rig *r, const char *what, const char *wrong)
{
	fail_msg("%s: %s; source %s: %s; target %s: %s", what, wrong,
		 ferry_state_name(r->source_stats.state), r->source_err.msg,
		 ferry_state_name(r->target_stats.state), r->target_err.msg);
}

void rig_expect_moved(struct rig *r, const char *what)
{
	if (rig_verdict(r)[0])
		complain(r, what, rig_verdict(r));
	if (r->source_rc || r->target_rc ||
	    r->source_stats.where != FERRY_WHERE_TARGET ||
	    r->dst.running == r->cfg.stopped)
		complain(r, what, "it did not move");
}

void rig_expect_stayed(struct rig *r, const char *what, const char *reason)
{
	if (rig_verdict(r)[0])
		complain(r, what, rig_verdict(r));
	if (!r->source_rc || r->source_stats.where != FERRY_WHERE_SOURCE)
		complain(r, what, "it did not stay at the source");
	if (!strstr(r->source_err.msg, reason))
		complain(r, what, "the reason is another one");
}
