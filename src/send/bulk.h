/* SPDX-License-Identifier: MIT */
/*
 * Packets of bulk devices find a channel: one of those that carry nothing
 * else, or one of the senders', between two batches of pages.  Whichever is
 * free takes the next packet, so a slow channel takes few.
 *
 * Threads: add by the conductor, before send by any number of them; shutdown
 *          by any.
 */
#ifndef FERRY_SEND_BULK_H
#define FERRY_SEND_BULK_H

#include "send/crew.h"
#include "wire/bulk.h"

#define FERRY_BULK_LANES_MAX	16u

struct ferry_bulk_lanes {
	struct ferry_crew *crew;	/* where there is no lane */
	struct ferry_send_counters *count;
	struct ferry_lane lane[FERRY_BULK_LANES_MAX];
	unsigned	 lanes;
};

/* One more device channel; takes it. */
void ferry_bulk_lanes_add(struct ferry_bulk_lanes *l, struct ferry_chan *chan);

FERRY_CHECKED int ferry_bulk_lanes_send(struct ferry_bulk_lanes *l,
					const struct ferry_bulk_packet *p,
					const void *data, struct ferry_err *e);

/* Break them all, those of the crew not. */
void ferry_bulk_lanes_shutdown(struct ferry_bulk_lanes *l);

/* Nobody sends any more: closes. */
void ferry_bulk_lanes_stop(struct ferry_bulk_lanes *l);

#endif
