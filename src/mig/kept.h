/* SPDX-License-Identifier: MIT */
/*
 * State of devices that comes in parts (QEMU's VFIO): on main while the VM
 * still runs and after it, and in packets on multifd channels.  A target that
 * adopts keeps it as it came; a source of a parked VM says it again.
 */
#ifndef FERRY_MIG_KEPT_H
#define FERRY_MIG_KEPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum ferry_kept_kind {
	FERRY_KEPT_BEGIN	= 1,	/* main: START and PART sections */
	FERRY_KEPT_SWITCH	= 2,	/* main: SWITCHOVER_START; 0 octets */
	FERRY_KEPT_END		= 3,	/* main: END sections */
	FERRY_KEPT_PACKET	= 4,	/* a channel: a packet, from its head */
	FERRY_KEPT_MORE		= 5,	/* that channel: more of it */
};

struct ferry_kept {
	uint32_t	kind;		/* enum ferry_kept_kind */
	uint32_t	channel;	/* of packets, else 0 */
	uint32_t	bytes;		/* FERRY_KEPT_PIECE_BYTES at most */
};

/* What a source finds. */
struct ferry_kept_store {
	/* False: there are no more than i. */
	bool (*at)(void *arg, uint32_t i, struct ferry_kept *k);
	/* Its octets. */
	int (*read)(void *arg, uint32_t i, uint8_t *out, struct ferry_err *e);
	void *arg;
};

#endif
