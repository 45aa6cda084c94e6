/* SPDX-License-Identifier: MIT */
#include "trace.h"

#include "console.h"

static struct {
	struct trace_mark last;
	uint64_t	taken;
	struct sample	ring[TRACE_SAMPLES];
} trace;

void trace_restart(const struct trace_mark *now)
{
	trace.last = *now;
	trace.taken = 0;
}

void trace_take(uint64_t end, uint64_t gap, const struct trace_mark *now)
{
	struct sample *s = &trace.ring[trace.taken++ % TRACE_SAMPLES];

	s->end = end;
	s->gap = gap;
	s->iterations = now->iterations - trace.last.iterations;
	for (unsigned i = 0; i < GAP_BUCKETS; i++)
		s->gaps[i] = (uint32_t)(now->gaps[i] - trace.last.gaps[i]);
	trace.last = *now;
}

/* " gaps=0:93,7:2": 93 of up to 1 us, 2 of up to 128 us. */
static void line_gaps(struct line *l, const struct sample *s)
{
	const char *before = " gaps=";

	for (unsigned i = 0; i < GAP_BUCKETS; i++) {
		if (!s->gaps[i])
			continue;
		line_text(l, before);
		line_number(l, i);
		line_text(l, ":");
		line_number(l, s->gaps[i]);
		before = ",";
	}
}

static void send_sample(struct cpu *c, const struct sample *s)
{
	struct line l = { 0 };

	line_text(&l, "TRACE");
	line_key(&l, "us", clock_us(&c->clock, s->end));
	line_key(&l, "iter", s->iterations);
	line_key(&l, "gap_us", clock_us(&c->clock, s->gap));
	line_gaps(&l, s);
	console_send(c, &l);
}

void trace_send(struct cpu *c)
{
	uint64_t first = trace.taken > TRACE_SAMPLES ?
			 trace.taken - TRACE_SAMPLES : 0;
	struct line l = { 0 };

	for (uint64_t i = first; i < trace.taken; i++)
		send_sample(c, &trace.ring[i % TRACE_SAMPLES]);
	line_text(&l, "TRACED");
	line_key(&l, "samples", trace.taken - first);
	console_send(c, &l);
}
