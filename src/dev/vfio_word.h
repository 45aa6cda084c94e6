/* SPDX-License-Identifier: MIT */
/*
 * What a VFIO device says to the one at the target beside its data: words in
 * buffers of their own, which have the flag FERRY_BULK_CONFIG (docs/VFIO.md).
 * Pure, any thread.
 */
#ifndef FERRY_DEV_VFIO_WORD_H
#define FERRY_DEV_VFIO_WORD_H

#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/err.h"

#define FERRY_VFIO_WORD_WIRE	16

enum ferry_vfio_word_kind {
	FERRY_VFIO_WORD_BEGIN	= 1,	/* value: 1: FIRST will come */
	FERRY_VFIO_WORD_FIRST	= 2,	/* what is needed first has come */
	FERRY_VFIO_WORD_END	= 3,	/* value: octets of data in all */
};

struct ferry_vfio_word {
	uint32_t	kind;
	uint64_t	value;
};

void ferry_vfio_word_encode(struct ferry_wr *wr,
			    const struct ferry_vfio_word *w);
FERRY_CHECKED int ferry_vfio_word_decode(const void *data, size_t bytes,
					 struct ferry_vfio_word *w,
					 struct ferry_err *e);

#endif
