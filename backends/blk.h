/* SPDX-License-Identifier: MIT */
/*
 * Inside of ferry-vhost-blk: requests of virtio-blk, and the ways in which
 * they are done.
 *
 * Threads: all of a queue by its own thread.
 */
#ifndef FERRY_BACKENDS_BLK_H
#define FERRY_BACKENDS_BLK_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/uio.h>

#include <ferry/vhost.h>

#define BLK_SECTOR	512u
#define BLK_SEGMENTS	126u		/* of data, as the driver is told */

enum blk_op {
	BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_ZERO,
};

struct blk_request {
	struct ferry_vhost_buffer buffer;
	enum blk_op	op;
	uint64_t	offset;		/* octets of the disk */
	uint64_t	bytes;		/* that are left */
	struct iovec	*iov, *first;	/* all of it; what is left */
	unsigned	iovs;		/* left */
	uint8_t		*status;	/* in guest memory */
	bool		unmap;		/* BLK_ZERO: may be a hole */
	int		result;		/* where it is done before reap() */
	struct blk_request *next;	/* free, or done */
};

#define BLK_ZERO_SECTORS_MAX (1u << 22)	/* 2 GiB at a time */

struct blk_disk {
	const char	*path;
	int		fd;
	uint64_t	bytes;
	bool		read_only;
	bool		write_through;	/* the driver does not flush */
	char		id[20];
};

/* Take r->buffer apart.  BLK_DO_IT: for an engine; else the status of virtio
 * that it ends with at once. */
#define BLK_DO_IT	(-1)
int blk_prepare(const struct blk_disk *d, struct blk_request *r);

/* ---- blk_lock.c ---- */

/* Of all queues. */
struct blk_writer {
	pthread_mutex_t	lock;
	unsigned	queues;		/* that run; > 0: we hold the file's */
};

/* A queue that waits for the disk, or has it. */
struct blk_turn {
	int		timer;		/* readable: look again */
	bool		came;
	uint64_t	waited_ms;
};

/* 0, or -1 with errno; close() in any case. */
int blk_turn_open(struct blk_turn *t);
/* Does not wait; says so when it has waited for long. */
bool blk_turn_has_come(struct blk_turn *t, struct blk_writer *w,
		       const struct blk_disk *d);
/* Waits, for a minute at most. */
bool blk_turn_wait(struct blk_turn *t, struct blk_writer *w,
		   const struct blk_disk *d);
void blk_turn_close(struct blk_turn *t, struct blk_writer *w,
		    const struct blk_disk *d);

/* ---- engines ---- */

/* A way to do requests. */
struct blk_engine_ops {
	const char *name;

	/* depth: requests at a time.  NULL with errno: not here. */
	void *(*open)(const struct blk_disk *d, unsigned depth);
	void (*close)(void *engine);

	/* Becomes readable when reap() has something; -1: never needed. */
	int (*fd)(void *engine);

	/* Begin; nothing more may be said of it before kick(). */
	void (*submit)(void *engine, struct blk_request *r);
	void (*kick)(void *engine);

	/* A request that is done, and *result: octets (0 if none are meant)
	 * or -errno.  NULL: none; wait: there is one, wait for it. */
	struct blk_request *(*reap)(void *engine, bool wait, int *result);
};

/* The best first; ends with NULL. */
extern const struct blk_engine_ops *const blk_engines[];

/* preadv() and the like: octets or -errno. */
int blk_do(const struct blk_disk *d, const struct blk_request *r);

/* For the engine "cached": what can be done without waiting.  Zeroes at first. */
struct blk_cached {
	uint64_t	rest_until_ns;	/* writes had to wait lately */
	bool		no_reads;	/* the file cannot tell */
};

/* False: it was not done, or not begun. */
bool blk_cached_do(struct blk_cached *c, const struct blk_disk *d,
		   const struct blk_request *r, int *result);

#endif
