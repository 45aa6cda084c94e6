/* SPDX-License-Identifier: MIT */
/*
 * The conductor: the algorithm of a migration as a list of calls, and the end
 * of it when one of them fails.
 *
 * Thread: "ferry-source", which alone changes the state and, but for signs of
 * life, alone speaks on the main channel.
 */
#include "mig/source_impl.h"

#include <inttypes.h>
#include <poll.h>

#include "base/clock.h"

#define DISCARD_FEW	200u	/* pages; about a millisecond */
#define LOOK_NS		(500 * FERRY_NS_PER_MS)	/* at what may have changed */
#define ROOM_LOOK_MS	10
#define LAG_LOOK_NS	(50 * FERRY_NS_PER_MS)	/* at who is late */
#define LAG_NS		(50 * FERRY_NS_PER_MS)	/* the first time in a pass; */
#define LAG_TIMES	6u		/* doubled each time, so often */

/* ---- waiting ------------------------------------------------------------- */

static int halted(enum ferry_halt why, struct ferry_err *e)
{
	static const char *const orders[] = {
		[FERRY_HALT_NONE] = "",
		[FERRY_HALT_PAUSED] = "paused",
		[FERRY_HALT_CANCELLED] = "cancelled",
		[FERRY_HALT_BACK] = "told to be rolled back",
	};

	return ferry_err_set(e, FERRY_E_CANCELLED, 0, "%s by the user: the VM "
			     "was handed over, and what is missing there is "
			     "kept here until it is recovered", orders[why]);
}

int ferry_source_check(struct ferry_source *s, struct ferry_err *e)
{
	unsigned seen = ferry_replies_seen(&s->replies);
	int halt = atomic_load(&s->orders.halt);

	if (atomic_load(&s->orders.gate) == FERRY_GATE_CANCELLED)
		return ferry_err_set(e, FERRY_E_CANCELLED, 0,
				     "cancelled by the user");
	if (seen & (FERRY_REPLY_REFUSED | FERRY_REPLY_DIFFERS))
		return ferry_replies_why(&s->replies, e);
	if (atomic_load(&s->orders.quit))
		return ferry_err_set(e, FERRY_E_CANCELLED, 0,
				     "the source is being taken down");
	if (halt)
		return halted((enum ferry_halt)halt, e);
	if (s->bulk.ops && ferry_bulk_out_check(&s->bulk, e))
		return -1;
	/* After SHUT the peer closes: that is no bad news. */
	if ((seen & FERRY_REPLY_BROKEN) && !(seen & FERRY_REPLY_SHUT))
		return ferry_replies_why(&s->replies, e);
	return 0;
}

int ferry_source_refuse_shut(struct ferry_source *s, struct ferry_err *e)
{
	if (!(ferry_replies_seen(&s->replies) & FERRY_REPLY_SHUT))
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "the target says that it has all of the VM before "
			     "all was sent");
}

/* The conductor may be called off while a channel takes nothing. */
int ferry_source_await_room(void *source, struct ferry_chan *chan,
			    struct ferry_err *e)
{
	struct ferry_source *s = source;
	uint64_t until = ferry_now_ns() + FERRY_NS_PER_MS *
			 ferry_param(&s->params, FERRY_P_TIMEOUT);

	while (!chan->ops->wait(chan, POLLOUT, ROOM_LOOK_MS)) {
		if (ferry_source_check(s, e))
			return -1;
		if (ferry_now_ns() > until)
			return ferry_chan_err(chan, "write", -ETIMEDOUT, e);
	}
	return 0;
}

int ferry_source_await(struct ferry_source *s, unsigned wanted,
		       struct ferry_err *e)
{
	for (;;) {
		unsigned seen = ferry_replies_wait(&s->replies, wanted,
						   ferry_now_ns() + LOOK_NS);

		if (seen & wanted) {
			ferry_replies_clear(&s->replies, wanted);
			return 0;
		}
		if (ferry_source_check(s, e))
			return -1;
	}
}

/* UINT64_MAX: there is none, or it is kept. */
static uint64_t deadline(struct ferry_source *s)
{
	uint64_t by = ferry_param(&s->params, FERRY_P_BY) * FERRY_NS_PER_MS;

	return by && !s->stopped ? s->started_ns + by : UINT64_MAX;
}

/* A precopy pass that is not worth finishing, or a push switched off. */
static bool shall_halt(struct ferry_source *s)
{
	if (s->stopped)
		return s->postcopy && (ferry_survive_has_losses(s) ||
				       !ferry_source_pushes(s));
	return atomic_load(&s->orders.want_postcopy) ||
	       ferry_now_ns() >= deadline(s);
}

/* Who is done with its share does not wait for long for a channel that is
 * slower, but the longer, the more often a barrier was paid for that. */
static bool shall_deal(struct ferry_source *s)
{
	unsigned n = s->out.dealt < LAG_TIMES ? s->out.dealt : LAG_TIMES;

	return s->dialect == &ferry_dialect_ferry && s->data > 1 &&
	       ferry_crew_lags(&s->out.crew, LAG_NS << n);
}

static uint64_t next_look(struct ferry_source *s)
{
	uint64_t now = ferry_now_ns();
	uint64_t look = now + (s->data > 1 ? LAG_LOOK_NS : LOOK_NS);
	uint64_t by = deadline(s);

	return by > now && by < look ? by : look;
}

int ferry_source_job(struct ferry_source *s, enum ferry_job job,
		     uint32_t sequence, struct ferry_err *e)
{
	int rc;

	s->out.deals = false;
	ferry_crew_begin(&s->out.crew, job, sequence);
	do {
		/* With bad news a sender that is stuck is not waited for:
		 * the crew is stopped as a whole soon. */
		if (ferry_source_check(s, e))
			return -1;
		/* Also when the wish came before the job began. */
		if (!s->out.deals && shall_deal(s)) {
			s->out.deals = true;
			s->out.dealt++;
		}
		if (s->out.deals || shall_halt(s))
			ferry_crew_halt(&s->out.crew);
		rc = ferry_crew_wait(&s->out.crew, next_look(s), e);
		if (rc < 0)
			return -1;
	} while (!rc);
	return ferry_source_check(s, e);
}

void ferry_source_note(struct ferry_source *s, const char *step)
{
	ferry_log(&s->status.log, FERRY_LOG_DEBUG,
		  "switchover: %s, %" PRIu64 " us after the VM was to stop",
		  step, (uint64_t)((ferry_now_ns() - s->stopped_ns) /
				   FERRY_NS_PER_US));
}

bool ferry_source_commit(struct ferry_source *s)
{
	int open = FERRY_GATE_OPEN;

	return atomic_compare_exchange_strong(&s->orders.gate, &open,
					      FERRY_GATE_COMMITTED);
}

static bool on_message(void *arg, const struct ferry_rp *m)
{
	struct ferry_source *s = arg;
	struct ferry_err err;

	if (m->type == FERRY_RP_FAULTS)
		ferry_govern_heard(s, &m->faults);
	if (m->type == FERRY_RP_LOST && ferry_survive_heard(s, &err)) {
		ferry_replies_broken(&s->replies, &err);
		return false;
	}
	if (m->type == FERRY_RP_ASK_LEASE)	/* the heart answers */
		atomic_store(&s->lease.asked, m->value);
	return ferry_source_bulk_message(s, m) ||
	       ferry_replies_post(&s->replies, m);
}

static void on_broken(void *arg, const struct ferry_err *why)
{
	struct ferry_source *s = arg;

	ferry_replies_broken(&s->replies, why);
	ferry_crew_halt(&s->out.crew);
}

int ferry_source_listen_back(struct ferry_source *s,
			     enum ferry_dialect dialect, struct ferry_err *e)
{
	static const struct ferry_returns_ops ops = { on_message, on_broken };
	struct ferry_returns *r = &s->out.returns;

	r->ops = &ops;
	r->arg = s;
	r->mem = &s->vm->mem;
	r->requests = &s->out.requests;
	r->dialect = dialect;
	r->threads = s->urgent;
	r->last_word_ns = s->last_word_ns;
	/* What came behind the answer is there already. */
	r->in = s->main_in;
	s->main_in = (struct ferry_inbuf){ 0 };
	if (!r->in.chan &&
	    ferry_inbuf_init(&r->in, s->main, FERRY_RETURNS_BUF_BYTES, e))
		return -1;
	return ferry_returns_start(r, e);
}

/* ---- precopy ---------------------------------------------------------------- */

static void set_limit(struct ferry_source *s, enum ferry_param limit)
{
	ferry_pace_set(&s->out.crew.pace, ferry_param(&s->params, limit));
}

static void note_distinct(struct ferry_source *s)
{
	uint64_t owed = ferry_owed_pages(&s->out.owed);
	uint64_t have = s->vm->mem.pages - owed;

	if (have > atomic_load(&s->fig.distinct_pages))
		atomic_store(&s->fig.distinct_pages, have);
}

/* All that is owed, once.  A stripe goes to another channel only behind a
 * barrier: a page that was sent before it is placed. */
static int send_owed(struct ferry_source *s, struct ferry_err *e)
{
	s->out.dealt = 0;
	for (;;) {
		if (ferry_source_job(s, FERRY_JOB_PASS, 0, e))
			return -1;
		if (!s->out.deals)
			return 0;
		if (s->dialect->barrier(s, e))
			return -1;
		ferry_crew_deal(&s->out.crew);
		ferry_log(&s->status.log, FERRY_LOG_DEBUG,
			  "a channel is late: %" PRIu64 " pages are dealt anew",
			  ferry_owed_pages(&s->out.owed));
	}
}

/*
 * One pass over what is owed, ended early by cancel, a wish for postcopy or
 * the deadline.  Each sender then still ends the stripe it has begun: what was
 * taken from the map must go out (or be owed again), and a host page that was
 * begun must be sent whole.  It is a stripe's worth at most, 256 KiB or one
 * host page, and is as good as any other page of the pass.
 */
static int one_pass(struct ferry_source *s, bool last, struct ferry_err *e)
{
	uint64_t begin = ferry_now_ns(), owed = ferry_owed_pages(&s->out.owed);
	uint64_t ns, sent;

	atomic_store(&s->out.count.pass,
		     (uint32_t)atomic_load(&s->fig.passes) + 1);
	if (s->dialect->pass_begin(s, last, e) || send_owed(s, e) ||
	    s->dialect->pass_end(s, e))
		return -1;

	ns = ferry_now_ns() - begin;
	sent = owed - ferry_owed_pages(&s->out.owed);
	if (ns && sent)
		atomic_store(&s->fig.rate, (uint64_t)((double)sent *
			     FERRY_PAGE_BYTES * 1e9 / (double)ns));
	note_distinct(s);
	return 0;
}

static void note_dirty_rate(struct ferry_source *s, uint64_t since_ns)
{
	uint64_t ns = ferry_now_ns() - since_ns;
	uint64_t pages = ferry_owed_pages(&s->out.owed);

	if (ns)
		atomic_store(&s->fig.dirty_pages_per_s,
			     (uint64_t)((double)pages * 1e9 / (double)ns));
}

static void fill_policy(struct ferry_source *s, unsigned over_limit,
			uint64_t before_bytes, struct ferry_policy_in *in)
{
	struct ferry_params *p = &s->params;

	*in = (struct ferry_policy_in){
		.passes = atomic_load(&s->fig.passes),
		.remaining_bytes = ferry_owed_pages(&s->out.owed) *
				   FERRY_PAGE_BYTES,
		.before_bytes = before_bytes,
		.rate = atomic_load(&s->fig.rate),
		.dirty_rate = atomic_load(&s->fig.dirty_pages_per_s) *
			      FERRY_PAGE_BYTES,
		.elapsed_ns = ferry_now_ns() - s->started_ns,
		.over_limit = over_limit,
		.throttle_percent = atomic_load(&s->fig.throttle_percent),
		.max_pause_ns = ferry_param(p, FERRY_P_DOWNTIME_LIMIT) *
				FERRY_NS_PER_MS,
		.deadline_ns = ferry_param(p, FERRY_P_BY) * FERRY_NS_PER_MS,
		.precopy_passes = (unsigned)ferry_param(p, FERRY_P_PASSES),
		.max_passes = (unsigned)ferry_param(p, FERRY_P_MAX_PASSES),
		.may_postcopy = ferry_param(p, FERRY_P_POSTCOPY_RAM),
		.may_throttle = ferry_param(p, FERRY_P_AUTO_CONVERGE),
		.throttle_initial =
			(unsigned)ferry_param(p, FERRY_P_THROTTLE_INITIAL),
		.throttle_increment =
			(unsigned)ferry_param(p, FERRY_P_THROTTLE_INCREMENT),
		.throttle_max = (unsigned)ferry_param(p, FERRY_P_THROTTLE_MAX),
	};
	if (atomic_load(&s->orders.want_postcopy))	/* on demand: now */
		in->precopy_passes = 0;
	ferry_source_bulk_policy(s, in);
}

static void throttle(struct ferry_source *s, unsigned percent)
{
	if (atomic_exchange(&s->fig.throttle_percent, percent) != percent)
		s->vm->ops.throttle(s->vm->opaque, percent);
}

/* Passes until the policy wants something else; *out says what. */
static int precopy(struct ferry_source *s, struct ferry_policy_out *out,
		   struct ferry_err *e)
{
	uint64_t harvested = ferry_now_ns(), before = 0;
	unsigned over_limit = 0;

	for (;;) {
		struct ferry_policy_in in;

		fill_policy(s, over_limit, before, &in);
		before = in.passes ? in.remaining_bytes : 0;
		*out = ferry_policy(&in, e);
		atomic_store(&s->fig.expected_pause_ns,
			     out->expected_pause_ns);
		if (out->what == FERRY_DO_HOLD) {
			if (ferry_source_bulk_rest(s, e) ||
			    ferry_outflow_harvest(s, false, e))
				return -1;
			continue;
		}
		if (out->what == FERRY_DO_THROTTLE)
			throttle(s, out->throttle_percent);
		else if (out->what != FERRY_DO_PASS)
			return out->what == FERRY_DO_GIVE_UP ? -1 : 0;

		ferry_status_event(&s->status, FERRY_EVENT_PASS,
				   in.passes + 1, "");
		set_limit(s, FERRY_P_MAX_BANDWIDTH);
		if (one_pass(s, false, e))
			return -1;
		atomic_fetch_add(&s->fig.passes, 1);
		if (ferry_outflow_harvest(s, false, e))
			return -1;
		note_dirty_rate(s, harvested);
		harvested = ferry_now_ns();

		if (ferry_policy_pause_ns(ferry_owed_pages(&s->out.owed) *
					  FERRY_PAGE_BYTES,
					  atomic_load(&s->fig.rate)) >
		    in.max_pause_ns)
			over_limit++;
		else
			over_limit = 0;
	}
}

/* ---- switchover ---------------------------------------------------------------- */

static int stop_vm(struct ferry_source *s, struct ferry_err *e)
{
	if (ferry_source_bulk_park(s, e))
		return -1;
	s->vm->was_running = s->vm->ops.running(s->vm->opaque);
	ferry_status_set(&s->status, FERRY_STATE_DEVICE);
	s->stopped_ns = ferry_now_ns();
	s->stopped = true;
	if (s->vm->ops.stop(s->vm->opaque, e))
		return ferry_err_wrap(e, "stop the VM");
	if (ferry_source_bulk_stopped(s, e))
		return -1;
	ferry_source_note(s, "stopped");
	if (ferry_outflow_harvest(s, true, e))
		return -1;
	ferry_select_stopped(&s->out.select);
	ferry_source_note(s, "last writes found");
	return 0;
}

/* Those of a parked VM were saved long ago. */
static int save_devices(struct ferry_source *s, struct ferry_save *dev,
			struct ferry_err *e)
{
	if (!s->vm->state)
		return ferry_dev_save_all(&s->vm->devices,
					  FERRY_RAM_SECTION_ID + 1, dev, e);
	ferry_save_bytes(dev, s->vm->state, s->vm->state_bytes);
	return dev->failed ? ferry_err_set(e, FERRY_E_NOMEM, dev->failed,
					   "device state") : 0;
}

static int hand_over(struct ferry_source *s, struct ferry_save *dev,
		     struct ferry_err *e)
{
	uint64_t before = ferry_counted(&s->out.count.bytes);

	ferry_source_bulk_behind_memory(s);
	if (save_devices(s, dev, e))
		return -1;
	ferry_source_note(s, "devices saved");
	if (s->dialect->hand_over(s, dev, e))
		return -1;
	atomic_fetch_add(&s->fig.pause_bytes,
			 ferry_counted(&s->out.count.bytes) - before +
			 dev->bytes);
	return 0;
}

static int switch_precopy(struct ferry_source *s, struct ferry_save *dev,
			  struct ferry_err *e)
{
	uint64_t before;

	if (stop_vm(s, e))
		return -1;
	before = ferry_counted(&s->out.count.bytes);
	ferry_pace_set(&s->out.crew.pace, 0);
	if (one_pass(s, true, e) || s->dialect->all_sent(s, e))
		return -1;
	ferry_source_note(s, "memory sent");
	atomic_store(&s->fig.pause_bytes,
		     ferry_counted(&s->out.count.bytes) - before);
	return hand_over(s, dev, e);
}

/*
 * What is stale at the target is dropped there ahead, while the VM still runs
 * here, so that little is left to drop between stop and start.  Dropping takes
 * time (a system call for each page that stands alone), in which the VM writes
 * on: that is repeated until little is left, or it does not get less.
 */
static int discard_ahead(struct ferry_source *s, struct ferry_err *e)
{
	uint64_t before = UINT64_MAX;

	if (s->dialect->barrier(s, e))
		return -1;
	for (;;) {
		uint64_t now;

		if (ferry_outflow_harvest(s, false, e) ||
		    s->dialect->discard(s, false, e) ||
		    s->dialect->barrier(s, e))
			return -1;
		now = s->out.discarded_pages;
		if (now < DISCARD_FEW || now > before / 2)
			return 0;
		before = now;
	}
}

static enum ferry_order push_order(struct ferry_source *s)
{
	static const enum ferry_order order[] = {
		[FERRY_PUSH_LINEAR] = FERRY_ORDER_LINEAR,
		[FERRY_PUSH_NEAR] = FERRY_ORDER_NEAR,
		[FERRY_PUSH_HOT] = FERRY_ORDER_HOT,
	};

	return order[ferry_param(&s->params, FERRY_P_PUSH_ORDER)];
}

static int switch_postcopy(struct ferry_source *s, struct ferry_save *dev,
			   struct ferry_err *e)
{
	s->postcopy = true;
	if (atomic_load(&s->fig.passes) && discard_ahead(s, e))
		return -1;
	if (stop_vm(s, e) ||
	    ferry_select_still(&s->out.select, push_order(s), e) ||
	    s->dialect->discard(s, true, e))
		return -1;
	ferry_source_note(s, "stale pages told");
	if (!atomic_load(&s->fig.passes) && ferry_outflow_resurvey(s, e))
		return -1;
	return hand_over(s, dev, e);
}

static int migrate(struct ferry_source *s, struct ferry_save *dev,
		   struct ferry_err *e)
{
	struct ferry_policy_out out;

	if (s->dialect->connect(s, e) || s->dialect->begin(s, e) ||
	    ferry_source_check(s, e))
		return -1;
	ferry_status_set(&s->status, FERRY_STATE_ACTIVE);
	if (ferry_source_bulk_begin(s, e) || precopy(s, &out, e))
		return -1;
	atomic_store(&s->fig.precopy_bytes,
		     ferry_counted(&s->out.count.bytes));

	if (out.what == FERRY_DO_POSTCOPY)
		return switch_postcopy(s, dev, e) || ferry_source_push(s, e) ? -1 : 0;
	return switch_precopy(s, dev, e) || s->dialect->finish(s, e) ? -1 : 0;
}

static int go_on(struct ferry_source *s, struct ferry_err *e)
{
	bool all;

	if (ferry_source_reconnect(s, &all, e))
		return -1;
	return all ? 0 : ferry_source_push(s, e);
}

void ferry_source_conduct(void *source)
{
	struct ferry_source *s = source;
	struct ferry_save dev = { 0 };
	struct ferry_err err = { 0 };
	int rc;

	s->started_ns = ferry_now_ns();
	rc = migrate(s, &dev, &err);
	ferry_save_fini(&dev);
	while (rc && ferry_source_broke(s, &err)) {
		err = (struct ferry_err){ 0 };
		rc = go_on(s, &err);
	}
	if (!rc)
		ferry_source_complete(s);
}
