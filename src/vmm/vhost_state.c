/* SPDX-License-Identifier: MIT */
/*
 * What a backend keeps of a device besides its queues (DEVICE_STATE): a disk in
 * its memory, the connections of a network.  It travels as a bulk device, beside
 * memory and other devices, once the VM stands.  What it means is the backends'
 * own business.
 *
 * Threads: as <ferry/bulk.h> says; `loading` is the device's thread's.
 */
#include "vmm/vhost_device.h"

#include <stdlib.h>

#include <ferry/bulk.h>

#include "base/cleanup.h"
#include "vmm/vhost_priv.h"

#define VERSION		1u

/* What is half saved, or half loaded, is void. */
static int on_step(void *opaque, enum ferry_bulk_step step,
		   struct ferry_err *e)
{
	struct ferry_vhost_device *d = opaque;

	(void)e;
	if (step == FERRY_BULK_CANCEL)
		ferry_vhost_fe_state_cancel(d->fe);
	return 0;
}

/* ---- source ------------------------------------------------------------- */

/* Nothing is to be had while the VM runs. */
static int on_pending(void *opaque, struct ferry_bulk_pending *pending,
		      struct ferry_err *e)
{
	(void)opaque, (void)pending, (void)e;
	return 0;
}

static int on_iterate(void *opaque, struct ferry_bulk *out,
		      struct ferry_err *e)
{
	(void)opaque, (void)out, (void)e;
	return 0;
}

static int on_save(void *opaque, struct ferry_bulk *out, struct ferry_err *e)
{
	FERRY_AUTO_FREE uint8_t *data = malloc(FERRY_BULK_BUFFER_MAX);
	struct ferry_vhost_device *d = opaque;
	int64_t n;

	if (!data)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "%s: its state",
				     d->virtio.name);
	if (ferry_vhost_fe_save_begin(d->fe, e))
		return -1;
	for (;;) {
		n = ferry_vhost_fe_save_read(d->fe, data,
					     FERRY_BULK_BUFFER_MAX,
					     ferry_bulk_fd(out), e);
		if (n <= 0)
			return (int)n;
		if (ferry_bulk_write(out, data, (size_t)n, 0, e))
			return -1;
	}
}

/* ---- target ------------------------------------------------------------- */

static int on_load_begin(void *opaque, struct ferry_bulk *in, uint32_t version,
			 struct ferry_err *e)
{
	struct ferry_vhost_device *d = opaque;

	(void)in, (void)version, (void)e;
	d->loading = false;
	return 0;
}

/* With what comes first, when the VM stands at the source. */
static int begin(struct ferry_vhost_device *d, struct ferry_err *e)
{
	if (d->loading)
		return 0;
	d->used = true;
	d->loading = true;
	return ferry_vhost_fe_load_begin(d->fe, e);
}

static int on_load_buffer(void *opaque, struct ferry_bulk *in, uint64_t index,
			  unsigned flags, const void *data, size_t bytes,
			  struct ferry_err *e)
{
	struct ferry_vhost_device *d = opaque;

	(void)index, (void)flags;
	return begin(d, e) ||
	       ferry_vhost_fe_load_write(d->fe, data, bytes, ferry_bulk_fd(in),
					 e) ? -1 : 0;
}

static int on_ready(void *opaque)
{
	(void)opaque;
	return 1;
}

static int on_load_end(void *opaque, struct ferry_bulk *in,
		       struct ferry_err *e)
{
	struct ferry_vhost_device *d = opaque;

	(void)in;
	return begin(d, e) || ferry_vhost_fe_load_end(d->fe, e) ? -1 : 0;
}

/* ---- those that have one ------------------------------------------------ */

int ferry_vhost_state_describe(struct ferry_vhost_devices *all,
			       struct ferry_vm *vm, struct ferry_err *e)
{
	struct ferry_bulk_ops ops = FERRY_BULK_OPS_INIT;

	ops.step = on_step;
	ops.pending = on_pending;
	ops.iterate = on_iterate;
	ops.save = on_save;
	ops.load_begin = on_load_begin;
	ops.load_buffer = on_load_buffer;
	ops.ready = on_ready;
	ops.load_end = on_load_end;
	for (unsigned i = 0; i < all->count; i++) {
		struct ferry_vhost_device *d = &all->device[i];
		struct ferry_vhost_fe_info info = FERRY_VHOST_FE_INFO_INIT;

		ferry_vhost_fe_info(d->fe, &info);
		d->has_state = info.state;
		if (d->has_state &&
		    ferry_vm_add_bulk(vm, "vhost-user", i, VERSION, &ops, d,
				      e))
			return -1;
	}
	return 0;
}
