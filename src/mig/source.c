/* SPDX-License-Identifier: MIT */
/*
 * The source's public API.  Any thread; what is asked is noted, and the
 * conductor is poked.
 */
#include "mig/source_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "mig/source_test.h"

static int new_session(struct ferry_source *s, struct ferry_err *e)
{
	if (getrandom(s->session, sizeof(s->session), 0) !=
	    (ssize_t)sizeof(s->session))
		return ferry_err_set(e, FERRY_E_IO, errno, "getrandom");
	return 0;
}

struct ferry_source *ferry_source_new(struct ferry_vm *vm,
				      const struct ferry_params *params,
				      const struct ferry_callbacks *cb,
				      struct ferry_err *e)
{
	struct ferry_source *s;

	if (ferry_vm_lend(vm, e))
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s) {
		ferry_vm_return(vm);
		ferry_err_set(e, FERRY_E_NOMEM, errno, "source");
		return NULL;
	}
	s->vm = vm;
	if (params)
		ferry_params_copy(&s->params, params);
	else
		ferry_params_init(&s->params);
	ferry_status_init(&s->status, FERRY_SIDE_SOURCE, cb);
	ferry_replies_init(&s->replies);
	pthread_mutex_init(&s->comeback.lock, NULL);
	ferry_cond_init(&s->comeback.changed);
	ferry_speaker_init(&s->speak, &vm->mem);
	s->speak.await_room = ferry_source_await_room;
	s->speak.arg = s;
	s->last_word_ns = FERRY_LAST_WORD_NS;
	if (new_session(s, e) || ferry_outflow_init(s, e) ||
	    ferry_source_bulk_init(s, e)) {
		ferry_source_free(s);
		return NULL;
	}
	return s;
}

static struct ferry_chan *dial_uri(void *arg, enum ferry_channel_type type,
				   unsigned index, struct ferry_err *e)
{
	struct ferry_source *s = arg;
	struct ferry_uri uri;

	(void)type;
	(void)index;
	ferry_source_path(s, &uri);
	return ferry_uri_dial(&uri, (uint32_t)
			      ferry_param(&s->params, FERRY_P_TIMEOUT),
			      &s->orders.cancel, e);
}

/* Where each connection has a limit of its own. */
static struct ferry_chan *dial(struct ferry_source *s,
			       enum ferry_channel_type type, unsigned index,
			       struct ferry_err *e)
{
	struct ferry_chan *chan = s->dialer.dial(s->dialer.arg, type, index,
						 e), *limited;

	if (!chan || !ferry_param(&s->params, FERRY_P_CHANNEL_BANDWIDTH))
		return chan;
	limited = ferry_chan_rate(chan,
				  &s->params.v[FERRY_P_CHANNEL_BANDWIDTH], e);
	if (!limited)
		ferry_chan_close(chan);
	return limited;
}

struct ferry_chan *ferry_source_dial(struct ferry_source *s,
				     enum ferry_channel_type type,
				     unsigned index, struct ferry_err *e)
{
	struct ferry_chan *tls, *chan = dial(s, type, index, e);
	struct ferry_uri uri;

	if (!chan || !s->tls)
		return chan;
	ferry_source_path(s, &uri);
	tls = ferry_chan_tls(chan, s->tls, ferry_uri_host(&uri),
			     ferry_patience_ms(&s->params), &s->orders.cancel,
			     e);
	if (!tls)
		ferry_chan_close(chan);
	return tls;
}

static int check_credentials(struct ferry_source *s, unsigned can,
			     struct ferry_err *e)
{
	struct ferry_uri uri;

	if (!(can & FERRY_CHAN_TWO_WAY))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "tls-creds: a "
				     "file, or a one-way descriptor, carries "
				     "no TLS");
	ferry_source_path(s, &uri);
	return ferry_tls_check_host(s->tls, ferry_uri_host(&uri), e) ?
	       ferry_err_wrap(e, "tls-creds") : 0;
}

/* Once, before anybody is dialled. */
static int load_credentials(struct ferry_source *s, unsigned can,
			    struct ferry_err *e)
{
	if (ferry_bond_credentials(&s->params, false, &s->tls, e))
		return -1;
	if (!s->tls || !check_credentials(s, can, e))
		return 0;
	ferry_tls_free(s->tls);
	s->tls = NULL;
	return -1;
}

/* Nobody would do what was asked for. */
static int check_passes(struct ferry_source *s, struct ferry_err *e)
{
	uint64_t passes = ferry_param(&s->params, FERRY_P_PASSES);

	if (passes == FERRY_PASSES_AUTO ||
	    ferry_param(&s->params, FERRY_P_POSTCOPY_RAM))
		return 0;
	return ferry_err_set(e, FERRY_E_INVALID, 0, "x-ferry-precopy-passes "
			     "asks for postcopy after %u passes, and "
			     "postcopy-ram is off", (unsigned)passes);
}

/* What the address can carry, before anything is begun. */
static int check_carrier(struct ferry_source *s, struct ferry_err *e)
{
	unsigned can = s->dialer.features;
	bool fixed = ferry_param(&s->params, FERRY_P_PASSES) !=
		     FERRY_PASSES_AUTO;

	if (can & FERRY_CHAN_MORE)
		return 0;
	if (ferry_param_peer(&s->params) == FERRY_PEER_FERRY &&
	    (can & FERRY_CHAN_TWO_WAY))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "one connected descriptor carries no "
				     "migration between two ferries, which "
				     "takes several connections: use tcp: or "
				     "unix:, or x-ferry-peer=qemu");
	if ((can & FERRY_CHAN_TWO_WAY) || !fixed)
		return 0;
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
			     "postcopy needs a way back, which a file or a "
			     "one-way descriptor does not have: use tcp: or "
			     "unix:");
}

static int check_verify(struct ferry_source *s, struct ferry_err *e)
{
	const char *why = NULL;

	if (!ferry_param(&s->params, FERRY_P_VERIFY))
		return 0;
	if (s->dialect != &ferry_dialect_ferry)
		why = "a QEMU, or a file, at the other end knows no checksums";
	else if (ferry_param(&s->params, FERRY_P_RELEASE_RAM))
		why = "release-ram frees what is to be compared";
	for (uint32_t i = 0; i < s->vm->mem.blocks; i++)
		if (!s->vm->mem.block[i].host)
			why = "the VM does not lie in memory here";
	return why ? ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				   "x-ferry-verify: %s", why) : 0;
}

static int check_bulk(struct ferry_source *s, struct ferry_err *e)
{
	if (!s->vm->bulk.devs || s->dialect == &ferry_dialect_ferry)
		return 0;
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "bulk device %s: a "
			     "QEMU, or a file, at the other end takes none",
			     s->vm->bulk.dev[0].name);
}

static int check_lease(struct ferry_source *s, struct ferry_err *e)
{
	uint64_t ms = ferry_param(&s->params, FERRY_P_LEASE);
	const char *why = NULL;

	if (!ms)
		return 0;
	if (s->dialect != &ferry_dialect_ferry)
		why = "a QEMU, or a file, at the other end knows no lease";
	else if (ferry_param(&s->params, FERRY_P_RELEASE_RAM))
		why = "release-ram frees what would be rolled back to";
	else if (ms < FERRY_LEASE_MS_MIN)
		why = "less than 1000 ms would often run out by itself";
	s->lease.length_ns = ms * FERRY_NS_PER_MS;
	return why ? ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				   "x-ferry-lease: %s", why) : 0;
}

/* Of two at once only one may; a start that was refused may be tried again. */
static int claim(struct ferry_source *s, struct ferry_err *e)
{
	if (!atomic_exchange(&s->begun, true))
		return 0;
	return ferry_err_set(e, FERRY_E_STATE, 0,
			     "this migration was started already");
}

/* Its devices' backends may be of those that cannot tell what they write. */
static int check_foreign(struct ferry_source *s, struct ferry_err *e)
{
	return ferry_foreign_can(s->vm, FERRY_FOREIGN_LOG, e);
}

static int begin(struct ferry_source *s, const struct ferry_dialer *dialer,
		 struct ferry_err *e)
{
	bool one_way = !(dialer->features & FERRY_CHAN_TWO_WAY);

	s->dialer = *dialer;
	s->dialect = one_way || ferry_param_peer(&s->params) ==
		     FERRY_PEER_QEMU ? &ferry_dialect_qemu :
				       &ferry_dialect_ferry;
	if (check_passes(s, e) || check_foreign(s, e) || check_carrier(s, e) ||
	    check_verify(s, e) || check_bulk(s, e) || check_lease(s, e) ||
	    ferry_multifd_check(s, e) ||
	    ferry_parts_check(s, e) ||
	    load_credentials(s, dialer->features, e)) {
		atomic_store(&s->begun, false);
		return -1;
	}
	if (one_way)	/* no answers: nothing but plain precopy */
		atomic_store(&s->params.v[FERRY_P_POSTCOPY_RAM], 0);
	ferry_status_set(&s->status, FERRY_STATE_SETUP);
	if (ferry_thread_start(&s->conductor, "ferry-source",
			       ferry_source_conduct, s, e)) {
		ferry_status_fail(&s->status, FERRY_STATE_FAILED, e);
		return -1;
	}
	return 0;
}

int ferry_source_start_with(struct ferry_source *s,
			    const struct ferry_dialer *dialer,
			    struct ferry_err *e)
{
	return claim(s, e) ? -1 : begin(s, dialer, e);
}

int ferry_source_start(struct ferry_source *s, const char *uri,
		       struct ferry_err *e)
{
	struct ferry_dialer d = { .arg = s, .dial = dial_uri };

	struct ferry_uri first;

	if (claim(s, e))
		return -1;
	if (ferry_uri_parse(&first, uri, e)) {
		atomic_store(&s->begun, false);
		return -1;
	}
	ferry_source_begin_path(s, &first);
	d.features = ferry_uri_features(&first);
	return begin(s, &d, e);
}

void ferry_source_poke(struct ferry_source *s)
{
	ferry_crew_halt(&s->out.crew);
	ferry_replies_poke(&s->replies);
	pthread_mutex_lock(&s->comeback.lock);
	pthread_cond_broadcast(&s->comeback.changed);
	pthread_mutex_unlock(&s->comeback.lock);
}

int ferry_source_start_postcopy(struct ferry_source *s, struct ferry_err *e)
{
	enum ferry_state state = ferry_status_state(&s->status);

	if (!ferry_param(&s->params, FERRY_P_POSTCOPY_RAM))
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "postcopy-ram is off for this migration, or "
				     "the target cannot do it");
	if (state != FERRY_STATE_SETUP && state != FERRY_STATE_ACTIVE)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "postcopy cannot be started: the "
				     "migration is %s",
				     ferry_state_name(state));
	atomic_store(&s->orders.want_postcopy, true);
	ferry_source_poke(s);
	return 0;
}

/* The link was lost, and is being found again. */
static bool is_seeking(struct ferry_source *s)
{
	enum ferry_state state = ferry_status_state(&s->status);

	return state == FERRY_STATE_POSTCOPY_RECOVER_SETUP ||
	       state == FERRY_STATE_POSTCOPY_RECOVER ||
	       (state == FERRY_STATE_POSTCOPY_PAUSED &&
		ferry_status_has_hope(&s->status));
}

int ferry_source_cancel(struct ferry_source *s, struct ferry_err *e)
{
	int open = FERRY_GATE_OPEN;
	enum ferry_state state = ferry_status_state(&s->status);

	if (state == FERRY_STATE_NONE || state == FERRY_STATE_COMPLETED ||
	    state == FERRY_STATE_FAILED || state == FERRY_STATE_CANCELLED)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "there is nothing to cancel: the "
				     "migration is %s",
				     ferry_state_name(state));
	if (!atomic_compare_exchange_strong(&s->orders.gate, &open,
					    FERRY_GATE_CANCELLED) &&
	    open == FERRY_GATE_COMMITTED)
		return is_seeking(s) ?
		       ferry_source_halt(s, FERRY_HALT_CANCELLED, e) :
		       ferry_err_set(e, FERRY_E_STATE, 0,
				     "too late to cancel: the VM is committed "
				     "to the target (%s)",
				     ferry_state_name(state));
	atomic_store(&s->orders.cancel, true);
	/* In setup the conductor may be reading an answer. */
	if (state == FERRY_STATE_SETUP)
		ferry_source_break_main(s);
	ferry_source_poke(s);
	return 0;
}

int ferry_source_set(struct ferry_source *s, const char *name,
		     const char *value, struct ferry_err *e)
{
	bool running = ferry_status_state(&s->status) != FERRY_STATE_NONE;
	enum ferry_state state;

	if (!running)
		return ferry_params_set(&s->params, name, value, e);
	if (ferry_params_change(&s->params, name, value, e))
		return -1;

	state = ferry_status_state(&s->status);
	if (state == FERRY_STATE_POSTCOPY_ACTIVE) {
		ferry_pace_set(&s->out.crew.pace, ferry_param(&s->params,
			       FERRY_P_MAX_POSTCOPY_BANDWIDTH));
		ferry_source_poke(s);	/* the push may have been switched */
	} else if (state == FERRY_STATE_ACTIVE) {
		ferry_pace_set(&s->out.crew.pace, ferry_param(&s->params,
			       FERRY_P_MAX_BANDWIDTH));
	}
	return 0;
}

int ferry_source_wait(struct ferry_source *s, int timeout_ms,
		      struct ferry_err *e)
{
	return ferry_status_wait(&s->status, timeout_ms, e);
}

int ferry_source_may_run(struct ferry_source *s, struct ferry_err *e)
{
	enum ferry_where where = ferry_status_where(&s->status);

	if (where == FERRY_WHERE_SOURCE)
		return 0;
	return ferry_err_set(e, FERRY_E_STATE, 0,
			     "the VM was handed over and is now: %s",
			     ferry_where_name(where));
}

static uint64_t or_zero(uint64_t ns)
{
	return ns == UINT64_MAX ? 0 : ns;
}

/* Of a migration that is over, or has had no pass: of all of it. */
static uint64_t rate_of(const struct ferry_stats *o, uint64_t of_pass)
{
	uint64_t ns = o->total_ns - o->setup_ns;

	if ((of_pass && !ferry_state_is_final(o->state)) ||
	    o->state < FERRY_STATE_ACTIVE || !ns)
		return of_pass;
	return (uint64_t)((double)o->sent_bytes * FERRY_NS_PER_S / (double)ns);
}

/* Before it is agreed on, what is wanted. */
static unsigned urgent_channels(const struct ferry_source *s)
{
	const struct ferry_params *p = &s->params;

	if (!ferry_param(p, FERRY_P_URGENT))
		return 0;
	return ferry_param_peer(p) == FERRY_PEER_QEMU ? 1 :
	       (unsigned)ferry_param(p, FERRY_P_URGENT_CHANNELS);
}

static void read_figures(struct ferry_source *s, struct ferry_stats *o)
{
	struct ferry_source_figures *f = &s->fig;
	struct ferry_send_counters *c = &s->out.count;

	o->memory_bytes = s->vm->mem.pages * FERRY_PAGE_BYTES;
	o->remaining_bytes = ferry_owed_pages(&s->out.owed) *
			     FERRY_PAGE_BYTES;
	o->distinct_bytes = atomic_load(&f->distinct_pages) *
			    FERRY_PAGE_BYTES;
	if (o->state >= FERRY_STATE_ACTIVE &&
	    o->memory_bytes - o->remaining_bytes > o->distinct_bytes)
		o->distinct_bytes = o->memory_bytes - o->remaining_bytes;
	o->pause_ns = atomic_load(&f->pause_ns);
	o->expected_pause_ns = or_zero(atomic_load(&f->expected_pause_ns));
	o->sent_bytes = ferry_counted(&c->bytes);
	o->pause_bytes = ferry_counted(&f->pause_bytes);
	o->precopy_bytes = ferry_counted(&f->precopy_bytes);
	if (!o->precopy_bytes && !s->postcopy)
		o->precopy_bytes = o->sent_bytes;
	if (s->postcopy)
		o->postcopy_bytes = o->sent_bytes - o->precopy_bytes;
	o->rate_bytes_per_s = rate_of(o, atomic_load(&f->rate));
	o->dirty_pages_per_s = atomic_load(&f->dirty_pages_per_s);
	o->normal_pages = ferry_counted(&c->normal_pages);
	o->zero_pages = ferry_counted(&c->zero_pages);
	o->passes = atomic_load(&f->passes);
	o->throttle_percent = atomic_load(&f->throttle_percent);
	o->requests = ferry_counted(&c->requests);
	o->request_pages = ferry_counted(&c->request_pages);
	o->data_channels = (unsigned)ferry_param(&s->params,
						 FERRY_P_CHANNELS);
	o->urgent_channels = urgent_channels(s);
	o->lost_channels = atomic_load(&f->lost_channels);
	o->push_limit = atomic_load(&f->push_limit);
	o->fault_p99_ns = atomic_load(&f->fault_p99_ns);
	o->verified = (enum ferry_verified)atomic_load(&f->verified);
}

void ferry_source_stats(struct ferry_source *s, struct ferry_stats *out)
{
	struct ferry_stats all = { .size = out->size };

	ferry_status_stats(&s->status, &all);
	read_figures(s, &all);
	ferry_source_rollback_stats(s, &all);
	memcpy(out, &all, out->size < sizeof(all) ? out->size : sizeof(all));
}

int ferry_source_channel(struct ferry_source *s, unsigned i,
			 struct ferry_channel_stats *out)
{
	return ferry_flows_read(s->out.flow, s->data, s->urgent, i, out);
}

/* No other thread uses it any more, but to break it. */
void ferry_source_close_main(struct ferry_source *s)
{
	struct ferry_chan *main;

	pthread_mutex_lock(&s->comeback.lock);
	main = atomic_exchange(&s->main, NULL);
	pthread_mutex_unlock(&s->comeback.lock);
	if (!main)
		return;
	ferry_inbuf_fini(&s->main_in);
	ferry_speaker_move(&s->speak, NULL);
	ferry_chan_close(main);
}

void ferry_source_free(struct ferry_source *s)
{
	if (!s)
		return;
	ferry_source_await_leave(s);
	atomic_store(&s->orders.quit, true);
	atomic_store(&s->orders.cancel, true);
	if (s->conductor.started) {
		struct ferry_err ignored;

		if (ferry_source_cancel(s, &ignored)) {
			ferry_source_break_main(s);
			ferry_source_poke(s);
		}
		ferry_thread_join(&s->conductor);
	}
	ferry_outflow_stop(s);
	ferry_outflow_stop_tracking(s);
	ferry_outflow_fini(s);
	ferry_source_bulk_fini(s);
	ferry_source_close_main(s);
	ferry_speaker_fini(&s->speak);
	ferry_replies_fini(&s->replies);
	pthread_cond_destroy(&s->comeback.changed);
	pthread_mutex_destroy(&s->comeback.lock);
	ferry_status_fini(&s->status);
	ferry_tls_free(s->tls);
	explicit_bzero(&s->bond, sizeof(s->bond));
	ferry_vm_return(s->vm);
	free(s);
}

int ferry_migrate(struct ferry_vm *vm, const char *uri,
		  enum ferry_where *where, struct ferry_err *e)
{
	struct ferry_source *s = ferry_source_new(vm, NULL, NULL, e);
	int rc;

	if (where)
		*where = FERRY_WHERE_SOURCE;
	if (!s)
		return -1;
	rc = ferry_source_start(s, uri, e);
	if (!rc)
		rc = ferry_source_wait(s, -1, e);
	if (where)
		*where = ferry_status_where(&s->status);
	ferry_source_free(s);
	return rc;
}
