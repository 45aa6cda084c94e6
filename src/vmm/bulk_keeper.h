/* SPDX-License-Identifier: MIT */
/*
 * The process that keeps the state of one bulk device of `ferry run`, as the
 * firmware of a device would: it hands it out and takes it in at a given
 * rate, changes it while the VM runs, and checks what it is given by content.
 * It ends when the other end of its pipes is gone.
 */
#ifndef FERRY_VMM_BULK_KEEPER_H
#define FERRY_VMM_BULK_KEEPER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct ferry_keeper_config {
	uint32_t	 blocks;
	uint64_t	 rate;		/* bytes/s each way; 0: no limit */
	uint64_t	 change;	/* bytes/s while the VM runs */
	bool		 empty;		/* the state is to arrive */
	int		 in, out;
	const _Atomic uint32_t *running;	/* 1: the VM runs */
};

/* 0: the other end is gone; else errno. */
int ferry_keeper_run(const struct ferry_keeper_config *config);

/* As the command that `ferry run` makes of itself: BLOCKS RATE CHANGE EMPTY;
 * pipes and a page that says whether the VM runs are fds 3, 4 and 5. */
int ferry_keeper_main(int argc, char **argv);

#endif
