/* SPDX-License-Identifier: MIT */
/*
 * What opens the connections between two ferries: channel header and hello,
 * and on main the target's answers (docs/wire.md, 3).
 */
#include "park/dump_priv.h"

#include "wire/channel.h"

static void tell_features(struct ferry_dump_stream *s, const char *key,
			  uint64_t bits)
{
	ferry_dump_list(s, key);
	for (unsigned i = 0; i < 64; i++) {
		const char *name = ferry_feature_name(i);

		if (!(bits >> i & 1))
			continue;
		if (name)
			ferry_dump_text(s, NULL, name);
		else
			ferry_dump_number(s, NULL, i);
	}
	ferry_dump_list_end(s);
}

static int head(struct ferry_dump_stream *s, struct ferry_rd *r,
		struct ferry_channel_head *h, bool answer,
		struct ferry_err *e)
{
	const uint8_t *from = r->p;
	int rc = ferry_channel_decode(r, answer, h, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	s->dialect = FERRY_DIALECT_FERRY;
	ferry_dump_begin(s, s->mark, answer ? "ANSWER" : "CHANNEL",
			 ferry_channel_type_name(h->type));
	ferry_dump_number(s, "index", h->index);
	ferry_dump_octets(s, "session", h->session, sizeof(h->session));
	tell_features(s, answer ? "taken" : "offered", h->features);
	if (!answer)
		tell_features(s, "mandatory", h->mandatory);
	ferry_dump_end(s, (uint64_t)(r->p - from));
	return rc;
}

void ferry_dump_facts(struct ferry_dump_stream *s, const struct ferry_hello *h)
{
	ferry_dump_list(s, "facts");
	for (size_t i = 0; i < h->facts; i++) {
		ferry_dump_list(s, NULL);
		ferry_dump_text(s, NULL, h->fact[i].name);
		ferry_dump_number(s, NULL, h->fact[i].rule);
		ferry_dump_text(s, NULL, h->fact[i].value);
		ferry_dump_list_end(s);
	}
	ferry_dump_list_end(s);
}

static void tell_bulk(struct ferry_dump_stream *s, const struct ferry_hello *h)
{
	ferry_dump_list(s, "bulk");
	for (size_t i = 0; i < h->bulks; i++) {
		ferry_dump_list(s, NULL);
		ferry_dump_text(s, NULL, h->bulk[i].name);
		ferry_dump_number(s, NULL, h->bulk[i].instance);
		ferry_dump_number(s, NULL, h->bulk[i].version);
		ferry_dump_list_end(s);
	}
	ferry_dump_list_end(s);
}

static void tell_hello(struct ferry_dump_stream *s,
		       const struct ferry_hello *h, uint64_t bytes)
{
	ferry_dump_begin(s, s->mark, "HELLO", NULL);
	ferry_dump_text(s, "name", h->name);
	if (h->software[0])
		ferry_dump_text(s, "software", h->software);
	if (h->has_channels) {
		ferry_dump_number(s, "data", h->data);
		ferry_dump_number(s, "urgent", h->urgent);
		ferry_dump_number(s, "device", h->device);
	}
	if (h->has_verdict) {
		ferry_dump_text(s, "verdict",
				ferry_err_name((int)h->verdict));
		ferry_dump_text(s, "reason", h->verdict_text);
	}
	ferry_dump_list(s, "blocks");
	for (size_t i = 0; i < h->blocks; i++) {
		const struct ferry_hello_block *b = &h->block[i];

		ferry_dump_list(s, NULL);
		ferry_dump_text(s, NULL, b->name);
		ferry_dump_number(s, NULL, b->bytes);
		ferry_dump_number(s, NULL, b->page_bytes);
		ferry_dump_hex(s, NULL, b->gpa);
		ferry_dump_list_end(s);
	}
	ferry_dump_list_end(s);
	ferry_dump_facts(s, h);
	if (h->bulks)
		tell_bulk(s, h);
	ferry_dump_end(s, bytes);
}

/* Both directions; what follows is up to the caller. */
static int hello(struct ferry_dump_stream *s, struct ferry_rd *r, bool answer,
		 bool *refused, struct ferry_err *e)
{
	struct ferry_rd from = *r, in;
	struct ferry_hello h;
	uint32_t n;
	int rc = ferry_hello_head_decode(r, &n, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	if (ferry_rd_left(r) < n) {
		size_t lack = n - ferry_rd_left(r);

		*r = from;
		r->lack = lack;
		return FERRY_DECODE_MORE;
	}
	in = ferry_rd_over(ferry_rd_bytes(r, n), n);
	if (ferry_hello_decode(&in, answer, &h, e))
		return FERRY_DECODE_WRONG;
	tell_hello(s, &h, FERRY_HELLO_HEAD_WIRE + (uint64_t)n);
	*refused = h.has_verdict && h.verdict;
	ferry_hello_fini(&h);
	return rc;
}

static int offer_hello(struct ferry_dump_stream *s, struct ferry_rd *r,
		       struct ferry_err *e)
{
	bool refused;
	int rc = hello(s, r, false, &refused, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	return ferry_dump_next(s, ferry_dump_file_header, "a file header");
}

static int answer_hello(struct ferry_dump_stream *s, struct ferry_rd *r,
			struct ferry_err *e)
{
	bool refused = false;
	int rc = hello(s, r, true, &refused, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	if (refused)
		return ferry_dump_over(s);
	ferry_dump_next(s, ferry_dump_reply, "a message");
	s->may_end = true;
	return rc;
}

int ferry_dump_channel(struct ferry_dump_stream *s, struct ferry_rd *r,
		       struct ferry_err *e)
{
	struct ferry_channel_head h;
	int rc = head(s, r, &h, false, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	if (h.type == FERRY_CHANNEL_MAIN) {
		ferry_dump_vm_reset(&s->d->vm);
		return ferry_dump_next(s, offer_hello, "a hello");
	}
	ferry_dump_next(s, ferry_dump_packet, "a packet");
	s->may_end = true;
	return rc;
}

int ferry_dump_answer(struct ferry_dump_stream *s, struct ferry_rd *r,
		      struct ferry_err *e)
{
	struct ferry_channel_head h;
	int rc = head(s, r, &h, true, e);

	if (rc != FERRY_DECODE_DONE)
		return rc;
	return ferry_dump_next(s, answer_hello, "a hello");
}
