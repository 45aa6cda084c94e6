/* SPDX-License-Identifier: MIT */
/*
 * States as data.  Pure functions; any thread.
 */
#include "mig/states.h"

#define S FERRY_SIDE_SOURCE
#define T FERRY_SIDE_TARGET
#define AT(name) FERRY_STATE_##name

static const struct ferry_transition transitions[] = {
	{ S, AT(NONE), AT(SETUP), "start was called" },
	{ S, AT(SETUP), AT(ACTIVE), "the target has agreed" },
	{ S, AT(SETUP), AT(FAILED), "no connection, or refused" },
	{ S, AT(SETUP), AT(CANCELLING), "cancel was called" },
	{ S, AT(ACTIVE), AT(DEVICE), "the VM is stopped for the switchover" },
	{ S, AT(ACTIVE), AT(FAILED), "any error; the VM runs on" },
	{ S, AT(ACTIVE), AT(CANCELLING), "cancel was called" },
	{ S, AT(DEVICE), AT(FAILED), "any error before RUN was sent, or the "
				     "target renounced; the VM resumes" },
	{ S, AT(DEVICE), AT(CANCELLING), "cancel was called before RUN" },
	{ S, AT(DEVICE), AT(COMPLETED), "precopy: the VM runs at the target" },
	{ S, AT(DEVICE), AT(POSTCOPY_ACTIVE), "postcopy: it runs there" },
	{ S, AT(DEVICE), AT(POSTCOPY_PAUSED), "RUN was sent, nothing heard "
					      "since" },
	{ S, AT(POSTCOPY_ACTIVE), AT(COMPLETED), "all pages are there" },
	{ S, AT(POSTCOPY_ACTIVE), AT(POSTCOPY_PAUSED), "the link broke" },
	{ S, AT(POSTCOPY_PAUSED), AT(POSTCOPY_RECOVER_SETUP),
		"by itself, or recover was called" },
	{ S, AT(POSTCOPY_PAUSED), AT(FAILED), "rolled back; the VM resumes as "
					      "it was at the switchover" },
	{ S, AT(POSTCOPY_RECOVER_SETUP), AT(POSTCOPY_PAUSED),
		"no connection, refused, or cancelled" },
	{ S, AT(POSTCOPY_RECOVER_SETUP), AT(POSTCOPY_RECOVER),
		"the target knows this migration" },
	{ S, AT(POSTCOPY_RECOVER), AT(POSTCOPY_PAUSED),
		"any failure, or cancelled" },
	{ S, AT(POSTCOPY_RECOVER), AT(POSTCOPY_ACTIVE),
		"what is missing there is known" },
	{ S, AT(POSTCOPY_RECOVER), AT(COMPLETED), "all of it is there" },
	{ S, AT(POSTCOPY_RECOVER), AT(FAILED), "the target renounced; the VM "
					       "resumes" },
	{ S, AT(CANCELLING), AT(CANCELLED), "threads have ended, the VM "
					    "runs here" },
	{ T, AT(NONE), AT(SETUP), "listening" },
	{ T, AT(SETUP), AT(ACTIVE), "a source was accepted" },
	{ T, AT(SETUP), AT(FAILED), "the address or file cannot be read" },
	{ T, AT(SETUP), AT(CANCELLING), "cancel was called" },
	{ T, AT(ACTIVE), AT(DEVICE), "device state has arrived" },
	{ T, AT(ACTIVE), AT(FAILED), "any error" },
	{ T, AT(ACTIVE), AT(CANCELLING), "cancel was called" },
	{ T, AT(DEVICE), AT(POSTCOPY_ACTIVE), "postcopy: RUN, the VM runs" },
	{ T, AT(DEVICE), AT(COMPLETED), "precopy: RUN, the VM runs" },
	{ T, AT(DEVICE), AT(POSTCOPY_PAUSED), "postcopy: the link broke right "
					      "after RUN" },
	{ T, AT(DEVICE), AT(FAILED), "any error before RUN, or the VM would "
				     "not start" },
	{ T, AT(DEVICE), AT(CANCELLING), "cancel was called before RUN" },
	{ T, AT(POSTCOPY_ACTIVE), AT(COMPLETED), "all pages are here" },
	{ T, AT(POSTCOPY_ACTIVE), AT(POSTCOPY_PAUSED), "the link broke" },
	{ T, AT(POSTCOPY_PAUSED), AT(POSTCOPY_RECOVER_SETUP),
		"the source came back" },
	{ T, AT(POSTCOPY_PAUSED), AT(POSTCOPY_RECOVER), "park: a QEMU came "
							"back" },
	{ T, AT(POSTCOPY_PAUSED), AT(FAILED), "the VM would not start, or the "
					      "source was rolled back" },
	{ T, AT(POSTCOPY_RECOVER_SETUP), AT(POSTCOPY_RECOVER),
		"it asks what is missing" },
	{ T, AT(POSTCOPY_RECOVER_SETUP), AT(POSTCOPY_PAUSED),
		"the link broke again" },
	{ T, AT(POSTCOPY_RECOVER), AT(POSTCOPY_ACTIVE), "it was told what is "
							"missing" },
	{ T, AT(POSTCOPY_RECOVER), AT(POSTCOPY_PAUSED), "the link broke "
							"again" },
	{ T, AT(CANCELLING), AT(CANCELLED), "threads have ended" },
};

#undef S
#undef T

static const char *const state_names[FERRY_STATES] = {
	[FERRY_STATE_NONE]			= "none",
	[FERRY_STATE_SETUP]			= "setup",
	[FERRY_STATE_ACTIVE]			= "active",
	[FERRY_STATE_PRE_SWITCHOVER]		= "pre-switchover",
	[FERRY_STATE_DEVICE]			= "device",
	[FERRY_STATE_POSTCOPY_ACTIVE]		= "postcopy-active",
	[FERRY_STATE_POSTCOPY_PAUSED]		= "postcopy-paused",
	[FERRY_STATE_POSTCOPY_RECOVER_SETUP]	= "postcopy-recover-setup",
	[FERRY_STATE_POSTCOPY_RECOVER]		= "postcopy-recover",
	[FERRY_STATE_COMPLETED]			= "completed",
	[FERRY_STATE_FAILED]			= "failed",
	[FERRY_STATE_CANCELLING]		= "cancelling",
	[FERRY_STATE_CANCELLED]			= "cancelled",
};

static const char *const where_names[FERRY_WHERES] = {
	[FERRY_WHERE_SOURCE]	= "source",
	[FERRY_WHERE_UNDECIDED]	= "undecided",
	[FERRY_WHERE_SPLIT]	= "split",
	[FERRY_WHERE_TARGET]	= "target",
};

static const char *const rollback_names[FERRY_ROLLBACKS] = {
	[FERRY_ROLLBACK_NO]		= "no",
	[FERRY_ROLLBACK_UNPROVEN]	= "unproven",
	[FERRY_ROLLBACK_LATER]		= "later",
	[FERRY_ROLLBACK_PROVEN]		= "proven",
};

static const char *const safe_names[] = { "none", "source", "target", "both" };

const char *ferry_state_name(enum ferry_state state)
{
	return (unsigned)state < FERRY_STATES ? state_names[state] : "unknown";
}

const char *ferry_where_name(enum ferry_where where)
{
	return (unsigned)where < FERRY_WHERES ? where_names[where] : "unknown";
}

const char *ferry_safe_name(unsigned safe)
{
	return safe_names[safe & 3];
}

const char *ferry_rollback_name(enum ferry_rollback rollback)
{
	return (unsigned)rollback < FERRY_ROLLBACKS ?
	       rollback_names[rollback] : "unknown";
}

const struct ferry_transition *ferry_transition(size_t i)
{
	return i < sizeof(transitions) / sizeof(transitions[0]) ?
	       &transitions[i] : NULL;
}

bool ferry_transition_legal(enum ferry_side side, enum ferry_state from,
			    enum ferry_state to)
{
	const struct ferry_transition *t;

	for (size_t i = 0; (t = ferry_transition(i)); i++)
		if (t->side == side && t->from == from && t->to == to)
			return true;
	return false;
}

bool ferry_state_is_final(enum ferry_state s)
{
	return s == FERRY_STATE_COMPLETED || s == FERRY_STATE_FAILED ||
	       s == FERRY_STATE_CANCELLED || s == FERRY_STATE_POSTCOPY_PAUSED;
}

enum ferry_where ferry_where_of(enum ferry_side side, enum ferry_state s,
				bool handed, bool heard)
{
	if (!handed)
		return FERRY_WHERE_SOURCE;
	if (s == FERRY_STATE_COMPLETED)
		return FERRY_WHERE_TARGET;
	if (s == FERRY_STATE_FAILED || s == FERRY_STATE_CANCELLED)
		return FERRY_WHERE_SOURCE;	/* the target renounced */
	if (!heard && side == FERRY_SIDE_SOURCE)
		return FERRY_WHERE_UNDECIDED;
	return FERRY_WHERE_SPLIT;
}

unsigned ferry_safe_of(enum ferry_where where)
{
	switch (where) {
	case FERRY_WHERE_SOURCE:
		return FERRY_SAFE_SOURCE;
	case FERRY_WHERE_TARGET:
		return FERRY_SAFE_TARGET;
	case FERRY_WHERE_UNDECIDED:
	case FERRY_WHERE_SPLIT:
	case FERRY_WHERES:
		break;
	}
	return FERRY_SAFE_NONE;
}
