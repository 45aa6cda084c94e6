/* SPDX-License-Identifier: MIT */
/*
 * In this order: what the user fixed, the deadline, convergence.  A pass that
 * begins is one more after which the rest did not fit.
 */
#include "tempo.h"

#include "shape.h"

#define PASSES_OVER	2	/* in a row, before something changes */

static uint64_t rest_ms(const struct json_object *m)
{
	const struct json_object *ram = ferry_json_obj(m, "ram");
	struct json_object *mbps = NULL;
	double rate;

	json_object_object_get_ex(ram, "mbps", &mbps);
	rate = json_object_get_double(mbps) * 1e6 / 8 / 1e3;
	if (rate <= 0)
		return 0;
	return (uint64_t)((double)ferry_json_u64(ram, "remaining", 0) / rate);
}

static enum ferry_tempo late(const struct ferry_plan *p,
			     const struct json_object *m)
{
	uint64_t elapsed = ferry_json_u64(m, "total-time", 0);

	if (!p->by_ms)
		return FERRY_TEMPO_GO_ON;
	if (p->may_postcopy && elapsed + rest_ms(m) >= p->by_ms &&
	    (ferry_shape_passes(m) || elapsed * 2 >= p->by_ms))
		return FERRY_TEMPO_POSTCOPY;
	return elapsed >= p->by_ms ? FERRY_TEMPO_GIVE_UP : FERRY_TEMPO_GO_ON;
}

static enum ferry_tempo converge(const struct ferry_plan *p,
				 const struct json_object *m)
{
	uint64_t passes = ferry_shape_passes(m);
	bool slower = p->throttle &&
		      ferry_json_u64(m, "cpu-throttle-percentage", 0) <
		      p->max_throttle;

	if (p->may_postcopy && !slower && passes >= PASSES_OVER)
		return FERRY_TEMPO_POSTCOPY;
	if (!p->may_postcopy && passes >= p->max_passes && !slower)
		return FERRY_TEMPO_GIVE_UP;
	return FERRY_TEMPO_GO_ON;
}

enum ferry_tempo ferry_tempo(const struct ferry_plan *p,
			     const struct json_object *m)
{
	bool fixed = p->may_postcopy && p->passes < FERRY_PLAN_AUTO;
	enum ferry_tempo what;

	if (fixed && ferry_shape_passes(m) >= p->passes)
		return FERRY_TEMPO_POSTCOPY;
	what = late(p, m);
	if (what != FERRY_TEMPO_GO_ON || fixed)
		return what;
	return converge(p, m);
}
