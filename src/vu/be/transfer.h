/* SPDX-License-Identifier: MIT */
/*
 * The device's state over a descriptor (SET_DEVICE_STATE_FD): written or read
 * by the author's save() and load() on a thread of its own, so that the control
 * thread can answer first and go on.  On the descriptor: docs/VHOST.md, "The
 * state of a device".
 *
 * Threads: start, check and stop by the control thread.
 */
#ifndef FERRY_VU_BE_TRANSFER_H
#define FERRY_VU_BE_TRANSFER_H

#include <stdbool.h>

#include "base/thread.h"

struct ferry_vhost;

struct ferry_vb_transfer {
	struct ferry_thread	thread;
	struct ferry_vhost	*v;
	int			fd;		/* -1 when none */
	int			quit, done;	/* eventfds */
	bool			load;
	bool			started;
	int			result;
	struct ferry_err	error;
};

/* fd is taken. */
FERRY_CHECKED int ferry_vb_transfer_start(struct ferry_vhost *v, bool load,
					  int fd, struct ferry_err *e);

/* Wait for its end: 0, or -1 with the reason. */
FERRY_CHECKED int ferry_vb_transfer_check(struct ferry_vhost *v,
					  struct ferry_err *e);

/* The front-end is gone: end it. */
void ferry_vb_transfer_stop(struct ferry_vhost *v);

#endif
