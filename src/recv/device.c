/* SPDX-License-Identifier: MIT */
/*
 * Reading a packet of a bulk device.
 */
#include "recv/device.h"

static int head(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	return ferry_bulk_packet_decode(rd, arg, e);
}

int ferry_device_read(struct ferry_inbuf *in,
		      const struct ferry_device_sink *sink,
		      struct ferry_err *e)
{
	struct ferry_bulk_packet p = { 0 };
	uint8_t *at = NULL;

	if (ferry_inbuf_decode(in, head, &p, e) ||
	    sink->room(sink->arg, &p, &at, e) ||
	    (p.bytes && ferry_inbuf_read(in, at, p.bytes, e)))
		return -1;
	sink->put(sink->arg, &p);
	return 0;
}
