/* SPDX-License-Identifier: MIT */
/*
 * multifd headers.  All begin with | be32 magic | be32 version |.
 */
#include "wire/multifd.h"

#include <assert.h>
#include <inttypes.h>

#include "wire/text.h"

static_assert(FERRY_PACKET_WIRE == 1344, "QEMU's packet for 4 KiB pages");

#define NAME_WIRE	256		/* NUL-padded */
#define KNOWN_FLAGS	(FERRY_PACKET_SYNC | FERRY_PACKET_METHODS | \
			 FERRY_PACKET_DEVICE_STATE)

/* What n compressed pages may take at most. */
#define COMPRESSED_MAX(n)	((n) * 2 * FERRY_PAGE_BYTES + 4096)

static int opening_decode(struct ferry_rd *r, struct ferry_err *e)
{
	uint32_t magic = ferry_rd_be32(r);
	bool no_magic = r->bad;
	uint32_t version = ferry_rd_be32(r);

	if (!no_magic && magic != FERRY_MULTIFD_MAGIC)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "packet: begins with 0x%08" PRIx32, magic);
	if (!r->bad && version != FERRY_MULTIFD_VERSION)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "packet: version %" PRIu32, version);
	return 0;
}

static void opening_encode(struct ferry_wr *w)
{
	ferry_wr_be32(w, FERRY_MULTIFD_MAGIC);
	ferry_wr_be32(w, FERRY_MULTIFD_VERSION);
}

/* NUL-terminated in its 256 octets; what is behind the NUL does not matter. */
static bool name_decode(struct ferry_rd *r, char name[FERRY_NAME_MAX + 1])
{
	const uint8_t *at = ferry_rd_bytes(r, NAME_WIRE);

	name[0] = '\0';
	if (!at)
		return true;
	memcpy(name, at, NAME_WIRE);
	if (!memchr(name, '\0', NAME_WIRE)) {
		name[0] = '\0';
		return false;
	}
	return true;
}

static void name_encode(struct ferry_wr *w, const char *name)
{
	size_t n = strnlen(name, FERRY_NAME_MAX);

	ferry_wr_bytes(w, name, n);
	ferry_wr_zeroes(w, NAME_WIRE - n);
}

/* | opening | u8[16] uuid | u8 id | 39 zeroes, not looked at | */
int ferry_multifd_init_decode(struct ferry_rd *r, unsigned channels,
			      struct ferry_multifd_init *i,
			      struct ferry_err *e)
{
	struct ferry_rd from = *r;
	int rc = opening_decode(r, e);
	const uint8_t *uuid = ferry_rd_bytes(r, sizeof(i->uuid));

	i->id = ferry_rd_u8(r);
	if (uuid)
		memcpy(i->uuid, uuid, sizeof(i->uuid));
	if (!rc && !r->bad && i->id >= channels)
		rc = ferry_err_set(e, FERRY_E_PROTO, 0,
				   "multifd: channel %u, there are %u",
				   i->id, channels);
	ferry_rd_bytes(r, 39);
	return ferry_decode_end(r, from, rc);
}

void ferry_multifd_init_encode(struct ferry_wr *w,
			       const struct ferry_multifd_init *i)
{
	opening_encode(w);
	ferry_wr_bytes(w, i->uuid, sizeof(i->uuid));
	ferry_wr_u8(w, i->id);
	ferry_wr_zeroes(w, 39);
}

static int flags_check(uint32_t flags, struct ferry_err *e)
{
	uint32_t method = flags & FERRY_PACKET_METHODS;

	if (flags & ~KNOWN_FLAGS || method & (method - 1) ||
	    (flags & FERRY_PACKET_DEVICE_STATE &&
	     flags != FERRY_PACKET_DEVICE_STATE))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "packet: flags 0x%" PRIx32, flags);
	return 0;
}

int ferry_packet_peek(const struct ferry_rd *r, uint32_t *flags, size_t *lack,
		      struct ferry_err *e)
{
	struct ferry_rd ahead = *r, from = *r;
	int rc = opening_decode(&ahead, e);

	*flags = ferry_rd_be32(&ahead);
	if (!rc && !ahead.bad)
		rc = flags_check(*flags, e);
	rc = ferry_decode_end(&ahead, from, rc);
	*lack = ahead.lack;
	return rc;
}

/* The octets between flags and name. */
static int counts_decode(struct ferry_rd *r, struct ferry_packet *p,
			 struct ferry_err *e)
{
	uint32_t room = ferry_rd_be32(r);

	p->normal_pages = ferry_rd_be32(r);
	p->payload_bytes = ferry_rd_be32(r);
	p->packet_num = ferry_rd_be64(r);
	p->zero_pages = ferry_rd_be32(r);
	ferry_rd_bytes(r, 4 + 3 * 8);
	if (r->bad)
		return 0;

	if (room > FERRY_PACKET_PAGES_MAX || p->normal_pages > room ||
	    p->zero_pages > room - p->normal_pages)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "packet %" PRIu64 ": %" PRIu32 " normal"
				     " and %" PRIu32 " zero pages of %" PRIu32,
				     p->packet_num, p->normal_pages,
				     p->zero_pages, room);
	return 0;
}

static int payload_check(struct ferry_packet *p, struct ferry_err *e)
{
	uint32_t plain = p->normal_pages * FERRY_PAGE_BYTES;
	uint32_t bytes = p->payload_bytes;

	if (!p->normal_pages) {
		p->payload_bytes = 0;
		return 0;
	}
	if (p->flags & FERRY_PACKET_METHODS ?
	    bytes && bytes <= COMPRESSED_MAX(p->normal_pages) : bytes == plain)
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "packet %" PRIu64 ": %" PRIu32 " octets for %"
			     PRIu32 " pages", p->packet_num, bytes,
			     p->normal_pages);
}

static int offsets_decode(struct ferry_rd *r, struct ferry_packet *p,
			  struct ferry_err *e)
{
	uint32_t pages = p->normal_pages + p->zero_pages;

	for (uint32_t i = 0; i < pages; i++) {
		p->offset[i] = ferry_rd_be64(r);
		if (p->offset[i] % FERRY_PAGE_BYTES)
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "packet %" PRIu64 ": %s 0x%" PRIx64
					     " is no page", p->packet_num,
					     FERRY_SHOW(p->name), p->offset[i]);
	}
	ferry_rd_bytes(r, 8ul * (FERRY_PACKET_PAGES_MAX - pages));
	return 0;
}

static int packet_read(struct ferry_rd *r, uint32_t methods,
		       struct ferry_packet *p, struct ferry_err *e)
{
	bool name;

	if (opening_decode(r, e))
		return -1;
	p->flags = ferry_rd_be32(r);
	if (flags_check(p->flags, e))
		return -1;
	if (p->flags & FERRY_PACKET_DEVICE_STATE ||
	    p->flags & FERRY_PACKET_METHODS & ~methods)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "packet: flags 0x%" PRIx32
				     " are not legal here", p->flags);
	if (counts_decode(r, p, e))
		return -1;
	if (!r->bad && payload_check(p, e))
		return -1;

	name = name_decode(r, p->name);
	if (r->bad)
		return 0;
	if (!p->normal_pages && !p->zero_pages)
		p->name[0] = '\0';
	else if (!name || !p->name[0])
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "packet %" PRIu64 ": bad block name",
				     p->packet_num);
	return offsets_decode(r, p, e);
}

int ferry_packet_decode(struct ferry_rd *r, uint32_t methods,
			struct ferry_packet *p, struct ferry_err *e)
{
	struct ferry_rd from = *r;

	return ferry_decode_end(r, from, packet_read(r, methods, p, e));
}

int ferry_packet_check_in(const struct ferry_packet *p,
			  const struct ferry_block_shape *block,
			  struct ferry_err *e)
{
	uint32_t pages = p->normal_pages + p->zero_pages;

	for (uint32_t i = 0; i < pages; i++)
		if (p->offset[i] >= block->bytes ||
		    block->bytes - p->offset[i] < FERRY_PAGE_BYTES)
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "packet %" PRIu64 ": %s 0x%" PRIx64
					     " is past its end, 0x%" PRIx64,
					     p->packet_num,
					     FERRY_SHOW(block->name),
					     p->offset[i], block->bytes);
	return 0;
}

void ferry_packet_encode(struct ferry_wr *w, const struct ferry_packet *p)
{
	uint32_t pages = p->normal_pages + p->zero_pages;

	if (p->normal_pages > FERRY_PACKET_PAGES_MAX ||
	    p->zero_pages > FERRY_PACKET_PAGES_MAX - p->normal_pages) {
		w->bad = true;
		return;
	}
	opening_encode(w);
	ferry_wr_be32(w, p->flags);
	ferry_wr_be32(w, pages ? FERRY_PACKET_PAGES_MAX : 0);
	ferry_wr_be32(w, p->normal_pages);
	ferry_wr_be32(w, p->payload_bytes);
	ferry_wr_be64(w, p->packet_num);
	ferry_wr_be32(w, p->zero_pages);
	ferry_wr_zeroes(w, 4 + 3 * 8);
	name_encode(w, p->name);
	for (uint32_t i = 0; i < pages; i++)
		ferry_wr_be64(w, p->offset[i]);
	ferry_wr_zeroes(w, 8ul * (FERRY_PACKET_PAGES_MAX - pages));
}

/* | opening | be32 flags | char[256] name | be32 instance | be32 bytes | */
static int device_read(struct ferry_rd *r, struct ferry_device_packet *p,
		       struct ferry_err *e)
{
	uint32_t flags;
	bool name;

	if (opening_decode(r, e))
		return -1;
	flags = ferry_rd_be32(r);
	if (!r->bad && flags != FERRY_PACKET_DEVICE_STATE)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "device packet: flags 0x%" PRIx32, flags);
	name = name_decode(r, p->name);
	p->instance = ferry_rd_be32(r);
	p->payload_bytes = ferry_rd_be32(r);
	if (r->bad)
		return 0;
	if (!name || !p->name[0] ||
	    p->payload_bytes > FERRY_PACKAGE_BYTES_MAX)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "device packet: \"%s\", %" PRIu32
				     " octets", FERRY_SHOW(p->name),
				     p->payload_bytes);
	return 0;
}

int ferry_device_packet_decode(struct ferry_rd *r,
			       struct ferry_device_packet *p,
			       struct ferry_err *e)
{
	struct ferry_rd from = *r;

	return ferry_decode_end(r, from, device_read(r, p, e));
}

void ferry_device_packet_encode(struct ferry_wr *w,
				const struct ferry_device_packet *p)
{
	opening_encode(w);
	ferry_wr_be32(w, FERRY_PACKET_DEVICE_STATE);
	name_encode(w, p->name);
	ferry_wr_be32(w, p->instance);
	ferry_wr_be32(w, p->payload_bytes);
}
