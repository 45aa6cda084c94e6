/* SPDX-License-Identifier: MIT */
/*
 * A device that is set up and asked for something: what the checks of rings,
 * the log and postcopy have in common.
 *
 * As in talk.h: 0, or -1 with c->err.
 */
#ifndef FERRY_VU_CHECK_DEVICE_H
#define FERRY_VU_CHECK_DEVICE_H

#include "vu/check/talk.h"

/* The two regions. */
int ferry_vc_give_memory(struct ferry_vc *c);

/* The queue that requests go to, and how many there are to start. */
unsigned ferry_vc_asked(const struct ferry_vc *c);
unsigned ferry_vc_queues(const struct ferry_vc *c);

/* NUM, BASE, ADDR, CALL, ENABLE, KICK of a ring as the guest has it. */
int ferry_vc_start_ring(struct ferry_vc *c, unsigned i, uint32_t base,
			bool logged);
int ferry_vc_stop_ring(struct ferry_vc *c, unsigned i, uint32_t *base);

/* Its ADDR again, with the log's flag or without. */
int ferry_vc_place_ring(struct ferry_vc *c, unsigned i, bool logged);

/* The driver is ready; some backends wait for it. */
int ferry_vc_driver_ok(struct ferry_vc *c);

/* Agree (without some features), memory, all rings from the beginning. */
int ferry_vc_start(struct ferry_vc *c, uint64_t without);

/* Where the number n of requests under way has its memory. */
#define FERRY_VC_REQUESTS	16u
uint64_t ferry_vc_request_at(const struct ferry_vc *c, unsigned n);

/* Make a harmless request available, the n-th of those under way: a frame to
 * nobody, or a read of the first sectors.  Its id. */
uint16_t ferry_vc_request(struct ferry_vc *c, unsigned n, bool indirect);

/* Wait until one is used; it must have gone well. */
int ferry_vc_done(struct ferry_vc *c, uint16_t *id);

/* One, from the beginning to the end. */
int ferry_vc_once(struct ferry_vc *c);

#endif
