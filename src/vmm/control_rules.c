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
 *   the migration has completed (a second one within 5 s: at once, and the VM
 *   is lost with exit code 4).
 * - The target in postcopy likewise: the guest runs here while its memory is
 *   at two places.  Whatever would end it waits until all memory is here, so
 *   that the source ends in `completed` and not with half of a VM.
 * - A vCPU that has asked for power-off or reset is parked until it is done.
 */
#include "vmm/control_rules.h"

#include <stddef.h>

#define DO		{ FERRY_ACT_DO, NULL }
#define CANCEL_FIRST	{ FERRY_ACT_CANCEL_FIRST, NULL }
#define LATER(w)	{ FERRY_ACT_LATER, w }
#define NO(w)		{ FERRY_ACT_REFUSE, w }

#define NOT_HERE	"the VM is not here"
#define NOT_YET		"the VM is not here yet: it has not arrived"
#define GONE		"the VM was given to the destination"
#define HALF_AWAY	"the VM runs at the destination, but part of its " \
			"memory is still here"
#define HALF_HERE	"the VM runs here, but part of its memory is still " \
			"at the source"
#define BUSY		"a migration is in progress"

static const struct ferry_rule rules[FERRY_ASKS][FERRY_PHASES] = {
	[FERRY_ASK_PANIC] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= NO(NOT_HERE),
		[FERRY_PHASE_WAITING]	= NO(NOT_YET),
		[FERRY_PHASE_LEAVING]	= CANCEL_FIRST,
		[FERRY_PHASE_AWAY]	= NO(GONE),
		[FERRY_PHASE_ARRIVING]	= LATER(HALF_HERE),
	},
	[FERRY_ASK_POWEROFF] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= NO(NOT_HERE),
		[FERRY_PHASE_WAITING]	= NO(NOT_YET),
		[FERRY_PHASE_LEAVING]	= CANCEL_FIRST,
		[FERRY_PHASE_AWAY]	= NO(GONE),
		[FERRY_PHASE_ARRIVING]	= LATER(HALF_HERE),
	},
	[FERRY_ASK_RESET] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= NO(NOT_HERE),
		[FERRY_PHASE_WAITING]	= NO(NOT_YET),
		[FERRY_PHASE_LEAVING]	= DO,
		[FERRY_PHASE_AWAY]	= NO(GONE),
		[FERRY_PHASE_ARRIVING]	= LATER(HALF_HERE),
	},
	[FERRY_ASK_QUIT] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= DO,
		[FERRY_PHASE_WAITING]	= CANCEL_FIRST,
		[FERRY_PHASE_LEAVING]	= CANCEL_FIRST,
		[FERRY_PHASE_AWAY]	= NO(HALF_AWAY),
		[FERRY_PHASE_ARRIVING]	= NO(HALF_HERE),
	},
	[FERRY_ASK_SIGNAL] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= DO,
		[FERRY_PHASE_WAITING]	= CANCEL_FIRST,
		[FERRY_PHASE_LEAVING]	= CANCEL_FIRST,
		[FERRY_PHASE_AWAY]	= LATER(HALF_AWAY),
		[FERRY_PHASE_ARRIVING]	= LATER(HALF_HERE),
	},
	[FERRY_ASK_STOP] = {	/* not yet here: it will arrive stopped */
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= DO,
		[FERRY_PHASE_WAITING]	= DO,
		[FERRY_PHASE_LEAVING]	= DO,
		[FERRY_PHASE_AWAY]	= NO(GONE),
		[FERRY_PHASE_ARRIVING]	= DO,
	},
	[FERRY_ASK_CONT] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= NO(NOT_HERE),
		[FERRY_PHASE_WAITING]	= NO(NOT_YET),
		[FERRY_PHASE_LEAVING]	= DO,
		[FERRY_PHASE_AWAY]	= NO(GONE),
		[FERRY_PHASE_ARRIVING]	= DO,
	},
	[FERRY_ASK_SYSTEM_RESET] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= NO(NOT_HERE),
		[FERRY_PHASE_WAITING]	= NO(NOT_YET),
		[FERRY_PHASE_LEAVING]	= DO,
		[FERRY_PHASE_AWAY]	= NO(GONE),
		[FERRY_PHASE_ARRIVING]	= NO(HALF_HERE),
	},
	[FERRY_ASK_MIGRATE] = {
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= NO(NOT_HERE),
		[FERRY_PHASE_WAITING]	= NO(NOT_YET),
		[FERRY_PHASE_LEAVING]	= NO(BUSY),
		[FERRY_PHASE_AWAY]	= NO(BUSY),
		[FERRY_PHASE_ARRIVING]	= NO(HALF_HERE),
	},
	[FERRY_ASK_INCOMING] = {
		[FERRY_PHASE_HOME]	= NO("there is a VM here already; start"
					     " a process with --incoming"),
		[FERRY_PHASE_ABSENT]	= DO,
		[FERRY_PHASE_WAITING]	= NO("the incoming migration has "
					     "already been started"),
		[FERRY_PHASE_LEAVING]	= NO(BUSY),
		[FERRY_PHASE_AWAY]	= NO(BUSY),
		[FERRY_PHASE_ARRIVING]	= NO(BUSY),
	},
	[FERRY_ASK_CANCEL] = {	/* nothing to cancel is no error, as in QEMU */
		[FERRY_PHASE_HOME]	= DO,
		[FERRY_PHASE_ABSENT]	= DO,
		[FERRY_PHASE_WAITING]	= DO,
		[FERRY_PHASE_LEAVING]	= DO,
		[FERRY_PHASE_AWAY]	= NO(HALF_AWAY),
		[FERRY_PHASE_ARRIVING]	= NO(HALF_HERE),
	},
};

int ferry_phase_ended(enum ferry_state state)
{
	return state == FERRY_STATE_NONE || state == FERRY_STATE_COMPLETED ||
	       state == FERRY_STATE_FAILED || state == FERRY_STATE_CANCELLED;
}

static enum ferry_phase source_phase(enum ferry_state state,
				     enum ferry_where where)
{
	if (state == FERRY_STATE_COMPLETED)
		return FERRY_PHASE_ABSENT;
	if (where != FERRY_WHERE_SOURCE)
		return FERRY_PHASE_AWAY;
	return ferry_phase_ended(state) ? FERRY_PHASE_HOME : FERRY_PHASE_LEAVING;
}

static enum ferry_phase target_phase(enum ferry_state state,
				     enum ferry_where where)
{
	if (state == FERRY_STATE_COMPLETED)
		return FERRY_PHASE_HOME;
	if (where == FERRY_WHERE_SPLIT || where == FERRY_WHERE_TARGET)
		return FERRY_PHASE_ARRIVING;
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

struct ferry_rule ferry_rule_for(enum ferry_phase phase, enum ferry_ask ask)
{
	return rules[ask][phase];
}
