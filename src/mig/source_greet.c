/* SPDX-License-Identifier: MIT */
/*
 * The source opens its connections to another ferry: main, with what it has
 * and offers, then those of pages; and main once more, to come back to a
 * migration that lost its link.  Conductor thread.
 */
#include "mig/source_impl.h"

#include <string.h>

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
	ferry_speaker_move(&s->speak, main);
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
	if (ferry_param(&s->params, FERRY_P_VERIFY))
		head->mandatory |= FERRY_FEATURE_VERIFY;
	else
		head->features &= ~(uint64_t)FERRY_FEATURE_VERIFY;
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
		       const struct ferry_channel_head *offer, bool again,
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
	if (!rc && !again) {
		s->features = answer.features;
		rc = settle_postcopy(s, theirs.verdict_text, e);
	}
	ferry_hello_fini(&theirs);
	return rc;
}

/* What was agreed on in the beginning is what there is. */
static void fill_return(struct ferry_source *s,
			struct ferry_channel_head *offer)
{
	fill_head(s, FERRY_CHANNEL_MAIN, 0, offer);
	offer->features = s->features;
	offer->mandatory = FERRY_FEATURES_MUST | FERRY_FEATURE_RECOVER;
}

static void fill_offer(struct ferry_source *s,
		       struct ferry_channel_head *offer)
{
	fill_head(s, FERRY_CHANNEL_MAIN, 0, offer);
	s->data = (uint16_t)ferry_param(&s->params, FERRY_P_CHANNELS);
	s->urgent = wants_urgent(s) ? 1 : 0;
}

static int greet(struct ferry_source *s, bool again, struct ferry_err *e)
{
	struct ferry_channel_head offer;
	struct ferry_hello ours;
	int rc;

	if (again)
		fill_return(s, &offer);
	else
		fill_offer(s, &offer);
	rc = ferry_greet_describe(s->vm, &ours, e);
	ours.has_channels = true;
	ours.data = s->data;
	ours.urgent = s->urgent;
	if (!rc)
		rc = ferry_greet_send(s->main, &offer, &ours, e);
	ferry_hello_fini(&ours);
	return rc || read_answer(s, &offer, again, e) ? -1 : 0;
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
	/* Who is slow to place pages is not dead: main tells that. */
	chan->ops->set_timeout(chan, ms, ferry_patience_ms(&s->params));
	fill_head(s, type, index, &head);
	if (ferry_greet_send(chan, &head, NULL, e)) {
		ferry_chan_close(chan);
		return NULL;
	}
	return chan;
}

int ferry_greet_target(struct ferry_source *s, bool again, struct ferry_err *e)
{
	s->speak.dialect = FERRY_DIALECT_FERRY;
	return open_main(s, e) || greet(s, again, e) ? -1 : 0;
}

int ferry_greet_others(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_chan *chan;

	for (unsigned i = 0; i < s->data; i++) {
		chan = open_other(s, FERRY_CHANNEL_DATA, i, e);
		if (!chan || ferry_crew_add(&s->out.crew, chan, true,
					    ferry_encoder_packets, e))
			return -1;
	}
	if (s->urgent) {
		chan = open_other(s, FERRY_CHANNEL_URGENT, 0, e);
		if (!chan)
			return -1;
		ferry_lane_init(&s->out.urgent, chan, true,
				ferry_encoder_packets, &s->out.count);
	}
	atomic_store(&s->out.requests.again,
		     s->features & FERRY_FEATURE_RESEND);
	return 0;
}
