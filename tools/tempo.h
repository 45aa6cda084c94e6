/* SPDX-License-Identifier: MIT */
/*
 * When a QEMU is told to go to postcopy, and when it is given up: what ferry
 * run's own policy does, for one that has none.  QEMU itself ends precopy
 * when the rest fits into the pause.
 */
#ifndef FERRY_TOOLS_TEMPO_H
#define FERRY_TOOLS_TEMPO_H

#include "ctl/json.h"
#include "settle.h"

enum ferry_tempo {
	FERRY_TEMPO_GO_ON,
	FERRY_TEMPO_POSTCOPY,
	FERRY_TEMPO_GIVE_UP,
};

/* migration: the source's, in ferry's shape; active.  Pure. */
enum ferry_tempo ferry_tempo(const struct ferry_plan *plan,
			     const struct json_object *migration);

#endif
