/* SPDX-License-Identifier: MIT */
/*
 * A source that was told to find its target again, watched.
 */
#ifndef FERRY_TOOLS_REGAIN_H
#define FERRY_TOOLS_REGAIN_H

#include "peer.h"

struct ferry_regain {
	const char	*uri;		/* NULL: where it was */
	uint64_t	 wait_ns;	/* with a QEMU that gets nowhere */

	uint64_t	 begin_ns, next_ns;
	uint64_t	 before, told;	/* attempts */
	uint64_t	 met_ns;	/* a QEMU's: since when it talks to
					 * somebody; 0: it does not */
};

/* Before it is told. */
void ferry_regain_begin(struct ferry_regain *s, const struct json_object *m);

/* From here on an interrupt ends the watch; the second one, the command. */
void ferry_regain_heed_signals(void);

/* Until it is completed, was given up, gets nowhere or is left alone; an exit
 * code, of which all is said. */
int ferry_regain_watch(struct ferry_peer *p, struct ferry_regain *s);

#endif
