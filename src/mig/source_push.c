/* SPDX-License-Identifier: MIT */
/*
 * Postcopy: the VM runs at the target, and the rest of its memory is sent.
 * Requests are answered by the return path's thread meanwhile.
 *
 * What was never touched goes last: it is told in few octets, and yet takes a
 * QEMU as long for each page as one that holds something.
 *
 * Conductor thread.
 */
#include "mig/source_impl.h"

#include "base/clock.h"

#define LOOK_NS		(500 * FERRY_NS_PER_MS)	/* at a push that is off */
#define SETTLE_LOOK_NS	(5 * FERRY_NS_PER_MS)
#define SETTLE_QUIET_NS	(20 * FERRY_NS_PER_MS)

/* Only now that the VM is the target's: before, it might have come back. */
static void begin_release(struct ferry_source *s)
{
	ferry_requests_once(&s->out.requests);
	atomic_store(&s->out.requests.release, true);
	s->out.crew.release = true;
}

/* For so long nothing happens but that requests are answered. */
static int idle(struct ferry_source *s, uint64_t ns, struct ferry_err *e)
{
	ferry_replies_wait(&s->replies, FERRY_REPLY_SHUT | FERRY_REPLY_LOST,
			   ferry_now_ns() + ns);
	return ferry_source_refuse_shut(s, e) || ferry_source_check(s, e) ?
	       -1 : 0;
}

static int idle_pass(struct ferry_source *s, uint64_t ns, struct ferry_err *e)
{
	return s->dialect->pass_begin(s, false, e) || idle(s, ns, e) ||
	       s->dialect->pass_end(s, e) ? -1 : 0;
}

/* Nothing is written any more: what is left may go on any channel. */
static int push_pass(struct ferry_source *s, struct ferry_err *e)
{
	if (s->dialect->pass_begin(s, false, e) ||
	    ferry_source_job(s, FERRY_JOB_PASS, 0, e))
		return -1;
	if (s->out.deals)
		ferry_crew_deal(&s->out.crew);
	return s->dialect->pass_end(s, e);
}

/*
 * A VM that starts needs a few pages one after the other.  None of them shall
 * wait behind what it does not need yet, in buffers that are the target's, or
 * share CPUs with the placing of that.  So the push begins when the VM was
 * seen to ask, and then not to for a moment; or when it has had its time.
 */
static int settle(struct ferry_source *s, struct ferry_err *e)
{
	uint64_t until = ferry_now_ns() + s->dialect->settle_ns;
	uint64_t asked_ns = UINT64_MAX, seen = 0, now;

	if (!s->dialect->settle_ns)
		return 0;
	if (s->dialect->pass_begin(s, false, e))
		return -1;
	while ((now = ferry_now_ns()) < until) {
		uint64_t requests = ferry_counted(&s->out.count.requests);

		if (requests != seen) {
			seen = requests;
			asked_ns = now;
		}
		if (seen && now - asked_ns > SETTLE_QUIET_NS)
			break;
		if (idle(s, SETTLE_LOOK_NS, e))
			return -1;
	}
	return s->dialect->pass_end(s, e);
}

/* Once per link. */
static int begin_push(struct ferry_source *s, struct ferry_err *e)
{
	ferry_status_set(&s->status, FERRY_STATE_POSTCOPY_ACTIVE);
	atomic_store(&s->out.count.pass, 0);
	if (ferry_param(&s->params, FERRY_P_RELEASE_RAM))
		begin_release(s);
	if (ferry_govern_begin(s, e) || settle(s, e))
		return -1;
	ferry_select_later(&s->out.select, s->out.untouched);
	s->out.dealt = 0;
	return 0;
}

/* Once a channel was lost, what is owed may have come, and nobody asks. */
bool ferry_source_pushes(struct ferry_source *s)
{
	return ferry_param(&s->params, FERRY_P_PUSH) ||
	       s->out.lost.data || s->out.lost.urgent;
}

static int push(struct ferry_source *s, struct ferry_err *e)
{
	for (;;) {
		bool on;

		if (ferry_survive(s, e))
			return -1;
		if (!ferry_owed_pages(&s->out.owed))
			return 0;
		on = ferry_source_pushes(s);
		ferry_pace_set(&s->out.crew.pace, ferry_source_push_rate(s));
		if (on ? push_pass(s, e) : idle_pass(s, LOOK_NS, e))
			return -1;
		if (on)
			ferry_select_later(&s->out.select, NULL);
	}
}

/* Until nothing is owed, and the target has said so. */
int ferry_source_push(struct ferry_source *s, struct ferry_err *e)
{
	int rc;

	if (begin_push(s, e))
		return -1;
	do
		rc = push(s, e) ? -1 : s->dialect->finish(s, e);
	while (rc > 0);
	return rc;
}
