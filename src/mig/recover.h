/* SPDX-License-Identifier: MIT */
/*
 * What only those ask who wait for a source to come back.  Any thread.
 */
#ifndef FERRY_MIG_RECOVER_H
#define FERRY_MIG_RECOVER_H

#include <stdbool.h>

#include <ferry/target.h>

/* The connection broke in postcopy, and a QEMU that resumes its migration is
 * let in. */
bool ferry_target_awaits_source(struct ferry_target *t);

/* Its state is final, and nobody is waited for. */
bool ferry_target_is_over(struct ferry_target *t);

#endif
