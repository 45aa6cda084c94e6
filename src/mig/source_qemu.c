/* SPDX-License-Identifier: MIT */
/*
 * The source towards a QEMU, or into a file: everything on the main channel in
 * QEMU's own protocol, which negotiates nothing and knows no commit message.
 * What is handed over is handed over by sending it: the package in postcopy,
 * the end of the stream in precopy.
 *
 * With preempt there is a second connection, for pages that were asked for:
 * bare records, and EOS at its end.  It is opened at once and so found by
 * every QEMU: one of 7.2 reads nothing before it is there.
 *
 * With multifd pages go on connections of their own in precopy
 * (source_multifd.c).
 *
 * A QEMU that refuses says nothing and hangs up.  So that this is not taken for
 * a connection lost after the VM was handed over, all that can be refused
 * beforehand comes first (machine, blocks, postcopy), then PING, and nothing
 * more is said until the PONG is there.
 *
 * Conductor thread.
 */
#include "mig/source_impl.h"

#include "base/clock.h"
#include "wire/ram.h"
#include "wire/text.h"

static bool two_way(struct ferry_source *s)
{
	struct ferry_chan *main = s->main;

	return main->ops->features(main) & FERRY_CHAN_TWO_WAY;
}

static bool wants_preempt(struct ferry_source *s)
{
	return two_way(s) && (s->dialer.features & FERRY_CHAN_MORE) &&
	       ferry_param(&s->params, FERRY_P_POSTCOPY_RAM) &&
	       ferry_param(&s->params, FERRY_P_QEMU_PREEMPT);
}

static int open_preempt(struct ferry_source *s, struct ferry_err *e)
{
	uint32_t ms = ferry_patience_ms(&s->params);
	struct ferry_chan *chan;

	if (!wants_preempt(s))
		return 0;
	chan = ferry_source_dial(s, FERRY_CHANNEL_URGENT, 0, e);
	if (!chan)
		return ferry_err_wrap(e, "preempt channel");
	ferry_chan_set_name(chan, "preempt");
	chan->ops->set_timeout(chan, 0, ms);
	ferry_lane_init(&s->out.urgent[0], chan, true, ferry_encoder_records,
			&s->out.count);
	return 0;
}

static int open_main(struct ferry_source *s, struct ferry_err *e)
{
	uint32_t ms = ferry_patience_ms(&s->params);
	struct ferry_chan *main = ferry_source_dial(s, FERRY_CHANNEL_MAIN, 0,
						    e);

	if (!main)
		return -1;
	ferry_chan_set_name(main, "main");
	/* Nothing is heard while the target loads: no limit on silence. */
	main->ops->set_timeout(main, 0, ms);
	/* A QEMU of 7.2 leaves Nagle on where it asks for pages. */
	main->ops->ack_at_once(main);
	atomic_store(&s->main, main);
	ferry_speaker_move(&s->speak, main);
	s->speak.dialect = FERRY_DIALECT_QEMU;
	s->out.requests.again = false;
	return ferry_crew_add(&s->out.crew, main, false,
			      ferry_encoder_records, e);
}

static int listen_back(struct ferry_source *s, struct ferry_err *e)
{
	return two_way(s) ?
	       ferry_source_listen_back(s, FERRY_DIALECT_QEMU, e) : 0;
}

static const struct ferry_mem_block *largest(const struct ferry_mem *mem)
{
	const struct ferry_mem_block *found = &mem->block[0];

	for (uint32_t i = 1; i < mem->blocks; i++)
		if (mem->block[i].bytes > found->bytes)
			found = &mem->block[i];
	return found;
}

/* It hangs up, or is silent, for what it has against the VM; why, it tells its
 * log.  -1: for `return`. */
static int explain(struct ferry_source *s, struct ferry_err *e)
{
	const struct ferry_mem_block *ram = largest(&s->vm->mem);

	if (!two_way(s) || !ferry_err_is_link(e))
		return -1;
	return ferry_err_wrap(e, "the target did not take the VM (%s): it "
			      "must have machine type %.40s, %llu MiB of %.40s,"
			      " the same devices%s",
			      e->code == FERRY_E_TIMEOUT ?
			      "multifd and postcopy-preempt must be the same "
			      "there" : "its log says why",
			      FERRY_SHOW(s->vm->name),
			      (unsigned long long)(ram->bytes >> 20),
			      FERRY_SHOW(ram->name),
			      ferry_param(&s->params, FERRY_P_POSTCOPY_RAM) ?
			      ", postcopy-ram on" : "");
}

/* One that looks at the first octets of each connection does nothing else
 * before they come: they are said before the next is made. */
static int qemu_connect(struct ferry_source *s, struct ferry_err *e)
{
	if (open_main(s, e))
		return -1;
	if (ferry_speak_open(&s->speak, s->vm->name, e) ||
	    ferry_multifd_open(s, e) || open_preempt(s, e) ||
	    listen_back(s, e))
		return explain(s, e);
	return 0;
}

/* All pages go on main and preempt then. */
static int qemu_reconnect(struct ferry_source *s, struct ferry_err *e)
{
	return open_main(s, e) || open_preempt(s, e) || listen_back(s, e) ?
	       -1 : 0;
}

static int await_pong(struct ferry_source *s, struct ferry_err *e)
{
	uint64_t until = ferry_now_ns() + FERRY_NS_PER_MS *
			 ferry_patience_ms(&s->params);

	while (!(ferry_replies_wait(&s->replies, FERRY_REPLY_PONG, until) &
		 FERRY_REPLY_PONG)) {
		if (ferry_source_refuse_shut(s, e) ||
		    ferry_source_check(s, e))
			return -1;
		if (ferry_now_ns() >= until)
			return ferry_err_set(e, FERRY_E_TIMEOUT, 0,
					     "the target says nothing");
	}
	return 0;
}

static int say_all_it_may_refuse(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_speaker *sp = &s->speak;

	if (two_way(s) && ferry_speak(sp, FERRY_COMMAND_OPEN_RETURN_PATH, e))
		return -1;
	if (two_way(s) && ferry_param(&s->params, FERRY_P_POSTCOPY_RAM) &&
	    ferry_speak_advise(sp, e))
		return -1;
	if (ferry_multifd_mark(s, e) || ferry_speak_ram_start(sp, e) ||
	    ferry_parts_say_begin(s, e) ||
	    (two_way(s) && ferry_speak_u32(sp, FERRY_COMMAND_PING, 1, e)) ||
	    ferry_outflow_survey(s, true, e))
		return -1;
	return two_way(s) ? await_pong(s, e) : 0;
}

static int qemu_begin(struct ferry_source *s, struct ferry_err *e)
{
	return say_all_it_may_refuse(s, e) ? explain(s, e) : 0;
}

/* Once; there is one way. */
static void take_requests(struct ferry_source *s, struct ferry_lane *lane)
{
	if (!ferry_requests_open(&s->out.requests))
		ferry_requests_add(&s->out.requests, lane, false);
}

/*
 * In postcopy pages that are asked for leave on main too, by another thread
 * (but for preempt), and may do so only inside a RAM section: outside of one
 * the conductor has the turn.
 */
static void take_turn(struct ferry_source *s)
{
	struct ferry_lane *lane = &s->out.crew.sender[0]->lane;

	if (s->out.urgent[0].chan) {
		take_requests(s, &s->out.urgent[0]);
		return;
	}
	ferry_lane_enter_urgent(lane);
	s->turn = lane;
	take_requests(s, lane);
}

static void give_turn(struct ferry_source *s)
{
	if (s->turn)
		ferry_lane_leave(s->turn);
	s->turn = NULL;
}

static int qemu_pass_begin(struct ferry_source *s, bool last,
			   struct ferry_err *e)
{
	if ((last && ferry_parts_say_switch(s, e)) ||
	    ferry_speak_ram_open(&s->speak, last, e))
		return -1;
	give_turn(s);
	return 0;
}

static int qemu_pass_end(struct ferry_source *s, struct ferry_err *e)
{
	if (ferry_multifd_mark(s, e))
		return -1;
	if (ferry_requests_open(&s->out.requests))
		take_turn(s);
	return ferry_speak_ram_close(&s->speak, e);
}

/* One channel carries all, in order. */
static int no_barrier(struct ferry_source *s, struct ferry_err *e)
{
	(void)s;
	(void)e;
	return 0;
}

/* A QEMU wants to hear of every page that will come, once. */
static int qemu_discard(struct ferry_source *s, bool last, struct ferry_err *e)
{
	struct ferry_mem *mem = &s->vm->mem;

	for (uint32_t i = 0; last && i < mem->blocks; i++)
		if (ferry_speak_ranges(&s->speak, FERRY_COMMAND_RAM_DISCARD,
				       &mem->block[i], &s->out.owed.map[i],
				       true, e))
			return -1;
	return 0;
}

static int write_out(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_chan *main = s->main;
	int rc = two_way(s) ? 0 : main->ops->flush(main);

	return rc ? ferry_err_set(e, FERRY_E_IO, -rc, "write it out") : 0;
}

static int qemu_hand_over(struct ferry_source *s, const struct ferry_save *dev,
			  struct ferry_err *e)
{
	struct ferry_chan *main = s->main;
	int rc;

	if (ferry_source_refuse_shut(s, e))
		return -1;
	if (!ferry_source_commit(s))
		return ferry_source_check(s, e);
	if (s->postcopy) {	/* requests come as soon as it is read */
		ferry_multifd_rest(s);
		take_turn(s);
	}
	if (s->postcopy)
		rc = ferry_speak_package(&s->speak, true, dev->data,
					 dev->bytes, e);
	else
		rc = ferry_parts_say_end(s, e) ||
		     ferry_speak_end(&s->speak, dev->data, dev->bytes, e) ||
		     write_out(s, e);
	/* A target runs only when it has read all of it; a file counts only
	 * when all of it is on the disk. */
	if (rc) {
		main->ops->shutdown(main);
		return ferry_err_wrap(e, "hand over");
	}
	ferry_status_handed(&s->status);
	atomic_store(&s->fig.pause_ns, ferry_now_ns() - s->stopped_ns);
	if (s->postcopy) {
		ferry_status_heard(&s->status);
		ferry_crew_limit_unsent(&s->out.crew,
					FERRY_UNSENT_POSTCOPY_BYTES);
	}
	return 0;
}

/* Nothing more will come on it: a QEMU of 7.2 waits for that word. */
static int end_preempt(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_lane *lane = &s->out.urgent[0];
	uint8_t octets[FERRY_RAM_MARK_WIRE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
	int rc;

	if (!lane->chan)
		return 0;
	ferry_ram_mark_encode(&w, FERRY_RAM_EOS, 0);
	ferry_lane_enter_urgent(lane);
	rc = ferry_chan_write(lane->chan, octets, sizeof(octets), e);
	ferry_lane_leave(lane);
	return rc;
}

static int qemu_finish(struct ferry_source *s, struct ferry_err *e)
{
	if (s->postcopy && ferry_source_refuse_shut(s, e))
		return -1;
	if (end_preempt(s, e))
		return -1;
	if (s->postcopy && (ferry_speak_ram_open(&s->speak, true, e) ||
			    ferry_speak_ram_close(&s->speak, e) ||
			    ferry_speak_eof(&s->speak, e)))
		return -1;
	/* Nothing is owed: who asks now finds nothing to send. */
	give_turn(s);
	return two_way(s) ? ferry_source_await(s, FERRY_REPLY_SHUT, e) : 0;
}

/* ---- after a lost link ------------------------------------------------------- */

/* A QEMU in postcopy-paused listens again when told to (migrate-recover), and
 * says nothing before it is asked. */
static int qemu_may_return(struct ferry_source *s, struct ferry_err *e)
{
	if (s->postcopy && (s->dialer.features & FERRY_CHAN_MORE))
		return 0;
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "a QEMU can go on "
			     "after a lost link in postcopy only, and by "
			     "tcp: or unix:");
}

static int qemu_settle(struct ferry_source *s, bool *all, struct ferry_err *e)
{
	(void)s;
	(void)e;
	*all = false;
	return 0;
}

static int qemu_rejoin(struct ferry_source *s, struct ferry_err *e)
{
	struct ferry_outflow *o = &s->out;

	(void)e;
	o->crew.sender[0]->lane.enc.untouched = o->untouched;
	o->urgent[0].enc.untouched = o->untouched;
	ferry_crew_limit_unsent(&o->crew, FERRY_UNSENT_POSTCOPY_BYTES);
	take_turn(s);	/* requests come behind RESUME_ACK */
	return 0;
}

const struct ferry_dialect_ops ferry_dialect_qemu = {
	.name = "qemu",
	.settle_ns = 150 * FERRY_NS_PER_MS,
	.connect = qemu_connect,
	.begin = qemu_begin,
	.pass_begin = qemu_pass_begin,
	.pass_end = qemu_pass_end,
	.barrier = no_barrier,
	.discard = qemu_discard,
	.all_sent = no_barrier,
	.hand_over = qemu_hand_over,
	.finish = qemu_finish,
	.may_return = qemu_may_return,
	.reconnect = qemu_reconnect,
	.settle = qemu_settle,
	.rejoin = qemu_rejoin,
};
