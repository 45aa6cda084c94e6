/* SPDX-License-Identifier: MIT */
/*
 * Bulk devices at the source: what their threads hand out finds a channel,
 * what the target says of them reaches them, and the switchover waits for
 * them.  All that is before the commit: behind it their state is at the
 * target.
 *
 * Threads: as source_impl.h says.
 */
#include "mig/source_impl.h"

#include "base/clock.h"

#define REST_NS	(20 * FERRY_NS_PER_MS)

static bool has_any(const struct ferry_source *s)
{
	return s->bulk.ops;
}

/* What goes out while the VM runs shares the limit of bandwidth. */
static int send_packet(void *arg, const struct ferry_bulk_packet *p,
		       const void *data, struct ferry_err *e)
{
	struct ferry_source *s = arg;

	if (!(p->flags & FERRY_BULK_PACKET_STOPPED))
		ferry_pace_take(&s->out.crew.pace, p->bytes);
	return ferry_bulk_lanes_send(&s->bulk_lanes, p, data, e);
}

/* The conductor may be waiting for a reply, or for a pass to end. */
static void changed(void *arg)
{
	struct ferry_source *s = arg;

	if (ferry_bulk_out_check(&s->bulk, NULL))
		ferry_crew_halt(&s->out.crew);
	ferry_replies_poke(&s->replies);
}

int ferry_source_bulk_init(struct ferry_source *s, struct ferry_err *e)
{
	static const struct ferry_bulk_out_ops ops = { send_packet, changed };

	s->bulk_lanes.crew = &s->out.crew;
	s->bulk_lanes.count = &s->out.count;
	if (!s->vm->bulk.devs)
		return 0;
	return ferry_bulk_out_init(&s->bulk, &s->vm->bulk, &ops, s, e);
}

void ferry_source_bulk_fini(struct ferry_source *s)
{
	ferry_bulk_out_fini(&s->bulk);
}

int ferry_source_bulk_begin(struct ferry_source *s, struct ferry_err *e)
{
	if (!has_any(s))
		return 0;
	s->bulk.serial = ferry_param(&s->params, FERRY_P_BULK) ==
			 FERRY_BULK_SERIAL;
	return ferry_bulk_out_start(&s->bulk, e);
}

/* ---- the switchover ------------------------------------------------------- */

void ferry_source_bulk_policy(struct ferry_source *s,
			      struct ferry_policy_in *in)
{
	const struct ferry_bulk_dev *dev;

	if (!has_any(s))
		return;
	dev = ferry_bulk_out_not_ready(&s->bulk);
	in->not_ready = dev ? dev->name : NULL;
	in->shrinks = ferry_bulk_out_is_worth_more(&s->bulk,
						   in->max_pause_ns);
}

int ferry_source_bulk_rest(struct ferry_source *s, struct ferry_err *e)
{
	ferry_bulk_out_wait(&s->bulk, ferry_now_ns() + REST_NS);
	return ferry_source_check(s, e);
}

int ferry_source_bulk_park(struct ferry_source *s, struct ferry_err *e)
{
	if (!has_any(s))
		return 0;
	ferry_bulk_out_park(&s->bulk);
	while (!ferry_bulk_out_is_parked(&s->bulk))
		if (ferry_source_bulk_rest(s, e))
			return -1;
	return ferry_source_check(s, e);
}

int ferry_source_bulk_stopped(struct ferry_source *s, struct ferry_err *e)
{
	if (!has_any(s))
		return 0;
	if (ferry_bulk_out_stop_devices(&s->bulk, s->stopped_ns, e))
		return -1;
	if (!s->bulk.serial)
		ferry_bulk_out_save(&s->bulk);
	return 0;
}

void ferry_source_bulk_behind_memory(struct ferry_source *s)
{
	if (has_any(s) && s->bulk.serial)
		ferry_bulk_out_save(&s->bulk);
}

int ferry_source_bulk_all_sent(struct ferry_source *s, struct ferry_err *e)
{
	if (!has_any(s) || ferry_bulk_out_is_saved(&s->bulk))
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0, "the target says LOADED "
			     "before all bulk devices were sent");
}

/* ---- what the target says ------------------------------------------------- */

static int hear(struct ferry_source *s, const struct ferry_rp *m,
		struct ferry_err *e)
{
	switch (m->type) {
	case FERRY_RP_BULK_CREDIT:
		return ferry_bulk_out_credit(&s->bulk, m->value, m->wide, e);
	case FERRY_RP_BULK_READY:
		return ferry_bulk_out_ready(&s->bulk, m->value, e);
	default:
		return ferry_bulk_out_loaded(&s->bulk, m->value, m->wide, e);
	}
}

bool ferry_source_bulk_message(struct ferry_source *s,
			       const struct ferry_rp *m)
{
	struct ferry_err err = { 0 };

	if (m->type < FERRY_RP_BULK_CREDIT || m->type > FERRY_RP_BULK_LOADED)
		return false;
	if (hear(s, m, &err)) {
		ferry_replies_broken(&s->replies, &err);
		ferry_crew_halt(&s->out.crew);
	} else if (m->type == FERRY_RP_BULK_LOADED) {
		ferry_status_event(&s->status, FERRY_EVENT_BULK, 0,
				   s->vm->bulk.dev[m->value].name);
	}
	return true;
}

/* ---- the end -------------------------------------------------------------- */

void ferry_source_bulk_hang_up(struct ferry_source *s)
{
	ferry_bulk_lanes_shutdown(&s->bulk_lanes);
	if (has_any(s))
		ferry_bulk_out_join(&s->bulk);
	ferry_bulk_lanes_stop(&s->bulk_lanes);
}

void ferry_source_bulk_cancel(struct ferry_source *s)
{
	struct ferry_err err = { 0 };

	if (!has_any(s))
		return;
	/* Who is sending is not waited for. */
	ferry_bulk_out_close(&s->bulk);
	ferry_crew_shutdown(&s->out.crew);
	ferry_bulk_lanes_shutdown(&s->bulk_lanes);
	ferry_bulk_out_stop(&s->bulk, s->vm->was_running, &err);
	if (err.code)
		ferry_log(&s->status.log, FERRY_LOG_ERROR,
			  "the VM goes on here, but: %s", err.msg);
}

/* ---- figures -------------------------------------------------------------- */

int ferry_source_bulk(struct ferry_source *s, unsigned index,
		      struct ferry_bulk_stats *out)
{
	return ferry_bulk_out_stats(&s->bulk, index, out);
}
