/* SPDX-License-Identifier: MIT */
/*
 * What may happen when: the table of decisions, and where a migration's state
 * puts this process in it.
 */
#include "vmm/control_rules.h"

#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "cm.h"

#define NONE	FERRY_SIDE_NONE
#define SRC	FERRY_SIDE_SOURCE
#define DST	FERRY_SIDE_TARGET

static const struct {
	enum ferry_side	side;
	int		has_vm;
	enum ferry_state state;
	enum ferry_where where;
	enum ferry_phase phase;
} phases[] = {
	{ NONE, 1, FERRY_STATE_NONE, FERRY_WHERE_SOURCE, FERRY_PHASE_HOME },
	{ NONE, 0, FERRY_STATE_NONE, FERRY_WHERE_SOURCE, FERRY_PHASE_ABSENT },

	{ SRC, 1, FERRY_STATE_SETUP, FERRY_WHERE_SOURCE, FERRY_PHASE_LEAVING },
	{ SRC, 1, FERRY_STATE_ACTIVE, FERRY_WHERE_SOURCE,
	  FERRY_PHASE_LEAVING },
	{ SRC, 1, FERRY_STATE_DEVICE, FERRY_WHERE_SOURCE,
	  FERRY_PHASE_LEAVING },
	{ SRC, 1, FERRY_STATE_CANCELLING, FERRY_WHERE_SOURCE,
	  FERRY_PHASE_LEAVING },
	{ SRC, 1, FERRY_STATE_CANCELLED, FERRY_WHERE_SOURCE,
	  FERRY_PHASE_HOME },
	{ SRC, 1, FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, FERRY_PHASE_HOME },
	{ SRC, 1, FERRY_STATE_DEVICE, FERRY_WHERE_UNDECIDED,
	  FERRY_PHASE_DOUBT },
	{ SRC, 1, FERRY_STATE_POSTCOPY_PAUSED, FERRY_WHERE_UNDECIDED,
	  FERRY_PHASE_DOUBT },
	{ SRC, 1, FERRY_STATE_POSTCOPY_ACTIVE, FERRY_WHERE_SPLIT,
	  FERRY_PHASE_AWAY },
	{ SRC, 1, FERRY_STATE_POSTCOPY_PAUSED, FERRY_WHERE_SPLIT,
	  FERRY_PHASE_CUT },
	{ SRC, 1, FERRY_STATE_DEVICE, FERRY_WHERE_TARGET, FERRY_PHASE_AWAY },
	{ SRC, 1, FERRY_STATE_COMPLETED, FERRY_WHERE_TARGET,
	  FERRY_PHASE_ABSENT },

	{ DST, 0, FERRY_STATE_SETUP, FERRY_WHERE_SOURCE, FERRY_PHASE_WAITING },
	{ DST, 0, FERRY_STATE_ACTIVE, FERRY_WHERE_SOURCE,
	  FERRY_PHASE_WAITING },
	{ DST, 0, FERRY_STATE_ACTIVE, FERRY_WHERE_UNDECIDED,
	  FERRY_PHASE_WAITING },
	{ DST, 0, FERRY_STATE_FAILED, FERRY_WHERE_SOURCE, FERRY_PHASE_ABSENT },
	{ DST, 0, FERRY_STATE_CANCELLED, FERRY_WHERE_SOURCE,
	  FERRY_PHASE_ABSENT },
	{ DST, 0, FERRY_STATE_POSTCOPY_ACTIVE, FERRY_WHERE_SPLIT,
	  FERRY_PHASE_ARRIVING },
	{ DST, 0, FERRY_STATE_POSTCOPY_PAUSED, FERRY_WHERE_SPLIT,
	  FERRY_PHASE_STRANDED },
	{ DST, 0, FERRY_STATE_ACTIVE, FERRY_WHERE_TARGET,
	  FERRY_PHASE_ARRIVING },
	{ DST, 0, FERRY_STATE_COMPLETED, FERRY_WHERE_TARGET,
	  FERRY_PHASE_HOME },
};

static void the_phase_follows_from_the_migration(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(phases); i++) {
		enum ferry_phase got =
			ferry_phase_of(phases[i].side, phases[i].has_vm,
				       phases[i].state, phases[i].where);

		if (got != phases[i].phase)
			fail_msg("row %zu: %d", i, got);
	}
}

static void every_cell_is_decided_and_says_why(void **state)
{
	(void)state;
	for (enum ferry_ask ask = 0; ask < FERRY_ASKS; ask++) {
		for (enum ferry_phase p = 0; p < FERRY_PHASES; p++) {
			struct ferry_rule r = ferry_rule_for(p, ask);
			bool says = r.act == FERRY_ACT_REFUSE ||
				    r.act == FERRY_ACT_LATER;

			if (r.act < FERRY_ACT_DO || r.act > FERRY_ACT_REFUSE ||
			    says != (r.why != NULL) ||
			    (r.act == FERRY_ACT_LATER) != (r.then != NULL))
				fail_msg("ask %d, phase %d", ask, p);
			/* An order has a giver who waits for the answer. */
			if (ask >= FERRY_ASKS_WAITING)
				assert_true(r.act == FERRY_ACT_DO ||
					    r.act == FERRY_ACT_REFUSE);
		}
	}
}

static const enum ferry_phase away[] = {
	FERRY_PHASE_AWAY, FERRY_PHASE_DOUBT, FERRY_PHASE_CUT,
};

static void a_committed_source_neither_runs_nor_ends(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_ASKS * FERRY_LEN(away); i++) {
		enum ferry_act act = ferry_rule_for(away[i / FERRY_ASKS],
						    i % FERRY_ASKS).act;

		assert_true(act == FERRY_ACT_REFUSE || act == FERRY_ACT_LATER);
	}
}

/* What the sentences of a phase may not say, because it need not be so. */
static const struct {
	enum ferry_phase phase;
	const char	*untrue;
} untrue[] = {
	/* The destination may have died, or have stopped it. */
	{ FERRY_PHASE_AWAY,	"the VM runs" },
	{ FERRY_PHASE_AWAY,	"memory is still here" },	/* all sent */
	{ FERRY_PHASE_CUT,	"the VM runs" },
	{ FERRY_PHASE_DOUBT,	"the VM runs" },
	{ FERRY_PHASE_ARRIVING,	"the VM runs" },	/* it may be stopped */
	{ FERRY_PHASE_STRANDED,	"the VM runs" },
	/* Nothing goes on by itself. */
	{ FERRY_PHASE_CUT,	"in progress" },
	{ FERRY_PHASE_DOUBT,	"in progress" },
	{ FERRY_PHASE_STRANDED,	"in progress" },
	{ FERRY_PHASE_CUT,	"is complete" },
	{ FERRY_PHASE_DOUBT,	"is complete" },
	{ FERRY_PHASE_STRANDED,	"is complete" },
	{ FERRY_PHASE_STRANDED,	"when all" },
	/* Not heard of: neither its memory nor the VM is known to be here. */
	{ FERRY_PHASE_DOUBT,	"only here" },
	/* It may be gone. */
	{ FERRY_PHASE_STRANDED,	"at the source" },
};

static void no_sentence_says_more_than_is_known(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(untrue); i++) {
		for (enum ferry_ask ask = 0; ask < FERRY_ASKS; ask++) {
			struct ferry_rule r = ferry_rule_for(untrue[i].phase,
							     ask);

			if ((r.why && strstr(r.why, untrue[i].untrue)) ||
			    (r.then && strstr(r.then, untrue[i].untrue)))
				fail_msg("row %zu, ask %d: %s; %s", i, ask,
					 r.why, r.then);
		}
	}
}

static void a_target_runs_nothing_before_it_has_the_vm(void **state)
{
	(void)state;
	assert_int_equal(ferry_rule_for(FERRY_PHASE_WAITING,
					FERRY_ASK_CONT).act, FERRY_ACT_REFUSE);
	assert_int_equal(ferry_rule_for(FERRY_PHASE_ABSENT,
					FERRY_ASK_CONT).act, FERRY_ACT_REFUSE);
}

static void only_a_vm_that_is_all_here_may_leave(void **state)
{
	(void)state;
	for (enum ferry_phase p = 0; p < FERRY_PHASES; p++)
		assert_int_equal(ferry_rule_for(p, FERRY_ASK_MIGRATE).act ==
				 FERRY_ACT_DO, p == FERRY_PHASE_HOME);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_phase_follows_from_the_migration),
		cmocka_unit_test(every_cell_is_decided_and_says_why),
		cmocka_unit_test(a_committed_source_neither_runs_nor_ends),
		cmocka_unit_test(no_sentence_says_more_than_is_known),
		cmocka_unit_test(a_target_runs_nothing_before_it_has_the_vm),
		cmocka_unit_test(only_a_vm_that_is_all_here_may_leave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
