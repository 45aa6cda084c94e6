/* SPDX-License-Identifier: MIT */
/*
 * The log that a VFIO device keeps of what it writes by DMA.
 *
 * Threads: start, collect and stop by the engine's main thread, beside the
 *          device's own thread.
 */
#ifndef FERRY_DEV_VFIO_DMA_H
#define FERRY_DEV_VFIO_DMA_H

#include <ferry/vfio.h>

#include "base/err.h"
#include "dev/vfio_port.h"

#define FERRY_VFIO_RANGES_MAX	256u	/* that every driver takes */

/* It was written. */
typedef void ferry_vfio_mark(void *arg, const void *addr, uint64_t bytes);

struct ferry_vfio_dma {
	const struct ferry_vfio_port *port;
	struct ferry_vfio_range *range;
	uint32_t	 ranges;	/* 0: nothing to log */
	uint64_t	 page_bytes;
	uint64_t	*bits;		/* of one question */
	bool		 started;
	/* Who is told. */
	ferry_vfio_mark	*mark;
	void		*mark_arg;
};

FERRY_CHECKED int ferry_vfio_dma_init(struct ferry_vfio_dma *d,
				      const struct ferry_vfio_port *port,
				      const struct ferry_vfio_config *c,
				      struct ferry_err *e);
void ferry_vfio_dma_fini(struct ferry_vfio_dma *d);

FERRY_CHECKED int ferry_vfio_dma_start(struct ferry_vfio_dma *d,
				       struct ferry_err *e);

/* What was written since start or the last one.  An error: the log is lost. */
FERRY_CHECKED int ferry_vfio_dma_collect(struct ferry_vfio_dma *d,
					 struct ferry_err *e);
void ferry_vfio_dma_stop(struct ferry_vfio_dma *d);

#endif
