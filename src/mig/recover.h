/* SPDX-License-Identifier: MIT */
/*
 * What only those ask who wait for a source to come back.  Any thread.
 */
#ifndef FERRY_MIG_RECOVER_H
#define FERRY_MIG_RECOVER_H

#include <stdbool.h>

#include <ferry/target.h>

/* The connection broke, and a source that comes back is let in: to go on, or
 * to hear that all is here. */
bool ferry_target_awaits_source(struct ferry_target *t);

/* A QEMU whose VM is in two halves came back, and the other one is not here. */
bool ferry_target_met_stray(struct ferry_target *t);

/* Its state is final, and nobody is waited for. */
bool ferry_target_is_over(struct ferry_target *t);

#endif
