/* SPDX-License-Identifier: MIT */
/*
 * A VFIO device as a bulk device, without the VM that it is added to.
 *
 * Threads: as ferry/bulk.h has them: one callback at a time.  The log of what
 *          the device writes (vfio_dma.h) is beside that: it touches nothing
 *          but the port, and of that only what does not change.
 */
#ifndef FERRY_DEV_VFIO_H
#define FERRY_DEV_VFIO_H

#include <ferry/vfio.h>

#include "base/limits.h"
#include "dev/vfio_dma.h"
#include "dev/vfio_port.h"

enum ferry_vfio_role {
	FERRY_VFIO_IDLE, FERRY_VFIO_OUT, FERRY_VFIO_IN,
};

struct ferry_vfio {
	char		 name[FERRY_NAME_MAX + 1];
	uint32_t	 instance;
	struct ferry_vfio_port port;
	struct ferry_vfio_dma dma;
	uint8_t		*chunk;
	size_t		 chunk_bytes;
	void		(*was_reset)(void *opaque);
	void		*opaque;
	/* The migration's: */
	enum ferry_vfio_role role;
	uint32_t	 before;	/* state at its begin */
	uint64_t	 octets;	/* of data, until now */
	bool		 began;		/* the word was said, or heard */
	bool		 first;		/* the same: what is needed first */
	bool		 holds;		/* target: FIRST will come */
	bool		 ended;		/* target: END was heard */
	bool		 stands;	/* source: had QUIESCE */
};

/* sys: instead of the kernel, or NULL. */
struct ferry_vfio *ferry_vfio_new(const struct ferry_vfio_config *config,
				  const struct ferry_vfio_sys *sys,
				  void *sys_arg, struct ferry_err *e);

/* Slots for ferry_vm_add_bulk(), whose opaque is the device. */
void ferry_vfio_bulk_ops(struct ferry_bulk_ops *ops);

static inline bool ferry_vfio_can(const struct ferry_vfio *v, uint64_t what)
{
	return (v->port.can & what) == what;
}

/* It had to be reset: tell so.  -1. */
int ferry_vfio_lost(struct ferry_vfio *v, struct ferry_err *e);

/* ---- vfio_out.c: source --------------------------------------------------- */

int ferry_vfio_out_begin(struct ferry_vfio *v, struct ferry_err *e);
int ferry_vfio_out_quiesce(struct ferry_vfio *v, struct ferry_err *e);
int ferry_vfio_out_stop(struct ferry_vfio *v, struct ferry_err *e);
int ferry_vfio_out_prepare(struct ferry_vfio *v, struct ferry_err *e);
int ferry_vfio_out_run(struct ferry_vfio *v, struct ferry_err *e);
int ferry_vfio_out_end(struct ferry_vfio *v, struct ferry_err *e);
int ferry_vfio_out_cancel(struct ferry_vfio *v, struct ferry_err *e);
int ferry_vfio_out_pending(void *opaque, struct ferry_bulk_pending *p,
			   struct ferry_err *e);
int ferry_vfio_out_iterate(void *opaque, struct ferry_bulk *out,
			   struct ferry_err *e);
int ferry_vfio_out_save(void *opaque, struct ferry_bulk *out,
			struct ferry_err *e);

/* ---- vfio_in.c: target ---------------------------------------------------- */

int ferry_vfio_in_prepare(struct ferry_vfio *v, struct ferry_err *e);
int ferry_vfio_in_run(struct ferry_vfio *v, struct ferry_err *e);
int ferry_vfio_in_cancel(struct ferry_vfio *v, struct ferry_err *e);
int ferry_vfio_in_begin(void *opaque, struct ferry_bulk *in, uint32_t version,
			struct ferry_err *e);
int ferry_vfio_in_buffer(void *opaque, struct ferry_bulk *in, uint64_t index,
			 unsigned flags, const void *data, size_t bytes,
			 struct ferry_err *e);
int ferry_vfio_in_ready(void *opaque);
int ferry_vfio_in_end(void *opaque, struct ferry_bulk *in,
		      struct ferry_err *e);

#endif
