/* SPDX-License-Identifier: MIT */
/*
 * One migration as `ferry migrate` drives it, from beginning to end.
 */
#ifndef FERRY_TOOLS_MOVE_H
#define FERRY_TOOLS_MOVE_H

#include <signal.h>

#include "outcome.h"
#include "peer.h"
#include "settle.h"
#include "undo.h"
#include "wish.h"

/* What was said on the command line. */
struct ferry_order {
	const char	*vm;
	const char	*to;		/* an address, or another VM */
	const char	*listen;	/* where that one shall; or NULL */
	const char	*path[8];	/* further addresses of it, `paths` */
	unsigned	 paths;
	struct ferry_wish wish;
	void		 (*begins)(void);	/* from here on heed signals */
	const volatile sig_atomic_t *interrupts;	/* so far */
	int		 json, detach, quiet;
};

struct ferry_move {
	const struct ferry_order *order;
	struct ferry_plan plan;
	struct ferry_peer source;
	struct ferry_peer target;	/* no name: there is only an address */
	char		 uri[300];	/* where the source goes */
	struct json_object *m, *t;	/* the source's and the target's
					 * query-migrate, as seen last */
	struct ferry_end from, to;
	struct ferry_undo from_was, to_was;	/* before they were set */
	bool		 was_running;	/* at the source, before */
	bool		 begun;
	bool		 postcopy;	/* the QEMU was told to */
	bool		 cancelled;	/* by us */
	uint64_t	 alone_ns;	/* since when only the source goes on */
	char		 why[240];	/* we gave up, or "" */
};

/* All of it; an exit code. */
int ferry_move(const struct ferry_order *order);

/* Watch until it ends (0) or until nobody wants to watch any more (1).  The
 * source may be gone then: from.gone. */
int ferry_watch(struct ferry_move *mv);

#endif
