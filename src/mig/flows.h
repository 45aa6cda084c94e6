/* SPDX-License-Identifier: MIT */
/*
 * What went over each connection, as the API shows it.  Any thread.
 */
#ifndef FERRY_MIG_FLOWS_H
#define FERRY_MIG_FLOWS_H

#include <ferry/event.h>

#include "base/flow.h"
#include "base/limits.h"

/* flow: places for all data channels, then for all urgent ones, of which there
 * are so many.  The i-th of those: 0, or -1. */
int ferry_flows_read(struct ferry_flow *flow, unsigned data, unsigned urgent,
		     unsigned i, struct ferry_channel_stats *out);

#endif
