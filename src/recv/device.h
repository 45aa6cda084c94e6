/* SPDX-License-Identifier: MIT */
/*
 * Packets of bulk devices, read from a channel into room that somebody else
 * has for them.
 *
 * Threads: the channel's reader.
 */
#ifndef FERRY_RECV_DEVICE_H
#define FERRY_RECV_DEVICE_H

#include "chan/inbuf.h"
#include "wire/bulk.h"

/* Neither waits.  By any reader. */
struct ferry_device_sink {
	void	*arg;
	/* Room for its octets; -1: it may not come. */
	int	(*room)(void *arg, const struct ferry_bulk_packet *p,
			uint8_t **at, struct ferry_err *e);
	/* They are there. */
	void	(*put)(void *arg, const struct ferry_bulk_packet *p);
};

/* One packet. */
FERRY_CHECKED int ferry_device_read(struct ferry_inbuf *in,
				    const struct ferry_device_sink *sink,
				    struct ferry_err *e);

#endif
