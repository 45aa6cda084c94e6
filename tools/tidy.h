/* SPDX-License-Identifier: MIT */
/*
 * What a QEMU still has to do when its last migration is over for everybody
 * else.
 */
#ifndef FERRY_TOOLS_TIDY_H
#define FERRY_TOOLS_TIDY_H

#include "peer.h"

#define FERRY_TIDY_MS	10000

/* Its last migration ended: 1: it has tidied up, or does not say; 0: not yet;
 * -1: it cannot be asked any more.  e: not NULL. */
FERRY_CHECKED int ferry_tidy_look(struct ferry_peer *p, struct ferry_err *e);

/*
 * Wait until it has tidied up after a migration that failed or was cancelled:
 * a QEMU 7.2 that is told to migrate before that may die of it.  Whoever does
 * not know the question, or whose migration goes on, is not waited for; it
 * refuses by itself what it cannot do.  -1: FERRY_E_STATE, after patience_ms.
 */
FERRY_CHECKED int ferry_tidy_await(struct ferry_peer *p, unsigned patience_ms,
				   struct ferry_err *e);

#endif
