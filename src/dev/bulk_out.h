/* SPDX-License-Identifier: MIT */
/*
 * Bulk devices at the source: a thread for each, which iterates while the VM
 * runs, stands still while it is being stopped, and then saves.
 *
 *	start -> park -> save -> (all saved) -> end
 *	   any of them -> stop, with CANCEL
 *
 * Threads: start to end by the conductor; credit, ready and loaded by who
 *          hears the target; close by any; a device's callbacks, and ops, by
 *          its thread, but for step: the conductor, while threads stand.
 *          lock: leaf.
 */
#ifndef FERRY_DEV_BULK_OUT_H
#define FERRY_DEV_BULK_OUT_H

#include <pthread.h>

#include "base/thread.h"
#include "dev/bulk.h"
#include "wire/bulk.h"

struct ferry_bulk_out_ops {
	/* Blocks; several at once. */
	int (*send)(void *arg, const struct ferry_bulk_packet *p,
		    const void *data, struct ferry_err *e);
	/* Something the conductor waits for, or should look at. */
	void (*changed)(void *arg);
};

enum ferry_bulk_order {
	FERRY_BULK_ORDER_NONE, FERRY_BULK_ORDER_ITERATE,
	FERRY_BULK_ORDER_PARK, FERRY_BULK_ORDER_SAVE,
};

struct ferry_bulk_saver {
	struct ferry_bulk_out *out;
	const struct ferry_bulk_dev *dev;
	uint16_t	 number;
	struct ferry_bulk handle;
	struct ferry_thread thread;
	bool		 begun;		/* had BEGIN */
	bool		 stopped;	/* had STOP */
	struct ferry_err write_err;	/* its thread's: sending failed */
	uint64_t	 call_ns;	/* its thread's: in send since save */
	/* out->lock: */
	bool		 parked;
	uint64_t	 index, limit;	/* of packets */
	uint64_t	 low_bytes;	/* least that was pending, */
	uint64_t	 low_ns;	/* since when, */
	uint64_t	 spent_ns;	/* and so long it has iterated */
	struct ferry_bulk_stats stats;
};

struct ferry_bulk_out {
	const struct ferry_bulk_list *list;
	const struct ferry_bulk_out_ops *ops;
	void		*arg;
	bool		 serial;	/* saves one after the other */
	struct ferry_bulk_saver *saver;

	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	enum ferry_bulk_order order;
	bool		 closed;
	uint32_t	 saved;
	uint64_t	 stopped_ns;	/* when the VM was */
	struct ferry_err why;		/* code: one failed */
};

FERRY_CHECKED int ferry_bulk_out_init(struct ferry_bulk_out *out,
				      const struct ferry_bulk_list *list,
				      const struct ferry_bulk_out_ops *ops,
				      void *arg, struct ferry_err *e);
void ferry_bulk_out_fini(struct ferry_bulk_out *out);

/* BEGIN, and iterate. */
FERRY_CHECKED int ferry_bulk_out_start(struct ferry_bulk_out *out,
				       struct ferry_err *e);

/* Let them stand still; then, true when all do. */
void ferry_bulk_out_park(struct ferry_bulk_out *out);
bool ferry_bulk_out_is_parked(struct ferry_bulk_out *out);

/* The VM was stopped, at now_ns: QUIESCE of all, then STOP of all. */
FERRY_CHECKED int ferry_bulk_out_stop_devices(struct ferry_bulk_out *out,
					      uint64_t now_ns,
					      struct ferry_err *e);
void ferry_bulk_out_save(struct ferry_bulk_out *out);
bool ferry_bulk_out_is_saved(struct ferry_bulk_out *out);

/* -1 with the reason when one has failed. */
FERRY_CHECKED int ferry_bulk_out_check(struct ferry_bulk_out *out,
				       struct ferry_err *e);

/* What the target says; -1: it may not say that. */
FERRY_CHECKED int ferry_bulk_out_credit(struct ferry_bulk_out *out,
					uint32_t device, uint64_t limit,
					struct ferry_err *e);
FERRY_CHECKED int ferry_bulk_out_ready(struct ferry_bulk_out *out,
				       uint32_t device, struct ferry_err *e);
FERRY_CHECKED int ferry_bulk_out_loaded(struct ferry_bulk_out *out,
					uint32_t device, uint64_t busy_ns,
					struct ferry_err *e);

/* The first that the target is not ready for; NULL: none. */
const struct ferry_bulk_dev *
ferry_bulk_out_not_ready(struct ferry_bulk_out *out);

/* Would more of the same shorten the pause by more than this? */
bool ferry_bulk_out_is_worth_more(struct ferry_bulk_out *out, uint64_t ns);

/* Wait until something has changed, or until_ns. */
void ferry_bulk_out_wait(struct ferry_bulk_out *out, uint64_t until_ns);

/* The VM is the target's for good; joins. */
void ferry_bulk_out_end(struct ferry_bulk_out *out);

/* Everybody returns soon; any thread. */
void ferry_bulk_out_close(struct ferry_bulk_out *out);
/* Closes, and joins: whoever sends was told to end. */
void ferry_bulk_out_join(struct ferry_bulk_out *out);
/* Closed; joins.  CANCEL, and where they had STOP and `runs`: PREPARE, RUN.
 * *e is what went wrong in that, with a code. */
void ferry_bulk_out_stop(struct ferry_bulk_out *out, bool runs,
			 struct ferry_err *e);

/* -1: there is none of that index. */
int ferry_bulk_out_stats(struct ferry_bulk_out *out, unsigned index,
			 struct ferry_bulk_stats *s);

#endif
