/* SPDX-License-Identifier: MIT */
/*
 * A VM with vhost-user devices leaves: what their backends write is written
 * down by themselves, in one log for all, and is dirty when the engine asks.
 * Behind the VM's stop() the queues stand, so the last look finds everything.
 *
 * Threads: the engine's main thread of a source.
 */
#include "vmm/vhost_device.h"

#include "vmm/vhost_priv.h"

static void stop(void *opaque)
{
	struct ferry_vhost_devices *all = opaque;

	for (unsigned i = 0; i < all->count; i++) {
		struct ferry_err e = { 0 };

		if (ferry_vhost_fe_log_stop(all->device[i].fe, &e))
			all->say(all->opaque, e.msg);
	}
	ferry_vhost_log_free(all->log);
	all->log = NULL;
}

static int start(void *opaque, struct ferry_err *e)
{
	struct ferry_vhost_region region[FERRY_RAM_SLOTS_MAX];
	struct ferry_vhost_devices *all = opaque;

	all->log = ferry_vhost_log_new(region,
				       ferry_vhost_regions(all, region), e);
	if (!all->log)
		return -1;
	for (unsigned i = 0; i < all->count; i++)
		if (ferry_vhost_fe_log_start(all->device[i].fe, all->log, e))
			return -1;
	return 0;
}

static void mark(void *opaque, void *host, uint64_t bytes)
{
	ferry_vm_mark_dirty(opaque, host, bytes);
}

static int collect(void *opaque, int final, struct ferry_err *e)
{
	struct ferry_vhost_devices *all = opaque;

	(void)final, (void)e;
	(void)ferry_vhost_log_take(all->log, mark, all->vm);
	return 0;
}

int ferry_vhost_log_describe(struct ferry_vhost_devices *all,
			     struct ferry_vm *vm, struct ferry_err *e)
{
	struct ferry_track_ops ops = FERRY_TRACK_OPS_INIT;

	ops.start = start;
	ops.collect = collect;
	ops.stop = stop;
	all->vm = vm;
	return ferry_vm_track_log(vm, &ops, all, e);
}
