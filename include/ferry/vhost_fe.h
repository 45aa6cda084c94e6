/* SPDX-License-Identifier: MIT */
/*
 * The front-end of vhost-user: a device of the VM whose backend is another
 * process, found at a unix socket.  For VMMs; part of libferry.  (Authors of
 * backends want <ferry/vhost.h>, which is another library.)
 *
 * One object is one device.  The VMM has the transport (virtio-mmio, PCI) and
 * says what the guest's driver set up; the library talks to the backend, and
 * when the backend dies it connects again and sets up anew all that it was
 * told.  So what sets something is remembered, and also returns 0 when the
 * backend is away; -1 means that the backend is there and refused.  What asks
 * for something fails while the backend is away.
 *
 * In the order of a device's life:
 *
 *	new, connect             the backend's features are known
 *	config_get, ...          while the guest's driver looks at it
 *	set_features             the driver's choice
 *	set_memory
 *	use_inflight
 *	queue_start, for each; queue_enable
 *	queue_stop, for each     migration, reset
 *
 * At a migration's source: log_start, ferry_vhost_log_take() with each pass,
 * queue_stop, the last take, save.  At its target in postcopy: listen; load;
 * then set_features, set_memory (which calls faults()) and queues as above; end
 * when all pages are here.  <ferry/foreign.h> says when.
 *
 * Threads: any function by any thread; those of one device wait for each other.
 *          The callbacks come from a thread that each device has, but for
 *          faults(), which comes from inside set_memory().  None may call back
 *          into the device, unless it says so.  No answer is waited for longer
 *          than request_ms; a backend that takes longer counts as dead.  One
 *          that comes back has as long for all of its handshake, for which
 *          nobody waits: meanwhile it is away; and once more for being set up.
 *          info() and can(), but CAN_START, wait for nobody.
 * Failures cost one device: *e has one sentence with the device, its socket,
 *          the request and what became of it.
 */
#ifndef FERRY_VHOST_FE_H
#define FERRY_VHOST_FE_H

#include <stddef.h>
#include <stdint.h>

#include <ferry/err.h>
#include <ferry/sized.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ferry_vhost_fe;		/* a device, seen from the VM */
struct ferry_vhost_log;		/* which memory backends wrote */

enum {
	FERRY_VHOST_FE_REGIONS_MAX	= 8,
	FERRY_VHOST_FE_QUEUES_MAX	= 256,
	FERRY_VHOST_FE_CONFIG_BYTES_MAX	= 256,
};

/* ---- a device ----------------------------------------------------------- */

/* A part of a backend's address space, and where this process has it. */
struct ferry_vhost_fault_range {
	uint64_t addr;		/* in the backend */
	uint64_t bytes;
	void *host;
};

struct ferry_vhost_fe_ops {
	uint32_t size;
	uint32_t reserved;

	/* The device's space of configuration has changed: tell the driver.
	 * May be NULL. */
	void (*config_changed)(void *opaque);

	/* The backend is away, *why says it; the guest's buffers wait.  In
	 * postcopy take its faults from the target first.  May be NULL. */
	void (*gone)(void *opaque, const struct ferry_err *why);

	/*
	 * It is back, with all that it was told, queues too.  kept 0: but the
	 * place in a packed queue without in-flight area died with the one
	 * before, or a state that had been loaded into it: such queues stand,
	 * in the latter case all, and the driver has to reset the device
	 * (DEVICE_NEEDS_RESET).
	 * May be NULL.
	 */
	void (*back)(void *opaque, int kept);

	/*
	 * Postcopy: from now on serve the faults of this userfaultfd, of whose
	 * process `n` parts are the VM's memory: ferry_target_add_uffd().
	 * uffd stays the library's, until `end` or gone().
	 * 0, or -1 with *e: the backend does not get the memory.
	 * NULL: no postcopy.
	 */
	int (*faults)(void *opaque, int uffd,
		      const struct ferry_vhost_fault_range *range, size_t n,
		      struct ferry_err *e);
};

#define FERRY_VHOST_FE_OPS_INIT FERRY_SIZED(ferry_vhost_fe_ops)

struct ferry_vhost_fe_shape {
	uint32_t size;
	/* How long an answer may take; 0: 10 s. */
	uint32_t request_ms;
	/* The backend's socket, a path; NULL: ferry_vhost_fe_attach(). */
	const char *path;
	const char *name;	/* of the device, for messages; NULL: "vhost" */
	/* Virtio features that the transport and the VMM can do; of those the
	 * backend does not offer, none is there.  0: all. */
	uint64_t features;
	uint64_t flags;		/* enum below */
	/* The largest state of a backend that is saved or loaded.  0: 4 GiB.
	 * May be left out by programs from before it was there. */
	uint64_t state_bytes_max;
};

enum {
	/* A backend that goes away does not come back. */
	FERRY_VHOST_FE_NO_RECONNECT	= 1,
	/* Do not agree on postcopy, in-flight areas, packed rings. */
	FERRY_VHOST_FE_NO_POSTCOPY	= 2,
	FERRY_VHOST_FE_NO_INFLIGHT	= 4,
	FERRY_VHOST_FE_NO_PACKED	= 8,
};

#define FERRY_VHOST_FE_SHAPE_INIT FERRY_SIZED(ferry_vhost_fe_shape)

/*
 * shape, its strings and ops are copied.  log may be NULL; it is called with
 * one line at a time (level: 0 error, 1 warning, 2 information, 3 debug), on
 * any thread.  NULL, and *e, on failure.
 */
struct ferry_vhost_fe *ferry_vhost_fe_new(
	const struct ferry_vhost_fe_shape *shape,
	const struct ferry_vhost_fe_ops *ops, void *opaque,
	void (*log)(void *opaque, int level, const char *line),
	struct ferry_err *e);

/* Find the backend, once, trying for wait_ms (a backend that is just being
 * started).  On failure nothing goes on behind. */
int ferry_vhost_fe_connect(struct ferry_vhost_fe *f, uint32_t wait_ms,
			   struct ferry_err *e);

/* In its place: the backend is at this connected socket, which is taken; when
 * it goes, it does not come back. */
int ferry_vhost_fe_attach(struct ferry_vhost_fe *f, int fd,
			  struct ferry_err *e);

/* Hang up, and free.  Not from a callback. */
void ferry_vhost_fe_free(struct ferry_vhost_fe *f);

/* ---- what it is --------------------------------------------------------- */

struct ferry_vhost_fe_info {
	uint32_t size;
	uint32_t connected;	/* 0 or 1 */
	uint64_t features;	/* virtio's, for the guest; without vhost's */
	uint64_t protocol;	/* protocol features agreed on */
	uint32_t queues;	/* as the backend counts them (some count a */
				/* network's in pairs); 0: it does not say */
	uint32_t config;	/* 1: there is a space of configuration */
	uint32_t state;		/* 1: there is a state: save and load it */
	uint32_t reserved;
	uint64_t connections;	/* since the beginning */
	uint64_t lost;		/* of these, that did not end by _free() */
};

#define FERRY_VHOST_FE_INFO_INIT FERRY_SIZED(ferry_vhost_fe_info)

/* As of the last backend that was there. */
void ferry_vhost_fe_info(struct ferry_vhost_fe *f,
			 struct ferry_vhost_fe_info *out);

/* Before a migration: can this backend do it? */
enum ferry_vhost_fe_ability {
	FERRY_VHOST_FE_CAN_LOG		= 1,	/* precopy: the source's */
	FERRY_VHOST_FE_CAN_FAULT	= 2,	/* postcopy: the target's */
	/* At the target, when all is loaded: it still has the state that was
	 * loaded into it.  (One that has none can.) */
	FERRY_VHOST_FE_CAN_START	= 3,
};

/* 0, or -1 and a sentence that names the device and its socket, what it lacks
 * and what that prevents. */
int ferry_vhost_fe_can(struct ferry_vhost_fe *f,
		       enum ferry_vhost_fe_ability what, struct ferry_err *e);

/* ---- what the driver does ----------------------------------------------- */

/* offset + bytes <= ..CONFIG_BYTES_MAX. */
int ferry_vhost_fe_config_get(struct ferry_vhost_fe *f, uint32_t offset,
			      void *data, uint32_t bytes, struct ferry_err *e);
/* for_migration 1: it is the state of another backend that is loaded. */
int ferry_vhost_fe_config_set(struct ferry_vhost_fe *f, uint32_t offset,
			      const void *data, uint32_t bytes,
			      int for_migration, struct ferry_err *e);

/* Of info.features those that the driver took. */
int ferry_vhost_fe_set_features(struct ferry_vhost_fe *f, uint64_t features,
				struct ferry_err *e);

/* The virtio status octet, for backends that want to know (others are not
 * told, and it is 0 then).  0 resets nothing else: see below. */
int ferry_vhost_fe_set_status(struct ferry_vhost_fe *f, uint8_t status,
			      struct ferry_err *e);
int ferry_vhost_fe_get_status(struct ferry_vhost_fe *f, uint8_t *status,
			      struct ferry_err *e);

/* The driver resets the device, behind stopping its queues: told to backends
 * that have a request for it.  Features and in-flight area are forgotten. */
int ferry_vhost_fe_reset(struct ferry_vhost_fe *f, struct ferry_err *e);

/* Network.  Backends that do not offer it are not told, and it is 0 then;
 * announce returns 1 when the backend does it, 0 when the guest must. */
int ferry_vhost_fe_set_mtu(struct ferry_vhost_fe *f, uint16_t mtu,
			   struct ferry_err *e);
int ferry_vhost_fe_announce(struct ferry_vhost_fe *f, const uint8_t mac[6],
			    struct ferry_err *e);

/* ---- memory ------------------------------------------------------------- */

/* A part of guest memory: a memfd or file, mapped MAP_SHARED here too. */
struct ferry_vhost_region {
	uint32_t size;
	int fd;			/* stays the caller's, open */
	uint64_t gpa;
	uint64_t bytes;
	void *host;		/* where this process has it */
	uint64_t fd_offset;
};

#define FERRY_VHOST_REGION_INIT FERRY_SIZED(ferry_vhost_region)

/*
 * All of guest memory, 1 to ..REGIONS_MAX regions.  In postcopy (behind listen)
 * call it once; faults() is called inside, and may be NULL then only if there
 * is no postcopy.
 */
int ferry_vhost_fe_set_memory(struct ferry_vhost_fe *f,
			      const struct ferry_vhost_region *region, size_t n,
			      struct ferry_err *e);

/* ---- queues ------------------------------------------------------------- */

struct ferry_vhost_fe_queue {
	uint32_t size;
	uint32_t index;
	uint32_t entries;	/* 1 to 32768 */
	uint32_t base;		/* as queue_stop() said; 0 at first.  Packed: */
				/* FERRY_VHOST_FE_PACKED_BASE at first */
	uint64_t desc;		/* guest physical addresses; packed rings: */
	uint64_t avail;		/* of the driver's event area, */
	uint64_t used;		/* of the device's */
	int kick;		/* eventfds, the caller's, open until stop; */
	int call;		/* -1 (kick): the backend is to poll; (call): */
	int err;		/* it need not say */
	int reserved;
};

#define FERRY_VHOST_FE_QUEUE_INIT FERRY_SIZED(ferry_vhost_fe_queue)
#define FERRY_VHOST_FE_PACKED_BASE 0x80008000u

/*
 * Set up a queue and let it run, once features and memory are set.  It is
 * disabled at first (a network's drops, a disk's waits): enable, best before it
 * is started.
 */
int ferry_vhost_fe_queue_start(struct ferry_vhost_fe *f,
			       const struct ferry_vhost_fe_queue *queue,
			       struct ferry_err *e);
int ferry_vhost_fe_queue_enable(struct ferry_vhost_fe *f, uint32_t index,
				int on, struct ferry_err *e);

/* Another eventfd for interrupts, at any time (-1: none). */
int ferry_vhost_fe_queue_call(struct ferry_vhost_fe *f, uint32_t index,
			      int fd, struct ferry_err *e);

/*
 * The backend finishes what it has begun, and from here on writes no memory of
 * this queue.  *base: where it stands, for queue_start(), here or at the target
 * of a migration.  Of a backend that is away, as the ring in guest memory says
 * it (packed: the in-flight area); 0 also then.  Waits for as long as the
 * backend needs, up to request_ms.
 */
int ferry_vhost_fe_queue_stop(struct ferry_vhost_fe *f, uint32_t index,
			      uint32_t *base, struct ferry_err *e);

/*
 * Behind set_features and before the queues: let a backend note what it has in
 * flight in memory that outlives it, so that one that is restarted loses
 * nothing and repeats nothing.  queues of the device, entries of the largest.
 * A backend without this is not asked; 0 then.
 */
int ferry_vhost_fe_use_inflight(struct ferry_vhost_fe *f, uint32_t queues,
				uint32_t entries, struct ferry_err *e);

/* ---- the dirty log (source) --------------------------------------------- */

/*
 * A bitmap in shared memory in which the backends of all devices of a VM mark
 * what they write.  For the memory of these regions (copied; the fd's are not
 * used).
 */
struct ferry_vhost_log *ferry_vhost_log_new(
	const struct ferry_vhost_region *region, size_t n,
	struct ferry_err *e);
/* Behind log_stop() of all devices, or their _free(). */
void ferry_vhost_log_free(struct ferry_vhost_log *l);

/*
 * Call dirty() for each run of pages that were written since the last time, and
 * forget them.  Reads of what it names see the writes.  Any thread, one at a
 * time.  Returns how many pages.
 */
uint64_t ferry_vhost_log_take(struct ferry_vhost_log *l,
			      void (*dirty)(void *opaque, void *host,
					    uint64_t bytes),
			      void *opaque);

/* All that the device writes from here on is in the log. */
int ferry_vhost_fe_log_start(struct ferry_vhost_fe *f,
			     struct ferry_vhost_log *l, struct ferry_err *e);
/* No more.  Safe when it was not started. */
int ferry_vhost_fe_log_stop(struct ferry_vhost_fe *f, struct ferry_err *e);

/* ---- postcopy (target) -------------------------------------------------- */

/*
 * Pages will be missing: before set_memory, and with no queue started.  Until
 * `end`, a backend that is restarted gets to know it again.
 */
int ferry_vhost_fe_postcopy_listen(struct ferry_vhost_fe *f,
				   struct ferry_err *e);

/* All pages are here: the backend lets go, its userfaultfd is closed.  Take it
 * from the target before.  Safe when there was no listen. */
int ferry_vhost_fe_postcopy_end(struct ferry_vhost_fe *f, struct ferry_err *e);

/* Pages will be missing for ever: hang up on the backend at once, for good, so
 * that nobody there works with what is not there.  Does not wait, also not for
 * another thread that does; what that one asked for fails.  Then _free(). */
void ferry_vhost_fe_postcopy_abandon(struct ferry_vhost_fe *f);

/* ---- the device's state ------------------------------------------------- */

/*
 * What a backend keeps besides its queues (info.state says whether it has any),
 * in a form for the callbacks of <ferry/bulk.h>.  All queues are stopped.
 * The backend is waited for as long as it moves, 64 KiB in request_ms at least;
 * its state has an end (state_bytes_max).  stop_fd: a descriptor that ends
 * waiting when it is readable (ferry_bulk_fd()), or -1.
 */

/* Begin; then read until 0: that is the end, and the backend has said that it
 * is all.  Else how many octets, at most INT32_MAX; or -1. */
int ferry_vhost_fe_save_begin(struct ferry_vhost_fe *f, struct ferry_err *e);
int64_t ferry_vhost_fe_save_read(struct ferry_vhost_fe *f, void *data,
				 size_t bytes, int stop_fd,
				 struct ferry_err *e);

/* At the target, before set_features (in postcopy behind listen): begin, write
 * all, end: the backend has said that it took it.  If it dies before a queue
 * was started nobody has it any more: queue_start() refuses then, until the
 * state is loaded again or the device is reset. */
int ferry_vhost_fe_load_begin(struct ferry_vhost_fe *f, struct ferry_err *e);
int ferry_vhost_fe_load_write(struct ferry_vhost_fe *f, const void *data,
			      size_t bytes, int stop_fd, struct ferry_err *e);
int ferry_vhost_fe_load_end(struct ferry_vhost_fe *f, struct ferry_err *e);

/* Leave off, in the middle of either; safe when there is none. */
void ferry_vhost_fe_state_cancel(struct ferry_vhost_fe *f);

#ifdef __cplusplus
}
#endif
#endif
