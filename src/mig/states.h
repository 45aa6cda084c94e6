/* SPDX-License-Identifier: MIT */
/*
 * The table of states and legal transitions, both sides.  docs/states.md
 * shows it; tests/unit/mig/states.c compares the two.
 */
#ifndef FERRY_MIG_STATES_H
#define FERRY_MIG_STATES_H

#include <stdbool.h>
#include <stddef.h>

#include <ferry/state.h>

enum ferry_side { FERRY_SIDE_SOURCE, FERRY_SIDE_TARGET };

struct ferry_transition {
	enum ferry_side	 side;
	enum ferry_state from, to;
	const char	*why;
};

/* Row i, or NULL past the end. */
const struct ferry_transition *ferry_transition(size_t i);

bool ferry_transition_legal(enum ferry_side side, enum ferry_state from,
			    enum ferry_state to);

/* No transition leads out of it by itself: wait() returns. */
bool ferry_state_is_final(enum ferry_state s);

/*
 * Where the VM is, as one side knows it.
 *
 * handed: source: RUN was sent; target: RUN was received.
 * heard:  source: the target said that it runs (target: it runs here).
 */
enum ferry_where ferry_where_of(enum ferry_side side, enum ferry_state s,
				bool handed, bool heard);

/* Which side may be started by hand (enum ferry_safe). */
unsigned ferry_safe_of(enum ferry_where where);

#endif
