/* SPDX-License-Identifier: MIT */
/*
 * A limit on writes, in octets per second.
 *
 * What was written is charged to a token bucket after the fact, so short
 * writes are charged short; a write waits until what went before is paid for.
 * Sleeps are sliced so that a new rate is seen soon, and the debt is then
 * priced anew: a rate of one octet per second, corrected a moment later, must
 * not cost an hour.
 *
 * Threads: the bucket is the writer's.
 */
#include "chan/layer.h"

#include <poll.h>
#include <stdlib.h>

#include "base/clock.h"

#define BURST_NS	(5 * FERRY_NS_PER_MS)	/* of one write */
#define SAVED_NS	(20 * FERRY_NS_PER_MS)	/* by who had no turn */
#define BURST_MIN_BYTES	4096
#define SLICE_NS	(50 * FERRY_NS_PER_MS)

struct rate {
	struct ferry_layer layer;
	const _Atomic uint64_t *rate;
	uint64_t priced_at;		/* rate that the debt is counted in */
	struct ferry_bucket bucket;
};

static struct rate *rate_of(struct ferry_chan *c)
{
	return (struct rate *)c;
}

/* Today's rate; what is owed is owed in octets, not in time. */
static uint64_t current_rate(struct rate *r, uint64_t now_ns)
{
	uint64_t rate = atomic_load_explicit(r->rate, memory_order_relaxed);
	uint64_t free_at = r->bucket.free_at_ns;

	if (rate != r->priced_at && rate && r->priced_at && free_at > now_ns)
		r->bucket.free_at_ns = now_ns + (uint64_t)
			((double)(free_at - now_ns) * (double)r->priced_at /
			 (double)rate);
	r->priced_at = rate;
	return rate;
}

/* How long until the next octet may pass. */
static uint64_t debt_ns(struct rate *r, uint64_t now_ns)
{
	uint64_t rate = current_rate(r, now_ns);

	return ferry_bucket_take(&r->bucket, now_ns, 0, rate, SAVED_NS);
}

/* 1 when the debt is paid, 0: until_ns came first, -1: shut down. */
static int pay(struct rate *r, uint64_t until_ns)
{
	uint64_t now, debt;

	for (;;) {
		now = ferry_now_ns();
		debt = debt_ns(r, now);
		if (!debt)
			return 1;
		if (now >= until_ns)
			return 0;
		if (debt > SLICE_NS)
			debt = SLICE_NS;
		if (debt > until_ns - now)
			debt = until_ns - now;
		if (!ferry_layer_sleep_until(&r->layer, now + debt))
			return -1;
	}
}

static uint64_t burst_bytes(uint64_t rate)
{
	uint64_t bytes = rate / (FERRY_NS_PER_S / BURST_NS);

	if (!rate)
		return UINT64_MAX;
	return bytes > BURST_MIN_BYTES ? bytes : BURST_MIN_BYTES;
}

static ssize_t rate_writev(struct ferry_chan *c, const struct iovec *iov,
			   int n)
{
	struct rate *r = rate_of(c);
	ssize_t put;

	if (pay(r, UINT64_MAX) < 0)
		return -ESHUTDOWN;
	put = ferry_layer_writev_most(&r->layer, iov, n,
				      burst_bytes(r->priced_at));
	if (put > 0)
		ferry_bucket_take(&r->bucket, ferry_now_ns(), (uint64_t)put,
				  r->priced_at, SAVED_NS);
	return put;
}

static int rate_wait(struct ferry_chan *c, short events, int timeout_ms)
{
	struct rate *r = rate_of(c);
	struct ferry_chan *inner = r->layer.inner;
	uint64_t until = UINT64_MAX;

	if (timeout_ms >= 0)
		until = ferry_now_ns() + (uint64_t)timeout_ms *
					 FERRY_NS_PER_MS;
	if (events & POLLOUT) {
		int paid = pay(r, until);
		uint64_t now = ferry_now_ns();

		if (paid <= 0)
			return paid ? 1 : 0;
		if (timeout_ms >= 0)
			timeout_ms = now >= until ? 0 : (int)
				((until - now) / FERRY_NS_PER_MS);
	}
	return inner->ops->wait(inner, events, timeout_ms);
}

static const struct ferry_chan_ops rate_ops = {
	.kind = "rate",
	.readv = ferry_layer_readv,
	.writev = rate_writev,
	.shutdown = ferry_layer_shutdown,
	.wait = rate_wait,
	.features = ferry_layer_features,
	.limit_unsent = ferry_layer_limit_unsent,
	.ack_at_once = ferry_layer_ack_at_once,
	.set_timeout = ferry_layer_set_timeout,
	.flush = ferry_layer_flush,
	.export_key = ferry_layer_export_key,
	.close = ferry_layer_close,
};

struct ferry_chan *ferry_chan_rate(struct ferry_chan *inner,
				   const _Atomic uint64_t *rate,
				   struct ferry_err *e)
{
	struct rate *r = calloc(1, sizeof(*r));

	if (!r) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "channel %s: rate limit",
			      inner->name);
		return NULL;
	}
	ferry_layer_init(&r->layer, &rate_ops, inner);
	r->rate = rate;
	return &r->layer.base;
}
