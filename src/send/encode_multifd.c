/* SPDX-License-Identifier: MIT */
/*
 * Pages as a QEMU of any version reads them on its multifd channels.  What is
 * zero is mentioned in packets from QEMU 9.0 on; one that is older overlooks
 * that, so towards it zero pages are records on main.
 */
#include "send/encode.h"

#include <string.h>

#include "send/lane.h"

#define LEVEL	1	/* as QEMU's by default */

static int zeroes_on_main(struct ferry_encoder *x,
			  const struct ferry_mem_block *block,
			  const uint64_t *offset, uint32_t n,
			  struct ferry_err *e)
{
	struct ferry_batch zero = {
		.block = (struct ferry_mem_block *)block, .n = n,
	};
	struct ferry_encoder *main = &x->zeroes->enc;
	int rc;

	for (uint32_t i = 0; i < n; i++)
		zero.page[i] = offset[i] / FERRY_PAGE_BYTES;
	ferry_lane_enter_bulk(x->zeroes);
	x->sent_bytes -= main->sent_bytes;
	rc = ferry_encoder_tell_zero(main, &zero, e);
	x->sent_bytes += main->sent_bytes;
	ferry_lane_leave(x->zeroes);
	return rc;
}

/* Zero pages first: they leave x->packet what it is to say. */
static int place_zeroes(struct ferry_encoder *x, const struct ferry_batch *b,
			const uint64_t *zero, struct ferry_err *e)
{
	struct ferry_packet *p = &x->packet;
	uint32_t n = p->zero_pages;

	if (!n)
		return 0;
	if (!x->zeroes) {
		ferry_count(&x->count->zero_pages, n);
		memcpy(p->offset + p->normal_pages, zero, n * sizeof(*zero));
		return 0;
	}
	p->zero_pages = 0;
	return zeroes_on_main(x, b->block, zero, n, e);
}

/* The pages behind the header become one piece. */
static int squeeze(struct ferry_encoder *x, int *iovs, struct ferry_err *e)
{
	if (!x->method || *iovs == 1)
		return 0;
	if (!x->squeeze)
		x->squeeze = ferry_squeeze_open(x->method, LEVEL, e);
	if (!x->squeeze || ferry_squeeze_packet(x->squeeze, x->iov + 1,
						*iovs - 1, &x->iov[1], e))
		return ferry_err_wrap(e, "channel %s", x->chan->name);
	x->packet.payload_bytes = (uint32_t)x->iov[1].iov_len;
	*iovs = 2;
	return 0;
}

static int write_packet(struct ferry_encoder *x, int iovs,
			struct ferry_err *e)
{
	struct ferry_wr w = ferry_wr_over(x->head, sizeof(x->head));

	ferry_packet_encode(&w, &x->packet);
	ferry_encoder_count(x, FERRY_PACKET_WIRE + x->packet.payload_bytes);
	return ferry_chan_writev(x->chan, x->iov, iovs, e);
}

static int multifd_pages(struct ferry_encoder *x, const struct ferry_batch *b,
			 struct ferry_err *e)
{
	struct ferry_packet *p = &x->packet;
	uint64_t zero[FERRY_PACKET_PAGES_MAX];
	int iovs;

	if (ferry_encoder_fetch(x, b, e))
		return -1;
	iovs = ferry_encoder_sort(x, b, zero);
	if (place_zeroes(x, b, zero, e))
		return -1;
	if (!p->normal_pages && !p->zero_pages)
		return 0;
	p->flags = x->method;
	p->packet_num++;
	p->payload_bytes = p->normal_pages * FERRY_PAGE_BYTES;
	if (squeeze(x, &iovs, e))
		return -1;
	memcpy(p->name, b->block->name, sizeof(p->name));
	ferry_count(&x->count->normal_pages, p->normal_pages);
	return write_packet(x, iovs, e);
}

static int multifd_sync(struct ferry_encoder *x, uint32_t sequence,
			struct ferry_err *e)
{
	struct ferry_packet *p = &x->packet;

	(void)sequence;
	p->flags = FERRY_PACKET_SYNC;
	p->packet_num++;
	p->normal_pages = p->zero_pages = p->payload_bytes = 0;
	p->name[0] = '\0';
	x->iov[0] = (struct iovec){ x->head, FERRY_PACKET_WIRE };
	return write_packet(x, 1, e);
}

static const struct ferry_encoder_ops multifd_ops = {
	.pages = multifd_pages,
	.sync = multifd_sync,
};

void ferry_encoder_multifd(struct ferry_encoder *x, struct ferry_chan *chan,
			   struct ferry_send_counters *count)
{
	*x = (struct ferry_encoder){
		.ops = &multifd_ops, .chan = chan, .count = count,
	};
}
