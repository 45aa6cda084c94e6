/* SPDX-License-Identifier: MIT */
/*
 * The listing of an image (docs/image.md): head, blocks and how their chunks
 * are kept, device state; on request all memory is read and checked.
 */
#include "park/dump_priv.h"

#include <inttypes.h>
#include <stdlib.h>

#include "park/image.h"
#include "wire/multifd.h"

struct chunks {
	uint64_t	zero, raw, packed;
	uint64_t	stored;		/* octets */
};

static void piece(struct ferry_dump_stream *s, const char *what,
		  const struct ferry_piece *p)
{
	ferry_dump_begin(s, p->offset, "PIECE", what);
	ferry_dump_hex(s, "hash", p->hash);
	ferry_dump_end(s, p->bytes);
}

static void tell_head(struct ferry_dump_stream *s,
		      const struct ferry_image *img)
{
	const struct ferry_image_head *h = &img->head;

	ferry_dump_begin(s, 0, "IMAGE", NULL);
	ferry_dump_number(s, "version", FERRY_IMAGE_VERSION);
	ferry_dump_octets(s, "id", h->id, sizeof(h->id));
	ferry_dump_number(s, "created", h->created_s);
	ferry_dump_number(s, "size", h->file_bytes);
	ferry_dump_hex(s, "flags", h->flags);
	ferry_dump_end(s, FERRY_IMAGE_HEAD_BYTES);
	piece(s, "chunks", &h->table);
	piece(s, "state", &h->state);
	piece(s, "index", &h->index);
	if (h->flags & FERRY_IMAGE_KEPT)
		piece(s, "kept", &h->kept);
}

static void tell_vm(struct ferry_dump_stream *s, const struct ferry_image *img)
{
	const struct ferry_image_index *x = &img->index;

	ferry_dump_begin(s, img->head.index.offset, "VM", NULL);
	ferry_dump_text(s, "name", x->vm.name);
	ferry_dump_text(s, "source", x->dialect == FERRY_DIALECT_FERRY ?
				     "ferry" : "qemu");
	if (x->has_uuid)
		ferry_dump_octets(s, "uuid", x->uuid, sizeof(x->uuid));
	ferry_dump_number(s, "sections", x->sections_bytes);
	ferry_dump_number(s, "description", x->vmdesc_bytes);
	ferry_dump_facts(s, &x->vm);
	ferry_dump_end(s, img->head.index.bytes);
}

/* The chunks of block i. */
static int count(const struct ferry_image *img, size_t i, struct chunks *c,
		 struct ferry_err *e)
{
	const struct ferry_image_index *x = &img->index;
	uint64_t n = ferry_chunks_of(x->vm.block[i].bytes);

	for (uint64_t k = x->first_chunk[i]; n--; k++) {
		uint64_t bytes = ferry_chunk_find(x, k).pages *
				 FERRY_PAGE_BYTES;
		struct ferry_chunk rec;

		if (ferry_chunk_decode(img->table + k * FERRY_CHUNK_WIRE,
				       img->head.file_bytes, &rec) ||
		    rec.stored_bytes > bytes)
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "chunk %" PRIu64 ": impossible "
					     "place or size", k);
		c->stored += rec.stored_bytes;
		if (!rec.stored_bytes)
			c->zero++;
		else if (rec.stored_bytes == bytes)
			c->raw++;
		else
			c->packed++;
	}
	return 0;
}

static int tell_block(struct ferry_dump_stream *s,
		      const struct ferry_image *img, size_t i,
		      struct ferry_err *e)
{
	const struct ferry_hello_block *b = &img->index.vm.block[i];
	struct chunks c = { 0 };

	s->mark = img->head.table.offset +
		  img->index.first_chunk[i] * FERRY_CHUNK_WIRE;
	if (count(img, i, &c, e))
		return -1;
	ferry_dump_begin(s, s->mark, "BLOCK", NULL);
	ferry_dump_text(s, "name", b->name);
	ferry_dump_number(s, "size", b->bytes);
	if (b->page_bytes != FERRY_PAGE_BYTES)
		ferry_dump_number(s, "page", b->page_bytes);
	ferry_dump_hex(s, "address", b->gpa);
	ferry_dump_number(s, "zero", c.zero);
	ferry_dump_number(s, "raw", c.raw);
	ferry_dump_number(s, "packed", c.packed);
	ferry_dump_number(s, "stored", c.stored);
	ferry_dump_end(s, ferry_chunks_of(b->bytes) * FERRY_CHUNK_WIRE);
	return 0;
}

static int tell_blocks(struct ferry_dump_stream *s,
		       const struct ferry_image *img, struct ferry_err *e)
{
	for (size_t i = 0; i < img->index.vm.blocks; i++)
		if (tell_block(s, img, i, e))
			return -1;
	return 0;
}

static int tell_state(struct ferry_dump_stream *s,
		      const struct ferry_image *img, struct ferry_err *e)
{
	const struct ferry_image_index *x = &img->index;
	struct ferry_rd in = ferry_rd_over(img->state, x->sections_bytes);
	struct ferry_rd text = ferry_rd_over(img->state + x->sections_bytes,
					     x->vmdesc_bytes);
	struct ferry_vmdesc v = { 0 };
	bool known, eof;
	int rc;

	s->dialect = (enum ferry_dialect)x->dialect;
	s->at = s->mark = img->head.state.offset;
	s->window = img->state;
	s->where.depth = 1;
	known = x->vmdesc_bytes &&
		!ferry_vmdesc_parse(text.p, x->vmdesc_bytes, &v, NULL);
	rc = ferry_dump_devices(s, &in, known ? &v : NULL, &eof, e);
	ferry_vmdesc_fini(&v);
	if (!rc && eof)
		rc = ferry_err_set(e, FERRY_E_PROTO, 0,
				   "EOF inside of the device state");
	s->where.depth = 0;
	if (!rc && x->vmdesc_bytes)
		rc = ferry_dump_vmdesc(s, img->head.state.offset +
					  x->sections_bytes, &text,
				       x->vmdesc_bytes, e);
	return rc;
}

static const char *const kinds[] = {
	[FERRY_KEPT_BEGIN] = "begin", [FERRY_KEPT_SWITCH] = "switch",
	[FERRY_KEPT_END] = "end", [FERRY_KEPT_PACKET] = "packet",
	[FERRY_KEPT_MORE] = "more",
};

static void tell_packet(struct ferry_dump_stream *s, const uint8_t *data,
			size_t bytes)
{
	struct ferry_rd r = ferry_rd_over(data, bytes);
	struct ferry_device_packet p;

	if (ferry_device_packet_decode(&r, &p, NULL) != FERRY_DECODE_DONE)
		return;
	ferry_dump_text(s, "name", p.name);
	ferry_dump_number(s, "instance", p.instance);
	ferry_dump_number(s, "payload", p.payload_bytes);
}

/* Device state in parts, in the order in which it came. */
static int tell_kept(struct ferry_dump_stream *s,
		     const struct ferry_image *img, struct ferry_err *e)
{
	FERRY_AUTO_FREE uint8_t *buf = malloc(FERRY_KEPT_PIECE_BYTES);
	struct ferry_kept_place p;

	if (!buf)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "device state");
	for (uint32_t i = 0; ferry_image_kept(img, i, &p); i++) {
		s->mark = p.offset;
		if (ferry_image_read_kept(img, i, buf, e))
			return -1;
		ferry_dump_begin(s, p.offset, "KEPT", kinds[p.k.kind]);
		if (p.k.kind >= FERRY_KEPT_PACKET)
			ferry_dump_number(s, "channel", p.k.channel);
		if (p.k.kind == FERRY_KEPT_PACKET)
			tell_packet(s, buf, p.k.bytes);
		ferry_dump_end(s, p.k.bytes);
	}
	return 0;
}

static int tell_all(struct ferry_dump_stream *s, const struct ferry_image *img,
		    bool verify, struct ferry_err *e)
{
	tell_head(s, img);
	tell_vm(s, img);
	if (tell_blocks(s, img, e) || tell_state(s, img, e) ||
	    tell_kept(s, img, e))
		return ferry_err_wrap(e, "0x%" PRIx64, s->mark);
	if (!verify)
		return 0;
	if (ferry_image_verify(img, NULL, NULL, e))
		return -1;
	ferry_dump_begin(s, 0, "VERIFIED", NULL);
	ferry_dump_number(s, "chunks", img->chunks);
	ferry_dump_end(s, 0);
	return 0;
}

int ferry_dump_image(const char *path, const struct ferry_dump_ops *ops,
		     void *arg, bool verify, struct ferry_err *e)
{
	const struct ferry_dump_params p = { .ops = ops, .arg = arg };
	struct ferry_dump *d = ferry_dump_new(&p, e);
	struct ferry_image img;
	int rc = -1;

	if (d && !ferry_image_open(&img, path, e)) {
		rc = tell_all(&d->in, &img, verify, e);
		ferry_image_close(&img);
	}
	ferry_dump_free(d);
	return rc;
}
