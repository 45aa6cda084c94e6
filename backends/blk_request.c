/* SPDX-License-Identifier: MIT */
/*
 * What a request of virtio-blk says (virtio 1.2, "Block Device"): a header of 16
 * octets to read, data, and in the last octet that may be written its status.
 *
 * The guest may change all of it at any time, so the header is copied, and then
 * looked at.  A queue's thread.
 */
#include <linux/virtio_blk.h>
#include <string.h>

#include "blk.h"

/* The next octets of an array of segments. */
struct cursor {
	const struct iovec	*iov;
	uint32_t		n;
	size_t			at;
};

static bool take(struct cursor *c, void *data, size_t bytes)
{
	uint8_t *to = data;

	while (bytes && c->n) {
		size_t n = c->iov->iov_len - c->at;

		if (n > bytes)
			n = bytes;
		memcpy(to, (uint8_t *)c->iov->iov_base + c->at, n);
		to += n;
		bytes -= n;
		c->at += n;
		if (c->at == c->iov->iov_len) {
			c->iov++;
			c->n--;
			c->at = 0;
		}
	}
	return !bytes;
}

/* The rest of it, but for `spare` octets at its end, into the request. */
static void give_iov(struct blk_request *r, struct cursor *c, size_t spare)
{
	uint64_t bytes = 0;

	r->iovs = 0;
	for (uint32_t i = 0; i < c->n; i++) {
		size_t from = i ? 0 : c->at;

		r->iov[r->iovs++] = (struct iovec){
			(uint8_t *)c->iov[i].iov_base + from,
			c->iov[i].iov_len - from,
		};
		bytes += c->iov[i].iov_len - from;
	}
	while (spare && r->iovs) {
		struct iovec *last = &r->iov[r->iovs - 1];
		size_t n = last->iov_len < spare ? last->iov_len : spare;

		last->iov_len -= n;
		spare -= n;
		bytes -= n;
		if (!last->iov_len)
			r->iovs--;
	}
	r->first = r->iov;
	r->bytes = bytes;
}

static bool inside(const struct blk_disk *d, uint64_t sector, uint64_t bytes)
{
	return sector <= d->bytes / BLK_SECTOR &&
	       bytes <= d->bytes - sector * BLK_SECTOR;
}

/* Each returns what blk_prepare() does. */

static int prepare_io(const struct blk_disk *d, struct blk_request *r,
		      struct cursor *out, uint64_t sector)
{
	struct cursor in = { r->buffer.in, r->buffer.ins, 0 };

	if (r->op == BLK_READ)
		give_iov(r, &in, 1);
	else
		give_iov(r, out, 0);
	if (r->bytes % BLK_SECTOR || !inside(d, sector, r->bytes))
		return VIRTIO_BLK_S_IOERR;
	r->offset = sector * BLK_SECTOR;
	return r->bytes ? BLK_DO_IT : VIRTIO_BLK_S_OK;
}

static int prepare_flush(const struct blk_disk *d, struct blk_request *r,
			 struct cursor *out, uint64_t sector)
{
	(void)d, (void)out, (void)sector;
	r->bytes = 0;
	return BLK_DO_IT;
}

/* One range, as the driver was told. */
static int prepare_zero(const struct blk_disk *d, struct blk_request *r,
			struct cursor *out, uint64_t sector)
{
	struct virtio_blk_discard_write_zeroes range;

	(void)sector;
	if (!take(out, &range, sizeof(range)) || out->n)
		return VIRTIO_BLK_S_UNSUPP;
	r->bytes = (uint64_t)range.num_sectors * BLK_SECTOR;
	r->unmap = range.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	if (range.num_sectors > BLK_ZERO_SECTORS_MAX ||
	    !inside(d, range.sector, r->bytes))
		return VIRTIO_BLK_S_IOERR;
	r->offset = range.sector * BLK_SECTOR;
	return r->bytes ? BLK_DO_IT : VIRTIO_BLK_S_OK;
}

static int prepare_id(const struct blk_disk *d, struct blk_request *r,
		      struct cursor *out, uint64_t sector)
{
	struct cursor in = { r->buffer.in, r->buffer.ins, 0 };
	size_t at = 0;

	(void)out, (void)sector;
	give_iov(r, &in, 1);
	for (unsigned i = 0; i < r->iovs && at < sizeof(d->id); i++) {
		size_t n = r->iov[i].iov_len;

		if (n > sizeof(d->id) - at)
			n = sizeof(d->id) - at;
		memcpy(r->iov[i].iov_base, d->id + at, n);
		at += n;
	}
	return VIRTIO_BLK_S_OK;
}

static const struct kind {
	uint32_t	type;
	enum blk_op	op;
	bool		writes;
	int		(*prepare)(const struct blk_disk *d, struct blk_request *r,
				   struct cursor *out, uint64_t sector);
} kinds[] = {
	{ VIRTIO_BLK_T_IN, BLK_READ, false, prepare_io },
	{ VIRTIO_BLK_T_OUT, BLK_WRITE, true, prepare_io },
	{ VIRTIO_BLK_T_FLUSH, BLK_FLUSH, false, prepare_flush },
	{ VIRTIO_BLK_T_GET_ID, BLK_READ, false, prepare_id },
	{ VIRTIO_BLK_T_DISCARD, BLK_DISCARD, true, prepare_zero },
	{ VIRTIO_BLK_T_WRITE_ZEROES, BLK_ZERO, true, prepare_zero },
};

/* The status is the last octet that the driver lets us write. */
static bool find_status(struct blk_request *r)
{
	const struct iovec *last = r->buffer.in + r->buffer.ins;

	r->status = NULL;
	if (r->buffer.in_bytes)
		r->status = (uint8_t *)last[-1].iov_base + last[-1].iov_len - 1;
	return r->status;
}

int blk_prepare(const struct blk_disk *d, struct blk_request *r)
{
	struct cursor out = { r->buffer.out, r->buffer.outs, 0 };
	struct virtio_blk_outhdr head;

	if (!find_status(r) || !take(&out, &head, sizeof(head)) ||
	    r->buffer.outs + r->buffer.ins > BLK_SEGMENTS + 2)
		return VIRTIO_BLK_S_IOERR;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].type != head.type)
			continue;
		if (kinds[i].writes && d->read_only)
			return VIRTIO_BLK_S_IOERR;
		r->op = kinds[i].op;
		return kinds[i].prepare(d, r, &out, head.sector);
	}
	return VIRTIO_BLK_S_UNSUPP;
}
