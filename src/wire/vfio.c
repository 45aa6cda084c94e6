/* SPDX-License-Identifier: MIT */
/*
 * Items and packet heads of VFIO's device state.
 */
#include "wire/vfio.h"

#include <inttypes.h>

static int item_read(struct ferry_rd *r, struct ferry_vfio_item *item,
		     struct ferry_err *e)
{
	*item = (struct ferry_vfio_item){ .word = ferry_rd_be64(r) };
	if (r->bad)
		return 0;
	switch (item->word) {
	case FERRY_VFIO_DATA:
		item->bytes = ferry_rd_be64(r);
		return 0;
	case FERRY_VFIO_SETUP:
	case FERRY_VFIO_INIT_SENT:
	case FERRY_VFIO_END:
		return 0;
	}
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "what begins with 0x%"
			     PRIx64 " is not known here", item->word);
}

int ferry_vfio_item_decode(struct ferry_rd *r, struct ferry_vfio_item *item,
			   struct ferry_err *e)
{
	struct ferry_rd from = *r;

	return ferry_decode_end(r, from, item_read(r, item, e));
}

void ferry_vfio_item_encode(struct ferry_wr *w,
			    const struct ferry_vfio_item *item)
{
	ferry_wr_be64(w, item->word);
	if (item->word == FERRY_VFIO_DATA)
		ferry_wr_be64(w, item->bytes);
}

bool ferry_vfio_packet_decode(const uint8_t wire[FERRY_VFIO_PACKET_WIRE],
			      struct ferry_vfio_packet *p)
{
	struct ferry_rd r = ferry_rd_over(wire, FERRY_VFIO_PACKET_WIRE);
	uint32_t version = ferry_rd_be32(&r), flags;

	p->index = ferry_rd_be32(&r);
	flags = ferry_rd_be32(&r);
	p->last = flags == 1;
	return !version && flags <= 1 && p->index < FERRY_VFIO_PACKETS_MAX;
}
