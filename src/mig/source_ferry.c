/* SPDX-License-Identifier: MIT */
/*
 * The source towards another ferry: channel headers, pages in packets on data
 * channels of their own, requested pages on an urgent one, and a commit that
 * is a message (docs/wire.md):
 *
 *	source				target
 *	PACKAGED  ------------------->	loads the devices
 *		  <-------------------	LOADED
 *	commits
 *	RUN	  ------------------->	runs
 *		  <-------------------	RUNNING
 *
 * Conductor thread.
 */
#include "mig/source_impl.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"

static int open_main(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_chan *main = s->dialer.dial(s->dialer.arg,
						 FERRY_CHANNEL_MAIN, 0, e);
	uint32_t ms = (uint32_t)ferry_param(&s->params, FERRY_P_TIMEOUT);

	if (!main)
		return -1;
	ferry_chan_set_name(main, "main");
	main->ops->set_timeout(main, ms, ms);
	atomic_store(&s->main, main);
	s->speak.chan = main;
	if (atomic_load(&s->orders.cancel))	/* it did not see main yet */
		main->ops->shutdown(main);
	return ferry_inbuf_init(&s->main_in, main, FERRY_GREET_BUF_BYTES, e);
}

/* The user asked for it, not only the default policy. */
static bool must_postcopy(struct ferry_source *s)
{
	return ferry_param(&s->params, FERRY_P_POSTCOPY_RAM) &&
	       (atomic_load(&s->orders.want_postcopy) ||
		ferry_param(&s->params, FERRY_P_PASSES) != FERRY_PASSES_AUTO);
}

static void fill_head(struct ferry_source *s, enum ferry_channel_type type,
		      unsigned index, struct ferry_channel_head *head)
{
	*head = (struct ferry_channel_head){
		.type = (uint16_t)type, .index = (uint16_t)index,
		.features = FERRY_FEATURES_CAN,
		.mandatory = FERRY_FEATURES_MUST,
	};
	if (must_postcopy(s))
		head->mandatory |= FERRY_FEATURE_POSTCOPY;
	memcpy(head->session, s->session, sizeof(head->session));
}

static bool wants_urgent(struct ferry_source *s)
{
	return ferry_param(&s->params, FERRY_P_POSTCOPY_RAM) &&
	       ferry_param(&s->params, FERRY_P_URGENT);
}

/* A target that cannot do it: precopy alone, unless postcopy was asked for. */
static int settle_postcopy(struct ferry_source *s, const char *why,
			   struct ferry_err *e)
{
	if ((s->features & FERRY_FEATURE_POSTCOPY) ||
	    !ferry_param(&s->params, FERRY_P_POSTCOPY_RAM))
		return 0;
	atomic_store(&s->params.v[FERRY_P_POSTCOPY_RAM], 0);
	ferry_log(&s->status.log, FERRY_LOG_WARN, "the target cannot do "
		  "postcopy (%s): precopy alone", why);
	if (!atomic_load(&s->orders.want_postcopy))
		return 0;
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
			     "the target cannot do postcopy: %.200s", why);
}

static int read_answer(struct ferry_source *s,
		       const struct ferry_channel_head *offer,
		       struct ferry_err *e)
{
	struct ferry_channel_head answer;
	struct ferry_hello theirs = { 0 };
	int rc;

	if (ferry_greet_read_head(&s->main_in, true, &answer, e) ||
	    ferry_greet_read_hello(&s->main_in, true, &theirs, e))
		return ferry_err_wrap(e, "no answer that a ferry would give");
	rc = ferry_hello_verdict(&theirs, e);
	if (!rc)
		rc = ferry_channel_check(offer, &answer, e);
	s->features = answer.features;
	if (!rc)
		rc = settle_postcopy(s, theirs.verdict_text, e);
	ferry_hello_fini(&theirs);
	return rc;
}

static int greet(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_channel_head offer;
	struct ferry_hello ours;
	int rc;

	fill_head(s, FERRY_CHANNEL_MAIN, 0, &offer);
	rc = ferry_greet_describe(s->vm, &ours, e);
	ours.has_channels = true;
	ours.data = (uint16_t)ferry_param(&s->params, FERRY_P_CHANNELS);
	ours.urgent = wants_urgent(s) ? 1 : 0;
	if (!rc)
		rc = ferry_greet_send(s->main, &offer, &ours, e);
	ferry_hello_fini(&ours);
	return rc || read_answer(s, &offer, e) ? -1 : 0;
}

static struct ferry_chan *open_other(struct ferry_source *s,
				     enum ferry_channel_type type,
				     unsigned index, struct ferry_err *e)
{
	uint32_t ms = (uint32_t)ferry_param(&s->params, FERRY_P_TIMEOUT);
	struct ferry_channel_head head;
	struct ferry_chan *chan = s->dialer.dial(s->dialer.arg, type, index,
						 e);

	if (!chan)
		return NULL;
	ferry_chan_set_name(chan, "%s %u",
			    ferry_channel_type_name((uint16_t)type), index);
	chan->ops->set_timeout(chan, ms, ms);
	fill_head(s, type, index, &head);
	if (ferry_greet_send(chan, &head, NULL, e)) {
		ferry_chan_close(chan);
		return NULL;
	}
	return chan;
}

static int ferry_connect(struct ferry_source *s, struct ferry_err *e)
{
	unsigned n = (unsigned)ferry_param(&s->params, FERRY_P_CHANNELS);
	bool urgent = wants_urgent(s);	/* as announced in the hello */
	struct ferry_chan *chan;

	s->speak.dialect = FERRY_DIALECT_FERRY;
	if (open_main(s, e) || greet(s, e))
		return -1;
	for (unsigned i = 0; i < n; i++) {
		chan = open_other(s, FERRY_CHANNEL_DATA, i, e);
		if (!chan || ferry_crew_add(&s->out.crew, chan, true,
					    ferry_encoder_packets, e))
			return -1;
	}
	if (urgent) {
		chan = open_other(s, FERRY_CHANNEL_URGENT, 0, e);
		if (!chan)
			return -1;
		ferry_lane_init(&s->out.urgent, chan, true,
				ferry_encoder_packets, &s->out.count);
	}
	s->out.requests.again = s->features & FERRY_FEATURE_RESEND;
	return ferry_source_listen_back(s, FERRY_DIALECT_FERRY, e);
}

/* What was never touched is zero at both ends: said once, sent never. */
static int tell_zero(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_mem *mem = &s->vm->mem;

	for (uint32_t i = 0; i < mem->blocks; i++) {
		struct ferry_bitmap *owed = &s->out.owed.map[i];
		uint64_t at = 0, end;

		if (ferry_speak_ranges(&s->speak, FERRY_COMMAND_ZERO_RANGES,
				       &mem->block[i], owed, false, e))
			return -1;
		for (; (at = ferry_bitmap_next_clear(owed, at)) < owed->bits;
		     at = end) {
			end = ferry_bitmap_next_set(owed, at);
			ferry_bitmap_set_range(&s->out.at_target[i], at,
					       end - at);
		}
	}
	return 0;
}

static int nothing(struct ferry_source *s, bool last, struct ferry_err *e)
{
	(void)s;
	(void)last;
	(void)e;
	return 0;
}

static int nothing_more(struct ferry_source *s, struct ferry_err *e)
{
	(void)s;
	(void)e;
	return 0;
}

/* A mark on every data channel, and its number on main. */
static int mark(struct ferry_source *s, enum ferry_command command,
		struct ferry_err *e)
{
	uint32_t sequence = ++s->out.sequence;

	if (ferry_source_job(s, FERRY_JOB_SYNC, sequence, e))
		return -1;
	if (s->out.urgent.chan) {
		struct ferry_lane *l = &s->out.urgent;
		int rc;

		if (ferry_source_await_room(s, l->chan, e))
			return -1;
		ferry_lane_enter_urgent(l);
		rc = l->enc.ops->sync(&l->enc, sequence, e);
		ferry_lane_leave(l);
		if (rc)
			return -1;
	}
	return ferry_speak_u32(&s->speak, command, sequence, e);
}

static int ferry_barrier(struct ferry_source *s, struct ferry_err *e)
{
	uint32_t synced;

	if (mark(s, FERRY_COMMAND_BARRIER, e))
		return -1;
	while ((synced = ferry_replies_synced(&s->replies)) !=
	       s->out.sequence) {
		if (synced > s->out.sequence)
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "target: barrier %" PRIu32 " is "
					     "answered, the last was %" PRIu32,
					     synced, s->out.sequence);
		if (ferry_source_await(s, FERRY_REPLY_SYNCED, e))
			return -1;
	}
	return 0;
}

static void beat(void *source)
{
	struct ferry_source *s = source;

	ferry_speak_beat(&s->speak);
}

/* From here on main is never silent for long, whatever the VM's owner, the
 * kernel or a slow channel keeps the conductor busy with. */
static int start_heart(struct ferry_source *s, struct ferry_err *e)
{
	if (!(s->features & FERRY_FEATURE_HEARTBEAT))
		return 0;
	s->heart.beat = beat;
	s->heart.arg = s;
	return ferry_heart_start(&s->heart, e);
}

static int ferry_begin(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_speaker *sp = &s->speak;

	if (ferry_speak_open(sp, s->vm->name, e) ||
	    ferry_speak(sp, FERRY_COMMAND_OPEN_RETURN_PATH, e) ||
	    ferry_speak_u32(sp, FERRY_COMMAND_PING, 1, e))
		return -1;
	if (ferry_param(&s->params, FERRY_P_POSTCOPY_RAM) &&
	    ferry_speak_advise(sp, e))
		return -1;
	if (ferry_speak_ram_start(sp, e) || start_heart(s, e) ||
	    ferry_outflow_survey(s, false, e) || tell_zero(s, e))
		return -1;
	/* The target has agreed to all of it before a page is sent. */
	return ferry_barrier(s, e);
}

static int ferry_all_sent(struct ferry_source *s, struct ferry_err *e)
{
	return mark(s, FERRY_COMMAND_FINISH, e);
}

static int run(struct ferry_source *s, struct ferry_err *e)
{
	if (!ferry_source_commit(s))
		return ferry_source_check(s, e);
	/*
	 * All of RUN was taken, or the target can never see it: a speaker
	 * that failed inside an utterance says nothing more.  Then nothing
	 * was handed over.  Main stays open to hear why.
	 */
	if (ferry_speak(&s->speak, FERRY_COMMAND_POSTCOPY_RUN, e))
		return ferry_err_wrap(e, "hand over");
	ferry_status_handed(&s->status);
	atomic_store(&s->fig.pause_ns, ferry_now_ns() - s->stopped_ns);
	return 0;
}

static int ferry_hand_over(struct ferry_source *s,
			   const struct ferry_save *dev, struct ferry_err *e)
{
	struct ferry_outflow *o = &s->out;

	if (s->postcopy)	/* loading devices may touch memory */
		atomic_store(&o->requests.lane, o->urgent.chan ? &o->urgent :
			     &o->crew.sender[0]->lane);
	if (ferry_speak_package(&s->speak, s->postcopy, dev->data, dev->bytes,
				e) ||
	    ferry_source_await(s, FERRY_REPLY_LOADED, e))
		return -1;
	ferry_source_note(s, "target has loaded");
	if (run(s, e) || ferry_source_await(s, FERRY_REPLY_RUNNING, e))
		return -1;
	ferry_source_note(s, "target runs");
	ferry_status_heard(&s->status);
	if (s->postcopy)
		ferry_crew_limit_unsent(&o->crew, FERRY_UNSENT_POSTCOPY_BYTES);
	return 0;
}

static int ferry_finish(struct ferry_source *s, struct ferry_err *e)
{
	/* In precopy all pages were there before it began to run. */
	if (!s->postcopy)
		return 0;
	if (mark(s, FERRY_COMMAND_FINISH, e))
		return -1;
	return ferry_source_await(s, FERRY_REPLY_SHUT, e);
}

const struct ferry_dialect_ops ferry_dialect_ferry = {
	.name = "ferry",
	.connect = ferry_connect,
	.begin = ferry_begin,
	.pass_begin = nothing,
	.pass_end = nothing_more,
	.barrier = ferry_barrier,
	.discard = ferry_outflow_discard,
	.all_sent = ferry_all_sent,
	.hand_over = ferry_hand_over,
	.finish = ferry_finish,
};
