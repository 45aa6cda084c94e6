/* SPDX-License-Identifier: MIT */
/*
 * Pages as multifd packets: one header, then the pages that are not zero.
 */
#include "send/encode.h"

#include <string.h>

/* A page that goes: neighbours in memory share an iovec.  Returns how many
 * there are then. */
static int gather(struct ferry_encoder *x, int n, uint8_t *at)
{
	struct iovec *last = &x->iov[n - 1];

	if (n > 1 && (uint8_t *)last->iov_base + last->iov_len == at) {
		last->iov_len += FERRY_PAGE_BYTES;
		return n;
	}
	x->iov[n] = (struct iovec){ at, FERRY_PAGE_BYTES };
	return n + 1;
}

/* Normal pages to the front, zero pages behind them.  Returns the number of
 * iovecs that hold the header and the normal ones. */
static int sort_pages(struct ferry_encoder *x, const struct ferry_batch *b)
{
	struct ferry_packet *p = &x->packet;
	uint64_t zero[FERRY_PACKET_PAGES_MAX];
	int n = 1;

	x->iov[0] = (struct iovec){ x->head, FERRY_PACKET_WIRE };
	p->normal_pages = 0;
	p->zero_pages = 0;
	for (uint32_t i = 0; i < b->n; i++) {
		uint64_t offset = b->page[i] * FERRY_PAGE_BYTES;

		if (ferry_encoder_is_zero(x, b, i)) {
			zero[p->zero_pages++] = offset;
			continue;
		}
		p->offset[p->normal_pages++] = offset;
		n = gather(x, n, ferry_encoder_page(x, b, i));
	}
	memcpy(p->offset + p->normal_pages, zero,
	       p->zero_pages * sizeof(zero[0]));
	return n;
}

static int write_packet(struct ferry_encoder *x, int iovs,
			struct ferry_err *e)
{
	struct ferry_wr w = ferry_wr_over(x->head, sizeof(x->head));

	ferry_packet_encode(&w, &x->packet);
	ferry_count(&x->count->bytes,
		    FERRY_PACKET_WIRE + x->packet.payload_bytes);
	return ferry_chan_writev(x->chan, x->iov, iovs, e);
}

static int packet_pages(struct ferry_encoder *x, const struct ferry_batch *b,
			struct ferry_err *e)
{
	struct ferry_packet *p = &x->packet;
	int iovs;

	if (ferry_encoder_fetch(x, b, e))
		return -1;
	iovs = sort_pages(x, b);
	p->flags = 0;
	p->packet_num = ferry_packet_num(atomic_load_explicit(
		&x->count->pass, memory_order_relaxed), p->packet_num + 1);
	p->payload_bytes = p->normal_pages * FERRY_PAGE_BYTES;
	memcpy(p->name, b->block->name, sizeof(p->name));
	ferry_count(&x->count->normal_pages, p->normal_pages);
	ferry_count(&x->count->zero_pages, p->zero_pages);
	return write_packet(x, iovs, e);
}

static int packet_sync(struct ferry_encoder *x, uint32_t sequence,
		       struct ferry_err *e)
{
	uint64_t num = x->packet.packet_num;
	int rc;

	x->packet.flags = FERRY_PACKET_SYNC;
	x->packet.normal_pages = 0;
	x->packet.zero_pages = 0;
	x->packet.payload_bytes = 0;
	x->packet.packet_num = sequence;
	x->packet.name[0] = '\0';
	x->iov[0] = (struct iovec){ x->head, FERRY_PACKET_WIRE };
	rc = write_packet(x, 1, e);
	x->packet.packet_num = num;
	return rc;
}

static const struct ferry_encoder_ops packet_ops = {
	.pages = packet_pages,
	.sync = packet_sync,
};

void ferry_encoder_packets(struct ferry_encoder *x, struct ferry_chan *chan,
			   struct ferry_send_counters *count)
{
	*x = (struct ferry_encoder){
		.ops = &packet_ops, .chan = chan, .count = count,
	};
}
