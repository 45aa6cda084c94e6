/* SPDX-License-Identifier: MIT */
/*
 * The control queue of a virtio network (virtio 1.2, 5.1.6.5), which the monitor
 * serves: how many pairs of queues the driver uses, and that it has announced
 * itself.  All else is answered VIRTIO_NET_ERR.
 *
 * Threads: any vCPU's, under the transport's lock.
 */
#ifndef FERRY_VMM_VIRTIO_NET_CONTROL_H
#define FERRY_VMM_VIRTIO_NET_CONTROL_H

#include "base/err.h"
#include "vmm/ram.h"
#include "vmm/virtio_mmio.h"

struct ferry_net_control {
	const struct ferry_ram	*ram;

	/* The driver uses the first `pairs` of them: 1 to the device's.
	 * False: it cannot; nothing has changed. */
	bool (*set_pairs)(void *opaque, struct ferry_virtio *t,
			  unsigned pairs);
	/* It has told its network where it is. */
	void (*announced)(void *opaque);
	void			*opaque;
};

/*
 * What it has made available in this queue: 64 commands at most, behind which
 * the next kick is waited for.  (Drivers wait for each answer.)
 * -1 with *e: the ring is broken, see virtio_ring.h.
 */
FERRY_CHECKED int ferry_net_control_serve(const struct ferry_net_control *c,
					  struct ferry_virtio *t,
					  unsigned queue, struct ferry_err *e);

#endif
