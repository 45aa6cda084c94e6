/* SPDX-License-Identifier: MIT */
/*
 * Encoding pages: a batch becomes octets on one channel.  Three shapes behind
 * one ops table: packets (multifd's layout; data and urgent channels between
 * ferries), records (RAM records of the main stream, or QEMU's preempt
 * channel) and QEMU's own multifd packets.  Guest memory is never copied here: headers and pages leave by
 * one writev.  Pages of a store are read into the encoder first.
 *
 * Threads: one at a time per encoder.
 */
#ifndef FERRY_SEND_ENCODE_H
#define FERRY_SEND_ENCODE_H

#include <sys/uio.h>

#include "base/flow.h"
#include "chan/chan.h"
#include "send/packer.h"
#include "send/select.h"
#include "send/squeeze.h"
#include "wire/multifd.h"
#include "wire/ram.h"

/* A packet's header, or the record heads of one batch: the first names the
 * block, the others continue it. */
#define FERRY_ENCODE_HEAD_BYTES	\
	(FERRY_RAM_HEAD_MAX + FERRY_PACKET_PAGES_MAX * 16)

/* What was sent, by all encoders of a migration. */
struct ferry_send_counters {
	_Atomic uint64_t normal_pages;
	_Atomic uint64_t zero_pages;
	_Atomic uint64_t bytes;		/* of pages and their headers */
	_Atomic uint64_t requests;
	_Atomic uint64_t request_pages;
	_Atomic uint32_t pass;		/* of precopy; 0: after it */
};

struct ferry_encoder;
struct ferry_lane;

struct ferry_encoder_ops {
	/* All pages of the batch, zero ones by mention.  Caller owns batch.
	 * 0, or -1 with the channel named. */
	int (*pages)(struct ferry_encoder *x, const struct ferry_batch *batch,
		     struct ferry_err *e);

	/* A mark: everything before it precedes it. */
	int (*sync)(struct ferry_encoder *x, uint32_t sequence,
		    struct ferry_err *e);
};

struct ferry_encoder {
	const struct ferry_encoder_ops *ops;
	struct ferry_chan *chan;	/* borrowed */
	struct ferry_send_counters *count;
	struct ferry_flow *flow;	/* of this channel, or NULL */
	/* Pages that were never touched and must not be read (one bitmap per
	 * block), or NULL. */
	const struct ferry_bitmap *untouched;
	const struct ferry_mem_block *last;	/* records: for CONTINUE */
	uint64_t	 sent_bytes;		/* by this one */
	struct ferry_lane *zeroes;		/* multifd: where zero pages
						 * go as records, or NULL */
	uint32_t	 method;		/* multifd: 0: not compressed */
	struct ferry_squeeze *squeeze;		/* for it, when needed first */
	uint8_t		*copy;		/* of a batch; blocks in a store */
	struct ferry_packet packet;		/* packets */
	struct ferry_packer packer;		/* the same */
	struct iovec	 iov[2 * FERRY_PACKET_PAGES_MAX + 2];
	uint8_t		 head[FERRY_ENCODE_HEAD_BYTES];
};

/* Before the pages of a batch are looked at. */
FERRY_CHECKED int ferry_encoder_fetch(struct ferry_encoder *x,
				      const struct ferry_batch *b,
				      struct ferry_err *e);

/* Where page i of the batch can be read. */
static inline uint8_t *ferry_encoder_page(const struct ferry_encoder *x,
					  const struct ferry_batch *b,
					  uint32_t i)
{
	return b->block->store ? x->copy + (size_t)i * FERRY_PAGE_BYTES :
				 b->block->host +
				 b->page[i] * FERRY_PAGE_BYTES;
}

/* The content of page i is known to be zero, or is found to be. */
bool ferry_encoder_is_zero(const struct ferry_encoder *x,
			   const struct ferry_batch *b, uint32_t i);

/* Octets that are written next. */
void ferry_encoder_count(struct ferry_encoder *x, uint64_t bytes);

/* Records: these pages are zero, and are not looked at again. */
FERRY_CHECKED int ferry_encoder_tell_zero(struct ferry_encoder *x,
					  const struct ferry_batch *zero,
					  struct ferry_err *e);

/* Packets: normal pages to the front, zero pages to zero[].  iov[0] is the
 * header; returns how many iovecs it and the normal pages are.  Fetched. */
int ferry_encoder_sort(struct ferry_encoder *x, const struct ferry_batch *b,
		       uint64_t zero[FERRY_PACKET_PAGES_MAX]);

void ferry_encoder_packets(struct ferry_encoder *x, struct ferry_chan *chan,
			   struct ferry_send_counters *count);
void ferry_encoder_records(struct ferry_encoder *x, struct ferry_chan *chan,
			   struct ferry_send_counters *count);
void ferry_encoder_multifd(struct ferry_encoder *x, struct ferry_chan *chan,
			   struct ferry_send_counters *count);
void ferry_encoder_fini(struct ferry_encoder *x);

#endif
