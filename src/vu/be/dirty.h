/* SPDX-License-Identifier: MIT */
/*
 * The dirty log of vhost-user: one bit for each 4096 octets of guest memory
 * that was written, in a file shared with the front-end and with the backends
 * of its other devices.
 *
 * Order:   write the data, *then* mark: the front-end clears the bit and then
 *          reads the page, so the other way round an update could be lost.
 * Threads: anyone marks; replaced by one thread while nobody marks.
 */
#ifndef FERRY_VU_BE_DIRTY_H
#define FERRY_VU_BE_DIRTY_H

#include <stdatomic.h>

#include "vu/msg/msg.h"

struct ferry_vb_dirty {
	_Atomic uint8_t	*bits;		/* NULL: there is no log */
	uint64_t	bytes;
	void		*map;
	uint64_t	map_bytes;
	_Atomic uint64_t pages;		/* marked that were not, for figures */
};

/* Use this log from now on; fd stays the caller's.  On failure the old one
 * stays. */
FERRY_CHECKED int ferry_vb_dirty_open(struct ferry_vb_dirty *d,
				      const struct ferry_vu_log *log, int fd,
				      struct ferry_err *e);
void ferry_vb_dirty_close(struct ferry_vb_dirty *d);

/* What lies beyond the log's end is left out: the log covers all of the memory
 * that the front-end cares for. */
void ferry_vb_dirty_mark(struct ferry_vb_dirty *d, uint64_t gpa,
			 uint64_t bytes);

#endif
