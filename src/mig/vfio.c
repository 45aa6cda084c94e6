/* SPDX-License-Identifier: MIT */
/*
 * A VFIO device becomes part of a VM: a bulk device, and a log of what it
 * writes.
 */
#include "mig/vfio.h"

#include <inttypes.h>

#include "mig/vm.h"

static void mark(void *arg, const void *addr, uint64_t bytes)
{
	ferry_vm_mark_dirty(arg, addr, bytes);
}

static int blame(const struct ferry_vfio *v, struct ferry_err *e)
{
	return ferry_err_wrap(e, "VFIO device %s/%" PRIu32, v->name,
			      v->instance);
}

static int on_start(void *opaque, struct ferry_err *e)
{
	struct ferry_vfio *v = opaque;

	return ferry_vfio_dma_start(&v->dma, e) ? blame(v, e) : 0;
}

static int on_collect(void *opaque, int final, struct ferry_err *e)
{
	struct ferry_vfio *v = opaque;

	(void)final;
	return ferry_vfio_dma_collect(&v->dma, e) ? blame(v, e) : 0;
}

static void on_stop(void *opaque)
{
	struct ferry_vfio *v = opaque;

	ferry_vfio_dma_stop(&v->dma);
}

static int track(struct ferry_vfio *v, struct ferry_vm *vm,
		 struct ferry_err *e)
{
	struct ferry_track_ops ops = FERRY_TRACK_OPS_INIT;

	if (!v->dma.ranges)
		return 0;
	v->dma.mark = mark;
	v->dma.mark_arg = vm;
	ops.start = on_start;
	ops.collect = on_collect;
	ops.stop = on_stop;
	return ferry_vm_track_log(vm, &ops, v, e);
}

int ferry_vfio_join(struct ferry_vfio *v, struct ferry_vm *vm,
		    const struct ferry_vfio_config *c, struct ferry_err *e)
{
	struct ferry_bulk_ops ops;

	ferry_vfio_bulk_ops(&ops);
	if (ferry_vm_add_bulk(vm, c->name, c->instance, FERRY_VFIO_VERSION,
			      &ops, v, e))
		return -1;
	if (!track(v, vm, e))
		return 0;
	vm->bulk.devs--;	/* the one just added */
	return -1;
}

struct ferry_vfio *ferry_vfio_add(struct ferry_vm *vm,
				  const struct ferry_vfio_config *config,
				  struct ferry_err *e)
{
	struct ferry_vfio *v = ferry_vfio_new(config, NULL, NULL, e);

	if (v && !ferry_vfio_join(v, vm, config, e))
		return v;
	if (v)
		ferry_vfio_free(v);
	ferry_err_wrap(e, "VFIO device %s", config->name ? config->name : "");
	return NULL;
}
