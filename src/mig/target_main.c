/* SPDX-License-Identifier: MIT */
/*
 * The reader of the main stream: what comes is decoded, done, and in the end
 * answered; when something fails, the source is told why, and the state says
 * where the VM is.
 *
 * Thread: "ferry-target", which alone changes the state, but for the loader's
 * step to postcopy-active.
 */
#include "mig/target_impl.h"

#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "wire/text.h"

/* While channels are missing, main is looked at so often. */
#define LOOK_NS	(10 * FERRY_NS_PER_MS)

/* ---- the stream ------------------------------------------------------------------ */

/* A QEMU's was read at the door: it is how a QEMU introduces itself. */
static int open_stream(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_config c = { 0 };

	if (t->dialect == FERRY_DIALECT_QEMU)
		return 0;
	if (ferry_stream_open(&t->main_in, &c, e))
		return -1;
	return ferry_admit_check_name(t, &c, e);
}

/* In precopy: device state is here, which the loader takes. */
static int load_now(struct ferry_target *t, struct ferry_err *e)
{
	t->phase = FERRY_PHASE_DONE;
	ferry_place_complete(&t->in.place);
	ferry_status_set(&t->status, FERRY_STATE_DEVICE);
	t->loader.run_at_once = true;
	if (ferry_load_start(t, e))
		return -1;
	return ferry_target_await_load(t, 1u << FERRY_LOAD_STARTED, e);
}

/* Behind the end of RAM nothing comes but devices nobody knows here. */
static int on_tail(struct ferry_target *t, struct ferry_err *e)
{
	if (ferry_parts_ends(t, e) || ferry_target_check_all(t, e) ||
	    ferry_tail_read(t, e) || ferry_parts_await(t, e))
		return -1;
	return load_now(t, e);
}

static int on_ram(struct ferry_target *t, const struct ferry_section *s,
		  struct ferry_err *e)
{
	if (ferry_parts_has(t, s))
		return ferry_parts_section(t, s, e);
	if (s->type == FERRY_SECTION_START &&
	    (strcmp(s->name, FERRY_RAM_SECTION_NAME) ||
	     s->version != FERRY_RAM_SECTION_VERSION))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "section %s version %u is not known here",
				     FERRY_SHOW(s->name), s->version);
	if (ferry_rambody_read(&t->in.body, e) ||
	    ferry_stream_footer(&t->main_in, s->id, e))
		return ferry_err_wrap(e, "section ram");
	if (t->phase == FERRY_PHASE_BEGIN && t->in.body.listed)
		t->phase = FERRY_PHASE_PAGES;
	if (t->vm->adopt && s->type == FERRY_SECTION_END &&
	    t->dialect == FERRY_DIALECT_QEMU && !t->postcopy)
		return on_tail(t, e);
	return 0;
}

/* A device section of a stream without packages: kept until the end. */
static int on_device(struct ferry_target *t, const struct ferry_section *s,
		     struct ferry_err *e)
{
	uint8_t head[FERRY_SECTION_HEAD_MAX + FERRY_BODY_WIRE];
	struct ferry_wr w = ferry_wr_over(head, sizeof(head));
	uint32_t bytes = 0;
	struct ferry_rd rd;
	uint8_t *at;

	if (ferry_stream_payload(&t->main_in, FERRY_BODY_WIRE, &rd, e) ||
	    ferry_body_decode(&rd, &bytes, e) != FERRY_DECODE_DONE)
		return -1;
	ferry_section_encode(&w, s);
	ferry_body_encode(&w, bytes);
	ferry_save_bytes(&t->tail, head, ferry_wr_used(&w));
	at = ferry_save_room(&t->tail, bytes + FERRY_FOOTER_WIRE);
	if (!at)
		return ferry_err_set(e, FERRY_E_PROTO, t->tail.failed,
				     "device state");
	if (ferry_inbuf_read(&t->main_in, at, bytes, e) ||
	    ferry_stream_footer(&t->main_in, s->id, e))
		return -1;
	w = ferry_wr_over(at + bytes, FERRY_FOOTER_WIRE);
	ferry_footer_encode(&w, s->id);
	return 0;
}

/*
 * The description that follows EOF in precopy, which nobody needs here.  A
 * file may end without it; a connection that does was cut, and the source
 * goes on.
 */
static int skip_description(struct ferry_target *t, struct ferry_err *e)
{
	bool two_way = t->main->ops->features(t->main) & FERRY_CHAN_TWO_WAY;
	struct ferry_section s = { 0 };
	struct ferry_rd rd;

	if (ferry_stream_section(&t->main_in, &s, e))
		return e->code == FERRY_E_CLOSED && !two_way &&
		       !ferry_inbuf_have(&t->main_in) ? 0 : -1;
	if (s.type != FERRY_SECTION_VMDESCRIPTION)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "section %s after the end",
				     ferry_section_type_name(s.type));
	for (uint32_t left = s.bytes, n; left; left -= n) {
		n = left < 4096 ? left : 4096;
		if (ferry_stream_payload(&t->main_in, n, &rd, e))
			return -1;
	}
	return 0;
}

/* EOF: in postcopy all is done; in precopy devices are loaded now. */
static int on_eof(struct ferry_target *t, struct ferry_err *e)
{
	if (t->dialect == FERRY_DIALECT_FERRY)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "an EOF, which a ferry does not send");
	if (t->vm->adopt && t->postcopy) {
		t->phase = FERRY_PHASE_DONE;
		return ferry_adopt_finish(t, e);
	}
	if (ferry_target_check_all(t, e))
		return -1;
	if (!t->postcopy) {
		if (skip_description(t, e))
			return -1;
		t->loader.devices = t->tail.data;
		t->loader.device_bytes = t->tail.bytes;
		return load_now(t, e);
	}
	t->phase = FERRY_PHASE_DONE;
	return ferry_target_await_load(t, 1u << FERRY_LOAD_STARTED, e);
}

static int on_section(struct ferry_target *t, const struct ferry_section *s,
		      struct ferry_err *e)
{
	switch (s->type) {
	case FERRY_SECTION_COMMAND:
		return ferry_target_command(t, s, e);
	case FERRY_SECTION_START:
	case FERRY_SECTION_PART:
	case FERRY_SECTION_END:
		return on_ram(t, s, e);
	case FERRY_SECTION_FULL:
		if (t->dialect == FERRY_DIALECT_QEMU &&
		    t->phase == FERRY_PHASE_PAGES)
			return on_device(t, s, e);
		break;
	case FERRY_SECTION_EOF:
		return on_eof(t, e);
	}
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "section %s comes out of turn",
			     ferry_section_type_name(s->type));
}

static int read_stream(struct ferry_target *t, struct ferry_err *e)
{
	while (t->phase != FERRY_PHASE_DONE) {
		struct ferry_section s = { 0 };

		if (ferry_stream_section(&t->main_in, &s, e) ||
		    on_section(t, &s, e))
			return -1;
	}
	return 0;
}

/* ---- from the first octet to the last ----------------------------------------- */

static int await_main(struct ferry_target *t, struct ferry_err *e)
{
	bool quit;

	pthread_mutex_lock(&t->lock);
	while (!t->arrived && !t->end.quit)
		pthread_cond_wait(&t->changed, &t->lock);
	quit = t->end.quit;
	pthread_mutex_unlock(&t->lock);
	return quit ? ferry_err_set(e, FERRY_E_CANCELLED, 0,
				    "gave up waiting for a source") : 0;
}

/* A source that cannot open the other channels says ABORT, or hangs up, where
 * the stream would begin.  1: it begins. */
static int look_at_main(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_section section = { 0 };
	const uint8_t *first;

	if (t->main->ops->wait(t->main, POLLIN, 0) == 0)
		return 0;
	first = ferry_inbuf_need(&t->main_in, 1, e);
	if (!first)
		return -1;
	if (*first != FERRY_SECTION_COMMAND)
		return 1;
	if (ferry_stream_section(&t->main_in, &section, e))
		return -1;
	return ferry_target_command(t, &section, e);
}

static bool channels_here(struct ferry_target *t, uint64_t until)
{
	bool all;

	pthread_mutex_lock(&t->lock);
	while (t->in.here < ferry_inflow_channels(&t->in) && !t->end.quit &&
	       ferry_cond_wait_until(&t->changed, &t->lock, until))
		;
	all = t->in.here == ferry_inflow_channels(&t->in);
	pthread_mutex_unlock(&t->lock);
	return all;
}

bool ferry_target_is_quitting(struct ferry_target *t)
{
	bool quit;

	pthread_mutex_lock(&t->lock);
	quit = t->end.quit;
	pthread_mutex_unlock(&t->lock);
	return quit;
}

static int await_channels(struct ferry_target *t, struct ferry_err *e)
{
	uint64_t until = ferry_now_ns() + FERRY_NS_PER_MS *
			 ferry_patience_ms(&t->params);
	int begun = 0;

	while (!channels_here(t, ferry_now_ns() + LOOK_NS)) {
		if (!begun)
			begun = look_at_main(t, e);
		if (begun < 0)
			return -1;
		if (ferry_target_is_quitting(t))
			return ferry_err_set(e, FERRY_E_CANCELLED, 0,
					     "gave up waiting for channels");
		if (ferry_now_ns() > until)
			return ferry_err_set(e, FERRY_E_TIMEOUT, 0,
					     "not all data, urgent and "
					     "device channels came");
	}
	return 0;
}

static void beat(void *target)
{
	struct ferry_target *t = target;
	uint32_t n = ferry_lease_due(t);

	/* Who waits for the lease first. */
	if (n)
		ferry_answer_beat(&t->in.answer, FERRY_RP_ASK_LEASE, n);
	else
		ferry_faults_beat(t);
}

int ferry_target_start_heart(struct ferry_target *t, struct ferry_err *e)
{
	if (!(t->features & FERRY_FEATURE_HEARTBEAT))
		return 0;
	t->heart.beat = beat;
	t->heart.arg = t;
	return ferry_heart_start(&t->heart, e);
}

static void set_ended(struct ferry_target *t)
{
	pthread_mutex_lock(&t->lock);
	t->end.done = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

/* end.done is set: no new ones are let in. */
static void stop_receivers(struct ferry_target *t)
{
	struct ferry_inflow *in = &t->in;

	ferry_place_stop_waiting(&in->place);
	for (unsigned i = 0; in->receiver && i < ferry_inflow_channels(in); i++)
		ferry_receiver_stop(&in->receiver[i]);
}

/* Until the stream's first section: all channels are there, and it is the VM
 * that was announced. */
static int meet(struct ferry_target *t, struct ferry_err *e)
{
	t->phase = FERRY_PHASE_BEGIN;
	if (ferry_rambody_init(&t->in.body, &t->main_in, &t->in.place, e))
		return -1;
	if (t->vm->adopt)
		ferry_adopt_hook(t);
	if (await_channels(t, e) || open_stream(t, e))
		return -1;
	return ferry_inbuf_need(&t->main_in, 1, e) ? 0 : -1;
}

/* One that leaves before that has left nothing here: the next may come. */
static int dismiss(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_err why = *e;

	pthread_mutex_lock(&t->lock);
	if (t->end.why.code)	/* was noted first */
		why = t->end.why;
	pthread_mutex_unlock(&t->lock);
	ferry_answer_give_up(&t->in.answer, why.msg);
	t->main->ops->shutdown(t->main);
	set_ended(t);
	stop_receivers(t);
	if (!t->others_may_come) {
		*e = why;
		return -1;
	}
	if (ferry_admit_next(t, e))
		return -1;
	ferry_log(&t->status.log, FERRY_LOG_WARN, "a source left before "
		  "anything came: %s; waiting for another", why.msg);
	return 0;
}

static int await_source(struct ferry_target *t, struct ferry_err *e)
{
	do {
		if (await_main(t, e))
			return -1;
		if (!meet(t, e))
			return 0;
	} while (!dismiss(t, e));
	return -1;
}

static int receive(struct ferry_target *t, struct ferry_err *e)
{
	if (await_source(t, e))
		return -1;
	ferry_status_set(&t->status, FERRY_STATE_ACTIVE);
	return ferry_target_start_heart(t, e) ||
	       ferry_bulk_in_start(&t->bulk, e) || read_stream(t, e) ? -1 : 0;
}

/* The source closes once it has read SHUT; until then nothing is closed here,
 * so that SHUT is delivered. */
static void await_close(struct ferry_target *t)
{
	struct ferry_err ignored;

	while (ferry_inbuf_need(&t->main_in, 1, &ignored))
		ferry_inbuf_consume(&t->main_in,
				    ferry_inbuf_have(&t->main_in));
}

/* Nobody runs it here: what remains is that the source knows. */
static void complete_adopted(struct ferry_target *t)
{
	struct ferry_err err = { 0 };

	if (ferry_adopt_end(t, &err)) {
		ferry_status_fail(&t->status, t->postcopy ?
				  FERRY_STATE_POSTCOPY_PAUSED :
				  FERRY_STATE_FAILED, &err);
		return;
	}
	ferry_status_set(&t->status, FERRY_STATE_COMPLETED);
	ferry_return_linger(t);
}

static void complete(struct ferry_target *t)
{
	struct ferry_err err = { 0 };

	ferry_foreign_end(t, true);
	ferry_heart_stop(&t->heart);
	ferry_lease_release(t);
	ferry_survive_end(t);
	ferry_fault_stop(&t->in.fault);
	ferry_foreign_close(&t->in.foreign);
	ferry_place_end(&t->in.place);
	set_ended(t);
	if (t->vm->adopt) {
		complete_adopted(t);
		return;
	}
	if (t->in.answer.open)
		(void)!ferry_answer_say(&t->in.answer, FERRY_RP_SHUT, 0, &err);
	ferry_status_set(&t->status, FERRY_STATE_COMPLETED);
	if (!t->in.answer.open)
		return;
	await_close(t);
	t->main->ops->shutdown(t->main);
	stop_receivers(t);
}

/* What another thread noted first is the cause; what the reader saw is often
 * only that its channel was shut down because of it. */
static void pick_cause(struct ferry_target *t, struct ferry_err *err)
{
	pthread_mutex_lock(&t->lock);
	if (t->end.why.code)
		*err = t->end.why;
	t->end.why = *err;
	pthread_mutex_unlock(&t->lock);
}

/* Handed over, but the link is gone: the fault thread goes on, and who waits
 * for a page waits. */
static void pause_here(struct ferry_target *t, const struct ferry_err *err)
{
	t->main->ops->shutdown(t->main);
	if (t->vm->adopt)
		ferry_adopt_pause(t);
	if (ferry_status_state(&t->status) != FERRY_STATE_POSTCOPY_PAUSED)
		ferry_status_fail(&t->status, FERRY_STATE_POSTCOPY_PAUSED,
				  err);
}

/* Tell the source, and release the loader, which may wait for a page. */
static void give_up(struct ferry_target *t, const struct ferry_err *err)
{
	ferry_answer_give_up(&t->in.answer, err->msg);
	t->main->ops->shutdown(t->main);
	ferry_bulk_in_close(&t->bulk);
	stop_receivers(t);
	ferry_foreign_end(t, false);
	ferry_fault_stop(&t->in.fault);
	ferry_foreign_close(&t->in.foreign);
	ferry_place_end(&t->in.place);
	ferry_load_stop(t);
	ferry_bulk_in_stop(&t->bulk);
}

/* Or has recovered, while the VM was still to be started. */
static bool is_recovering(struct ferry_target *t)
{
	enum ferry_state state = ferry_status_state(&t->status);

	return state == FERRY_STATE_POSTCOPY_ACTIVE ||
	       state == FERRY_STATE_POSTCOPY_RECOVER_SETUP ||
	       state == FERRY_STATE_POSTCOPY_RECOVER;
}

static void fail(struct ferry_target *t, struct ferry_err *err)
{
	bool cancelled, arrived;

	ferry_heart_stop(&t->heart);
	pick_cause(t, err);
	set_ended(t);
	pthread_mutex_lock(&t->lock);
	cancelled = t->end.cancelled;
	arrived = t->arrived;
	pthread_mutex_unlock(&t->lock);

	if (ferry_status_is_handed(&t->status)) {
		pause_here(t, err);
		return;
	}
	/* It was handed over, and would not start: there is no link to it. */
	if (is_recovering(t))
		ferry_status_fail(&t->status, FERRY_STATE_POSTCOPY_PAUSED,
				  err);
	if (arrived)	/* else a visitor may still be at work in there */
		give_up(t, err);
	if (cancelled)
		ferry_status_set(&t->status, FERRY_STATE_CANCELLING);
	ferry_status_fail(&t->status, cancelled ? FERRY_STATE_CANCELLED :
			  FERRY_STATE_FAILED, err);
}

void ferry_target_read(void *target)
{
	struct ferry_target *t = target;
	struct ferry_err err = { 0 };
	int rc = receive(t, &err);

	while (rc && ferry_recover_await(t, &err)) {
		err = (struct ferry_err){ 0 };
		rc = read_stream(t, &err);
	}
	if (rc)
		fail(t, &err);
	else
		complete(t);
}
