/* SPDX-License-Identifier: MIT */
/*
 * A VFIO device becomes part of a VM.
 */
#ifndef FERRY_MIG_VFIO_H
#define FERRY_MIG_VFIO_H

#include "dev/vfio.h"

/* Of what a device says to the one at the target (dev/vfio_word.h). */
#define FERRY_VFIO_VERSION	1

/* v was made of the same config, and stays the caller's. */
FERRY_CHECKED int ferry_vfio_join(struct ferry_vfio *v, struct ferry_vm *vm,
				  const struct ferry_vfio_config *c,
				  struct ferry_err *e);

#endif
