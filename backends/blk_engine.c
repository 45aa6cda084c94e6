/* SPDX-License-Identifier: MIT */
/*
 * Doing requests: with io_uring, and at once what is in the page cache
 * (blk_cached.c); or one after the other with preadv() where the kernel, or a
 * filter on system calls, has none.
 *
 * Guest memory goes to the kernel as it is, and is not registered with it:
 * registered buffers would be pinned, and in postcopy that means all of it.
 */
#include "blk.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdlib.h>

static int write_flags(const struct blk_disk *d)
{
	return d->write_through ? RWF_DSYNC : 0;
}

static int zero_mode(const struct blk_request *r)
{
	if (r->op == BLK_DISCARD || r->unmap)
		return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
}

int blk_do(const struct blk_disk *d, const struct blk_request *r)
{
	ssize_t n = -1;

	switch (r->op) {
	case BLK_READ:
		n = preadv(d->fd, r->first, (int)r->iovs, (off_t)r->offset);
		break;
	case BLK_WRITE:
		n = pwritev2(d->fd, r->first, (int)r->iovs, (off_t)r->offset,
			     write_flags(d));
		break;
	case BLK_FLUSH:
		n = fdatasync(d->fd);
		break;
	case BLK_DISCARD:
	case BLK_ZERO:
		n = fallocate(d->fd, zero_mode(r), (off_t)r->offset,
			      (off_t)r->bytes);
		break;
	}
	return n < 0 ? -errno : (int)n;
}

/* ---- one after the other ------------------------------------------------- */

struct one_by_one {
	const struct blk_disk	*disk;
	struct blk_request	*done;
};

static void *plain_open(const struct blk_disk *d, unsigned depth)
{
	struct one_by_one *p = calloc(1, sizeof(*p));

	(void)depth;
	if (p)
		p->disk = d;
	return p;
}

static void plain_close(void *engine)
{
	free(engine);
}

static int plain_fd(void *engine)
{
	(void)engine;
	return -1;
}

static void plain_submit(void *engine, struct blk_request *r)
{
	struct one_by_one *p = engine;

	r->next = p->done;
	p->done = r;
}

static void plain_kick(void *engine)
{
	(void)engine;
}

static struct blk_request *plain_reap(void *engine, bool wait, int *result)
{
	struct one_by_one *p = engine;
	struct blk_request *r = p->done;

	(void)wait;
	if (!r)
		return NULL;
	p->done = r->next;
	*result = blk_do(p->disk, r);
	return r;
}

static const struct blk_engine_ops plain = {
	.name = "preadv",
	.open = plain_open,
	.close = plain_close,
	.fd = plain_fd,
	.submit = plain_submit,
	.kick = plain_kick,
	.reap = plain_reap,
};

/* ---- io_uring ------------------------------------------------------------ */

struct uring {
	const struct blk_disk	*disk;
	struct io_uring		ring;
	struct blk_cached	cached;
	struct blk_request	*done;	/* without the ring */
};

static void *uring_open(const struct blk_disk *d, unsigned depth)
{
	struct uring *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return NULL;
	u->disk = d;
	rc = io_uring_queue_init(depth, &u->ring, 0);
	if (rc < 0) {
		free(u);
		errno = -rc;
		return NULL;
	}
	return u;
}

static void uring_close(void *engine)
{
	struct uring *u = engine;

	io_uring_queue_exit(&u->ring);
	free(u);
}

/* Readable while something is done that was not reaped; that costs nothing
 * where all is done at once, as in the page cache. */
static int uring_fd(void *engine)
{
	struct uring *u = engine;

	return u->ring.ring_fd;
}

static void prepare(const struct blk_disk *d, struct io_uring_sqe *s,
		    struct blk_request *r)
{
	switch (r->op) {
	case BLK_READ:
		io_uring_prep_readv(s, d->fd, r->first, r->iovs, r->offset);
		break;
	case BLK_WRITE:
		io_uring_prep_writev2(s, d->fd, r->first, r->iovs, r->offset,
				      write_flags(d));
		break;
	case BLK_FLUSH:
		io_uring_prep_fsync(s, d->fd, IORING_FSYNC_DATASYNC);
		break;
	case BLK_DISCARD:
	case BLK_ZERO:
		io_uring_prep_fallocate(s, d->fd, zero_mode(r),
					(off_t)r->offset, (off_t)r->bytes);
		break;
	}
	io_uring_sqe_set_data(s, r);
}

static void uring_submit(void *engine, struct blk_request *r)
{
	struct uring *u = engine;
	struct io_uring_sqe *s = io_uring_get_sqe(&u->ring);

	if (!s) {
		io_uring_submit(&u->ring);
		s = io_uring_get_sqe(&u->ring);
	}
	prepare(u->disk, s, r);
}

static void uring_kick(void *engine)
{
	struct uring *u = engine;

	while (io_uring_sq_ready(&u->ring) &&
	       io_uring_submit(&u->ring) == -EINTR)
		;
}

static struct blk_request *uring_reap(void *engine, bool wait, int *result)
{
	struct uring *u = engine;
	struct io_uring_cqe *c = NULL;
	struct blk_request *r = u->done;

	if (r) {
		u->done = r->next;
		*result = r->result;
		return r;
	}
	if (wait)
		while (io_uring_wait_cqe(&u->ring, &c) == -EINTR)
			;
	else
		io_uring_peek_cqe(&u->ring, &c);
	if (!c)
		return NULL;
	r = io_uring_cqe_get_data(c);
	*result = c->res;
	io_uring_cqe_seen(&u->ring, c);
	return r;
}

static void cached_submit(void *engine, struct blk_request *r)
{
	struct uring *u = engine;

	if (!blk_cached_do(&u->cached, u->disk, r, &r->result)) {
		uring_submit(engine, r);
		return;
	}
	r->next = u->done;
	u->done = r;
}

static const struct blk_engine_ops cached = {
	.name = "cached",
	.open = uring_open,
	.close = uring_close,
	.fd = uring_fd,
	.submit = cached_submit,
	.kick = uring_kick,
	.reap = uring_reap,
};

static const struct blk_engine_ops uring = {
	.name = "io_uring",
	.open = uring_open,
	.close = uring_close,
	.fd = uring_fd,
	.submit = uring_submit,
	.kick = uring_kick,
	.reap = uring_reap,
};

const struct blk_engine_ops *const blk_engines[] = {
	&cached, &uring, &plain, NULL,
};
