/* SPDX-License-Identifier: MIT */
/*
 * The target's public API.  Any thread.
 */
#include "mig/target_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/counter.h"
#include "mig/target_test.h"

static void fault_failed(void *arg, const struct ferry_err *why)
{
	ferry_target_failed(arg, why);
}

static int init_inflow(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_inflow *in = &t->in;

	ferry_marks_init(&in->gate);
	ferry_answer_init(&in->answer);
	in->fault = (struct ferry_fault_thread){
		.place = &in->place, .answer = &in->answer,
		.failed = fault_failed, .arg = t,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	if (ferry_foreign_begin(t, e))
		return -1;
	if (t->vm->adopt)
		return ferry_adopt_init(t, e);
	if (ferry_map_init(&in->map, &t->vm->mem, e))
		return -1;
	if (ferry_place_init(&in->place, &t->vm->mem, &in->map, e))
		return -1;
	in->place.foreign = &in->foreign;
	return 0;
}

struct ferry_target *ferry_target_new(struct ferry_vm *vm,
				      const struct ferry_params *params,
				      const struct ferry_callbacks *cb,
				      struct ferry_err *e)
{
	struct ferry_target *t;

	if (ferry_vm_lend(vm, e))
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t) {
		ferry_vm_return(vm);
		ferry_err_set(e, FERRY_E_NOMEM, errno, "target");
		return NULL;
	}
	t->vm = vm;
	t->door.wake_fd = -1;
	t->last_word_ns = FERRY_TARGET_LAST_WORD_NS;
	if (params)
		ferry_params_copy(&t->params, params);
	else
		ferry_params_init(&t->params);
	ferry_status_init(&t->status, FERRY_SIDE_TARGET, cb);
	pthread_mutex_init(&t->lock, NULL);
	ferry_lease_init(&t->lease);
	ferry_cond_init(&t->changed);
	ferry_target_bulk_init(t);
	if (init_inflow(t, e)) {
		ferry_target_free(t);
		return NULL;
	}
	return t;
}

static int start_reader(struct ferry_target *t, struct ferry_err *e)
{
	return ferry_thread_start(&t->reader, "ferry-target",
				  ferry_target_read, t, e);
}

/* One connection or file that is there already. */
static int begin_with(struct ferry_target *t, struct ferry_chan *chan,
		      struct ferry_err *e)
{
	if (!ferry_door_admit(t, chan, e))
		return start_reader(t, e);
	return ferry_err_wrap(e, "%s", t->door.uri);
}

static int begin(struct ferry_target *t, const struct ferry_uri *u,
		 struct ferry_err *e)
{
	struct ferry_chan *chan = NULL;

	switch (u->kind) {
	case FERRY_URI_TCP:
	case FERRY_URI_UNIX:
		t->others_may_come = true;
		return ferry_door_open(t, u, e) || start_reader(t, e) ? -1 : 0;
	case FERRY_URI_FD:
		chan = ferry_uri_dial(u, 0, NULL, e);
		break;
	case FERRY_URI_FILE:
		chan = ferry_chan_file_at(u->path, 0, u->offset, e);
		break;
	}
	return chan ? begin_with(t, chan, e) : -1;
}

static void warn_in_the_clear(struct ferry_target *t,
			      const struct ferry_uri *u)
{
	if (!t->tls && !ferry_uri_is_local(u))
		ferry_log(&t->status.log, FERRY_LOG_WARN, "%s is listened at "
			  "without TLS (tls-creds): whoever can reach it may "
			  "send a VM, and read one on its way", t->door.uri);
}

int ferry_target_listen(struct ferry_target *t, const char *uri,
			struct ferry_err *e)
{
	struct ferry_uri u;

	if (atomic_exchange(&t->begun, true))
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "this target was started already");
	if (ferry_uri_parse(&u, uri, e)) {
		atomic_store(&t->begun, false);	/* may be tried again */
		return -1;
	}
	snprintf(t->door.uri, sizeof(t->door.uri), "%s", uri);
	ferry_status_set(&t->status, FERRY_STATE_SETUP);
	if (ferry_bond_credentials(&t->params, true, &t->tls, e)) {
		ferry_status_fail(&t->status, FERRY_STATE_FAILED, e);
		return -1;
	}
	if (begin(t, &u, e)) {
		ferry_status_fail(&t->status, FERRY_STATE_FAILED, e);
		return -1;
	}
	warn_in_the_clear(t, &u);
	ferry_status_event(&t->status, FERRY_EVENT_LISTENING, 0, t->door.uri);
	return 0;
}

int ferry_target_begin(struct ferry_target *t, struct ferry_err *e)
{
	if (ferry_bond_credentials(&t->params, true, &t->tls, e))
		return -1;
	t->others_may_come = true;
	ferry_status_set(&t->status, FERRY_STATE_SETUP);
	return start_reader(t, e);
}

void ferry_target_offer(struct ferry_target *t, struct ferry_chan *chan)
{
	struct ferry_err ignored = { 0 };

	(void)!ferry_door_admit(t, chan, &ignored);
}

int ferry_target_uri(struct ferry_target *t, char *buf, size_t bytes,
		     struct ferry_err *e)
{
	if (!t->door.uri[0])
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "this target does not listen");
	if ((size_t)snprintf(buf, bytes, "%s", t->door.uri) >= bytes)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "the address does not fit %zu octets",
				     bytes);
	return 0;
}

/* Make all threads end soon, and the source know why. */
static void break_off(struct ferry_target *t, bool may_speak)
{
	struct ferry_err why;

	pthread_mutex_lock(&t->lock);
	why = t->end.why;
	pthread_mutex_unlock(&t->lock);
	if (may_speak)
		ferry_answer_give_up(&t->in.answer, why.msg);
	ferry_place_stop_waiting(&t->in.place);
	ferry_marks_close(&t->in.gate);
	pthread_mutex_lock(&t->lock);
	if (t->main)
		t->main->ops->shutdown(t->main);
	pthread_mutex_unlock(&t->lock);
}

int ferry_target_cancel(struct ferry_target *t, struct ferry_err *e)
{
	enum ferry_state state = ferry_status_state(&t->status);

	if (state == FERRY_STATE_NONE || ferry_state_is_final(state))
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "there is nothing to cancel: the "
				     "migration is %s",
				     ferry_state_name(state));
	if (!ferry_target_refuse(t, true))
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "too late to cancel: the VM was handed "
				     "over to this side (%s)",
				     ferry_state_name(state));
	break_off(t, true);
	return 0;
}

int ferry_target_wait(struct ferry_target *t, int timeout_ms,
		      struct ferry_err *e)
{
	return ferry_status_wait(&t->status, timeout_ms, e);
}

int ferry_target_may_run(struct ferry_target *t, struct ferry_err *e)
{
	bool handed = ferry_status_is_handed(&t->status);
	enum ferry_state state = ferry_status_state(&t->status);

	if (handed && ferry_lease_is_out(t))
		return ferry_err_set(e, FERRY_E_STATE, 0, "the lease has run "
				     "out: the VM stands still until the "
				     "source is heard of");
	if (handed && (state == FERRY_STATE_COMPLETED ||
		       state == FERRY_STATE_POSTCOPY_ACTIVE ||
		       state == FERRY_STATE_POSTCOPY_PAUSED))
		return 0;
	/* Precopy with a lease: the source has yet to say that it ends. */
	if (state == FERRY_STATE_DEVICE && ferry_lease_is_there(t) &&
	    ferry_status_is_heard(&t->status))
		return 0;
	return ferry_err_set(e, FERRY_E_STATE, 0,
			     "the VM has not been handed over to this side "
			     "(the migration is %s)", ferry_state_name(state));
}

/* The map may be looked at: memory arrives, or has. */
static void read_map(struct ferry_target *t, struct ferry_stats *o)
{
	if (o->state < FERRY_STATE_ACTIVE)
		return;
	if (o->state != FERRY_STATE_COMPLETED)
		o->remaining_bytes = ferry_map_missing(&t->in.map) *
				     FERRY_PAGE_BYTES;
	o->distinct_bytes = o->memory_bytes - o->remaining_bytes;
}

/* What is adopted has memory only from some time on. */
static void add_memory(struct ferry_target *t, struct ferry_stats *all)
{
	pthread_mutex_lock(&t->lock);
	if (!t->vm->adopt || t->adopted.fitted) {
		all->memory_bytes = t->vm->mem.pages * FERRY_PAGE_BYTES;
		read_map(t, all);
	}
	pthread_mutex_unlock(&t->lock);
}

/* Those that are over, and those that are not. */
static void add_waits(struct ferry_place *p, struct ferry_stats *all)
{
	ferry_hist_read(&p->faults, all->fault_hist);
	all->fault_sum_ns = ferry_counted(&p->faults.sum_ns);
	all->fault_max_ns = ferry_counted(&p->faults.max_ns);
	all->waiting_ns = ferry_place_oldest_wait_ns(p, &all->waiting);
	if (all->fault_max_ns < all->waiting_ns)
		all->fault_max_ns = all->waiting_ns;
}

void ferry_target_stats(struct ferry_target *t, struct ferry_stats *out)
{
	struct ferry_stats all = { .size = out->size };
	struct ferry_place *p = &t->in.place;

	ferry_status_stats(&t->status, &all);
	add_memory(t, &all);
	all.sent_bytes = ferry_counted(&p->received_bytes);
	all.normal_pages = ferry_counted(&p->normal_pages);
	all.zero_pages = ferry_counted(&p->zero_pages);
	all.requests = ferry_counted(&t->in.fault.faults);
	all.dropped_pages = ferry_counted(&p->dropped_pages);
	add_waits(p, &all);
	all.verified = (enum ferry_verified)atomic_load(&t->verified);
	ferry_lease_stats(t, &all);
	pthread_mutex_lock(&t->lock);
	all.data_channels = t->in.data;
	all.urgent_channels = t->in.urgent;
	pthread_mutex_unlock(&t->lock);
	memcpy(out, &all, out->size < sizeof(all) ? out->size : sizeof(all));
}

int ferry_target_channel(struct ferry_target *t, unsigned i,
			 struct ferry_channel_stats *out)
{
	unsigned data, urgent;

	pthread_mutex_lock(&t->lock);
	data = t->in.data;
	urgent = t->in.urgent;
	pthread_mutex_unlock(&t->lock);
	return ferry_flows_read(t->in.flow, data, urgent, i, out);
}

static void free_inflow(struct ferry_target *t)
{
	struct ferry_inflow *in = &t->in;

	for (unsigned i = 0; in->receiver && i < ferry_inflow_channels(in); i++)
		ferry_receiver_stop(&in->receiver[i]);
	free(in->receiver);
	ferry_bulk_in_fini(&t->bulk);
	if (t->vm->adopt)
		ferry_adopt_fini(t);
	ferry_fault_stop(&in->fault);
	in->place.foreign = NULL;
	ferry_foreign_fini(&in->foreign);
	if (in->body.pages)
		ferry_rambody_fini(&in->body);
	ferry_verify_fini(t);
	ferry_place_fini(&in->place);
	ferry_map_fini(&in->map);
	ferry_answer_fini(&in->answer);
	ferry_marks_fini(&in->gate);
}

void ferry_target_free(struct ferry_target *t)
{
	if (!t)
		return;
	break_off(t, ferry_target_refuse(t, false));
	ferry_door_close(t);
	ferry_thread_join(&t->reader);
	/* Handed over, but never whole: who waits gets an error, not zeroes. */
	ferry_foreign_end(t, false);
	if (ferry_status_state(&t->status) == FERRY_STATE_POSTCOPY_PAUSED)
		ferry_place_abandon(&t->in.place);
	ferry_load_stop(t);
	ferry_lease_fini(&t->lease);
	free_inflow(t);
	if (t->main)
		ferry_chan_close(t->main);
	ferry_inbuf_fini(&t->main_in);
	ferry_save_fini(&t->tail);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	ferry_status_fini(&t->status);
	ferry_tls_free(t->tls);
	explicit_bzero(&t->bond, sizeof(t->bond));
	ferry_vm_return(t->vm);
	free(t);
}

int ferry_receive(struct ferry_vm *vm, const char *uri, struct ferry_err *e)
{
	struct ferry_target *t = ferry_target_new(vm, NULL, NULL, e);
	int rc;

	if (!t)
		return -1;
	rc = ferry_target_listen(t, uri, e);
	if (!rc)
		rc = ferry_target_wait(t, -1, e);
	ferry_target_free(t);
	return rc;
}
