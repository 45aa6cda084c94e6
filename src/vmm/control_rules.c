/* SPDX-License-Identifier: MIT */
/*
 * The table of decisions.
 *
 * Three aims, in this order: there are never two VMs; the VM is not lost by
 * an order that its giver did not mean that way; what the guest wants, it
 * gets.  So:
 *
 * - Before the commit the source is the VM.  A guest that powers off, or a
 *   vCPU that fails, ends the migration and then has its effect here.  A
 *   guest reset is just another way of writing memory: it happens and the
 *   migration goes on.  Should it come while the VM is being stopped for the
 *   switchover, the stopping side (control_vm.c) sees it: a reset is done
 *   there and then, anything else makes the switchover fail.
 * - After the commit the source has no say.  It must live until the target
 *   has all memory: quit is refused; a signal is remembered and obeyed when
 *   the migration has completed (a second one within 5 s: at once, with exit
 *   code 4).
 * - The target in postcopy likewise: the guest runs here while its memory is
 *   at two places.  Whatever would end it waits until all memory is here, so
 *   that the source ends in `completed` and not with half of a VM.
 * - Where the connection was lost nothing completes by itself.  What waits
 *   then waits for an order that means it: a second signal.
 * - A vCPU that has asked for power-off or reset is parked until it is done.
 *
 * A sentence is true in every state that leads to its phase, whatever became
 * of the other side: that a VM went there is known, that it runs there is not.
 */
#include "vmm/control_rules.h"

#include <stddef.h>

#define DO		{ FERRY_ACT_DO, NULL, NULL }
#define CANCEL_FIRST	{ FERRY_ACT_CANCEL_FIRST, NULL, NULL }
#define LATER(w, t)	{ FERRY_ACT_LATER, w, t }
#define NO(w)		{ FERRY_ACT_REFUSE, w, NULL }

#define NOT_HERE	"the VM is not here"
#define NOT_YET		"the VM is not here yet: it has not arrived"
#define HERE_ALREADY	"there is a VM here already; start a process with " \
			"--incoming"
#define WAITS_ALREADY	"the incoming migration has already been started"
#define GONE		"the VM was given to the destination"
#define HALF_AWAY	"the VM was given to the destination, and part of " \
			"its memory may still be only here"
#define IN_DOUBT	"the VM was handed over, and the destination has " \
			"not been heard of since: it may run there"
#define AWAY_CUT	"the VM was given to the destination, then the " \
			"connection was lost: part of its memory may be " \
			"only here"
#define HALF_HERE	"the VM is here, but part of its memory is still " \
			"at the source"
#define HERE_CUT	"the VM is here, but the connection to the source " \
			"was lost: part of its memory may be missing"
#define WAYS_OUT	"; `ferry recover`, `ferry rescue` and `ferry " \
			"rollback` are the ways out"
#define WAYS_HERE	"; `ferry recover` and `ferry rescue` are the ways out"
#define DUMPED		"its half was dumped for a rescue: the VM goes on " \
			"from the image that is made of both"
#define BUSY		"a migration is in progress"
#define BUSY_QEMU	"There's a migration process in progress"

#define ENDS_LATER	"this process ends when the migration is complete; " \
			FERRY_RULE_TWICE
#define STAYS		"this process does not end by itself; " \
			FERRY_RULE_TWICE
#define EFFECT_LATER	"it has its effect when all of the memory is here"
#define NO_EFFECT	"it cannot have its effect"

static const struct ferry_rule rules[FERRY_ASKS][FERRY_PHASES] = {
	[FERRY_ASK_PANIC] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= NO(NOT_HERE),
		[FERRY_PHASE_WAITING]	= NO(NOT_YET),
		[FERRY_PHASE_LEAVING]	= CANCEL_FIRST,
		[FERRY_PHASE_AWAY]	= NO(GONE),
		[FERRY_PHASE_DOUBT]	= NO(GONE),
		[FERRY_PHASE_CUT]	= NO(GONE),
		[FERRY_PHASE_ARRIVING]	= LATER(HALF_HERE, EFFECT_LATER),
		[FERRY_PHASE_STRANDED]	= LATER(HERE_CUT, NO_EFFECT),
		[FERRY_PHASE_RESCUED]	= NO(DUMPED),
	},
	[FERRY_ASK_POWEROFF] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= NO(NOT_HERE),
		[FERRY_PHASE_WAITING]	= NO(NOT_YET),
		[FERRY_PHASE_LEAVING]	= CANCEL_FIRST,
		[FERRY_PHASE_AWAY]	= NO(GONE),
		[FERRY_PHASE_DOUBT]	= NO(GONE),
		[FERRY_PHASE_CUT]	= NO(GONE),
		[FERRY_PHASE_ARRIVING]	= LATER(HALF_HERE, EFFECT_LATER),
		[FERRY_PHASE_STRANDED]	= LATER(HERE_CUT, NO_EFFECT),
		[FERRY_PHASE_RESCUED]	= NO(DUMPED),
	},
	[FERRY_ASK_RESET] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= NO(NOT_HERE),
		[FERRY_PHASE_WAITING]	= NO(NOT_YET),
		[FERRY_PHASE_LEAVING]	= DO,
		[FERRY_PHASE_AWAY]	= NO(GONE),
		[FERRY_PHASE_DOUBT]	= NO(GONE),
		[FERRY_PHASE_CUT]	= NO(GONE),
		[FERRY_PHASE_ARRIVING]	= LATER(HALF_HERE, EFFECT_LATER),
		[FERRY_PHASE_STRANDED]	= LATER(HERE_CUT, NO_EFFECT),
		[FERRY_PHASE_RESCUED]	= NO(DUMPED),
	},
	[FERRY_ASK_QUIT] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= DO,
		[FERRY_PHASE_WAITING]	= CANCEL_FIRST,
		[FERRY_PHASE_LEAVING]	= CANCEL_FIRST,
		[FERRY_PHASE_AWAY]	= NO(HALF_AWAY),
		[FERRY_PHASE_DOUBT]	= NO(IN_DOUBT WAYS_OUT),
		[FERRY_PHASE_CUT]	= NO(AWAY_CUT WAYS_OUT),
		[FERRY_PHASE_ARRIVING]	= NO(HALF_HERE),
		[FERRY_PHASE_STRANDED]	= NO(HERE_CUT WAYS_HERE),
		[FERRY_PHASE_RESCUED]	= DO,
	},
	[FERRY_ASK_SIGNAL] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= DO,
		[FERRY_PHASE_WAITING]	= CANCEL_FIRST,
		[FERRY_PHASE_LEAVING]	= CANCEL_FIRST,
		[FERRY_PHASE_AWAY]	= LATER(HALF_AWAY, ENDS_LATER),
		[FERRY_PHASE_DOUBT]	= LATER(IN_DOUBT, STAYS),
		[FERRY_PHASE_CUT]	= LATER(AWAY_CUT, STAYS),
		[FERRY_PHASE_ARRIVING]	= LATER(HALF_HERE, ENDS_LATER),
		[FERRY_PHASE_STRANDED]	= LATER(HERE_CUT, STAYS),
		[FERRY_PHASE_RESCUED]	= DO,
	},
	[FERRY_ASK_STOP] = {	/* not yet here: it will arrive stopped */
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= DO,
		[FERRY_PHASE_WAITING]	= DO,
		[FERRY_PHASE_LEAVING]	= DO,
		[FERRY_PHASE_AWAY]	= NO(GONE),
		[FERRY_PHASE_DOUBT]	= NO(GONE),
		[FERRY_PHASE_CUT]	= NO(GONE),
		[FERRY_PHASE_ARRIVING]	= DO,
		[FERRY_PHASE_STRANDED]	= DO,
		[FERRY_PHASE_RESCUED]	= NO(DUMPED),
	},
	[FERRY_ASK_CONT] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= NO(NOT_HERE),
		[FERRY_PHASE_WAITING]	= NO(NOT_YET),
		[FERRY_PHASE_LEAVING]	= DO,
		[FERRY_PHASE_AWAY]	= NO(GONE),
		[FERRY_PHASE_DOUBT]	= NO(GONE),
		[FERRY_PHASE_CUT]	= NO(GONE),
		[FERRY_PHASE_ARRIVING]	= DO,
		[FERRY_PHASE_STRANDED]	= DO,
		[FERRY_PHASE_RESCUED]	= NO(DUMPED),
	},
	[FERRY_ASK_SYSTEM_RESET] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= NO(NOT_HERE),
		[FERRY_PHASE_WAITING]	= NO(NOT_YET),
		[FERRY_PHASE_LEAVING]	= DO,
		[FERRY_PHASE_AWAY]	= NO(GONE),
		[FERRY_PHASE_DOUBT]	= NO(GONE),
		[FERRY_PHASE_CUT]	= NO(GONE),
		[FERRY_PHASE_ARRIVING]	= NO(HALF_HERE),
		[FERRY_PHASE_STRANDED]	= NO(HERE_CUT),
		[FERRY_PHASE_RESCUED]	= NO(DUMPED),
	},
	[FERRY_ASK_MIGRATE] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= NO(NOT_HERE),
		[FERRY_PHASE_WAITING]	= NO(NOT_YET),
		[FERRY_PHASE_LEAVING]	= NO(BUSY),
		[FERRY_PHASE_AWAY]	= NO(BUSY),
		[FERRY_PHASE_DOUBT]	= NO(IN_DOUBT),
		[FERRY_PHASE_CUT]	= NO(AWAY_CUT),
		[FERRY_PHASE_ARRIVING]	= NO(HALF_HERE),
		[FERRY_PHASE_STRANDED]	= NO(HERE_CUT),
		[FERRY_PHASE_RESCUED]	= NO(DUMPED),
	},
	[FERRY_ASK_INCOMING] = {
		[FERRY_PHASE_HOME]	= NO(HERE_ALREADY),
		[FERRY_PHASE_ABSENT]	= DO,
		[FERRY_PHASE_WAITING]	= NO(WAITS_ALREADY),
		[FERRY_PHASE_LEAVING]	= NO(BUSY),
		[FERRY_PHASE_AWAY]	= NO(BUSY),
		[FERRY_PHASE_DOUBT]	= NO(IN_DOUBT),
		[FERRY_PHASE_CUT]	= NO(AWAY_CUT),
		[FERRY_PHASE_ARRIVING]	= NO(BUSY),
		[FERRY_PHASE_STRANDED]	= NO(HERE_CUT),
		[FERRY_PHASE_RESCUED]	= NO(DUMPED),
	},
	[FERRY_ASK_CANCEL] = {	/* nothing to cancel is no error, as in QEMU */
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= DO,
		[FERRY_PHASE_WAITING]	= DO,
		[FERRY_PHASE_LEAVING]	= DO,
		[FERRY_PHASE_AWAY]	= NO(HALF_AWAY),
		[FERRY_PHASE_DOUBT]	= NO(IN_DOUBT WAYS_OUT),
		[FERRY_PHASE_CUT]	= NO(AWAY_CUT WAYS_OUT),
		[FERRY_PHASE_ARRIVING]	= NO(HALF_HERE),
		[FERRY_PHASE_STRANDED]	= NO(HERE_CUT WAYS_HERE),
		[FERRY_PHASE_RESCUED]	= NO(DUMPED),
	},
	[FERRY_ASK_SETTINGS] = {	/* that a migration starts with: its source's */
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= DO,
		[FERRY_PHASE_WAITING]	= DO,
		[FERRY_PHASE_LEAVING]	= NO(BUSY_QEMU),
		[FERRY_PHASE_AWAY]	= NO(BUSY_QEMU),
		[FERRY_PHASE_DOUBT]	= NO(IN_DOUBT),
		[FERRY_PHASE_CUT]	= NO(AWAY_CUT),
		[FERRY_PHASE_ARRIVING]	= DO,
		[FERRY_PHASE_STRANDED]	= DO,
		[FERRY_PHASE_RESCUED]	= NO(DUMPED),
	},
};

int ferry_phase_ended(enum ferry_state state)
{
	return state == FERRY_STATE_NONE || state == FERRY_STATE_COMPLETED ||
	       state == FERRY_STATE_FAILED || state == FERRY_STATE_CANCELLED;
}

/* It is looked for at most. */
static int is_link_lost(enum ferry_state state)
{
	return state == FERRY_STATE_POSTCOPY_PAUSED ||
	       state == FERRY_STATE_POSTCOPY_RECOVER_SETUP ||
	       state == FERRY_STATE_POSTCOPY_RECOVER;
}

static enum ferry_phase source_phase(enum ferry_state state,
				     enum ferry_where where)
{
	if (state == FERRY_STATE_COMPLETED)
		return FERRY_PHASE_ABSENT;
	if (where == FERRY_WHERE_UNDECIDED)
		return FERRY_PHASE_DOUBT;
	if (where != FERRY_WHERE_SOURCE)
		return is_link_lost(state) ? FERRY_PHASE_CUT :
					     FERRY_PHASE_AWAY;
	return ferry_phase_ended(state) ? FERRY_PHASE_HOME : FERRY_PHASE_LEAVING;
}

static enum ferry_phase target_phase(enum ferry_state state,
				     enum ferry_where where)
{
	if (state == FERRY_STATE_COMPLETED)
		return FERRY_PHASE_HOME;
	if (where == FERRY_WHERE_SPLIT || where == FERRY_WHERE_TARGET)
		return is_link_lost(state) ? FERRY_PHASE_STRANDED :
					     FERRY_PHASE_ARRIVING;
	return ferry_phase_ended(state) ? FERRY_PHASE_ABSENT : FERRY_PHASE_WAITING;
}

enum ferry_phase ferry_phase_of(enum ferry_side side, int has_vm,
				enum ferry_state state,
				enum ferry_where where)
{
	switch (side) {
	case FERRY_SIDE_SOURCE:
		return source_phase(state, where);
	case FERRY_SIDE_TARGET:
		return target_phase(state, where);
	case FERRY_SIDE_NONE:
		break;
	}
	return has_vm ? FERRY_PHASE_HOME : FERRY_PHASE_ABSENT;
}

const char *ferry_phase_ways(enum ferry_phase phase)
{
	static const char *const ways[FERRY_PHASES] = {
		[FERRY_PHASE_DOUBT] = WAYS_OUT, [FERRY_PHASE_CUT] = WAYS_OUT,
		[FERRY_PHASE_STRANDED] = WAYS_HERE,
		[FERRY_PHASE_RESCUED] = "; " DUMPED,
	};

	return ways[phase] ? ways[phase] : "";
}

struct ferry_rule ferry_rule_for(enum ferry_phase phase, enum ferry_ask ask)
{
	return rules[ask][phase];
}
