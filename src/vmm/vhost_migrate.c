/* SPDX-License-Identifier: MIT */
/*
 * vhost-user devices of a VM that goes away or comes: what both sides must have
 * alike, and what is to be done besides.
 */
#include "vmm/vhost_device.h"

#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <stdio.h>

#include "vmm/vhost_priv.h"

/* "net,queues=1,mac=... blk,queues=2,sectors=8192": what both sides must have
 * alike. */
static int add_fact(struct ferry_vhost_devices *all, struct ferry_vm *vm,
		    struct ferry_err *e)
{
	char text[FERRY_VIRTIO_DEVICES_MAX * 80 + 1];
	size_t at = 0;

	for (unsigned i = 0; i < all->count; i++) {
		struct ferry_vhost_device *d = &all->device[i];
		const struct ferry_vhost_config *c = &d->config;
		const uint8_t *m = c->mac;

		at += (size_t)snprintf(text + at, sizeof(text) - at,
				       "%s%s,queues=%u%s", i ? " " : "",
				       c->id == FERRY_VIRTIO_ID_NET ? "net" :
				       "blk", c->queues,
				       c->packed ? ",packed=on" : "");
		if (c->id == FERRY_VIRTIO_ID_NET)
			at += (size_t)snprintf(text + at, sizeof(text) - at,
					       ",mac=%02x:%02x:%02x:%02x:%02x:"
					       "%02x", m[0], m[1], m[2], m[3],
					       m[4], m[5]);
		else
			at += (size_t)snprintf(text + at, sizeof(text) - at,
					       ",sectors=%" PRIu64 "%s",
					       ferry_vhost_blk_sectors(d),
					       d->virtio.features &
					       1ull << VIRTIO_BLK_F_RO ?
					       ",read-only" : "");
	}
	return ferry_vm_add_fact(vm, "vhost-user", FERRY_FACT_EQUAL, text, e);
}

/* ---- all of it ---------------------------------------------------------- */

int ferry_vhost_devices_describe(struct ferry_vhost_devices *all,
				 struct ferry_vm *vm, struct ferry_err *e)
{
	return add_fact(all, vm, e) || ferry_vhost_log_describe(all, vm, e) ||
	       ferry_vhost_foreign_describe(all, vm, e) ||
	       ferry_vhost_state_describe(all, vm, e) ? -1 : 0;
}

int ferry_vhost_devices_arriving(struct ferry_vhost_devices *all,
				 struct ferry_err *e)
{
	for (unsigned i = 0; i < all->count; i++) {
		if (ferry_vhost_device_renew(&all->device[i], e))
			return -1;
		ferry_vhost_net_reset(&all->device[i]);
		all->device[i].arrives = true;
	}
	return 0;
}

int ferry_vhost_devices_check_rollback(const struct ferry_vhost_devices *all,
				       struct ferry_err *e)
{
	for (unsigned i = 0; i < all->count; i++)
		if (all->device[i].config.id == FERRY_VIRTIO_ID_BLK)
			return ferry_err_set(e, FERRY_E_STATE, 0, "the VM has "
					     "a disk (%s), which the target "
					     "may have written: memory of "
					     "before does not fit it; end the "
					     "VM here, and boot it from its "
					     "disk",
					     all->device[i].virtio.name);
	return 0;
}

void ferry_vhost_devices_announce(struct ferry_vhost_devices *all)
{
	for (unsigned i = 0; i < all->count; i++) {
		struct ferry_vhost_device *d = &all->device[i];
		struct ferry_err e = { 0 };

		if (d->config.id == FERRY_VIRTIO_ID_NET &&
		    ferry_vhost_net_announce(d, &e))
			all->say(all->opaque, e.msg);
	}
}
