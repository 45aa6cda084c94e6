/* SPDX-License-Identifier: MIT */
/*
 * A QEMU decides by itself when its connection breaks (docs/QEMU.md), and does
 * not say what it did beyond its state.  So both are looked at, and what cannot
 * be known is called undecided.
 */
#include "outcome.h"

#include <stddef.h>
#include <string.h>

#include "command.h"

static bool is(const struct ferry_end *side, const char *status)
{
	return side->status && !strcmp(side->status, status);
}

static bool is_postcopy(const struct ferry_end *side)
{
	return side->status && !strncmp(side->status, "postcopy-", 9);
}

/* It has the VM, whole or in part. */
static bool has_it(const struct ferry_end *t)
{
	return t->known && !t->gone &&
	       (t->running || is(t, "completed") || is_postcopy(t));
}

static bool has_ended(const struct ferry_end *t)
{
	return t->known && t->gone;
}

/* It says so, or it said so once and does not answer now. */
static bool has_all(const struct ferry_end *t)
{
	return t->known && !t->gone && (is(t, "completed") || t->done);
}

static struct ferry_outcome make(int code, const char *where,
				 const char *advice)
{
	return (struct ferry_outcome){ code, where, advice };
}

static struct ferry_outcome completed(const struct ferry_end *t)
{
	if (has_ended(t))
		return make(FERRY_EXIT_LOST, "lost",
			    "the target had taken over and has ended");
	return make(FERRY_EXIT_DONE, "target", "");
}

/* The source says that it has it back. */
static struct ferry_outcome returned(const struct ferry_end *s,
				     const struct ferry_end *t,
				     bool was_running)
{
	if (s->stopped)
		return make(FERRY_EXIT_SPLIT, "target",
			    "it ran on both sides for a moment; the source is "
			    "stopped now: look at the disks, then quit it");
	if (has_it(t) && s->running)
		return make(FERRY_EXIT_SPLIT, "undecided",
			    "IT RUNS ON BOTH SIDES: stop one at once");
	if (has_it(t) && is_postcopy(t))
		return make(FERRY_EXIT_SPLIT, "split", "");
	if (has_it(t))
		return make(FERRY_EXIT_DONE, "target",
			    "the source did not hear of it");
	if (s->running || !was_running)
		return make(FERRY_EXIT_FAILED, "source", "");
	if (t->known)
		return make(FERRY_EXIT_FAILED, "source",
			    "it is stopped there; `ferry cont` lets it go on");
	return make(FERRY_EXIT_SPLIT, "undecided",
		    "it is stopped at the source; see whether it runs at the "
		    "target");
}

/* Handed over, and the source waits. */
static struct ferry_outcome handed(const struct ferry_end *t)
{
	if (has_ended(t) && t->ran)
		return make(FERRY_EXIT_LOST, "lost",
			    "it ran at the target, which has ended");
	if (has_ended(t))
		return make(FERRY_EXIT_SPLIT, "undecided",
			    "the target has ended and was not seen to run it");
	if (has_all(t))
		return make(FERRY_EXIT_DONE, "target",
			    "the source did not hear of it");
	return make(FERRY_EXIT_SPLIT, "split", "");
}

/* The source does not come to an end. */
static struct ferry_outcome moving(const struct ferry_end *t)
{
	if (has_all(t))
		return make(FERRY_EXIT_SPLIT, "target",
			    "the source has not heard of it, and would go on "
			    "if its connection broke: quit it");
	return make(FERRY_EXIT_SPLIT, "undecided", "it still moves");
}

/* The source has ended, or answers no more. */
static struct ferry_outcome widowed(const struct ferry_end *t)
{
	if (has_all(t))
		return make(FERRY_EXIT_DONE, "target",
			    "the source has ended since");
	if (t->known && !t->gone && (is_postcopy(t) || t->ran))
		return make(FERRY_EXIT_LOST, "lost",
			    "it runs at the target without the memory that "
			    "the source still had");
	return make(FERRY_EXIT_LOST, "lost", "the source does not answer any "
		    "more");
}

struct ferry_outcome ferry_outcome(const struct ferry_end *source,
				   const struct ferry_end *target,
				   bool was_running)
{
	if (source->gone)
		return widowed(target);
	if (is(source, "completed"))
		return completed(target);
	if (is_postcopy(source))
		return handed(target);
	if (!is(source, "failed") && !is(source, "cancelled") &&
	    !is(source, "none") && source->status)
		return moving(target);
	return returned(source, target, was_running);
}
