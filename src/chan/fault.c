/* SPDX-License-Identifier: MIT */
/*
 * Fault injection: cut, corrupt, stall, delay, shorten, at an exact octet.
 *
 * Each direction counts what has passed and lets through no more than up to
 * its next fault, so that faults begin at boundaries of calls.  An octet to
 * corrupt on its way out is a call of its own, from a copy: the caller's
 * memory is never touched.
 *
 * Threads: `in` is the reader's, `out` the writer's; the timeouts and `lost`
 *          are everyone's.
 */
#include "chan/layer.h"

#include <poll.h>
#include <stdlib.h>

#include "base/clock.h"

struct direction {
	_Atomic uint64_t passed;	/* others may look whether it is stuck */
	uint64_t	cut_at, corrupt_at, stall_at;
	_Atomic uint32_t timeout_ms;
};

struct fault {
	struct ferry_layer layer;
	struct direction in, out;
	uint8_t		 mask;
	uint32_t	 delay_us;
	uint64_t	 most_bytes;
	_Atomic bool	 lost;		/* the connection was cut */
};

static struct fault *fault_of(struct ferry_chan *c)
{
	return (struct fault *)c;
}

static void min_u64(uint64_t *a, uint64_t b)
{
	if (b < *a)
		*a = b;
}

/* Why a call ends that we, or the user, shut down. */
static ssize_t why_shut(struct fault *f)
{
	return f->lost ? -ECONNRESET : -ESHUTDOWN;
}

static bool is_stalled(const struct direction *d)
{
	return d->passed == d->stall_at;
}

/* Octets that may pass before anything happens; the cut comes first. */
static uint64_t until_fault(const struct fault *f, const struct direction *d)
{
	uint64_t bytes = f->most_bytes;

	min_u64(&bytes, d->cut_at - d->passed);
	if (d->stall_at > d->passed)
		min_u64(&bytes, d->stall_at - d->passed);
	return bytes;
}

static void cut_if_due(struct fault *f, const struct direction *d)
{
	if (d->passed != d->cut_at)
		return;
	f->lost = true;
	ferry_layer_shutdown(&f->layer.base);
}

static ssize_t stall(struct fault *f, const struct direction *d)
{
	uint64_t until = d->timeout_ms ?
		ferry_now_ns() + d->timeout_ms * FERRY_NS_PER_MS : UINT64_MAX;

	return ferry_layer_sleep_until(&f->layer, until) ? -ETIMEDOUT :
							    why_shut(f);
}

/* Account for the result of the channel below. */
static ssize_t passed(struct fault *f, struct direction *d, ssize_t rc)
{
	if (rc > 0) {
		d->passed += (uint64_t)rc;
		cut_if_due(f, d);
		return rc;
	}
	return f->lost ? -ECONNRESET : rc;
}

/* Flip octet `at` of what iov holds. */
static void flip(const struct iovec *iov, uint64_t at, uint8_t mask)
{
	while (at >= iov->iov_len) {
		at -= iov->iov_len;
		iov++;
	}
	((uint8_t *)iov->iov_base)[at] ^= mask;
}

static ssize_t fault_readv(struct ferry_chan *c, const struct iovec *iov,
			   int n)
{
	struct fault *f = fault_of(c);
	struct direction *d = &f->in;
	ssize_t got;

	if (f->lost)
		return -ECONNRESET;
	if (is_stalled(d))
		return stall(f, d);

	got = ferry_layer_readv_most(&f->layer, iov, n, until_fault(f, d));
	if (got > 0 && d->corrupt_at - d->passed < (uint64_t)got)
		flip(iov, d->corrupt_at - d->passed, f->mask);
	return passed(f, d, got);
}

/* The first octet of iov, changed. */
static ssize_t write_corrupt(struct fault *f, const struct iovec *iov)
{
	struct iovec one = { .iov_len = 1 };
	uint8_t octet;

	while (!iov->iov_len)
		iov++;
	octet = *(const uint8_t *)iov->iov_base ^ f->mask;
	one.iov_base = &octet;
	return ferry_layer_writev_most(&f->layer, &one, 1, 1);
}

static ssize_t fault_writev(struct ferry_chan *c, const struct iovec *iov,
			    int n)
{
	struct fault *f = fault_of(c);
	struct direction *d = &f->out;
	uint64_t bytes;

	if (f->lost)
		return -ECONNRESET;
	if (f->delay_us &&
	    !ferry_layer_sleep_until(&f->layer, ferry_now_ns() +
				     f->delay_us * FERRY_NS_PER_US))
		return why_shut(f);
	if (is_stalled(d))
		return stall(f, d);
	if (d->passed == d->corrupt_at)
		return passed(f, d, write_corrupt(f, iov));

	bytes = until_fault(f, d);
	if (d->corrupt_at > d->passed)
		min_u64(&bytes, d->corrupt_at - d->passed);
	return passed(f, d, ferry_layer_writev_most(&f->layer, iov, n, bytes));
}

static int fault_wait(struct ferry_chan *c, short events, int timeout_ms)
{
	struct fault *f = fault_of(c);
	struct direction *d = events & POLLIN ? &f->in : &f->out;
	uint64_t until = UINT64_MAX;

	if (f->lost)
		return 1;
	if (!is_stalled(d))
		return f->layer.inner->ops->wait(f->layer.inner, events,
						 timeout_ms);
	if (timeout_ms >= 0)
		until = ferry_now_ns() + (uint64_t)timeout_ms *
					 FERRY_NS_PER_MS;
	return !ferry_layer_sleep_until(&f->layer, until);
}

static void fault_set_timeout(struct ferry_chan *c, uint32_t read_ms,
			      uint32_t write_ms)
{
	struct fault *f = fault_of(c);

	f->in.timeout_ms = read_ms;
	f->out.timeout_ms = write_ms;
	ferry_layer_set_timeout(c, read_ms, write_ms);
}

static const struct ferry_chan_ops fault_ops = {
	.kind = "fault",
	.readv = fault_readv,
	.writev = fault_writev,
	.shutdown = ferry_layer_shutdown,
	.wait = fault_wait,
	.features = ferry_layer_features,
	.limit_unsent = ferry_layer_limit_unsent,
	.ack_at_once = ferry_layer_ack_at_once,
	.set_timeout = fault_set_timeout,
	.flush = ferry_layer_flush,
	.export_key = ferry_layer_export_key,
	.close = ferry_layer_close,
};

struct ferry_chan *ferry_chan_fault(struct ferry_chan *inner,
				    const struct ferry_fault *fault,
				    struct ferry_err *e)
{
	struct fault *f = calloc(1, sizeof(*f));

	if (!f) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "channel %s: faults",
			      inner->name);
		return NULL;
	}
	ferry_layer_init(&f->layer, &fault_ops, inner);
	f->in.cut_at = fault->cut_read_at;
	f->in.corrupt_at = fault->corrupt_read_at;
	f->in.stall_at = fault->stall_read_at;
	f->out.cut_at = fault->cut_write_at;
	f->out.corrupt_at = fault->corrupt_write_at;
	f->out.stall_at = fault->stall_write_at;
	f->mask = fault->corrupt_mask ? fault->corrupt_mask : 0xff;
	f->delay_us = fault->delay_us;
	f->most_bytes = fault->most_bytes ? fault->most_bytes : UINT64_MAX;
	cut_if_due(f, &f->in);
	cut_if_due(f, &f->out);
	return &f->layer.base;
}
