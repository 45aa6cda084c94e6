/* SPDX-License-Identifier: MIT */
/*
 * What the parts of vhost-user devices share.
 *
 *   vhost_words.c	the words of their options (pure)
 *   vhost_devices.c	all of them: made, given to the machine, freed
 *   vhost_device.c	one: what its driver does, for the backend
 *   vhost_net.c		what a network has besides: control queue, announcing
 *   vhost_log.c		what their backends write while the VM leaves
 *   vhost_foreign.c	may they be moved; pages that backends wait for
 *   vhost_state.c	a state that backends keep
 *   vhost_migrate.c	what else there is to do when a VM leaves, or comes
 */
#ifndef FERRY_VMM_VHOST_PRIV_H
#define FERRY_VMM_VHOST_PRIV_H

#include <pthread.h>

#include <ferry/vhost_fe.h>

#include "vmm/ram.h"
#include "vmm/vhost_device.h"

#define FERRY_VHOST_CONFIG_BYTES	60u	/* of a disk, virtio 1.2 */

struct ferry_vhost_devices;

struct ferry_vhost_device {
	struct ferry_vhost_config	 config;
	struct ferry_vhost_devices	*all;
	struct ferry_vhost_fe		*fe;
	struct ferry_virtio_device	 virtio;
	struct ferry_virtio		*t;	/* NULL: no machine yet */
	_Atomic bool			 used;		/* its backend knows a
							 * VM */
	bool				 has_memory;
	bool				 has_inflight;
	bool				 has_state;	/* a bulk device */
	bool				 loading;	/* its state */
	int				 uffd;		/* the engine's number;
							 * 0: none */
	/* as the backend said it last, should it be away */
	uint8_t				 space[FERRY_VHOST_CONFIG_BYTES];
	uint64_t			 running;	/* queues, a bit each */

	_Atomic bool			 arrives;	/* a VM, which has not
							 * run yet */
	/* a network, until its driver resets it */
	_Atomic bool			 can_announce;	/* itself */
	_Atomic bool			 announces;	/* it is to, now */
	bool				 control_broken; /* its queue */
};

struct ferry_vhost_devices {
	const struct ferry_ram		*ram;
	void				(*say)(void *opaque, const char *text);
	void				*opaque;
	struct ferry_vm			*vm;
	struct ferry_vhost_log		*log;	/* NULL: none is kept */

	pthread_mutex_t			 lock;	/* target, uffd of each */
	struct ferry_target		*target; /* NULL: no page is missing */

	unsigned			 count;
	struct ferry_vhost_device	 device[FERRY_VIRTIO_DEVICES_MAX];
};

/* vhost_device.c: config is there; finds the backend.  On failure nothing is
 * left open. */
FERRY_CHECKED int ferry_vhost_device_open(struct ferry_vhost_device *d,
					  struct ferry_err *e);
void ferry_vhost_device_close(struct ferry_vhost_device *d);

/* How large its disk is, as its backend says. */
uint64_t ferry_vhost_blk_sectors(struct ferry_vhost_device *d);

/* For a VM that is to come: a backend that has had one is met anew. */
FERRY_CHECKED int ferry_vhost_device_renew(struct ferry_vhost_device *d,
					   struct ferry_err *e);

/* vhost_net.c.  Under the transport's lock: what the driver reads; does it use
 * this queue; it kicks its control queue; it begins; it begins anew.  Not under
 * it: the VM has come. */
struct virtio_net_config;
void ferry_vhost_net_config(const struct ferry_vhost_device *d,
			    struct virtio_net_config *c);
bool ferry_vhost_net_uses(const struct ferry_virtio *t, unsigned queue);
void ferry_vhost_net_notify(struct ferry_vhost_device *d,
			    struct ferry_virtio *t, unsigned queue);
void ferry_vhost_net_start(struct ferry_vhost_device *d,
			   struct ferry_virtio *t);
void ferry_vhost_net_reset(struct ferry_vhost_device *d);
FERRY_CHECKED int ferry_vhost_net_announce(struct ferry_vhost_device *d,
					   struct ferry_err *e);

/* vhost_log.c, vhost_foreign.c, vhost_state.c */
FERRY_CHECKED int ferry_vhost_log_describe(struct ferry_vhost_devices *all,
					   struct ferry_vm *vm,
					   struct ferry_err *e);
FERRY_CHECKED int ferry_vhost_foreign_describe(struct ferry_vhost_devices *all,
					       struct ferry_vm *vm,
					       struct ferry_err *e);
FERRY_CHECKED int ferry_vhost_state_describe(struct ferry_vhost_devices *all,
					     struct ferry_vm *vm,
					     struct ferry_err *e);

/* Faults of its backend: see struct ferry_vhost_fe_ops. */
FERRY_CHECKED int
ferry_vhost_faults_take(struct ferry_vhost_device *d, int uffd,
			const struct ferry_vhost_fault_range *range, size_t n,
			struct ferry_err *e);
void ferry_vhost_faults_drop(struct ferry_vhost_device *d);

/* Guest memory, as backends are told of it; returns how many regions. */
size_t ferry_vhost_regions(const struct ferry_vhost_devices *all,
			   struct ferry_vhost_region r[FERRY_RAM_SLOTS_MAX]);

#endif
