/* SPDX-License-Identifier: MIT */
/*
 * Inside of ferry-vhost-blk: requests of virtio-blk, and the two ways in which
 * they are done.
 *
 * Threads: all of a queue by its own thread.
 */
#ifndef FERRY_BACKENDS_BLK_H
#define FERRY_BACKENDS_BLK_H

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
	struct blk_request *next;	/* free */
};

#define BLK_ZERO_SECTORS_MAX (1u << 22)	/* 2 GiB at a time */

struct blk_disk {
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

extern const struct blk_engine_ops blk_uring, blk_plain;

/* preadv() and the like, for blk_plain, and for what a short one left. */
int blk_do(const struct blk_disk *d, const struct blk_request *r);

#endif
