/* SPDX-License-Identifier: MIT */
/*
 * Internal to chan/: what layers over another channel share.
 *
 * Every call goes through here to the channel below, so the promises of both
 * neighbours are checked in one place: an iovec that is not empty goes down, a
 * count that fits it comes up.
 *
 * Threads: as chan.h.  `lock` guards `shut`, which ends sleeps.
 * Life:    owns inner from ferry_layer_init() on, until close().
 */
#ifndef FERRY_CHAN_LAYER_H
#define FERRY_CHAN_LAYER_H

#include <pthread.h>
#include <stdbool.h>

#include "chan/chan.h"

struct ferry_layer {
	struct ferry_chan base;
	struct ferry_chan *inner;
	pthread_mutex_t	lock;
	pthread_cond_t	shut_cond;
	bool		shut;
};

static inline struct ferry_layer *ferry_layer_of(struct ferry_chan *c)
{
	return (struct ferry_layer *)c;
}

void ferry_layer_init(struct ferry_layer *l, const struct ferry_chan_ops *ops,
		      struct ferry_chan *inner);

/* Sleep (UINT64_MAX: for ever).  False, and at once, after shutdown. */
bool ferry_layer_sleep_until(struct ferry_layer *l, uint64_t until_ns);

/* At most most_bytes (not 0) through to inner, counted and checked. */
ssize_t ferry_layer_readv_most(struct ferry_layer *l, const struct iovec *iov,
			       int n, uint64_t most_bytes);
ssize_t ferry_layer_writev_most(struct ferry_layer *l, const struct iovec *iov,
				int n, uint64_t most_bytes);

/* Slots of ferry_chan_ops for what a layer leaves alone. */
ssize_t ferry_layer_readv(struct ferry_chan *c, const struct iovec *iov,
			  int n);
void ferry_layer_shutdown(struct ferry_chan *c);
unsigned ferry_layer_features(struct ferry_chan *c);
void ferry_layer_limit_unsent(struct ferry_chan *c, uint32_t bytes);
void ferry_layer_ack_at_once(struct ferry_chan *c);
void ferry_layer_set_timeout(struct ferry_chan *c, uint32_t read_ms,
			     uint32_t write_ms);
int ferry_layer_flush(struct ferry_chan *c);
int ferry_layer_export_key(struct ferry_chan *c, const char *label,
			   const void *context, size_t bytes,
			   uint8_t *key, size_t key_bytes);
void ferry_layer_close(struct ferry_chan *c);

#endif
