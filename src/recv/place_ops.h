/* SPDX-License-Identifier: MIT */
/*
 * The two ways to place; see recv/place.h.
 */
#ifndef FERRY_RECV_PLACE_OPS_H
#define FERRY_RECV_PLACE_OPS_H

#include "recv/place.h"

extern const struct ferry_place_ops ferry_place_precopy;
extern const struct ferry_place_ops ferry_place_postcopy;
extern const struct ferry_place_ops ferry_place_done;	/* drops all */

/* UFFDIO_ZEROPAGE or its like that outlasts a lack of memory.  Octets, or
 * -EEXIST, or another error. */
int64_t ferry_place_zero(struct ferry_place *p, struct ferry_mem_block *b,
			 uint64_t first, uint64_t n);

/* Pages [first, first + n) are there now: whoever waited is accounted for. */
void ferry_place_arrived(struct ferry_place *p, struct ferry_mem_block *b,
			 uint64_t first, uint64_t n);

#endif
