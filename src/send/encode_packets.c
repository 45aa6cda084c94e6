/* SPDX-License-Identifier: MIT */
/*
 * Pages as multifd packets: one header, then the pages that are not zero, as
 * they are or compressed.
 */
#include "send/encode.h"

#include <string.h>

#include "base/clock.h"

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

int ferry_encoder_sort(struct ferry_encoder *x, const struct ferry_batch *b,
		       uint64_t zero[FERRY_PACKET_PAGES_MAX])
{
	struct ferry_packet *p = &x->packet;
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
	return n;
}

/* *took_ns: how long writing took. */
static int write_packet(struct ferry_encoder *x, int iovs, uint64_t *took_ns,
			struct ferry_err *e)
{
	struct ferry_wr w = ferry_wr_over(x->head, sizeof(x->head));
	uint64_t bytes = FERRY_PACKET_WIRE + x->packet.payload_bytes;
	uint64_t begin = ferry_now_ns();
	int rc;

	ferry_packet_encode(&w, &x->packet);
	ferry_encoder_count(x, bytes);
	rc = ferry_chan_writev(x->chan, x->iov, iovs, e);
	*took_ns = ferry_now_ns() - begin;
	if (x->flow)
		ferry_count(&x->flow->blocked_ns, *took_ns);
	return rc;
}

static void count_packed(struct ferry_encoder *x, size_t plain_bytes)
{
	if (!x->flow)
		return;
	ferry_count(&x->flow->packed_from, plain_bytes);
	ferry_count(&x->flow->packed_to, x->packet.payload_bytes);
}

/* Its pages are there, in so many iovecs; compressed they are in one.  Returns
 * how many there are then, or -1. */
static int pack(struct ferry_encoder *x, int iovs, struct ferry_err *e)
{
	struct ferry_packet *p = &x->packet;
	size_t plain = p->normal_pages * (size_t)FERRY_PAGE_BYTES;
	struct iovec packed;
	int rc = ferry_packer_pack(&x->packer, x->iov + 1, iovs - 1, plain,
				   &packed, e);

	p->flags = rc > 0 ? x->packer.method : 0;
	p->payload_bytes = (uint32_t)(rc > 0 ? packed.iov_len : plain);
	if (rc <= 0)
		return rc ? -1 : iovs;
	x->iov[1] = packed;
	count_packed(x, plain);
	return 2;
}

static void count_pages(struct ferry_encoder *x)
{
	const struct ferry_packet *p = &x->packet;

	ferry_count(&x->count->normal_pages, p->normal_pages);
	ferry_count(&x->count->zero_pages, p->zero_pages);
	if (!x->flow)
		return;
	ferry_count(&x->flow->normal_pages, p->normal_pages);
	ferry_count(&x->flow->zero_pages, p->zero_pages);
	if (p->normal_pages)
		atomic_store_explicit(&x->flow->method, p->flags,
				      memory_order_relaxed);
}

static int packet_pages(struct ferry_encoder *x, const struct ferry_batch *b,
			struct ferry_err *e)
{
	struct ferry_packet *p = &x->packet;
	uint64_t zero[FERRY_PACKET_PAGES_MAX];
	uint64_t begin = ferry_now_ns(), wrote_ns;
	int iovs;

	if (ferry_encoder_fetch(x, b, e))
		return -1;
	iovs = ferry_encoder_sort(x, b, zero);
	memcpy(p->offset + p->normal_pages, zero,
	       p->zero_pages * sizeof(zero[0]));
	iovs = pack(x, iovs, e);
	if (iovs < 0)
		return -1;
	p->packet_num = ferry_packet_num(atomic_load_explicit(
		&x->count->pass, memory_order_relaxed), p->packet_num + 1);
	memcpy(p->name, b->block->name, sizeof(p->name));
	count_pages(x);
	if (write_packet(x, iovs, &wrote_ns, e))
		return -1;
	ferry_packer_sent(&x->packer,
			  p->normal_pages * (size_t)FERRY_PAGE_BYTES,
			  p->payload_bytes, ferry_now_ns() - begin, wrote_ns);
	return 0;
}

static int packet_sync(struct ferry_encoder *x, uint32_t sequence,
		       struct ferry_err *e)
{
	uint64_t num = x->packet.packet_num, took_ns;
	int rc;

	x->packet.flags = FERRY_PACKET_SYNC;
	x->packet.normal_pages = 0;
	x->packet.zero_pages = 0;
	x->packet.payload_bytes = 0;
	x->packet.packet_num = sequence;
	x->packet.name[0] = '\0';
	x->iov[0] = (struct iovec){ x->head, FERRY_PACKET_WIRE };
	rc = write_packet(x, 1, &took_ns, e);
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
