/* SPDX-License-Identifier: MIT */
/*
 * The transport of a virtio device: virtio 1.2 over MMIO, version 2.
 *
 * What the driver says to a device stands here, and travels with the VM.  What
 * the device does is behind a table of functions; it knows nothing of
 * registers.  The rings themselves are touched by neither.
 *
 * A device works (start to stop) while the VM runs and its driver has said
 * DRIVER_OK.
 *
 * Threads: registers: any vCPU's.  Run, pause and the section: the control
 *          thread or the engine, with no vCPU running.  ..._tell: anyone's.
 * Locks:   `lock`, but for `told`.  It is held while the device's functions are
 *          called; they may wait for its process, and must not call back, but
 *          for ..._tell.
 */
#ifndef FERRY_VMM_VIRTIO_MMIO_H
#define FERRY_VMM_VIRTIO_MMIO_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/section.h"

#define FERRY_VIRTIO_QUEUES_MAX		33u	/* 16 pairs and control */
#define FERRY_VIRTIO_QUEUE_SIZE_MAX	1024u
#define FERRY_VIRTIO_MMIO_BYTES		0x1000u	/* of a device */
#define FERRY_VIRTIO_CONFIG_AT		0x100u
#define FERRY_VIRTIO_NOTIFY_AT		0x050u

#define FERRY_VIRTIO_ID_NET		1u
#define FERRY_VIRTIO_ID_BLK		2u

#define FERRY_VIRTIO_F_EVENT_IDX	(1ull << 29)
#define FERRY_VIRTIO_F_VERSION_1	(1ull << 32)
#define FERRY_VIRTIO_F_RING_PACKED	(1ull << 34)

/* As the driver has set it up; addresses are guest physical. */
struct ferry_virtio_queue {
	uint32_t	 size;
	bool		 ready;
	uint64_t	 desc;
	uint64_t	 driver;	/* split: available ring */
	uint64_t	 device;	/* split: used ring */
	uint32_t	 base;		/* where it stands, while stopped: as in
					 * vhost-user's GET_VRING_BASE */
	int		 kick;		/* eventfds, of whoever wires them; */
	int		 call;		/* -1: none */
};

struct ferry_virtio;

/* A split ring's size is a power of two. */
static inline bool ferry_virtio_size_fits(uint64_t accepted, uint32_t size)
{
	return size && (accepted & FERRY_VIRTIO_F_RING_PACKED ||
			!(size & (size - 1)));
}

/* Of the status: the driver's choice of features stands. */
#define FERRY_VIRTIO_FEATURES_OK	8u

/* No slot may be NULL. */
struct ferry_virtio_ops {
	/*
	 * Serve the queues that are ready, from their `base` on; a device
	 * whose process is away does so when that is back.  0, or -1 with *e:
	 * it cannot, before the driver resets it.  In postcopy this waits for
	 * pages.
	 */
	int (*start)(void *opaque, struct ferry_virtio *t,
		     struct ferry_err *e);

	/* On return it touches no guest memory, and each `base` is set.  0, or
	 * -1 with *e: what it has done is not known for sure. */
	int (*stop)(void *opaque, struct ferry_virtio *t, struct ferry_err *e);

	/* The driver has reset it; it is stopped. */
	void (*reset)(void *opaque);

	/* QueueNotify of a queue that is not served elsewhere. */
	void (*notify)(void *opaque, struct ferry_virtio *t, unsigned queue);

	/* For people. */
	void (*say)(void *opaque, const char *text);

	/* Its space of configuration; behind its end: zeroes. */
	void (*config_read)(void *opaque, uint32_t at, void *data, size_t n);
	void (*config_write)(void *opaque, uint32_t at, const void *data,
			     size_t n);
};

/* What a device is. */
struct ferry_virtio_device {
	char		 name[32];	/* "net0", for people */
	uint32_t	 id;		/* FERRY_VIRTIO_ID_* */
	uint64_t	 features;	/* that it offers */
	unsigned	 queues;
	unsigned	 served;	/* the first of them, by kicks: the
					 * others are told by notify() */
	unsigned	 pairs;		/* a network: of queues; else 0 */
	uint64_t	 together;	/* features of which a driver takes
					 * all, or none */
	uint32_t	 queue_size_max;
	const struct ferry_virtio_ops *ops;
	void		*opaque;
};

struct ferry_virtio_regs {
	uint32_t	 status;
	uint32_t	 interrupts;	/* InterruptStatus, but see .c */
	uint32_t	 generation;	/* of the configuration */
	uint32_t	 features_sel;	/* that is looked at: low or high */
	uint32_t	 accepted_sel;
	uint32_t	 queue_sel;
	uint64_t	 accepted;	/* by the driver */
	uint32_t	 active;	/* a network: pairs that the driver uses;
					 * 0: it has not said so yet */
};

struct ferry_virtio {
	pthread_mutex_t			 lock;
	const struct ferry_virtio_device *device;
	struct ferry_virtio_regs	 regs;
	struct ferry_virtio_queue	 queue[FERRY_VIRTIO_QUEUES_MAX];
	bool				 vm_runs;
	bool				 started;	/* the device */

	_Atomic unsigned		 told;		/* not in regs yet */

	/* Any thread: raise its interrupt. */
	void				(*interrupt)(void *opaque);
	void				*opaque;
};

/* The device outlives it. */
void ferry_virtio_init(struct ferry_virtio *t,
		       const struct ferry_virtio_device *device);
void ferry_virtio_fini(struct ferry_virtio *t);

/* A guest's access, within FERRY_VIRTIO_MMIO_BYTES. */
void ferry_virtio_read(struct ferry_virtio *t, uint32_t at, void *data,
		       size_t bytes);
void ferry_virtio_write(struct ferry_virtio *t, uint32_t at, const void *data,
			size_t bytes);

/* Features that can be used together; a driver takes them, or a state has them. */
static inline bool
ferry_virtio_features_fit(const struct ferry_virtio_device *d,
			  uint64_t accepted)
{
	const uint64_t together = accepted & d->together;

	return !(accepted & ~d->features) &&
	       (!together || together == d->together);
}

/* The VM is about to run; all of its vCPUs are stopped. */
void ferry_virtio_run(struct ferry_virtio *t);
FERRY_CHECKED int ferry_virtio_pause(struct ferry_virtio *t,
				     struct ferry_err *e);

/* The configuration has changed; needs_reset: the device is lost for good,
 * unless the driver resets it. */
void ferry_virtio_tell(struct ferry_virtio *t, bool needs_reset);

extern const struct ferry_section ferry_section_virtio;	/* a ferry_virtio */

#endif
