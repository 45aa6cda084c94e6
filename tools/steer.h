/* SPDX-License-Identifier: MIT */
/*
 * What a migration under way is told.
 */
#ifndef FERRY_TOOLS_STEER_H
#define FERRY_TOOLS_STEER_H

#include "move.h"

/* A QEMU is told when to go to postcopy, or is given up; ferry run knows that
 * by itself. */
void ferry_steer(struct ferry_move *mv);

/* Cancel; -1 and why that is not possible any more. */
FERRY_CHECKED int ferry_steer_cancel(struct ferry_move *mv,
				     struct ferry_err *e);

/* Cancel, for this reason. */
void ferry_steer_give_up(struct ferry_move *mv, const char *text);

#endif
