/* SPDX-License-Identifier: MIT */
/*
 * What tests need of the target beyond the public API: connections of their
 * own making instead of a listener.
 */
#ifndef FERRY_MIG_TARGET_TEST_H
#define FERRY_MIG_TARGET_TEST_H

#include "mig/target_impl.h"

/* Start without listening; connections come by offer. */
FERRY_CHECKED int ferry_target_begin(struct ferry_target *t,
				     struct ferry_err *e);

/* A connection that has just come; taken.  Returns when it has been let in or
 * turned away; never two at once. */
void ferry_target_offer(struct ferry_target *t, struct ferry_chan *chan);

#endif
