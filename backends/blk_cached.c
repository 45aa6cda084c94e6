/* SPDX-License-Identifier: MIT */
/*
 * What the page cache can do at once, without io_uring: that is three times as
 * fast, because io_uring gives writes to a thread of its own.
 *
 * Reads never wait: RWF_NOWAIT.  For writes few file systems know that, so they
 * are tried, and the clock is looked at: after one that had to wait (too much
 * of the cache is dirty) writes go to io_uring for twenty times as long, so that
 * a twentieth of the time at most is spent waiting here.
 *
 * A queue's thread.
 */
#include <errno.h>
#include <time.h>

#include "blk.h"

#define WAITED_NS	1000000u	/* longer than copying takes */
#define REST		20u		/* times as long as was waited */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool read_now(struct blk_cached *c, const struct blk_disk *d,
		     const struct blk_request *r, int *result)
{
	ssize_t n;

	if (c->no_reads)
		return false;
	n = preadv2(d->fd, r->first, (int)r->iovs, (off_t)r->offset,
		    RWF_NOWAIT);
	if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL ||
		      errno == ENOSYS))
		c->no_reads = true;
	if (n <= 0)
		return false;
	*result = (int)n;
	return true;
}

static bool write_now(struct blk_cached *c, const struct blk_disk *d,
		      const struct blk_request *r, int *result)
{
	uint64_t begin, took;

	if (d->write_through)	/* it waits for the disk */
		return false;
	begin = now_ns();
	if (begin < c->rest_until_ns)
		return false;
	*result = blk_do(d, r);
	took = now_ns() - begin;
	if (took > WAITED_NS)
		c->rest_until_ns = begin + took + REST * took;
	return true;
}

bool blk_cached_do(struct blk_cached *c, const struct blk_disk *d,
		   const struct blk_request *r, int *result)
{
	switch (r->op) {
	case BLK_READ:
		return read_now(c, d, r, result);
	case BLK_WRITE:
		return write_now(c, d, r, result);
	case BLK_FLUSH:
	case BLK_DISCARD:
	case BLK_ZERO:
		break;
	}
	return false;
}
