/* SPDX-License-Identifier: MIT */
/*
 * The descriptors that this process was given when it started: the only ones
 * that an fd:N may name.  What has been opened since is the process's own
 * (its log, the guest's RAM).  0, 1 and 2 are nobody's to migrate through.
 */
#ifndef FERRY_VMM_INHERITED_H
#define FERRY_VMM_INHERITED_H

#include <stdint.h>

#include "base/err.h"

#define FERRY_INHERITED_MAX	1024

struct ferry_inherited {
	uint64_t bits[FERRY_INHERITED_MAX / 64];
};

/* Before anything is opened. */
void ferry_inherited_note(struct ferry_inherited *in);

/* -1 for an fd:N that was not given to us; any other address is fine. */
FERRY_CHECKED int ferry_inherited_check(const struct ferry_inherited *in,
					const char *uri, struct ferry_err *e);

#endif
