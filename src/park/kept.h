/* SPDX-License-Identifier: MIT */
/*
 * State of devices that comes in parts (mig/kept.h), on its way into an image:
 * its octets go to a file without a name beside it, and into the image when all
 * is there.  In memory are only places and hashes.
 *
 * Threads: add by any number; the rest by one, when nobody adds.
 */
#ifndef FERRY_PARK_KEPT_H
#define FERRY_PARK_KEPT_H

#include <pthread.h>

#include "mig/kept.h"
#include "park/layout.h"

struct ferry_kept_log {
	bool		 begun;		/* else there is nothing to be freed */
	pthread_mutex_t	 lock;		/* all below */
	int		 fd;		/* -1: nothing was added */
	uint64_t	 bytes;
	uint32_t	 n, room;
	struct ferry_kept_place *place;	/* offsets in fd */
};

void ferry_kept_log_init(struct ferry_kept_log *l);
void ferry_kept_log_fini(struct ferry_kept_log *l);

/* dir: where the image is. */
FERRY_CHECKED int ferry_kept_log_add(struct ferry_kept_log *l, const char *dir,
				     const struct ferry_kept *k,
				     const void *data, struct ferry_err *e);

/* All octets, to fd from offset on. */
FERRY_CHECKED int ferry_kept_log_copy(const struct ferry_kept_log *l, int fd,
				      uint64_t offset, struct ferry_err *e);

/* The table (FERRY_KEPT_WIRE octets each) for that; NULL with *e. */
uint8_t *ferry_kept_log_table(const struct ferry_kept_log *l, uint64_t offset,
			      struct ferry_err *e);

#endif
