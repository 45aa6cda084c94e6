/* SPDX-License-Identifier: MIT */
/*
 * An image as the source of a migration: a VM that stands still, whose memory
 * is read from the image as it is asked for.  Any number of them may be made
 * from one image, for as many destinations, at the same time.
 */
#ifndef FERRY_PARK_SERVE_H
#define FERRY_PARK_SERVE_H

#include <pthread.h>

#include <ferry/vm.h>

#include "mem/mem.h"
#include "park/image.h"

/* Readers' room: chunks that were read last, one set for each thread that
 * reads at the same time. */
#define FERRY_SERVE_CACHES	16

struct ferry_serve {
	const struct ferry_image *img;		/* borrowed */
	struct ferry_mem_store store;
	struct ferry_kept_store kept;
	pthread_mutex_t	 lock;			/* free, damage */
	pthread_cond_t	 given_back;
	unsigned	 caches;		/* made so far */
	struct ferry_image_cache cache[FERRY_SERVE_CACHES];
	struct ferry_image_cache *free[FERRY_SERVE_CACHES];
	unsigned	 frees;
	struct ferry_err damage;		/* what could not be read */
	struct ferry_vm	*vm;			/* to be lent to a source */
};

FERRY_CHECKED int ferry_serve_init(struct ferry_serve *s,
				   const struct ferry_image *img,
				   struct ferry_err *e);
void ferry_serve_fini(struct ferry_serve *s);

/* Some of its memory could not be read, or does not match its hash: no further
 * try can succeed.  What was found first. */
bool ferry_serve_is_damaged(struct ferry_serve *s, struct ferry_err *what);

#endif
