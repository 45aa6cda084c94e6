/* SPDX-License-Identifier: MIT */
/*
 * Channels of packets: QEMU's multifd channels, which open with INIT, and a
 * ferry's data, urgent and device channels, which open with a channel header.
 */
#include "park/dump_priv.h"

#include "wire/bulk.h"
#include "wire/multifd.h"

static const struct {
	uint32_t	bit;
	const char	*name;
} methods[] = {
	{ FERRY_PACKET_ZLIB, "zlib" }, { FERRY_PACKET_ZSTD, "zstd" },
	{ FERRY_PACKET_QPL, "qpl" }, { FERRY_PACKET_UADK, "uadk" },
	{ FERRY_PACKET_QATZIP, "qatzip" },
};

static int to_packet(struct ferry_dump_stream *s)
{
	ferry_dump_next(s, ferry_dump_packet, "a packet");
	s->may_end = true;
	return FERRY_DECODE_DONE;
}

int ferry_dump_init(struct ferry_dump_stream *s, struct ferry_rd *r,
		    struct ferry_err *e)
{
	struct ferry_multifd_init init;
	int rc = ferry_multifd_init_decode(r, UINT8_MAX + 1u, &init, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	ferry_dump_begin(s, s->mark, "INIT", NULL);
	ferry_dump_number(s, "channel", init.id);
	ferry_dump_octets(s, "uuid", init.uuid, sizeof(init.uuid));
	ferry_dump_end(s, FERRY_MULTIFD_INIT_WIRE);
	return to_packet(s);
}

static void tell_offsets(struct ferry_dump_stream *s, const char *key,
			 const uint64_t *offset, uint32_t n)
{
	if (!n)
		return;
	ferry_dump_list(s, key);
	for (uint32_t i = 0; i < n; i++)
		ferry_dump_hex(s, NULL, offset[i]);
	ferry_dump_list_end(s);
}

static void tell(struct ferry_dump_stream *s, const struct ferry_packet *p)
{
	ferry_dump_begin(s, s->mark, "PACKET",
			 p->flags & FERRY_PACKET_SYNC ? "SYNC" : NULL);
	ferry_dump_number(s, "number", p->packet_num);
	for (size_t i = 0; i < FERRY_LEN(methods); i++)
		if (p->flags & methods[i].bit)
			ferry_dump_text(s, "method", methods[i].name);
	if (p->name[0])
		ferry_dump_text(s, "block", p->name);
	ferry_dump_number(s, "normal", p->normal_pages);
	ferry_dump_number(s, "zero", p->zero_pages);
	ferry_dump_number(s, "payload", p->payload_bytes);
	if (s->d->p.each_page) {
		tell_offsets(s, "normal_at", p->offset, p->normal_pages);
		tell_offsets(s, "zero_at", p->offset + p->normal_pages,
			     p->zero_pages);
	}
	ferry_dump_end(s, FERRY_PACKET_WIRE + (uint64_t)p->payload_bytes);
}

static int check(const struct ferry_dump_stream *s,
		 const struct ferry_packet *p, struct ferry_err *e)
{
	const struct ferry_dump_block *b;
	struct ferry_block_shape shape;

	if (!p->name[0])
		return 0;
	if (ferry_dump_block_known(&s->d->vm, p->name, &b, e))
		return -1;
	if (!b)
		return 0;
	shape = ferry_dump_shape(b);
	return ferry_packet_check_in(p, &shape, e);
}

static int pages(struct ferry_dump_stream *s, struct ferry_rd *r,
		 struct ferry_err *e)
{
	struct ferry_packet p;
	uint32_t legal = s->dialect == FERRY_DIALECT_QEMU ?
			 FERRY_PACKET_METHODS : 0;
	int rc = ferry_packet_decode(r, legal, &p, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	if (check(s, &p, e))
		return FERRY_DECODE_WRONG;
	tell(s, &p);
	s->skip = p.payload_bytes;
	return rc;
}

static int device(struct ferry_dump_stream *s, struct ferry_rd *r,
		  struct ferry_err *e)
{
	struct ferry_device_packet p;
	int rc = ferry_device_packet_decode(r, &p, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	ferry_dump_begin(s, s->mark, "PACKET", "DEVICE_STATE");
	ferry_dump_text(s, "name", p.name);
	ferry_dump_number(s, "instance", p.instance);
	ferry_dump_number(s, "payload", p.payload_bytes);
	ferry_dump_end(s, FERRY_DEVICE_PACKET_WIRE +
			  (uint64_t)p.payload_bytes);
	s->skip = p.payload_bytes;
	return rc;
}

static int bulk(struct ferry_dump_stream *s, struct ferry_rd *r,
		struct ferry_err *e)
{
	struct ferry_bulk_packet p = { 0 };
	int rc = ferry_bulk_packet_decode(r, &p, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	ferry_dump_begin(s, s->mark, "PACKET",
			 p.flags & FERRY_BULK_PACKET_LAST ? "BULK_LAST" :
							    "BULK");
	ferry_dump_number(s, "device", p.device);
	ferry_dump_number(s, "index", p.index);
	ferry_dump_hex(s, "flags", p.flags);
	ferry_dump_number(s, "payload", p.bytes);
	ferry_dump_end(s, FERRY_BULK_WIRE + (uint64_t)p.bytes);
	s->skip = p.bytes;
	return rc;
}

int ferry_dump_packet(struct ferry_dump_stream *s, struct ferry_rd *r,
		      struct ferry_err *e)
{
	uint32_t flags;
	size_t lack;
	int rc;

	if (s->dialect == FERRY_DIALECT_FERRY && ferry_rd_left(r) >= 4 &&
	    ferry_bulk_packet_is(r->p))
		return bulk(s, r, e);
	rc = ferry_packet_peek(r, &flags, &lack, e);
	if (rc != FERRY_DECODE_DONE) {
		r->lack = lack;
		return rc;
	}
	return flags & FERRY_PACKET_DEVICE_STATE ? device(s, r, e)
						 : pages(s, r, e);
}
