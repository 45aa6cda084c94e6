/* SPDX-License-Identifier: MIT */
/*
 * The policy of compression.
 */
#include "send/squeeze_policy.h"

#define REFUSED_MAX	5u	/* a sample in 32 windows at least */
#define TRIED_MAX	3u	/* a trial in 6.4 s */
#define TRIAL_AFTER_NS	(8 * FERRY_SQUEEZE_WINDOW_NS)
#define SHIFTED_MAX	3u	/* a shift in 25.6 s */
#define SHIFT_AFTER_NS	(4 * FERRY_SQUEEZE_WINDOW_NS)
#define PROVED_AFTER	8u	/* windows: it was right to begin */

/* Percents.  What is between them keeps things as they are. */
#define WORTH_IT	85u	/* of the time without, as a sample says */
#define WORSE		105u	/* than without */
#define BETTER		95u
#define TOO_LARGE	90u	/* of what it was */

uint64_t ferry_squeeze_per_mib(uint64_t ns, uint64_t plain_bytes)
{
	if (!plain_bytes)
		return 0;
	return (uint64_t)((double)ns * (1 << 20) / (double)plain_bytes);
}

static unsigned one_more(unsigned strikes, unsigned most)
{
	return strikes < most ? strikes + 1 : strikes;
}

/* a is more than so many percent of b. */
static bool exceeds(uint64_t a, unsigned percent, uint64_t b)
{
	return a > b / 100 * percent;
}

/*
 * Waiting shrinks as the octets do.  Compressing goes on while the connection
 * is at work on what was written, but for where one of them runs out of what
 * to do.
 */
static bool promises(const struct ferry_squeeze_window *w)
{
	uint64_t left = (uint64_t)((double)w->wire_bytes /
				   (double)w->plain_bytes *
				   (double)w->off_blocked_ns);
	uint64_t own = ferry_squeeze_per_mib(w->squeeze_ns, w->plain_bytes);
	uint64_t longer = left > own ? left : own;

	return !exceeds(longer + (left + own - longer) / 4, WORTH_IT,
			w->off_blocked_ns);
}

static enum ferry_squeeze_mode after_off(const struct ferry_squeeze_window *w)
{
	if (w->blocked_ns < w->ns / 2 || w->windows < 1u << w->refused)
		return FERRY_SQUEEZE_OFF;
	return FERRY_SQUEEZE_SAMPLE;
}

static bool is_too_large(const struct ferry_squeeze_window *w)
{
	return !w->always &&
	       exceeds(w->wire_bytes, TOO_LARGE, w->plain_bytes);
}

static bool is_worse(const struct ferry_squeeze_window *w)
{
	return !w->always && w->windows > 1 && w->off_ns &&
	       exceeds(ferry_squeeze_per_mib(w->ns, w->plain_bytes), WORSE,
		       w->off_ns);
}

static bool cpu_is_limit(const struct ferry_squeeze_window *w)
{
	return w->blocked_ns < w->ns / 4;
}

static bool wants_trial(const struct ferry_squeeze_window *w)
{
	return !w->always && cpu_is_limit(w) &&
	       w->mode_ns >= TRIAL_AFTER_NS << w->tried;
}

/* Up at once, where it never was in vain; back when the connection is the
 * limit again. */
static bool wants_shift(const struct ferry_squeeze_window *w)
{
	uint64_t after = SHIFT_AFTER_NS << 2 * w->shifted;

	if (!w->has_fast)
		return false;
	if (w->fast)
		return w->blocked_ns > w->ns / 2 && w->mode_ns >= after;
	return cpu_is_limit(w) && (!w->shifted || w->mode_ns >= after);
}

static enum ferry_squeeze_mode after_on(const struct ferry_squeeze_window *w)
{
	if (is_too_large(w))
		return FERRY_SQUEEZE_OFF;
	if (wants_shift(w))
		return FERRY_SQUEEZE_SHIFT;
	if (is_worse(w))
		return FERRY_SQUEEZE_OFF;
	return wants_trial(w) ? FERRY_SQUEEZE_TRIAL : FERRY_SQUEEZE_ON;
}

static bool helps(const struct ferry_squeeze_window *w)
{
	return !exceeds(ferry_squeeze_per_mib(w->ns, w->plain_bytes), BETTER,
			w->on_ns);
}

static void after_trial(const struct ferry_squeeze_window *w,
			struct ferry_squeeze_next *next)
{
	next->mode = helps(w) ? FERRY_SQUEEZE_OFF : FERRY_SQUEEZE_ON;
	next->tried = helps(w) ? 0 : one_more(w->tried, TRIED_MAX);
}

static void after_shift(const struct ferry_squeeze_window *w,
			struct ferry_squeeze_next *next)
{
	bool good = helps(w) && !is_too_large(w);

	next->mode = FERRY_SQUEEZE_ON;
	next->fast = good ? w->fast : !w->fast;
	next->shifted = good ? 0 : one_more(w->shifted, SHIFTED_MAX);
}

/* Samples that were refused take turns between the gears. */
static bool other_gear(const struct ferry_squeeze_window *w)
{
	return w->has_fast && !w->fast;
}

struct ferry_squeeze_next
ferry_squeeze_policy(const struct ferry_squeeze_window *w)
{
	struct ferry_squeeze_next next = {
		w->mode, w->fast, w->refused, w->tried, w->shifted,
	};

	switch (w->mode) {
	case FERRY_SQUEEZE_OFF:
		next.mode = after_off(w);
		break;
	case FERRY_SQUEEZE_SAMPLE:
		next.mode = promises(w) ? FERRY_SQUEEZE_ON : FERRY_SQUEEZE_OFF;
		break;
	case FERRY_SQUEEZE_ON:
		next.mode = after_on(w);
		if (w->windows == PROVED_AFTER)
			next.refused = 0;
		break;
	case FERRY_SQUEEZE_TRIAL:
		after_trial(w, &next);
		return next;
	case FERRY_SQUEEZE_SHIFT:
		after_shift(w, &next);
		return next;
	}
	if (next.mode == FERRY_SQUEEZE_SHIFT)
		next.fast = !w->fast;
	if (w->mode != FERRY_SQUEEZE_OFF && next.mode == FERRY_SQUEEZE_OFF) {
		next.refused = one_more(w->refused, REFUSED_MAX);
		next.fast = other_gear(w);
	}
	return next;
}
