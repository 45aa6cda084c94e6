/* SPDX-License-Identifier: MIT */
/*
 * A QEMU's multifd channels at the source: pages travel on them as long as the
 * VM is here.  In the crew main is the first sender, and these are the others;
 * whoever is not at work waits.
 *
 * The order of what goes on main and of what goes on the channels is made by
 * marks: SYNC on each of them, then one on main, which is each EOS of the RAM
 * section for machines up to 8.0, and a record of its own for later ones.
 *
 * Nothing is agreed on.  A QEMU that expects more channels never answers PING.
 * One that expects fewer closes the others, would lose their pages, and say that
 * it has all: so they are looked at before each mark, the last of which comes
 * behind all pages.  What else is known to go wrong is refused here.
 *
 * Conductor thread.
 */
#include "mig/source_impl.h"

#include <poll.h>
#include <string.h>

#include "wire/machine.h"

static bool is_on(struct ferry_source *s)
{
	return s->dialect == &ferry_dialect_qemu &&
	       ferry_param(&s->params, FERRY_P_QEMU_MULTIFD);
}

/* What the machine's name says of the QEMU at the other end, which may be
 * newer.  A name without a version says nothing: what all of those do that know
 * such names is done then. */
static unsigned quirks(struct ferry_source *s)
{
	struct ferry_machine m;

	return ferry_machine_parse(s->vm->name, &m) ?
	       ferry_machine_quirks(&m) : FERRY_MACHINE_ZERO_ON_MAIN;
}

/* Before 10.2 either end aborts or hangs. */
static bool knows_postcopy(struct ferry_source *s)
{
	struct ferry_machine m;

	return ferry_machine_parse(s->vm->name, &m) &&
	       (m.major > 10 || (m.major == 10 && m.minor >= 2));
}

static uint32_t method(struct ferry_source *s)
{
	static const uint32_t methods[] = {
		[FERRY_COMPRESSION_NONE] = 0,
		[FERRY_COMPRESSION_ZLIB] = FERRY_PACKET_ZLIB,
		[FERRY_COMPRESSION_ZSTD] = FERRY_PACKET_ZSTD,
		[FERRY_COMPRESSION_AUTO] = 0,
	};

	return methods[ferry_param(&s->params, FERRY_P_COMPRESSION)];
}

static int check_method(struct ferry_source *s, struct ferry_err *e)
{
	if (!method(s) || is_on(s) ||
	    ferry_param_peer(&s->params) != FERRY_PEER_QEMU)
		return 0;
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "multifd-compression: "
			     "towards a QEMU only pages on multifd channels "
			     "can be compressed");
}

int ferry_multifd_check(struct ferry_source *s, struct ferry_err *e)
{
	if (check_method(s, e))
		return -1;
	if (!is_on(s))
		return 0;
	if (!(s->dialer.features & FERRY_CHAN_MORE))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "multifd needs several connections: use "
				     "tcp: or unix:");
	if (ferry_param(&s->params, FERRY_P_POSTCOPY_RAM) &&
	    !knows_postcopy(s))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "multifd and postcopy do not go together "
				     "before QEMU 10.2, and with machine type "
				     "%s it may be older: switch postcopy-ram "
				     "off (serve --precopy)", s->vm->name);
	return 0;
}

static int say_init(struct ferry_source *s, struct ferry_chan *chan,
		    unsigned i, struct ferry_err *e)
{
	uint8_t octets[FERRY_MULTIFD_INIT_WIRE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
	struct ferry_multifd_init init = { .id = (uint8_t)i };

	memcpy(init.uuid, s->vm->uuid, sizeof(init.uuid));
	ferry_multifd_init_encode(&w, &init);
	return ferry_chan_write(chan, octets, sizeof(octets), e);
}

static int open_lane(struct ferry_source *s, unsigned i, struct ferry_err *e)
{
	struct ferry_crew *crew = &s->out.crew;
	struct ferry_chan *chan = ferry_source_dial(s, FERRY_CHANNEL_DATA,
						    i, e);
	struct ferry_encoder *enc;

	if (!chan)
		return ferry_err_wrap(e, "multifd channel %u", i);
	ferry_chan_set_name(chan, "multifd %u", i);
	chan->ops->set_timeout(chan, 0, ferry_patience_ms(&s->params));
	if (say_init(s, chan, i, e)) {
		ferry_chan_close(chan);
		return -1;
	}
	if (ferry_crew_add(crew, chan, true, ferry_encoder_multifd, e))
		return -1;
	enc = &crew->sender[i + 1]->lane.enc;
	enc->method = method(s);
	if (quirks(s) & FERRY_MACHINE_ZERO_ON_MAIN)
		enc->zeroes = &crew->sender[0]->lane;
	return 0;
}

static unsigned channels(struct ferry_source *s)
{
	return (unsigned)ferry_param(&s->params, FERRY_P_CHANNELS);
}

/* Who has fewer of them closes the others, or all. */
static int lost(struct ferry_source *s, struct ferry_err *e)
{
	if (ferry_err_is_link(e))
		ferry_err_wrap(e, "multifd (is it on at the target, with %u "
			       "channels?)", channels(s));
	return -1;
}

int ferry_multifd_open(struct ferry_source *s, struct ferry_err *e)
{
	unsigned n = channels(s);

	if (!is_on(s))
		return 0;
	for (unsigned i = 0; i < n; i++)
		if (open_lane(s, i, e))
			return lost(s, e);
	s->out.lanes = n;
	s->speak.flush = !(quirks(s) & FERRY_MACHINE_SYNC_AT_EOS);
	ferry_crew_assign(&s->out.crew, 1, 1 + n);
	return 0;
}

/* A QEMU says nothing on them.  It closes those that it does not expect.  (With
 * TLS the session may say something of itself, and a close is an error of the
 * next write.) */
static int check_lanes(struct ferry_source *s, struct ferry_err *e)
{
	for (unsigned i = 1; i <= s->out.lanes; i++) {
		struct ferry_chan *c = s->out.crew.sender[i]->lane.chan;

		if (strcmp(c->ops->kind, "tls") && c->ops->wait(c, POLLIN, 0))
			return ferry_err_set(e, FERRY_E_CLOSED, 0,
					     "channel %s: the peer closed the "
					     "connection", c->name);
	}
	return 0;
}

int ferry_multifd_mark(struct ferry_source *s, struct ferry_err *e)
{
	if (!s->out.lanes)
		return 0;
	if (check_lanes(s, e) || ferry_source_job(s, FERRY_JOB_SYNC, 0, e))
		return lost(s, e);
	return 0;
}

void ferry_multifd_rest(struct ferry_source *s)
{
	s->out.lanes = 0;
	s->speak.flush = false;
	ferry_crew_assign(&s->out.crew, 0, 1);
}
