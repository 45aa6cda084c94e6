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
	struct ferry_chan *main = ferry_source_dial(s, FERRY_CHANNEL_MAIN, 0,
						    e);
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

static uint64_t compression(struct ferry_source *s)
{
	return ferry_param(&s->params, FERRY_P_COMPRESSION);
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
	if (s->lease.length_ns)		/* the heart renews it */
		head->mandatory |= FERRY_FEATURE_FENCE |
				   FERRY_FEATURE_HEARTBEAT;
	if (ferry_param(&s->params, FERRY_P_RELEASE_RAM))
		head->features &= ~(uint64_t)FERRY_FEATURE_SURVIVE;
	if (ferry_param(&s->params, FERRY_P_VERIFY))
		head->mandatory |= FERRY_FEATURE_VERIFY;
	else
		head->features &= ~(uint64_t)FERRY_FEATURE_VERIFY;
	if (s->vm->bulk.devs)
		head->mandatory |= FERRY_FEATURE_BULK;
	else
		head->features &= ~(uint64_t)FERRY_FEATURE_BULK;
	if (s->tls)
		head->mandatory |= FERRY_FEATURE_BOUND;
	else
		head->features &= ~(uint64_t)FERRY_FEATURE_BOUND;
	if (compression(s) == FERRY_COMPRESSION_NONE)
		head->features &= ~(uint64_t)FERRY_FEATURE_COMPRESS;
	else if (compression(s) != FERRY_COMPRESSION_AUTO)
		head->mandatory |= FERRY_FEATURE_COMPRESS;
	memcpy(head->session, s->session, sizeof(head->session));
}

/* With TLS, that it is ours. */
static int sign(struct ferry_source *s, struct ferry_chan *chan,
		struct ferry_channel_head *head, struct ferry_err *e)
{
	return s->tls ? ferry_bond_sign(&s->bond, chan, head, e) : 0;
}

/* As the user wants it, if the target can read it. */
static struct ferry_packing_how packing(struct ferry_source *s)
{
	static const uint32_t method[] = {
		[FERRY_COMPRESSION_ZLIB] = FERRY_PACKET_ZLIB,
		[FERRY_COMPRESSION_ZSTD] = FERRY_PACKET_ZSTD,
		[FERRY_COMPRESSION_AUTO] = FERRY_PACKET_ZSTD,
	};
	struct ferry_packing_how how = {
		.method = method[compression(s)],
		.automatic = compression(s) == FERRY_COMPRESSION_AUTO,
		.shifts = ferry_param(&s->params, FERRY_P_ZSTD_FASTER),
	};

	if (!(s->features & FERRY_FEATURE_COMPRESS))
		how.method = 0;
	how.level = (int)ferry_param(&s->params,
				     how.method == FERRY_PACKET_ZLIB ?
				     FERRY_P_ZLIB_LEVEL : FERRY_P_ZSTD_LEVEL);
	return how;
}

static unsigned wants_urgent(struct ferry_source *s)
{
	return ferry_param(&s->params, FERRY_P_POSTCOPY_RAM) &&
	       ferry_param(&s->params, FERRY_P_URGENT) ?
	       (unsigned)ferry_param(&s->params, FERRY_P_URGENT_CHANNELS) : 0;
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

/* What it has against a certificate, or against none, it says to its log. */
static int no_answer(struct ferry_source *s, struct ferry_err *e)
{
	if (s->tls)
		return ferry_err_wrap(e, "the target did not let us in; its "
				      "log says why");
	return ferry_err_wrap(e, ferry_err_is_link(e) ?
			      "no answer that a ferry would give (it may want "
			      "TLS: tls-creds is not set here)" :
			      "no answer that a ferry would give");
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
		return no_answer(s, e);
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
	offer->mandatory = FERRY_FEATURES_MUST | FERRY_FEATURE_RECOVER |
			   (s->features & FERRY_FEATURE_BOUND);
	s->device = 0;		/* their state is there */
}

static void fill_offer(struct ferry_source *s,
		       struct ferry_channel_head *offer)
{
	fill_head(s, FERRY_CHANNEL_MAIN, 0, offer);
	s->data = (uint16_t)ferry_param(&s->params, FERRY_P_CHANNELS);
	s->urgent = (uint16_t)wants_urgent(s);
	s->device = s->vm->bulk.devs ? (uint16_t)
		    ferry_param(&s->params, FERRY_P_DEVICE_CHANNELS) : 0;
}

/* The first main is what all others are bound to, the next one as well. */
static int bind_main(struct ferry_source *s, bool again,
		     struct ferry_channel_head *offer, struct ferry_err *e)
{
	if (s->tls && !again &&
	    ferry_bond_make(&s->bond, s->main, s->session, e))
		return -1;
	return sign(s, s->main, offer, e);
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
	if (bind_main(s, again, &offer, e))
		return -1;
	rc = ferry_greet_describe(s->vm, &ours, e);
	ours.has_channels = true;
	ours.data = s->data;
	ours.urgent = s->urgent;
	ours.device = s->device;
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
	struct ferry_chan *chan = ferry_source_dial(s, type, index, e);

	if (!chan)
		return NULL;
	ferry_chan_set_name(chan, "%s %u",
			    ferry_channel_type_name((uint16_t)type), index);
	/* Who is slow to place pages is not dead: main tells that. */
	chan->ops->set_timeout(chan, ms, ferry_patience_ms(&s->params));
	fill_head(s, type, index, &head);
	if (sign(s, chan, &head, e) ||
	    ferry_greet_send(chan, &head, NULL, e)) {
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

static int add_data(struct ferry_source *s, unsigned i, struct ferry_err *e)
{
	struct ferry_chan *chan = open_other(s, FERRY_CHANNEL_DATA, i, e);
	struct ferry_packing_how how = packing(s);
	struct ferry_encoder *x;

	if (!chan || ferry_crew_add(&s->out.crew, chan, true,
				    ferry_encoder_packets, e))
		return -1;
	x = &s->out.crew.sender[i]->lane.enc;
	x->flow = &s->out.flow[i];
	return ferry_packer_init(&x->packer, &how, e);
}

static int add_urgent(struct ferry_source *s, unsigned i, struct ferry_err *e)
{
	struct ferry_chan *chan = open_other(s, FERRY_CHANNEL_URGENT, i, e);
	struct ferry_lane *lane = &s->out.urgent[i];

	if (!chan)
		return -1;
	ferry_lane_init(lane, chan, true, ferry_encoder_packets,
			&s->out.count);
	lane->enc.flow = &s->out.flow[FERRY_DATA_CHANNELS_MAX + i];
	return 0;
}

int ferry_greet_others(struct ferry_source *s, struct ferry_err *e)
{
	for (unsigned i = 0; i < s->data; i++)
		if (add_data(s, i, e))
			return -1;
	for (unsigned i = 0; i < s->urgent; i++)
		if (add_urgent(s, i, e))
			return -1;
	for (unsigned i = 0; i < s->device; i++) {
		struct ferry_chan *chan = open_other(s, FERRY_CHANNEL_DEVICE,
						     i, e);

		if (!chan)
			return -1;
		ferry_bulk_lanes_add(&s->bulk_lanes, chan);
	}
	atomic_store(&s->out.requests.again,
		     s->features & FERRY_FEATURE_RESEND);
	return 0;
}
