/* SPDX-License-Identifier: MIT */
/*
 * A parked VM whose devices' state came in parts (mig/kept.h): it is said again
 * as it was heard.  What came on main goes on main, each piece in its place:
 * sections that begin and go on behind the list of blocks, those that end behind
 * the end of RAM.  Packets go on the multifd channels then, each on one as
 * before (where there are fewer now, on one for several), and all of them before
 * the end of the stream: without it no target runs the VM.
 *
 * Conductor thread.
 */
#include "mig/source_impl.h"

#include <stdlib.h>

#include "base/cleanup.h"

static bool at(struct ferry_source *s, uint32_t i, struct ferry_kept *k)
{
	const struct ferry_kept_store *store = s->vm->kept;

	return store && store->at(store->arg, i, k);
}

static bool has(struct ferry_source *s, uint32_t kind)
{
	struct ferry_kept k;

	for (uint32_t i = 0; at(s, i, &k); i++)
		if (k.kind == kind)
			return true;
	return false;
}

int ferry_parts_check(struct ferry_source *s, struct ferry_err *e)
{
	const char *why = NULL;

	if (!s->vm->kept)
		return 0;
	if (s->dialect != &ferry_dialect_qemu)
		why = "only a QEMU takes it";
	else if (ferry_param(&s->params, FERRY_P_POSTCOPY_RAM))
		why = "it does not go with postcopy: switch postcopy-ram off "
		      "(serve --precopy)";
	else if (has(s, FERRY_KEPT_PACKET) &&
		 !ferry_param(&s->params, FERRY_P_QEMU_MULTIFD))
		why = "it goes on multifd channels: say with how many (serve "
		      "--multifd N), as they are set at the target";
	return why ? ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "a device of "
				   "this VM has state in parts: %s", why) : 0;
}

static uint8_t *read_piece(struct ferry_source *s, uint32_t i, uint8_t **buf,
			   struct ferry_err *e)
{
	const struct ferry_kept_store *store = s->vm->kept;

	if (!*buf)
		*buf = malloc(FERRY_KEPT_PIECE_BYTES);
	if (!*buf) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "device state");
		return NULL;
	}
	return store->read(store->arg, i, *buf, e) ? NULL : *buf;
}

/* All pieces of this kind, on main. */
static int say(struct ferry_source *s, uint32_t kind, struct ferry_err *e)
{
	FERRY_AUTO_FREE uint8_t *buf = NULL;
	struct ferry_kept k;

	for (uint32_t i = 0; at(s, i, &k); i++) {
		struct ferry_wr w;

		if (k.kind != kind || !k.bytes)
			continue;
		if (!read_piece(s, i, &buf, e))
			return -1;
		w = (struct ferry_wr){ .start = buf, .p = buf + k.bytes,
				       .end = buf + k.bytes };
		if (ferry_speak_octets(&s->speak, &w, e))
			return -1;
	}
	return 0;
}

static struct ferry_lane *lane_of(struct ferry_source *s,
				  const struct ferry_kept *k)
{
	struct ferry_outflow *o = &s->out;

	return &o->crew.sender[1 + k->channel % o->lanes]->lane;
}

static int send_piece(struct ferry_source *s, uint32_t i,
		      const struct ferry_kept *k, uint8_t **buf,
		      struct ferry_err *e)
{
	struct ferry_lane *lane = lane_of(s, k);
	const uint8_t *data = read_piece(s, i, buf, e);
	int rc;

	if (!data || ferry_source_await_room(s, lane->chan, e))
		return -1;
	ferry_lane_enter_bulk(lane);
	ferry_encoder_count(&lane->enc, k->bytes);
	rc = ferry_chan_write(lane->chan, data, k->bytes, e);
	ferry_lane_leave(lane);
	return rc;
}

/* A packet, from its first piece; those of others lie between. */
static int send_packet(struct ferry_source *s, uint32_t i, uint8_t **buf,
		       struct ferry_err *e)
{
	struct ferry_kept first, k;

	if (!at(s, i, &first) || send_piece(s, i, &first, buf, e))
		return -1;
	while (at(s, ++i, &k)) {
		if (k.channel != first.channel || k.kind < FERRY_KEPT_PACKET)
			continue;
		if (k.kind == FERRY_KEPT_PACKET)
			break;
		if (send_piece(s, i, &k, buf, e))
			return -1;
	}
	return 0;
}

int ferry_parts_say_begin(struct ferry_source *s, struct ferry_err *e)
{
	return say(s, FERRY_KEPT_BEGIN, e);
}

int ferry_parts_say_switch(struct ferry_source *s, struct ferry_err *e)
{
	return has(s, FERRY_KEPT_SWITCH) ?
	       ferry_speak(&s->speak, FERRY_COMMAND_SWITCHOVER_START, e) : 0;
}

int ferry_parts_say_end(struct ferry_source *s, struct ferry_err *e)
{
	FERRY_AUTO_FREE uint8_t *buf = NULL;
	struct ferry_kept k;

	if (say(s, FERRY_KEPT_END, e))
		return -1;
	for (uint32_t i = 0; at(s, i, &k); i++)
		if (k.kind == FERRY_KEPT_PACKET && send_packet(s, i, &buf, e))
			return -1;
	return 0;
}
