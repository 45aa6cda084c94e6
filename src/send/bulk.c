/* SPDX-License-Identifier: MIT */
/*
 * Packets of bulk devices on lanes, which are taken turns at.
 */
#include "send/bulk.h"

void ferry_bulk_lanes_add(struct ferry_bulk_lanes *l, struct ferry_chan *chan)
{
	ferry_lane_init(&l->lane[l->lanes++], chan, true,
			ferry_encoder_packets, l->count);
}

static struct ferry_lane *lane_of(struct ferry_bulk_lanes *l, unsigned i)
{
	return l->lanes ? &l->lane[i] : &l->crew->sender[i]->lane;
}

/* A free one; else that whose turn it is, once it is free. */
static struct ferry_lane *enter(struct ferry_bulk_lanes *l,
				const struct ferry_bulk_packet *p)
{
	unsigned n = l->lanes ? l->lanes : l->crew->senders;
	unsigned first = (unsigned)((p->device + p->index) % n);

	for (unsigned i = 0; i < n; i++) {
		struct ferry_lane *lane = lane_of(l, (first + i) % n);

		if (ferry_lane_try_bulk(lane))
			return lane;
	}
	ferry_lane_enter_bulk(lane_of(l, first));
	return lane_of(l, first);
}

int ferry_bulk_lanes_send(struct ferry_bulk_lanes *l,
			  const struct ferry_bulk_packet *p, const void *data,
			  struct ferry_err *e)
{
	struct ferry_lane *lane = enter(l, p);
	uint8_t head[FERRY_BULK_WIRE];
	struct ferry_wr w = ferry_wr_over(head, sizeof(head));
	struct iovec iov[2] = {
		{ head, sizeof(head) },
		{ (void *)(uintptr_t)data, p->bytes },
	};
	int rc;

	ferry_bulk_packet_encode(&w, p);
	ferry_count(&l->count->bytes, sizeof(head) + p->bytes);
	rc = ferry_chan_writev(lane->chan, iov, p->bytes ? 2 : 1, e);
	ferry_lane_leave(lane);
	return rc;
}

void ferry_bulk_lanes_shutdown(struct ferry_bulk_lanes *l)
{
	for (unsigned i = 0; i < l->lanes; i++)
		l->lane[i].chan->ops->shutdown(l->lane[i].chan);
}

void ferry_bulk_lanes_stop(struct ferry_bulk_lanes *l)
{
	for (unsigned i = 0; i < l->lanes; i++)
		ferry_lane_fini(&l->lane[i]);
	l->lanes = 0;
}
