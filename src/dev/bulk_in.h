/* SPDX-License-Identifier: MIT */
/*
 * Bulk devices at the target: packets come from any channel, in any order;
 * each device is loaded by a thread of its own.
 *
 * Threads: room and put by whoever receives, never waiting for a device; the
 *          callbacks of a device, and ops, by its thread; the rest by the
 *          target's threads, as said.  lock: leaf.
 * Life:    close() makes everybody return soon; stop() joins.
 */
#ifndef FERRY_DEV_BULK_IN_H
#define FERRY_DEV_BULK_IN_H

#include <pthread.h>

#include "base/thread.h"
#include "dev/bulk.h"
#include "dev/bulk_queue.h"

/* What the source, and who conducts, is to know.  By any device's thread. */
struct ferry_bulk_in_ops {
	int (*grant)(void *arg, uint32_t device, uint64_t limit,
		     struct ferry_err *e);
	int (*ready)(void *arg, uint32_t device, struct ferry_err *e);
	int (*loaded)(void *arg, uint32_t device, uint64_t busy_ns,
		      struct ferry_err *e);
	void (*failed)(void *arg, const struct ferry_err *why);
};

struct ferry_bulk_loader {
	struct ferry_bulk_in *in;
	const struct ferry_bulk_dev *dev;
	uint32_t	 number;	/* the source's */
	uint32_t	 version;
	struct ferry_bulk handle;
	struct ferry_thread thread;
	bool		 begun;		/* load_begin() was called */
	/* in->lock: */
	struct ferry_bulk_queue queue;
	struct ferry_bulk_stats stats;
};

struct ferry_bulk_in {
	const struct ferry_bulk_list *list;
	const struct ferry_bulk_in_ops *ops;
	void		*arg;
	struct ferry_bulk_loader *loader;	/* by the source's numbers */
	uint32_t	 loaders;

	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	bool		 closed;
	bool		 may_end;	/* the small state was loaded */
	uint32_t	 loaded;
	struct ferry_err why;		/* code: one failed */
};

void ferry_bulk_in_init(struct ferry_bulk_in *in,
			const struct ferry_bulk_list *list,
			const struct ferry_bulk_in_ops *ops, void *arg);
void ferry_bulk_in_fini(struct ferry_bulk_in *in);

/* The source's next device, known to be on the list. */
FERRY_CHECKED int ferry_bulk_in_add(struct ferry_bulk_in *in,
				    const char *name, uint32_t instance,
				    uint32_t version, struct ferry_err *e);
/* Nobody receives, nothing is loaded: as after init. */
void ferry_bulk_in_forget(struct ferry_bulk_in *in);

/* All channels are there: begin to load, and grant. */
FERRY_CHECKED int ferry_bulk_in_start(struct ferry_bulk_in *in,
				      struct ferry_err *e);

FERRY_CHECKED int ferry_bulk_in_room(struct ferry_bulk_in *in,
				     const struct ferry_bulk_packet *p,
				     uint8_t **at, struct ferry_err *e);
void ferry_bulk_in_put(struct ferry_bulk_in *in,
		       const struct ferry_bulk_packet *p);

/* The loader, behind the small state: wait until all are whole. */
FERRY_CHECKED int ferry_bulk_in_finish(struct ferry_bulk_in *in,
				       struct ferry_err *e);

bool ferry_bulk_in_is_done(struct ferry_bulk_in *in);

/* PREPARE of all, then RUN of all. */
FERRY_CHECKED int ferry_bulk_in_run(struct ferry_bulk_in *in,
				    struct ferry_err *e);

/* The VM runs here: nothing is void any more. */
void ferry_bulk_in_settle(struct ferry_bulk_in *in);

void ferry_bulk_in_close(struct ferry_bulk_in *in);
/* Closed; joins.  CANCEL to all that had begun. */
void ferry_bulk_in_stop(struct ferry_bulk_in *in);

/* -1: there is none of that index on the list. */
int ferry_bulk_in_stats(struct ferry_bulk_in *in, unsigned index,
			struct ferry_bulk_stats *out);

#endif
