/* SPDX-License-Identifier: MIT */
/*
 * The image's records.  Figures are octets, big-endian:
 *
 *   head   | magic 8 | be32 version | be32 flags | be32 chunk | be32 page |
 *          | be64 file | be64 created | id 16 | table | state | index |
 *          | zeroes ... | be64 XXH3 of the 4088 octets before |
 *   piece  | be64 offset | be64 octets | be64 XXH3 |
 *   chunk  | be64 offset | be32 octets stored | be64 XXH3 |
 *   kept   | be32 kind | be32 channel | be32 octets | be64 offset | be64 XXH3 |
 */
#include "park/layout.h"

#include <inttypes.h>

#include "park/hash.h"
#include "wire/dialect.h"

#define HASHED_BYTES	(FERRY_IMAGE_HEAD_BYTES - 8)

static int broken(struct ferry_err *e, const char *what)
{
	return ferry_err_set(e, FERRY_E_PROTO, 0, "the image is damaged: %s",
			     what);
}

/* ---- head ------------------------------------------------------------------ */

static bool in_file(uint64_t offset, uint64_t bytes, uint64_t file_bytes)
{
	return offset >= FERRY_IMAGE_HEAD_BYTES && offset <= file_bytes &&
	       bytes <= file_bytes - offset;
}

static struct ferry_piece read_piece(struct ferry_rd *r)
{
	struct ferry_piece p;

	p.offset = ferry_rd_be64(r);
	p.bytes = ferry_rd_be64(r);
	p.hash = ferry_rd_be64(r);
	return p;
}

static void write_piece(struct ferry_wr *w, const struct ferry_piece *p)
{
	ferry_wr_be64(w, p->offset);
	ferry_wr_be64(w, p->bytes);
	ferry_wr_be64(w, p->hash);
}

/* What it is, before anything else is believed. */
static int check_kind(struct ferry_rd *r, struct ferry_err *e)
{
	const uint8_t *magic = ferry_rd_bytes(r, 8);
	uint32_t version = ferry_rd_be32(r);

	if (memcmp(magic, FERRY_IMAGE_MAGIC, 8))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "this is no image of "
				     "a parked VM (it does not begin with "
				     FERRY_IMAGE_MAGIC ")");
	if (version != FERRY_IMAGE_VERSION)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "the image is of version %" PRIu32 "; "
				     "this ferry reads version %u", version,
				     FERRY_IMAGE_VERSION);
	return 0;
}

static int check_pieces(const struct ferry_image_head *h, struct ferry_err *e)
{
	if (!in_file(h->table.offset, h->table.bytes, h->file_bytes) ||
	    h->table.bytes % FERRY_CHUNK_WIRE ||
	    h->table.bytes / FERRY_CHUNK_WIRE > FERRY_IMAGE_CHUNKS_MAX)
		return broken(e, "place of the chunk table");
	if (!in_file(h->state.offset, h->state.bytes, h->file_bytes) ||
	    h->state.bytes > FERRY_PACKAGE_BYTES_MAX + FERRY_VMDESC_BYTES_MAX)
		return broken(e, "place of the device state");
	if (!in_file(h->index.offset, h->index.bytes, h->file_bytes) ||
	    h->index.bytes > FERRY_INDEX_BYTES_MAX)
		return broken(e, "place of the index");
	if (h->flags & FERRY_IMAGE_KEPT &&
	    (!in_file(h->kept.offset, h->kept.bytes, h->file_bytes) ||
	     !h->kept.bytes || h->kept.bytes % FERRY_KEPT_WIRE ||
	     h->kept.bytes / FERRY_KEPT_WIRE > FERRY_KEPT_RECORDS_MAX))
		return broken(e, "place of the device state in parts");
	return 0;
}

int ferry_image_head_decode(const void *data, uint64_t file_bytes,
			    struct ferry_image_head *h, struct ferry_err *e)
{
	struct ferry_rd r = ferry_rd_over(data, FERRY_IMAGE_HEAD_BYTES);
	struct ferry_rd end = ferry_rd_over((const uint8_t *)data +
					    HASHED_BYTES, 8);

	if (check_kind(&r, e))
		return -1;
	if (ferry_rd_be64(&end) != ferry_hash(data, HASHED_BYTES))
		return broken(e, "its head does not match its hash");
	h->flags = ferry_rd_be32(&r);
	if (h->flags & ~(uint32_t)(FERRY_IMAGE_ZSTD | FERRY_IMAGE_KEPT))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "the image "
				     "needs something this ferry does not know "
				     "(flags 0x%" PRIx32 ")", h->flags);
	if (ferry_rd_be32(&r) != FERRY_CHUNK_BYTES ||
	    ferry_rd_be32(&r) != FERRY_PAGE_BYTES)
		return broken(e, "sizes of chunks and pages");
	h->file_bytes = ferry_rd_be64(&r);
	h->created_s = ferry_rd_be64(&r);
	memcpy(h->id, ferry_rd_bytes(&r, sizeof(h->id)), sizeof(h->id));
	h->table = read_piece(&r);
	h->state = read_piece(&r);
	h->index = read_piece(&r);
	h->kept = read_piece(&r);
	if (h->file_bytes != file_bytes)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "the image is "
				     "damaged: it has %" PRIu64 " octets, and "
				     "should have %" PRIu64, file_bytes,
				     h->file_bytes);
	return check_pieces(h, e);
}

void ferry_image_head_encode(uint8_t data[FERRY_IMAGE_HEAD_BYTES],
			     const struct ferry_image_head *h)
{
	struct ferry_wr w = ferry_wr_over(data, HASHED_BYTES);

	memset(data, 0, FERRY_IMAGE_HEAD_BYTES);
	ferry_wr_bytes(&w, FERRY_IMAGE_MAGIC, 8);
	ferry_wr_be32(&w, FERRY_IMAGE_VERSION);
	ferry_wr_be32(&w, h->flags);
	ferry_wr_be32(&w, FERRY_CHUNK_BYTES);
	ferry_wr_be32(&w, FERRY_PAGE_BYTES);
	ferry_wr_be64(&w, h->file_bytes);
	ferry_wr_be64(&w, h->created_s);
	ferry_wr_bytes(&w, h->id, sizeof(h->id));
	write_piece(&w, &h->table);
	write_piece(&w, &h->state);
	write_piece(&w, &h->index);
	if (h->flags & FERRY_IMAGE_KEPT)
		write_piece(&w, &h->kept);
	w = ferry_wr_over(data + HASHED_BYTES, 8);
	ferry_wr_be64(&w, ferry_hash(data, HASHED_BYTES));
}

/* ---- chunks ------------------------------------------------------------------ */

int ferry_chunk_decode(const uint8_t wire[FERRY_CHUNK_WIRE],
		       uint64_t file_bytes, struct ferry_chunk *c)
{
	struct ferry_rd r = ferry_rd_over(wire, FERRY_CHUNK_WIRE);

	c->offset = ferry_rd_be64(&r);
	c->stored_bytes = ferry_rd_be32(&r);
	c->hash = ferry_rd_be64(&r);
	if (!c->stored_bytes)
		return 0;
	if (c->stored_bytes > FERRY_CHUNK_BYTES ||
	    !in_file(c->offset, c->stored_bytes, file_bytes))
		return -EBADMSG;
	return 0;
}

/* By the octets stored. */
bool ferry_chunk_is_zero(const uint8_t wire[FERRY_CHUNK_WIRE])
{
	return !(wire[8] | wire[9] | wire[10] | wire[11]);
}

void ferry_chunk_encode(uint8_t wire[FERRY_CHUNK_WIRE],
			const struct ferry_chunk *c)
{
	struct ferry_wr w = ferry_wr_over(wire, FERRY_CHUNK_WIRE);

	ferry_wr_be64(&w, c->offset);
	ferry_wr_be32(&w, c->stored_bytes);
	ferry_wr_be64(&w, c->hash);
}

/* ---- device state in parts ---------------------------------------------------- */

int ferry_kept_decode(const uint8_t wire[FERRY_KEPT_WIRE],
		      uint64_t file_bytes, struct ferry_kept_place *p)
{
	struct ferry_rd r = ferry_rd_over(wire, FERRY_KEPT_WIRE);

	p->k.kind = ferry_rd_be32(&r);
	p->k.channel = ferry_rd_be32(&r);
	p->k.bytes = ferry_rd_be32(&r);
	p->offset = ferry_rd_be64(&r);
	p->hash = ferry_rd_be64(&r);
	if (p->k.kind < FERRY_KEPT_BEGIN || p->k.kind > FERRY_KEPT_MORE ||
	    p->k.channel >= FERRY_DATA_CHANNELS_MAX ||
	    p->k.bytes > FERRY_KEPT_PIECE_BYTES ||
	    !in_file(p->offset, p->k.bytes, file_bytes))
		return -EBADMSG;
	return 0;
}

void ferry_kept_encode(uint8_t wire[FERRY_KEPT_WIRE],
		       const struct ferry_kept_place *p)
{
	struct ferry_wr w = ferry_wr_over(wire, FERRY_KEPT_WIRE);

	ferry_wr_be32(&w, p->k.kind);
	ferry_wr_be32(&w, p->k.channel);
	ferry_wr_be32(&w, p->k.bytes);
	ferry_wr_be64(&w, p->offset);
	ferry_wr_be64(&w, p->hash);
}

/* ---- index ----------------------------------------------------------------------- */

/* The chunks of all blocks are those of the table, no more and no fewer. */
static int deal_chunks(struct ferry_image_index *x, uint64_t chunks,
		       struct ferry_err *e)
{
	uint64_t next = 0;

	for (size_t i = 0; i < x->vm.blocks; i++) {
		uint64_t n = ferry_chunks_of(x->vm.block[i].bytes);

		if (n > chunks - next)
			return broken(e, "its chunk table is too short");
		x->first_chunk[i] = next;
		next += n;
	}
	if (next != chunks || !chunks)
		return broken(e, "its chunk table is too long");
	return 0;
}

static int check_index(const struct ferry_image_index *x, struct ferry_err *e)
{
	if (x->dialect != FERRY_DIALECT_QEMU &&
	    x->dialect != FERRY_DIALECT_FERRY)
		return broken(e, "kind of the source");
	if (x->sections_bytes > FERRY_PACKAGE_BYTES_MAX ||
	    x->vmdesc_bytes > FERRY_VMDESC_BYTES_MAX)
		return broken(e, "size of the device state");
	return 0;
}

int ferry_image_index_decode(const void *data, size_t bytes, uint64_t chunks,
			     struct ferry_image_index *x, struct ferry_err *e)
{
	struct ferry_rd r = ferry_rd_over(data, bytes);
	const uint8_t *uuid;

	*x = (struct ferry_image_index){ .dialect = ferry_rd_u8(&r) };
	x->has_uuid = ferry_rd_u8(&r) != 0;
	uuid = ferry_rd_bytes(&r, sizeof(x->uuid));
	x->sections_bytes = ferry_rd_be32(&r);
	x->vmdesc_bytes = ferry_rd_be32(&r);
	if (ferry_rd_be32(&r) != ferry_rd_left(&r) || r.bad)
		return broken(e, "length of the index");
	memcpy(x->uuid, uuid, sizeof(x->uuid));
	if (check_index(x, e))
		return -1;
	if (ferry_hello_decode(&r, false, &x->vm, e))
		return ferry_err_wrap(e, "the image is damaged");
	if (!deal_chunks(x, chunks, e))
		return 0;
	ferry_hello_fini(&x->vm);
	return -1;
}

size_t ferry_image_index_bytes(const struct ferry_image_index *x)
{
	return 2 + sizeof(x->uuid) + 8 + ferry_hello_bytes(&x->vm);
}

void ferry_image_index_encode(struct ferry_wr *w,
			      const struct ferry_image_index *x)
{
	ferry_wr_u8(w, x->dialect);
	ferry_wr_u8(w, x->has_uuid);
	ferry_wr_bytes(w, x->uuid, sizeof(x->uuid));
	ferry_wr_be32(w, x->sections_bytes);
	ferry_wr_be32(w, x->vmdesc_bytes);
	ferry_hello_encode(w, &x->vm);
}

struct ferry_chunk_place ferry_chunk_find(const struct ferry_image_index *x,
					  uint64_t chunk)
{
	uint32_t i = 0;
	uint64_t page, left;

	while (i + 1 < x->vm.blocks && x->first_chunk[i + 1] <= chunk)
		i++;
	page = (chunk - x->first_chunk[i]) * FERRY_CHUNK_PAGES;
	left = x->vm.block[i].bytes / FERRY_PAGE_BYTES - page;
	return (struct ferry_chunk_place){
		i, page, left < FERRY_CHUNK_PAGES ? left : FERRY_CHUNK_PAGES,
	};
}
