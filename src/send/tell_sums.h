/* SPDX-License-Identifier: MIT */
/*
 * Verify mode: what every page of the source is, as VERIFY commands.
 *
 * Thread: the conductor, when the VM stands still and all pages are sent.
 */
#ifndef FERRY_SEND_TELL_SUMS_H
#define FERRY_SEND_TELL_SUMS_H

#include "send/speak.h"

/* Memory that was never touched is left out: it is zero.  FERRY_E_UNSUPPORTED
 * for blocks that do not lie in memory. */
FERRY_CHECKED int ferry_tell_sums(struct ferry_speaker *s,
				  struct ferry_err *e);

#endif
