/* SPDX-License-Identifier: MIT */
/*
 * The push of postcopy is held back for the faults (mig/govern.h), by what the
 * target reports: only there it is seen how long the guest waits.
 *
 * Threads: begin by the conductor; heard by whoever has the turn of the return
 *          path; rate by both.
 */
#include "mig/source_impl.h"

#include "base/clock.h"

static uint64_t limit_ns(struct ferry_source *s)
{
	return ferry_param(&s->params, FERRY_P_MAX_FAULT_P99) *
	       FERRY_NS_PER_US;
}

uint64_t ferry_source_push_rate(struct ferry_source *s)
{
	uint64_t most = ferry_param(&s->params,
				    FERRY_P_MAX_POSTCOPY_BANDWIDTH);
	uint64_t rate = atomic_load(&s->fig.push_limit);

	if (!limit_ns(s) || !rate)
		return most;
	return most && most < rate ? most : rate;
}

int ferry_govern_begin(struct ferry_source *s, struct ferry_err *e)
{
	if (!(s->features & FERRY_FEATURE_SURVIVE))
		return 0;
	atomic_store(&s->govern.anew, true);
	/* Before the first report the buffers would be full. */
	atomic_store(&s->fig.push_limit, limit_ns(s) ? FERRY_GOVERN_FIRST : 0);
	return ferry_speak_u32(&s->speak, FERRY_COMMAND_WATCH, 1, e);
}

/* What got through since the last report, as the pace counts it. */
static uint64_t pushed(struct ferry_source *s, uint64_t now)
{
	struct ferry_governor *g = &s->govern;
	uint64_t bytes = ferry_counted(&s->out.count.bytes);
	uint64_t ns = now - g->since_ns, n = bytes - g->bytes;

	g->since_ns = now;
	g->bytes = bytes;
	return ns ? (uint64_t)((double)n * 1e9 / (double)ns) : 0;
}

void ferry_govern_heard(struct ferry_source *s,
			const struct ferry_rp_faults *f)
{
	struct ferry_govern_in in = {
		.limit_ns = limit_ns(s),
		.waits = f->waits,
		.p99_ns = f->p99_us * FERRY_NS_PER_US,
		.oldest_ns = f->oldest_us * FERRY_NS_PER_US,
		.pushed = pushed(s, ferry_now_ns()),
		.most = ferry_param(&s->params,
				    FERRY_P_MAX_POSTCOPY_BANDWIDTH),
	};

	if (atomic_exchange(&s->govern.anew, false))
		s->govern.law = (struct ferry_govern){ 0 };
	if (f->waits || f->oldest_us)
		atomic_store(&s->fig.fault_p99_ns, f->waits ? in.p99_ns :
							      in.oldest_ns);
	if (!in.limit_ns) {	/* it may be switched off, and on again */
		s->govern.law = (struct ferry_govern){ 0 };
	} else {
		s->govern.law = ferry_govern(s->govern.law, &in);
		ferry_log(&s->status.log, FERRY_LOG_DEBUG, "faults: %u waits, "
			  "p99 %u us, oldest %u us; the push may take %llu "
			  "KiB/s, took %llu", f->waits, f->p99_us,
			  f->oldest_us, (unsigned long long)
			  (s->govern.law.rate >> 10),
			  (unsigned long long)(in.pushed >> 10));
	}
	atomic_store(&s->fig.push_limit, s->govern.law.rate);
	ferry_pace_set(&s->out.crew.pace, ferry_source_push_rate(s));
}
