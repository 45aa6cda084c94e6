/* SPDX-License-Identifier: MIT */
/*
 * A VFIO device: made, and told what the engine says to a bulk device.
 */
#include "dev/vfio.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "dev/vfio_abi.h"

#define SILENT_MS	30000u
#define CHUNK_LEAST	4096u

/* By which end it is at; nothing where there is none. */
static const struct {
	int (*out)(struct ferry_vfio *v, struct ferry_err *e);
	int (*in)(struct ferry_vfio *v, struct ferry_err *e);
} steps[] = {
	[FERRY_BULK_QUIESCE] = { ferry_vfio_out_quiesce, NULL },
	[FERRY_BULK_STOP] = { ferry_vfio_out_stop, NULL },
	[FERRY_BULK_PREPARE] = { ferry_vfio_out_prepare,
				 ferry_vfio_in_prepare },
	[FERRY_BULK_RUN] = { ferry_vfio_out_run, ferry_vfio_in_run },
	[FERRY_BULK_END] = { ferry_vfio_out_end, NULL },
	[FERRY_BULK_CANCEL] = { ferry_vfio_out_cancel, ferry_vfio_in_cancel },
};

static int on_step(void *opaque, enum ferry_bulk_step step,
		   struct ferry_err *e)
{
	struct ferry_vfio *v = opaque;

	if (step == FERRY_BULK_BEGIN)
		return ferry_vfio_out_begin(v, e);
	if (step >= FERRY_LEN(steps))
		return 0;
	if (v->role == FERRY_VFIO_OUT && steps[step].out)
		return steps[step].out(v, e);
	if (v->role == FERRY_VFIO_IN && steps[step].in)
		return steps[step].in(v, e);
	return 0;
}

void ferry_vfio_bulk_ops(struct ferry_bulk_ops *ops)
{
	*ops = (struct ferry_bulk_ops)FERRY_BULK_OPS_INIT;
	ops->step = on_step;
	ops->pending = ferry_vfio_out_pending;
	ops->iterate = ferry_vfio_out_iterate;
	ops->save = ferry_vfio_out_save;
	ops->load_begin = ferry_vfio_in_begin;
	ops->load_buffer = ferry_vfio_in_buffer;
	ops->ready = ferry_vfio_in_ready;
	ops->load_end = ferry_vfio_in_end;
}

int ferry_vfio_lost(struct ferry_vfio *v, struct ferry_err *e)
{
	if (v->was_reset)
		v->was_reset(v->opaque);
	return ferry_err_set(e, FERRY_E_DEVICE, 0, "it had failed and was "
			     "reset: its state is lost, the guest has to set "
			     "it up again");
}

/* ---- making --------------------------------------------------------------- */

static int check(const struct ferry_vfio_config *c, struct ferry_err *e)
{
	if (c->size < sizeof(*c))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "struct "
				     "ferry_vfio_config.size is %" PRIu32
				     ", not %zu: use its _INIT macro", c->size,
				     sizeof(*c));
	if (c->chunk_bytes && (c->chunk_bytes < CHUNK_LEAST ||
			       c->chunk_bytes > FERRY_BULK_BUFFER_MAX))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "chunk_bytes %u: "
				     "%u to %u", c->chunk_bytes, CHUNK_LEAST,
				     FERRY_BULK_BUFFER_MAX);
	if (c->silent_ms > INT_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "silent_ms %u: at "
				     "most %d", c->silent_ms, INT_MAX);
	return 0;
}

static int fill(struct ferry_vfio *v, const struct ferry_vfio_config *c,
		struct ferry_err *e)
{
	snprintf(v->name, sizeof(v->name), "%s", c->name ? c->name : "");
	v->instance = c->instance;
	v->was_reset = c->was_reset;
	v->opaque = c->opaque;
	v->chunk_bytes = c->chunk_bytes ? c->chunk_bytes :
					  FERRY_BULK_BUFFER_MAX;
	v->chunk = malloc(v->chunk_bytes);
	if (!v->chunk)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "its state");
	v->port.fd = c->fd;
	v->port.silent_ms = c->silent_ms ? c->silent_ms : SILENT_MS;
	return ferry_vfio_port_init(&v->port, e) ||
	       ferry_vfio_dma_init(&v->dma, &v->port, c, e) ? -1 : 0;
}

struct ferry_vfio *ferry_vfio_new(const struct ferry_vfio_config *c,
				  const struct ferry_vfio_sys *sys,
				  void *sys_arg, struct ferry_err *e)
{
	struct ferry_vfio *v;

	if (check(c, e))
		return NULL;
	v = calloc(1, sizeof(*v));
	if (!v) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "a VFIO device");
		return NULL;
	}
	v->port.data_fd = -1;
	v->port.sys = sys ? sys : &ferry_vfio_kernel;
	v->port.sys_arg = sys_arg;
	if (!fill(v, c, e))
		return v;
	ferry_vfio_free(v);
	return NULL;
}

void ferry_vfio_free(struct ferry_vfio *v)
{
	if (!v)
		return;
	ferry_vfio_port_fini(&v->port);
	ferry_vfio_dma_fini(&v->dma);
	free(v->chunk);
	free(v);
}

unsigned ferry_vfio_features(const struct ferry_vfio *v)
{
	unsigned all = 0;

	if (ferry_vfio_can(v, VFIO_MIGRATION_P2P))
		all |= FERRY_VFIO_P2P;
	if (ferry_vfio_can(v, VFIO_MIGRATION_PRE_COPY))
		all |= FERRY_VFIO_PRE_COPY;
	if (v->port.tells_size)
		all |= FERRY_VFIO_DATA_SIZE;
	if (v->port.logs_dma)
		all |= FERRY_VFIO_DMA_LOG;
	return all;
}
