/* SPDX-License-Identifier: MIT */
/*
 * A VM that waits is made to listen.
 */
#ifndef FERRY_TOOLS_INCOMING_H
#define FERRY_TOOLS_INCOMING_H

#include "peer.h"

#define FERRY_INCOMING_URI	"tcp:127.0.0.1:0"

/*
 * Where the target can be reached: at `listen` (NULL: FERRY_INCOMING_URI), or
 * where it listens already.  It is asked for the port that the system chose.
 */
FERRY_CHECKED int ferry_incoming(struct ferry_peer *target,
				 const char *listen, char *uri, size_t bytes,
				 struct ferry_err *e);

#endif
