/* SPDX-License-Identifier: MIT */
/*
 * The policy, in order of precedence: what the user fixed (passes), what fits
 * (the pause), the deadline, convergence.  Pure; any thread.
 */
#include "mig/policy.h"

#include <inttypes.h>
#include <stdio.h>

#include "mig/params.h"

#define OVER_LIMIT_MAX	2	/* passes in a row before something changes */

/* A pause that fits is made shorter by further passes as long as each halves
 * it, down to where stopping and starting cost as much. */
#define SHORT_PAUSE_NS	3000000ull

uint64_t ferry_policy_pause_ns(uint64_t remaining_bytes, uint64_t rate)
{
	double ns;

	if (!remaining_bytes)
		return 0;
	if (!rate)
		return UINT64_MAX;
	ns = (double)remaining_bytes * 1e9 / (double)rate;
	return ns >= 1.8e19 ? UINT64_MAX : (uint64_t)ns;
}

static void say_why(const struct ferry_policy_in *in, uint64_t pause_ns,
		    const char *what, struct ferry_err *why)
{
	char pause[32] = "unknown length";

	if (pause_ns != UINT64_MAX)
		snprintf(pause, sizeof(pause), "%" PRIu64 " ms",
			 pause_ns / 1000000);
	ferry_err_set(why, FERRY_E_NOTCONVERGED, 0,
		      "precopy does not converge: after %u passes %" PRIu64
		      " MiB remain, a pause of %s (limit %" PRIu64
		      "); guest writes %" PRIu64 " MiB/s, %" PRIu64
		      " MiB/s get through%s", in->passes,
		      in->remaining_bytes >> 20, pause,
		      in->max_pause_ns / 1000000, in->dirty_rate >> 20,
		      in->rate >> 20, what);
}

static unsigned next_throttle(const struct ferry_policy_in *in)
{
	unsigned next = in->throttle_percent ?
		in->throttle_percent + in->throttle_increment :
		in->throttle_initial;

	return next > in->throttle_max ? in->throttle_max : next;
}

/* Is there still time for one more pass and the pause before the deadline? */
static bool is_late(const struct ferry_policy_in *in, uint64_t pause_ns)
{
	if (!in->deadline_ns)
		return false;
	if (in->elapsed_ns >= in->deadline_ns)
		return true;
	return in->passes && pause_ns >= in->deadline_ns - in->elapsed_ns;
}

static bool is_worth_a_pass(const struct ferry_policy_in *in,
			    uint64_t pause_ns)
{
	if (pause_ns <= SHORT_PAUSE_NS || in->passes >= in->max_passes)
		return false;
	return !in->before_bytes ||
	       in->remaining_bytes < in->before_bytes / 2;
}

static struct ferry_policy_out of_memory(const struct ferry_policy_in *in,
					 struct ferry_err *why)
{
	uint64_t pause = ferry_policy_pause_ns(in->remaining_bytes, in->rate);
	struct ferry_policy_out out = {
		.what = FERRY_DO_PASS,
		.throttle_percent = in->throttle_percent,
		.expected_pause_ns = pause,
	};
	bool fixed = in->may_postcopy &&
		     in->precopy_passes != FERRY_PASSES_AUTO;

	if (fixed && in->passes >= in->precopy_passes) {
		out.what = FERRY_DO_POSTCOPY;
		return out;
	}
	if (in->passes && pause <= in->max_pause_ns) {
		if (is_late(in, pause) || !is_worth_a_pass(in, pause))
			out.what = FERRY_DO_SWITCHOVER;
		return out;
	}
	if (is_late(in, pause)) {
		out.what = in->may_postcopy ? FERRY_DO_POSTCOPY :
					      FERRY_DO_GIVE_UP;
		if (out.what == FERRY_DO_GIVE_UP)
			say_why(in, pause, "; the deadline is here and "
				"postcopy is off", why);
		return out;
	}
	if (fixed || in->over_limit < OVER_LIMIT_MAX)
		return out;

	if (in->may_throttle && in->throttle_percent < in->throttle_max) {
		out.what = FERRY_DO_THROTTLE;
		out.throttle_percent = next_throttle(in);
	} else if (in->may_postcopy) {
		out.what = FERRY_DO_POSTCOPY;
	} else if (in->passes >= in->max_passes) {
		out.what = FERRY_DO_GIVE_UP;
		say_why(in, pause, "; allow postcopy or auto-converge, or a "
			"longer pause", why);
	}
	return out;
}

/* What bulk devices make of a switchover that memory is ready for. */
static enum ferry_policy_do of_devices(const struct ferry_policy_in *in,
				       enum ferry_policy_do what,
				       struct ferry_err *why)
{
	bool late = in->deadline_ns && in->elapsed_ns >= in->deadline_ns;

	if (in->not_ready && late) {
		ferry_err_set(why, FERRY_E_NOTCONVERGED, 0, "the deadline is "
			      "here, and the target is not ready for bulk "
			      "device %s", in->not_ready);
		return FERRY_DO_GIVE_UP;
	}
	return in->not_ready || (in->shrinks && !late) ? FERRY_DO_HOLD : what;
}

struct ferry_policy_out ferry_policy(const struct ferry_policy_in *in,
				     struct ferry_err *why)
{
	struct ferry_policy_out out = of_memory(in, why);

	if (out.what == FERRY_DO_SWITCHOVER || out.what == FERRY_DO_POSTCOPY)
		out.what = of_devices(in, out.what, why);
	return out;
}
