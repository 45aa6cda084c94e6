/* SPDX-License-Identifier: MIT */
/*
 * How long the guest waits for pages is seen here and nowhere else: from the
 * fault to the page in its place.  A source that wants to know hears it with
 * each beat of the heart.
 *
 * Threads: WATCH by the reader, the rest by the heart.
 */
#include "mig/target_impl.h"

#include <string.h>

#include "base/clock.h"

int ferry_watch_faults(struct ferry_target *t, struct ferry_rd *rd,
		       struct ferry_err *e)
{
	uint32_t on;

	if (ferry_command_u32_decode(rd, FERRY_COMMAND_WATCH, &on, e))
		return -1;
	if (!(t->features & FERRY_FEATURE_SURVIVE))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "WATCH was not agreed on");
	atomic_store(&t->watched, on);
	return 0;
}

static uint32_t in_us(uint64_t ns)
{
	uint64_t us = ns / FERRY_NS_PER_US;

	return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

/* Since the last report. */
static void look(struct ferry_target *t, uint64_t now[FERRY_HIST_BUCKETS],
		 struct ferry_rp_faults *f)
{
	uint64_t since[FERRY_HIST_BUCKETS], waits = 0;

	ferry_hist_read(&t->in.place.faults, now);
	for (unsigned i = 0; i < FERRY_HIST_BUCKETS; i++) {
		since[i] = now[i] - t->told[i];
		waits += since[i];
	}
	*f = (struct ferry_rp_faults){
		.waits = waits < UINT32_MAX ? (uint32_t)waits : UINT32_MAX,
		.p99_us = in_us(ferry_hist_percentile_ns(since, 99)),
		.oldest_us = in_us(ferry_place_oldest_wait_ns(&t->in.place,
							      NULL)),
	};
}

void ferry_faults_beat(struct ferry_target *t)
{
	uint64_t now[FERRY_HIST_BUCKETS];
	struct ferry_rp_faults f;

	if (!atomic_load(&t->watched)) {
		ferry_answer_beat(&t->in.answer, FERRY_RP_PONG, 0);
		return;
	}
	look(t, now, &f);
	if (ferry_answer_report(&t->in.answer, &f))
		memcpy(t->told, now, sizeof(t->told));
}
