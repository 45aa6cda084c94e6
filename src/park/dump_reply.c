/* SPDX-License-Identifier: MIT */
/*
 * The return path: messages of a target; received maps follow one of them.
 */
#include "park/dump_priv.h"

#include "wire/channel.h"
#include "wire/recvmap.h"
#include "wire/rp.h"

static int to_message(struct ferry_dump_stream *s)
{
	ferry_dump_next(s, ferry_dump_reply, "a message");
	s->may_end = true;
	return FERRY_DECODE_DONE;
}

static int map_end(struct ferry_dump_stream *s, struct ferry_rd *r,
		   struct ferry_err *e)
{
	int rc = ferry_recvmap_end_decode(r, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	ferry_dump_begin(s, s->bits.offset, "RECEIVED_MAP", NULL);
	ferry_dump_text(s, "block", s->listing.entry.name);
	ferry_dump_number(s, "set", s->bits.set);
	ferry_dump_end(s, ferry_dump_at(s, r) - s->bits.offset);
	return to_message(s);
}

static int map_words(struct ferry_dump_stream *s, struct ferry_rd *r,
		     struct ferry_err *e)
{
	int rc = ferry_dump_bits(s, r, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	return ferry_dump_next(s, map_end, "the end of a received map");
}

static int map_head(struct ferry_dump_stream *s, struct ferry_rd *r,
		    struct ferry_err *e)
{
	const struct ferry_dump_block *b =
		ferry_dump_block_find(&s->d->vm, s->listing.entry.name);
	struct ferry_rd ahead = *r;
	uint64_t pages = b ? b->bytes / FERRY_PAGE_BYTES : 0;
	int rc;

	/* Without the list of blocks, the map's own word must do. */
	if (!b)
		pages = ferry_rd_be64(&ahead) % (FERRY_BLOCK_BYTES_MAX / 8) *
			8;
	rc = ferry_recvmap_head_decode(r, pages, e);
	if (rc != FERRY_DECODE_DONE)
		return rc;
	s->bits = (struct ferry_dump_bits){
		.offset = s->mark, .pages = pages,
	};
	ferry_dump_next(s, map_words, "a received map");
	if (!pages)
		ferry_dump_next(s, map_end, "the end of a received map");
	return rc;
}

static void tell_value(struct ferry_dump_stream *s, const struct ferry_rp *m)
{
	ferry_dump_number(s, "value", m->value);
}

static void tell_bulk(struct ferry_dump_stream *s, const struct ferry_rp *m)
{
	ferry_dump_number(s, "device", m->value);
	if (m->type == FERRY_RP_BULK_CREDIT)
		ferry_dump_number(s, "limit", m->wide);
	if (m->type == FERRY_RP_BULK_LOADED)
		ferry_dump_number(s, "busy_ns", m->wide);
}

static void tell_name(struct ferry_dump_stream *s, const struct ferry_rp *m)
{
	ferry_dump_text(s, "block", m->name);
}

static void tell_span(struct ferry_dump_stream *s, const struct ferry_rp *m)
{
	if (m->type == FERRY_RP_REQ_PAGES_ID)
		memcpy(s->block, m->name, sizeof(s->block));
	ferry_dump_text(s, "block", s->block);
	ferry_dump_hex(s, "addr", m->span.start);
	ferry_dump_hex(s, "size", m->span.bytes);
}

static void tell_reason(struct ferry_dump_stream *s, const struct ferry_rp *m)
{
	ferry_dump_text(s, "reason", m->reason);
}

static void tell_channel(struct ferry_dump_stream *s, const struct ferry_rp *m)
{
	ferry_dump_text(s, "type",
			ferry_channel_type_name((uint16_t)(m->value >> 16)));
	ferry_dump_number(s, "index", m->value & 0xffff);
}

static void tell_faults(struct ferry_dump_stream *s, const struct ferry_rp *m)
{
	ferry_dump_number(s, "waits", m->faults.waits);
	ferry_dump_number(s, "p99_us", m->faults.p99_us);
	ferry_dump_number(s, "oldest_us", m->faults.oldest_us);
}

static void tell_nothing(struct ferry_dump_stream *s, const struct ferry_rp *m)
{
	(void)s;
	(void)m;
}

static const struct {
	uint16_t type;
	void	 (*tell)(struct ferry_dump_stream *s,
			 const struct ferry_rp *m);
} messages[] = {
	{ FERRY_RP_REQ_PAGES_ID, tell_span },
	{ FERRY_RP_REQ_PAGES, tell_span },
	{ FERRY_RP_RECV_BITMAP, tell_name },
	{ FERRY_RP_REASON, tell_reason },
	{ FERRY_RP_DIFFERS, tell_reason },
	{ FERRY_RP_LOST, tell_channel },
	{ FERRY_RP_FAULTS, tell_faults },
	{ FERRY_RP_SWITCHOVER_ACK, tell_nothing },
	{ FERRY_RP_BULK_CREDIT, tell_bulk },
	{ FERRY_RP_BULK_READY, tell_bulk },
	{ FERRY_RP_BULK_LOADED, tell_bulk },
};

static void tell(struct ferry_dump_stream *s, const struct ferry_rp *m)
{
	for (size_t i = 0; i < FERRY_LEN(messages); i++) {
		if (messages[i].type == m->type) {
			messages[i].tell(s, m);
			return;
		}
	}
	tell_value(s, m);
}

/* A request names pages of a block that was listed. */
static int check(const struct ferry_dump_stream *s, const struct ferry_rp *m,
		 struct ferry_err *e)
{
	const char *name = m->name[0] ? m->name : s->block;
	const struct ferry_dump_block *b;
	struct ferry_block_shape shape;

	if (m->type == FERRY_RP_RECV_BITMAP)
		return ferry_dump_block_known(&s->d->vm, name, &b, e);
	if (m->type != FERRY_RP_REQ_PAGES_ID && m->type != FERRY_RP_REQ_PAGES)
		return 0;
	if (!*name)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "REQ_PAGES before a block was named");
	if (ferry_dump_block_known(&s->d->vm, name, &b, e))
		return -1;
	if (!b)
		return 0;
	shape = ferry_dump_shape(b);
	return ferry_span_check_in(&m->span, &shape, ferry_rp_name(m->type),
				   e);
}

int ferry_dump_reply(struct ferry_dump_stream *s, struct ferry_rd *r,
		     struct ferry_err *e)
{
	const uint8_t *from = r->p;
	struct ferry_rp m;
	int rc = ferry_rp_decode(r, s->dialect, &m, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	if (check(s, &m, e))
		return FERRY_DECODE_WRONG;
	ferry_dump_begin(s, s->mark, "REPLY", ferry_rp_name(m.type));
	tell(s, &m);
	ferry_dump_end(s, (uint64_t)(r->p - from));

	if (m.type == FERRY_RP_SHUT)
		return ferry_dump_over(s);
	if (m.type != FERRY_RP_RECV_BITMAP)
		return to_message(s);
	memcpy(s->listing.entry.name, m.name, sizeof(s->listing.entry.name));
	return ferry_dump_next(s, map_head, "a received map");
}
