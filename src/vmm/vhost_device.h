/* SPDX-License-Identifier: MIT */
/*
 * Devices of `ferry run` whose backend is another process (--vhost-user-net,
 * --vhost-user-blk): a virtio transport here, vhost-user there.
 *
 * Threads: made, attached and freed by the control thread; what a driver wants
 *          comes from vCPUs, under the transport's lock; what a migration wants
 *          from the engine (vhost_migrate.c).
 * Life:    they are made before the machine and freed after it.
 */
#ifndef FERRY_VMM_VHOST_DEVICE_H
#define FERRY_VMM_VHOST_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ferry/vm.h>

#include "base/err.h"
#include "vmm/virtio_bus.h"

#define FERRY_VHOST_NET_PAIRS_MAX	8u
#define FERRY_VHOST_BLK_QUEUES_MAX	16u

struct ferry_machine;

/* An option's kind and its words, as the user gave them. */
struct ferry_vhost_words {
	uint32_t	 id;		/* FERRY_VIRTIO_ID_* */
	const char	*text;		/* SOCKET[,queues=N][,mac=MAC]... */
};

struct ferry_vhost_config {
	uint32_t	 id;
	char		 path[108];
	unsigned	 queues;	/* net: pairs */
	uint8_t		 mac[6];
	bool		 packed;
};

/* slot: which of the devices it is; for its MAC, when none is given. */
FERRY_CHECKED int ferry_vhost_config_parse(const struct ferry_vhost_words *w,
					   unsigned slot,
					   struct ferry_vhost_config *c,
					   struct ferry_err *e);

/* All of the words; nothing is opened. */
FERRY_CHECKED int ferry_vhost_devices_check(const struct ferry_vhost_words *w,
					    size_t n, struct ferry_err *e);

struct ferry_vhost_devices;

/* Finds their backends.  say: something for people; any thread. */
struct ferry_vhost_devices *
ferry_vhost_devices_new(const struct ferry_vhost_words *w, size_t n,
			void (*say)(void *opaque, const char *text),
			void *opaque, struct ferry_err *e);
void ferry_vhost_devices_free(struct ferry_vhost_devices *all);

/* For the machine.  Returns how many. */
unsigned
ferry_vhost_devices_list(struct ferry_vhost_devices *all,
			 const struct ferry_virtio_device
				*list[FERRY_VIRTIO_DEVICES_MAX]);

/* Where the machine has them; before a vCPU runs. */
void ferry_vhost_devices_attach(struct ferry_vhost_devices *all,
				struct ferry_machine *m);

/* What the engine has to know of them. */
FERRY_CHECKED int ferry_vhost_devices_describe(struct ferry_vhost_devices *all,
					       struct ferry_vm *vm,
					       struct ferry_err *e);

/* A VM is to come, where one may have been before. */
FERRY_CHECKED int ferry_vhost_devices_arriving(struct ferry_vhost_devices *all,
					       struct ferry_err *e);

/* May the VM go back to where it was before it went away?  Its disks have not
 * waited for it. */
FERRY_CHECKED int
ferry_vhost_devices_check_rollback(const struct ferry_vhost_devices *all,
				   struct ferry_err *e);

/* The VM has come here, and runs: the network is told. */
void ferry_vhost_devices_announce(struct ferry_vhost_devices *all);

#endif
