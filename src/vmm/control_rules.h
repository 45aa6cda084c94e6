/* SPDX-License-Identifier: MIT */
/*
 * What may happen when: every decision about quit, signals, the guest's own
 * wishes and commands in the phases of a migration, in one table
 * (control_rules.c).  Pure.
 */
#ifndef FERRY_VMM_CONTROL_RULES_H
#define FERRY_VMM_CONTROL_RULES_H

#include <ferry/state.h>

/* What this process is to the VM. */
enum ferry_phase {
	FERRY_PHASE_HOME,	/* the VM is here, no migration */
	FERRY_PHASE_ABSENT,	/* no VM here: it has moved, or none came yet */
	FERRY_PHASE_WAITING,	/* target: listening or loading, not committed */
	FERRY_PHASE_LEAVING,	/* source: before the commit */
	FERRY_PHASE_AWAY,	/* source: given away, memory still to go */
	FERRY_PHASE_DOUBT,	/* source: handed over, nothing heard since */
	FERRY_PHASE_CUT,	/* source: given away, then the link was lost */
	FERRY_PHASE_ARRIVING,	/* target: is here, memory still to come */
	FERRY_PHASE_STRANDED,	/* target: is here, then the link was lost */
	FERRY_PHASE_RESCUED,	/* either: then its half was dumped */
	FERRY_PHASES
};

/* What somebody wants.  The first five may have to wait. */
enum ferry_ask {
	FERRY_ASK_PANIC,	/* a vCPU cannot go on */
	FERRY_ASK_POWEROFF,	/* the guest switched itself off */
	FERRY_ASK_RESET,	/* the guest wants a reset */
	FERRY_ASK_QUIT,		/* QMP quit */
	FERRY_ASK_SIGNAL,	/* SIGTERM, SIGINT, SIGHUP */
	FERRY_ASKS_WAITING,	/* how many may have to wait */

	FERRY_ASK_STOP = FERRY_ASKS_WAITING,
	FERRY_ASK_CONT,
	FERRY_ASK_SYSTEM_RESET,
	FERRY_ASK_MIGRATE,
	FERRY_ASK_INCOMING,
	FERRY_ASK_CANCEL,
	FERRY_ASK_SETTINGS,	/* capabilities; parameters fixed at the start */
	FERRY_ASKS
};

enum ferry_act {
	FERRY_ACT_DO = 1,	/* now */
	FERRY_ACT_CANCEL_FIRST,	/* cancel the migration, look again */
	FERRY_ACT_LATER,	/* look again when the phase has changed */
	FERRY_ACT_REFUSE,	/* for the reason in `why` */
};

struct ferry_rule {
	enum ferry_act	act;
	const char	*why;	/* for a person: LATER and REFUSE only */
	const char	*then;	/* what comes of it: LATER only */
};

/* What a signal that cannot be obeyed yet says of the next one. */
#define FERRY_RULE_TWICE	"a second signal within 5 s ends it at once, " \
				"and the VM may be lost"

enum ferry_side {
	FERRY_SIDE_NONE,	/* no migration object */
	FERRY_SIDE_SOURCE,
	FERRY_SIDE_TARGET,
};

/* Nothing is under way: no migration, or one that came to its end. */
int ferry_phase_ended(enum ferry_state state);

/* has_vm: what holds without a migration. */
enum ferry_phase ferry_phase_of(enum ferry_side side, int has_vm,
				enum ferry_state state,
				enum ferry_where where);

/* What a refusal goes on with where the link is lost; else "". */
const char *ferry_phase_ways(enum ferry_phase phase);

struct ferry_rule ferry_rule_for(enum ferry_phase phase, enum ferry_ask ask);

#endif
