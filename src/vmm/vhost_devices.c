/* SPDX-License-Identifier: MIT */
/* See vhost_device.h. */
#include "vmm/vhost_device.h"

#include <stdlib.h>

#include "vmm/machine.h"
#include "vmm/vhost_priv.h"

struct ferry_vhost_devices *
ferry_vhost_devices_new(const struct ferry_vhost_words *w, size_t n,
			void (*say)(void *opaque, const char *text),
			void *opaque, struct ferry_err *e)
{
	struct ferry_vhost_devices *all = calloc(1, sizeof(*all));

	if (!all) {
		ferry_err_set(e, FERRY_E_NOMEM, 0, "vhost-user devices");
		return NULL;
	}
	all->say = say;
	all->opaque = opaque;
	pthread_mutex_init(&all->lock, NULL);
	if (ferry_vhost_devices_check(w, n, e))
		goto fail;
	for (unsigned i = 0; i < n; i++) {
		struct ferry_vhost_device *d = &all->device[i];

		d->all = all;
		if (ferry_vhost_config_parse(&w[i], i, &d->config, e) ||
		    ferry_vhost_device_open(d, e))
			goto fail;
		all->count++;
	}
	return all;
fail:
	ferry_vhost_devices_free(all);
	return NULL;
}

void ferry_vhost_devices_free(struct ferry_vhost_devices *all)
{
	if (!all)
		return;
	while (all->count)
		ferry_vhost_device_close(&all->device[--all->count]);
	pthread_mutex_destroy(&all->lock);
	free(all);
}

unsigned
ferry_vhost_devices_list(struct ferry_vhost_devices *all,
			 const struct ferry_virtio_device
				*list[FERRY_VIRTIO_DEVICES_MAX])
{
	for (unsigned i = 0; i < all->count; i++)
		list[i] = &all->device[i].virtio;
	return all->count;
}

void ferry_vhost_devices_attach(struct ferry_vhost_devices *all,
				struct ferry_machine *m)
{
	all->ram = ferry_machine_ram(m);
	for (unsigned i = 0; i < all->count; i++)
		__atomic_store_n(&all->device[i].t,
				 ferry_machine_virtio(m, i),
				 __ATOMIC_RELEASE);
}

size_t ferry_vhost_regions(const struct ferry_vhost_devices *all,
			   struct ferry_vhost_region r[FERRY_RAM_SLOTS_MAX])
{
	struct ferry_kvm_slot slots[FERRY_RAM_SLOTS_MAX];
	const size_t n = ferry_ram_slots(all->ram, slots);

	for (size_t i = 0; i < n; i++) {
		r[i] = (struct ferry_vhost_region)FERRY_VHOST_REGION_INIT;
		r[i].fd = all->ram->fd;
		r[i].gpa = slots[i].gpa;
		r[i].bytes = slots[i].bytes;
		r[i].host = slots[i].addr;
		r[i].fd_offset = (uint64_t)((uint8_t *)slots[i].addr -
					    all->ram->base);
	}
	return n;
}
