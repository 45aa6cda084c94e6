/* SPDX-License-Identifier: MIT */
/*
 * Opening connections between two ferries: channel headers and hellos.
 *
 * Threads: the source's conductor; the target's handshake threads.
 */
#ifndef FERRY_MIG_GREET_H
#define FERRY_MIG_GREET_H

#include "chan/inbuf.h"
#include "mig/vm.h"
#include "wire/channel.h"
#include "wire/hello.h"

/* What this library can do, and what it cannot do without. */
#define FERRY_FEATURES_CAN	FERRY_FEATURES_KNOWN
#define FERRY_FEATURES_MUST	(FERRY_FEATURE_COMMIT | \
				 FERRY_FEATURE_ZERO_RANGES | \
				 FERRY_FEATURE_POSTCOPY_DATA)

/* What the VM is, as a hello; the caller fills in channels or verdict. */
FERRY_CHECKED int ferry_greet_describe(const struct ferry_vm *vm,
				       struct ferry_hello *h,
				       struct ferry_err *e);

/* A channel header, and on main a hello behind it (else NULL). */
FERRY_CHECKED int ferry_greet_send(struct ferry_chan *chan,
				   const struct ferry_channel_head *head,
				   const struct ferry_hello *hello,
				   struct ferry_err *e);

/* Read one of either kind. */
FERRY_CHECKED int ferry_greet_read_head(struct ferry_inbuf *in, bool answer,
					struct ferry_channel_head *head,
					struct ferry_err *e);

/* The hello behind it; on success the caller calls ferry_hello_fini(). */
FERRY_CHECKED int ferry_greet_read_hello(struct ferry_inbuf *in, bool answer,
					 struct ferry_hello *h,
					 struct ferry_err *e);

/* How long the reason of a peer that is giving up is waited for.  At the target,
 * where no VM stands still for it, long enough for a busy host: the reason is in
 * main's socket, but its reader may come to it late. */
#define FERRY_LAST_WORD_NS	100000000ull
#define FERRY_TARGET_LAST_WORD_NS	1000000000ull

/* The buffer must hold a whole hello. */
#define FERRY_GREET_BUF_BYTES	(FERRY_HELLO_BYTES_MAX + 65536u)

#endif
