/* SPDX-License-Identifier: MIT */
/*
 *   0               4       6       8
 *   | 46 42 4c 4b   | device| flags |
 *   | be32 bytes    | be32 0        |
 *   | be64 index                    |
 *  24
 */
#include "wire/bulk.h"

#include <inttypes.h>

#define FLAGS	(FERRY_BULK_PACKET_OWN | FERRY_BULK_PACKET_STOPPED | \
		 FERRY_BULK_PACKET_LAST)

bool ferry_bulk_packet_is(const uint8_t first[4])
{
	struct ferry_rd r = ferry_rd_over(first, 4);

	return ferry_rd_be32(&r) == FERRY_BULK_MAGIC;
}

static int check(const struct ferry_bulk_packet *p, uint32_t reserved,
		 struct ferry_err *e)
{
	if (p->device >= FERRY_BULK_DEVICES_MAX || p->flags & ~FLAGS ||
	    reserved)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "packet of bulk device %u with flags "
				     "0x%x, reserved 0x%" PRIx32, p->device,
				     p->flags, reserved);
	if (p->bytes > FERRY_BULK_PACKET_BYTES_MAX ||
	    (p->bytes && p->flags & FERRY_BULK_PACKET_LAST))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "packet of bulk device %u with flags "
				     "0x%x and %" PRIu32 " octets", p->device,
				     p->flags, p->bytes);
	return 0;
}

static int fields_decode(struct ferry_rd *r, struct ferry_bulk_packet *p,
			 struct ferry_err *e)
{
	uint32_t magic = ferry_rd_be32(r), reserved;

	if (!r->bad && magic != FERRY_BULK_MAGIC)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "packet of a bulk "
				     "device: magic 0x%08" PRIx32, magic);
	p->device = ferry_rd_be16(r);
	p->flags = ferry_rd_be16(r);
	p->bytes = ferry_rd_be32(r);
	reserved = ferry_rd_be32(r);
	p->index = ferry_rd_be64(r);
	return r->bad ? 0 : check(p, reserved, e);
}

int ferry_bulk_packet_decode(struct ferry_rd *r, struct ferry_bulk_packet *p,
			     struct ferry_err *e)
{
	struct ferry_rd from = *r;

	return ferry_decode_end(r, from, fields_decode(r, p, e));
}

void ferry_bulk_packet_encode(struct ferry_wr *w,
			      const struct ferry_bulk_packet *p)
{
	ferry_wr_be32(w, FERRY_BULK_MAGIC);
	ferry_wr_be16(w, p->device);
	ferry_wr_be16(w, p->flags);
	ferry_wr_be32(w, p->bytes);
	ferry_wr_be32(w, 0);
	ferry_wr_be64(w, p->index);
}
