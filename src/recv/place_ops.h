/* SPDX-License-Identifier: MIT */
/*
 * The ways to place; see recv/place.h.
 */
#ifndef FERRY_RECV_PLACE_OPS_H
#define FERRY_RECV_PLACE_OPS_H

#include "recv/place.h"

extern const struct ferry_place_ops ferry_place_precopy;
extern const struct ferry_place_ops ferry_place_postcopy;
extern const struct ferry_place_ops ferry_place_done;	/* drops all */
extern const struct ferry_place_ops ferry_place_file;	/* before LISTEN */
extern const struct ferry_place_ops ferry_place_file_late;

/* Make room in the files for all that is missing, so that no page comes later
 * for which there is none; then as ferry_place_listen(). */
FERRY_CHECKED int ferry_place_file_listen(struct ferry_place *p,
					  struct ferry_err *e);

/* A page that could not be placed for lack of memory is tried again in a
 * moment; false when it shall not be.  *since_ns is 0 at the first time. */
bool ferry_place_wait_for_room(struct ferry_place *p, int64_t rc,
			       uint64_t *since_ns);

/* UFFDIO_ZEROPAGE or its like that outlasts a lack of memory.  Octets, or
 * -EEXIST, or another error. */
int64_t ferry_place_zero(struct ferry_place *p, struct ferry_mem_block *b,
			 uint64_t first, uint64_t n);

/* Pages [first, first + n) are there now: whoever waited is accounted for. */
void ferry_place_arrived(struct ferry_place *p, struct ferry_mem_block *b,
			 uint64_t first, uint64_t n);

/* Faults are normal from here on, and huge pages allowed.  Any thread. */
void ferry_place_disarm(struct ferry_place *p);

#endif
