/* SPDX-License-Identifier: MIT */
/*
 * Bulk devices: those whose state is hundreds of megabytes.
 *
 * Each has a thread of its own at either end, and all of them hand out and
 * take in at the same time, over several connections.  A device may begin
 * while the VM runs (iterate), and at the target hold the switchover until it
 * has loaded what it needs first (ready).
 *
 * A device at the source, from the left to the right:
 *
 *	BEGIN  iterate ...  QUIESCE  STOP  save  END
 *	       VM runs      VM stopped
 *
 *	CANCEL at any place, behind which the VM goes on at the source
 *
 * and at the target, which may be anywhere in there:
 *
 *	load_begin  load_buffer ...  load_end  PREPARE  RUN
 *
 * No two callbacks of one device run at once; those of different devices do.
 * State travels between two ferries only (not to or from a QEMU or a file).
 */
#ifndef FERRY_BULK_H
#define FERRY_BULK_H

#include <ferry/source.h>
#include <ferry/target.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A device's side of a migration; borrowed, valid inside its callbacks. */
struct ferry_bulk;

/* What one load_buffer() gets at most. */
#define FERRY_BULK_BUFFER_MAX	(256u << 10)

/* What a buffer is, for the device at the other end; the engine passes it on
 * and makes nothing of it. */
enum ferry_bulk_flag {
	FERRY_BULK_INITIAL	= 1,	/* the last of what is needed first */
	FERRY_BULK_CONFIG	= 2,	/* to be kept until load_end() */
};

/*
 * Hand out octets, which are copied or sent before it returns.  It waits until
 * the target has room for them.  More than FERRY_BULK_BUFFER_MAX are cut;
 * then the last piece has the flags.  In iterate() and save() only.
 * 0, or -1 with *e: return -1 at once.
 */
int ferry_bulk_write(struct ferry_bulk *b, const void *data, size_t bytes,
		     unsigned flags, struct ferry_err *e);

/*
 * A descriptor to poll() beside a device's own, in iterate(), save() and
 * load_*(): readable (POLLIN) when the callback is to return.  In iterate()
 * that is no failure: the switchover is about to begin, or an end.  In the
 * others the migration failed: return -1.  Not to be read or closed.
 */
int ferry_bulk_fd(const struct ferry_bulk *b);

/* The same asked at once: 1 or 0. */
int ferry_bulk_is_over(const struct ferry_bulk *b);

/* How much is left, as far as the device can tell. */
struct ferry_bulk_pending {
	uint32_t size;		/* filled by the engine */
	uint32_t reserved;
	uint64_t initial_bytes;	/* needed first at the target, and not handed
				 * out yet */
	uint64_t dirty_bytes;	/* besides, that iterate() would hand out */
	uint64_t stop_bytes;	/* besides, that only save() can */
};

/* Turns in a device's life.  By the engine's main thread of the side; at the
 * target PREPARE and RUN by its load thread. */
enum ferry_bulk_step {
	/* Source: a migration begins, the VM runs. */
	FERRY_BULK_BEGIN	= 1,

	/* Source: the vCPUs stand still (ferry_vm_ops.stop has returned).
	 * Begin nothing that reaches another device; be ready for what other
	 * devices do. */
	FERRY_BULK_QUIESCE	= 2,

	/* Source: all devices had QUIESCE.  Stand still: guest memory is
	 * written no more.  The last writes are looked for behind this. */
	FERRY_BULK_STOP		= 3,

	/* Before the VM runs again here (source, behind CANCEL), or for the
	 * first time (target, behind load_end): be ready for what other
	 * devices do, then, when all are: run.  Only if it ran before, and,
	 * at the source, only if it had STOP. */
	FERRY_BULK_PREPARE	= 4,
	FERRY_BULK_RUN		= 5,

	/* Source: the VM is the target's for good. */
	FERRY_BULK_END		= 6,

	/* The migration failed.  Source: what was handed out is void, be as
	 * before BEGIN.  Target: what was loaded is void; no more comes. */
	FERRY_BULK_CANCEL	= 7,
};

/*
 * No slot may be NULL.  All return 0 when they have done it, or -1 with *e:
 * the migration fails, and *e is told at both ends with the device's name in
 * front.
 */
struct ferry_bulk_ops {
	uint32_t size;

	/* What does not apply is done by doing nothing.  A failure of RUN or
	 * CANCEL at the source, or of END, is logged and changes nothing. */
	int (*step)(void *opaque, enum ferry_bulk_step step,
		    struct ferry_err *e);

	/* ---- source, thread of the device -------------------------------- */

	/* VM runs: how much is left?  Before the first iterate() and behind
	 * each, and now and then.  Zeroes are a fair answer. */
	int (*pending)(void *opaque, struct ferry_bulk_pending *pending,
		       struct ferry_err *e);

	/* VM runs: hand out some of what there is, a few buffers.
	 * 1: there is more now; 0: not now (asked again when pending() has
	 * something, or in a while). */
	int (*iterate)(void *opaque, struct ferry_bulk *out,
		       struct ferry_err *e);

	/* Behind STOP: hand out all the rest.  Behind what is handed out last
	 * the target's load_end() comes. */
	int (*save)(void *opaque, struct ferry_bulk *out,
		    struct ferry_err *e);

	/* ---- target, thread of the device -------------------------------- */

	/* A migration begins; version is the source's and never higher than
	 * the one registered here.  It may begin anew after CANCEL. */
	int (*load_begin)(void *opaque, struct ferry_bulk *in,
			  uint32_t version, struct ferry_err *e);

	/* What was handed out, in that order, index counting from 0.  data is
	 * borrowed.  Guest memory is not complete yet: do not touch it. */
	int (*load_buffer)(void *opaque, struct ferry_bulk *in,
			   uint64_t index, unsigned flags, const void *data,
			   size_t bytes, struct ferry_err *e);

	/* May the source switch over as far as this device is concerned?
	 * Behind load_begin and each load_buffer, and now and then.
	 * 1: yes, and it is not asked again; 0: not yet.  One that holds
	 * nothing says 1. */
	int (*ready)(void *opaque);

	/* All buffers were loaded, all small state too: make the device
	 * whole, and check it.  In postcopy, touching guest memory works and
	 * may block until the source has sent the page. */
	int (*load_end)(void *opaque, struct ferry_bulk *in,
			struct ferry_err *e);
};

#define FERRY_BULK_OPS_INIT FERRY_SIZED(ferry_bulk_ops)

/*
 * At most 64.  name: 1 to 255 octets; (name, instance) is unique among
 * bulk devices, and equal on both sides, where the same bulk devices are.
 * ops is copied.  Names beginning with "ferry." are refused.
 */
int ferry_vm_add_bulk(struct ferry_vm *vm, const char *name,
		      uint32_t instance, uint32_t version,
		      const struct ferry_bulk_ops *ops, void *opaque,
		      struct ferry_err *e);

/* ---- how far they are ---------------------------------------------------- */

enum ferry_bulk_state {
	FERRY_BULK_STATE_NONE,
	FERRY_BULK_STATE_ACTIVE,	/* iterates; target: loads */
	FERRY_BULK_STATE_SAVING,	/* VM stopped; not at the target */
	FERRY_BULK_STATE_SAVED,		/* all of it was sent; the same */
	FERRY_BULK_STATE_LOADED,	/* all of it is loaded at the target */
	FERRY_BULK_STATE_FAILED,
};

struct ferry_bulk_stats {
	uint32_t size;
	uint32_t instance;
	char name[256];
	enum ferry_bulk_state state;
	unsigned ready;			/* 1: does not hold the switchover */
	unsigned longest;		/* 1: of all devices, path_ns is this
					 * one's */
	unsigned reserved;
	uint64_t precopy_bytes;		/* handed out (target: loaded) while
					 * the VM ran, */
	uint64_t pause_bytes;		/* and since it stands */
	uint64_t pending_bytes;		/* source: as pending() said last */

	/* While the VM stands: */
	uint64_t save_ns;		/* in save(), but for: */
	uint64_t send_ns;		/* in ferry_bulk_write() */
	uint64_t load_ns;		/* target, and told to the source: in
					 * load_buffer() and load_end() */
	uint64_t path_ns;		/* source: the VM was stopped, to: its
					 * being loaded was heard; else 0 */
};

#define FERRY_BULK_STATS_INIT FERRY_SIZED(ferry_bulk_stats)

/*
 * The index-th bulk device, from 0, in the order in which they were added.
 * Any thread.  0, or -1 when there is none.  "It is loaded" can be waited for
 * without asking: FERRY_EVENT_BULK.
 */
int ferry_source_bulk(struct ferry_source *s, unsigned index,
		      struct ferry_bulk_stats *out);
int ferry_target_bulk(struct ferry_target *t, unsigned index,
		      struct ferry_bulk_stats *out);

/* "none", "active", "saving", "saved", "loaded", "failed"; never NULL. */
const char *ferry_bulk_state_name(enum ferry_bulk_state state);

#ifdef __cplusplus
}
#endif
#endif
