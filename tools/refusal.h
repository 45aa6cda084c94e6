/* SPDX-License-Identifier: MIT */
/*
 * A `ferry migrate` that did not begin.  That is no word about where the VM is:
 * an earlier migration may have split it, or taken it away.
 */
#ifndef FERRY_TOOLS_REFUSAL_H
#define FERRY_TOOLS_REFUSAL_H

#include <stdbool.h>

#include "peer.h"

/* The exit code, by what query-migrate and query-status of the VM that was to
 * move say.  Pure. */
int ferry_refusal_exit(const struct json_object *migration,
		       const struct json_object *vm);

/* By what it says now; one that does not answer is not known to be. */
bool ferry_refusal_is_split(struct ferry_peer *source);

/* Say why, and where the VM is, if that can be found out; json: as an object
 * on stdout, too.  The exit code. */
int ferry_refusal(struct ferry_peer *source, bool json,
		  const struct ferry_err *why);

/* The same with an exit code that is known: nobody was asked for the VM. */
int ferry_refusal_plain(int code, bool json, const struct ferry_err *why);

#endif
