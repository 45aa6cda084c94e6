/* SPDX-License-Identifier: MIT */
/*
 * A channel of pages is lost in postcopy, and main lives: its share goes over
 * the others, and nobody pauses.
 *
 * Who notices first tells the other: the source by LOST on main, the target by
 * a LOST of its own on the return path, and either does no more than note it.
 * Then:
 *
 *	source				target
 *	halts the push
 *	LOST      ------------------->	nothing is awaited on that channel
 *	RECV_BITMAP, each block ----->
 *		  <-------------------	what has come
 *	owes the rest again, pushes on
 *
 * What is on its way on the others counts as not come, and is sent twice.  Who
 * waits for a page that was lost is served at once: the target asks again.
 * When the last data channel is lost, that is the loss of the link.
 *
 * Conductor thread.
 */
#include "mig/source_impl.h"

#include "base/clock.h"

/* Whoever was at it; any thread. */
static void on_loss(void *source)
{
	struct ferry_source *s = source;

	ferry_replies_note_loss(&s->replies);
	ferry_crew_halt(&s->out.crew);
}

/* What was freed here cannot be sent again. */
static bool may_survive(struct ferry_source *s)
{
	return s->postcopy && (s->features & FERRY_FEATURE_SURVIVE) &&
	       (s->features & FERRY_FEATURE_RESEND) &&
	       !ferry_param(&s->params, FERRY_P_RELEASE_RAM);
}

/* Requests are answered: from there on, until the link ends.  Before that who
 * has lost a channel has lost the migration, and keeps the VM. */
static bool survives(struct ferry_source *s)
{
	return may_survive(s) && ferry_requests_open(&s->out.requests);
}

void ferry_survive_begin(struct ferry_source *s)
{
	struct ferry_outflow *o = &s->out;

	s->finished = false;
	if (!may_survive(s))
		return;
	ferry_crew_may_lose(&o->crew, true);
	ferry_requests_may_lose(&o->requests, on_loss, s);
}

/* ---- which ones ---------------------------------------------------------------- */

static int check_told(struct ferry_source *s, const struct ferry_losses *told,
		      struct ferry_err *e)
{
	if (!(told->data >> (s->data - 1) >> 1) &&
	    !(told->urgent >> s->urgent))
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0, "target: a channel is lost "
			     "that there is not");
}

static int say_lost(struct ferry_source *s, enum ferry_channel_type type,
		    unsigned index, bool last, struct ferry_err *e)
{
	const char *name = ferry_channel_type_name((uint16_t)type);

	if (last)
		return ferry_err_set(e, FERRY_E_CLOSED, 0, "channel %s %u was "
				     "lost, the last one for bulk", name,
				     index);
	ferry_log(&s->status.log, FERRY_LOG_WARN, "channel %s %u was lost: "
		  "the others take its share over", name, index);
	atomic_fetch_add(&s->fig.lost_channels, 1);
	return ferry_speak_u32(&s->speak, FERRY_COMMAND_LOST,
			       ferry_channel_number(type, index), e);
}

/* Lost by whoever noticed; both that send on it shall know. */
static int lose_data(struct ferry_source *s, uint64_t told,
		     struct ferry_err *e)
{
	struct ferry_outflow *o = &s->out;
	unsigned left = s->data;

	for (unsigned i = 0; i < s->data; i++) {
		bool lost = ferry_crew_is_lost(&o->crew, i) ||
			    ferry_requests_is_lost(&o->requests,
						   s->urgent + i) ||
			    (told >> i & 1);

		if (!lost)
			continue;
		left--;
		ferry_crew_lose(&o->crew, i);
		ferry_requests_lose(&o->requests, s->urgent + i);
		if (o->lost.data >> i & 1)
			continue;
		o->lost.data |= 1ull << i;
		if (say_lost(s, FERRY_CHANNEL_DATA, i, !left, e))
			return -1;
	}
	return 0;
}

static int lose_urgent(struct ferry_source *s, uint64_t told,
		       struct ferry_err *e)
{
	struct ferry_outflow *o = &s->out;

	for (unsigned i = 0; i < s->urgent; i++) {
		if (!ferry_requests_is_lost(&o->requests, i) &&
		    !(told >> i & 1))
			continue;
		ferry_requests_lose(&o->requests, i);
		if (o->lost.urgent >> i & 1)
			continue;
		o->lost.urgent |= 1ull << i;
		if (say_lost(s, FERRY_CHANNEL_URGENT, i, false, e))
			return -1;
	}
	return 0;
}

/* ---- what of it ------------------------------------------------------------------ */

/* 1: the target has all, and says so. */
static int ask_maps(struct ferry_source *s, struct ferry_err *e)
{
	const struct ferry_mem *mem = &s->vm->mem;
	const unsigned words = FERRY_REPLY_MAP | FERRY_REPLY_SHUT;

	for (uint32_t i = 0; i < mem->blocks; i++)
		if (ferry_speak_ask_map(&s->speak, mem->block[i].name, e))
			return -1;
	while (ferry_replies_maps(&s->replies) < mem->blocks) {
		unsigned seen = ferry_replies_wait(&s->replies, words,
						   ferry_now_ns() +
						   100 * FERRY_NS_PER_MS);

		if (seen & FERRY_REPLY_SHUT)
			return s->finished ? 1 : ferry_source_refuse_shut(s, e);
		ferry_replies_clear(&s->replies, FERRY_REPLY_MAP);
		if (ferry_source_check(s, e))
			return -1;
	}
	return 0;
}

/* Empty ones; those of a recovery, which has done with them, if there was one
 * on this link. */
static struct ferry_bitmap *maps_to_fill(struct ferry_source *s,
					 struct ferry_err *e)
{
	const struct ferry_mem *mem = &s->vm->mem;
	struct ferry_bitmap *maps = atomic_load(&s->out.returns.received);

	if (!maps)
		return ferry_outflow_new_maps(mem, e);
	for (uint32_t i = 0; i < mem->blocks; i++)
		ferry_bitmap_clear_range(&maps[i], 0, mem->block[i].pages);
	return maps;
}

static int owe_again(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_bitmap *maps = maps_to_fill(s, e);
	struct ferry_returns *r = &s->out.returns;
	uint64_t pages = 0;
	int rc;

	if (!maps)
		return -1;
	ferry_replies_forget_maps(&s->replies);
	ferry_returns_expect(r, maps);
	rc = ask_maps(s, e);
	if (!rc) {	/* no FINISH was taken: it would be over there */
		atomic_store(&s->lease.free, false);
		pages = ferry_select_owe_again(&s->out.select, maps);
	}
	if (rc >= 0) {
		ferry_returns_expect(r, NULL);
		ferry_outflow_free_maps(&s->vm->mem, &maps);
		ferry_log(&s->status.log, FERRY_LOG_INFO, "%llu pages are "
			  "owed again", (unsigned long long)pages);
	}
	/* Else the thread that reads may still fill them: it is joined soon,
	 * and they are freed then. */
	return rc < 0 ? -1 : 0;
}

static bool is_told(struct ferry_source *s)
{
	struct ferry_outflow *o = &s->out;
	struct ferry_losses more;

	if (ferry_replies_seen(&s->replies) & FERRY_REPLY_LOST) {
		ferry_replies_take_losses(&s->replies, &more);
		o->told.data |= more.data;
		o->told.urgent |= more.urgent;
	}
	return (o->told.data & ~o->lost.data) ||
	       (o->told.urgent & ~o->lost.urgent);
}

/* That both have noticed one is no news. */
bool ferry_survive_has_losses(struct ferry_source *s)
{
	struct ferry_outflow *o = &s->out;
	bool any;

	if (!survives(s))
		return false;
	any = is_told(s);
	for (unsigned i = 0; !any && i < s->urgent; i++)
		any = !(o->lost.urgent >> i & 1) &&
		      ferry_requests_is_lost(&o->requests, i);
	for (unsigned i = 0; !any && i < s->data; i++)
		any = !(o->lost.data >> i & 1) &&
		      (ferry_crew_is_lost(&o->crew, i) ||
		       ferry_requests_is_lost(&o->requests, s->urgent + i));
	return any;
}

int ferry_survive_note(struct ferry_source *s, unsigned urgent,
		       struct ferry_err *e)
{
	if (!survives(s) || !ferry_err_is_link(e))
		return -1;
	ferry_requests_lose(&s->out.requests, urgent);
	on_loss(s);
	return 0;
}

int ferry_survive_heard(struct ferry_source *s, struct ferry_err *e)
{
	if (!survives(s))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "target: LOST, which "
				     "was not agreed on, or comes too early");
	ferry_crew_halt(&s->out.crew);
	return 0;
}

int ferry_survive(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_losses *told = &s->out.told;

	if (!ferry_survive_has_losses(s))
		return 0;
	if (check_told(s, told, e) || lose_data(s, told->data, e) ||
	    lose_urgent(s, told->urgent, e))
		return -1;
	return owe_again(s, e);
}
