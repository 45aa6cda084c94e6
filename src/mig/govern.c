/* SPDX-License-Identifier: MIT */
/*
 * The law: fast down, slow up, and slowest where it was too much before.
 *
 * What makes a wait long is what stands in the buffers before the page, so the
 * push has to stay below what the link takes, by as little as it can.  Too
 * long: the rate goes down to where what got through would have fitted, and
 * the next reports are not acted on, for they still tell of the full buffers.
 * Else it goes up, by an eighth at a time, to somewhat below where it was too
 * much; and that is forgotten, slowly at first, as links change.  Waits that
 * come near the limit and grow are a queue that grows: a little less, and it
 * does not come to more.  When nobody waits there is nothing to hold back for.
 *
 * Pure; any thread.
 */
#include "mig/govern.h"

#define REST		2u	/* reports */
#define NEAR_PERCENT	90u	/* of the knee: as far as it goes */
#define FORGET_REPORTS	20u	/* after so many twice as fast */
#define CALM_PERCENT	75u	/* of the limit: there is room */

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t bounded(uint64_t rate, const struct ferry_govern_in *in)
{
	rate = max_u64(rate, FERRY_GOVERN_FLOOR);
	return in->most && rate > in->most ? in->most : rate;
}

/* Too long by how much: between a half and nine tenths of what it was. */
static uint64_t slower(uint64_t rate, uint64_t worst_ns, uint64_t limit_ns)
{
	double by = 0.9 * (double)limit_ns / (double)worst_ns;

	if (by < 0.5)
		by = 0.5;
	return (uint64_t)((double)rate * by);
}

static uint64_t faster(const struct ferry_govern *g)
{
	uint64_t rate = g->rate + g->rate / 8 + FERRY_GOVERN_FLOOR / 4;
	uint64_t most = g->knee / 100 * NEAR_PERCENT;

	if (!g->knee || rate < most)
		return rate;
	return max_u64(g->rate, most);
}

static uint64_t forget(const struct ferry_govern *g)
{
	unsigned twice = g->calm / FORGET_REPORTS;

	return g->knee + (g->knee >> (twice < 7 ? 10 - twice : 3));
}

static void was_too_much(struct ferry_govern *g, uint64_t knee)
{
	g->knee = knee;
	g->calm = 0;
}

/* Held back by something else: a higher limit would say nothing. */
static bool is_used(const struct ferry_govern *g,
		    const struct ferry_govern_in *in)
{
	return in->pushed >= g->rate / 2;
}

struct ferry_govern ferry_govern(struct ferry_govern g,
				 const struct ferry_govern_in *in)
{
	uint64_t worst = max_u64(in->waits ? in->p99_ns : 0, in->oldest_ns);

	if (!g.rate) {
		g.rate = bounded(FERRY_GOVERN_FIRST, in);
		return g;
	}
	if (worst > in->limit_ns) {
		if (g.rest) {
			g.rest--;
			return g;
		}
		was_too_much(&g, in->pushed && in->pushed < g.rate ?
				 in->pushed : g.rate);
		g.rate = slower(g.knee, worst, in->limit_ns);
		g.rest = REST;
	} else if (worst > in->limit_ns / 100 * CALM_PERCENT) {
		g.rest = 0;
		if (worst > g.worst_ns) {
			was_too_much(&g, g.rate);
			g.rate -= g.rate / 8;
		}
	} else {
		g.rest = 0;
		g.calm++;
		g.knee = forget(&g);
		if (is_used(&g, in))
			g.rate = faster(&g);
	}
	g.worst_ns = worst;
	g.rate = bounded(g.rate, in);
	return g;
}
