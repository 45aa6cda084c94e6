/* SPDX-License-Identifier: MIT */
/*
 * The way through a layer, and its interruptible sleep.
 */
#include "chan/layer.h"

#include <assert.h>
#include <stdlib.h>

#include "base/thread.h"
#include "chan/iov.h"

void ferry_layer_init(struct ferry_layer *l, const struct ferry_chan_ops *ops,
		      struct ferry_chan *inner)
{
	l->base.ops = ops;
	l->inner = inner;
	l->shut = false;
	pthread_mutex_init(&l->lock, NULL);
	ferry_cond_init(&l->shut_cond);
	ferry_chan_set_name(&l->base, "%s", inner->name);
}

bool ferry_layer_sleep_until(struct ferry_layer *l, uint64_t until_ns)
{
	bool shut;

	pthread_mutex_lock(&l->lock);
	while (!l->shut &&
	       ferry_cond_wait_until(&l->shut_cond, &l->lock, until_ns))
		;
	shut = l->shut;
	pthread_mutex_unlock(&l->lock);
	return !shut;
}

/* The caller's iovec if it is short enough, else a cut copy. */
static const struct iovec *at_most(struct ferry_iov_cut *cut,
				   const struct iovec *iov, int *n,
				   uint64_t most_bytes)
{
	uint64_t bytes = ferry_iov_bytes(iov, *n);

	assert(bytes > 0 && most_bytes > 0);
	if (bytes <= most_bytes)
		return iov;
	ferry_iov_cut(cut, iov, *n, most_bytes);
	*n = cut->n;
	return cut->iov;
}

ssize_t ferry_layer_readv_most(struct ferry_layer *l, const struct iovec *iov,
			       int n, uint64_t most_bytes)
{
	struct ferry_iov_cut cut;
	ssize_t got;

	iov = at_most(&cut, iov, &n, most_bytes);
	got = l->inner->ops->readv(l->inner, iov, n);
	assert(got < 0 || (uint64_t)got <= ferry_iov_bytes(iov, n));
	if (got > 0)
		atomic_fetch_add_explicit(&l->base.read_bytes, (uint64_t)got,
					  memory_order_relaxed);
	return got;
}

ssize_t ferry_layer_writev_most(struct ferry_layer *l, const struct iovec *iov,
				int n, uint64_t most_bytes)
{
	struct ferry_iov_cut cut;
	ssize_t put;

	iov = at_most(&cut, iov, &n, most_bytes);
	put = l->inner->ops->writev(l->inner, iov, n);
	assert(put && (put < 0 || (uint64_t)put <= ferry_iov_bytes(iov, n)));
	if (put > 0)
		atomic_fetch_add_explicit(&l->base.written_bytes,
					  (uint64_t)put, memory_order_relaxed);
	return put;
}

ssize_t ferry_layer_readv(struct ferry_chan *c, const struct iovec *iov, int n)
{
	return ferry_layer_readv_most(ferry_layer_of(c), iov, n, UINT64_MAX);
}

void ferry_layer_shutdown(struct ferry_chan *c)
{
	struct ferry_layer *l = ferry_layer_of(c);

	pthread_mutex_lock(&l->lock);
	l->shut = true;
	pthread_cond_broadcast(&l->shut_cond);
	pthread_mutex_unlock(&l->lock);
	l->inner->ops->shutdown(l->inner);
}

unsigned ferry_layer_features(struct ferry_chan *c)
{
	struct ferry_chan *inner = ferry_layer_of(c)->inner;

	return inner->ops->features(inner);
}

void ferry_layer_limit_unsent(struct ferry_chan *c, uint32_t bytes)
{
	struct ferry_chan *inner = ferry_layer_of(c)->inner;

	inner->ops->limit_unsent(inner, bytes);
}

void ferry_layer_ack_at_once(struct ferry_chan *c)
{
	struct ferry_chan *inner = ferry_layer_of(c)->inner;

	inner->ops->ack_at_once(inner);
}

void ferry_layer_set_timeout(struct ferry_chan *c, uint32_t read_ms,
			     uint32_t write_ms)
{
	struct ferry_chan *inner = ferry_layer_of(c)->inner;

	inner->ops->set_timeout(inner, read_ms, write_ms);
}

int ferry_layer_flush(struct ferry_chan *c)
{
	struct ferry_chan *inner = ferry_layer_of(c)->inner;

	return inner->ops->flush(inner);
}

int ferry_layer_export_key(struct ferry_chan *c, const char *label,
			   const void *context, size_t bytes,
			   uint8_t *key, size_t key_bytes)
{
	struct ferry_chan *inner = ferry_layer_of(c)->inner;

	return inner->ops->export_key(inner, label, context, bytes, key,
				      key_bytes);
}

void ferry_layer_close(struct ferry_chan *c)
{
	struct ferry_layer *l = ferry_layer_of(c);

	ferry_chan_close(l->inner);
	pthread_cond_destroy(&l->shut_cond);
	pthread_mutex_destroy(&l->lock);
	free(l);
}
