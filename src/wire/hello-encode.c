/* SPDX-License-Identifier: MIT */
/*
 * Hello, written: one function per item, the size filled in behind it.
 */
#include "wire/hello.h"
#include "wire/text.h"

static uint8_t *item_begin(struct ferry_wr *w, uint16_t kind)
{
	uint8_t *start = w->p;

	ferry_wr_be16(w, kind);
	ferry_wr_be16(w, 0);
	ferry_wr_be32(w, 0);
	return start;
}

static void item_end(struct ferry_wr *w, uint8_t *start)
{
	struct ferry_wr size;

	if (w->bad)
		return;
	size = ferry_wr_over(start + 4, 4);
	ferry_wr_be32(&size, (uint32_t)(w->p - start - 8));
}

static void text_encode(struct ferry_wr *w, uint16_t kind, const char *s)
{
	uint8_t *at = item_begin(w, kind);

	ferry_wr_bytes(w, s, strlen(s));
	item_end(w, at);
}

static void block_encode(struct ferry_wr *w, const struct ferry_hello_block *b)
{
	uint8_t *at = item_begin(w, FERRY_HELLO_BLOCK);

	ferry_wr_be64(w, b->bytes);
	ferry_wr_be32(w, b->page_bytes);
	ferry_wr_be64(w, b->gpa);
	ferry_wr_str8(w, b->name);
	item_end(w, at);
}

static void fact_encode(struct ferry_wr *w, const struct ferry_hello_fact *f)
{
	uint8_t *at = item_begin(w, FERRY_HELLO_FACT);
	size_t n = strnlen(f->value, FERRY_FACT_BYTES_MAX);

	ferry_wr_u8(w, f->rule);
	ferry_wr_str8(w, f->name);
	ferry_wr_be16(w, (uint16_t)n);
	ferry_wr_bytes(w, f->value, n);
	item_end(w, at);
}

static void bulk_encode(struct ferry_wr *w, const struct ferry_hello_bulk *b)
{
	uint8_t *at = item_begin(w, FERRY_HELLO_BULK);

	ferry_wr_be32(w, b->instance);
	ferry_wr_be32(w, b->version);
	ferry_wr_str8(w, b->name);
	item_end(w, at);
}

static void channels_encode(struct ferry_wr *w, const struct ferry_hello *h)
{
	uint8_t *at = item_begin(w, FERRY_HELLO_CHANNELS);

	ferry_wr_be16(w, h->data);
	ferry_wr_be16(w, h->urgent);
	ferry_wr_be16(w, h->device);
	item_end(w, at);
}

static void verdict_encode(struct ferry_wr *w, const struct ferry_hello *h)
{
	uint8_t *at = item_begin(w, FERRY_HELLO_VERDICT);

	ferry_wr_be32(w, h->verdict);
	ferry_text_write_prose(w, h->verdict_text, FERRY_REASON_BYTES_MAX);
	item_end(w, at);
}

void ferry_hello_encode(struct ferry_wr *w, const struct ferry_hello *h)
{
	ferry_wr_be32(w, (uint32_t)(ferry_hello_bytes(h) -
				    FERRY_HELLO_HEAD_WIRE));
	text_encode(w, FERRY_HELLO_NAME, h->name);
	if (h->has_verdict)
		verdict_encode(w, h);
	if (h->has_channels)
		channels_encode(w, h);
	for (size_t i = 0; i < h->blocks; i++)
		block_encode(w, &h->block[i]);
	for (size_t i = 0; i < h->facts; i++)
		fact_encode(w, &h->fact[i]);
	for (size_t i = 0; i < h->bulks; i++)
		bulk_encode(w, &h->bulk[i]);
	if (h->software[0])
		text_encode(w, FERRY_HELLO_SOFTWARE, h->software);
}

size_t ferry_hello_bytes(const struct ferry_hello *h)
{
	size_t n = FERRY_HELLO_HEAD_WIRE + 8 + strlen(h->name);

	if (h->has_verdict)
		n += 8 + 4 + ferry_text_prose_bytes(h->verdict_text,
						    FERRY_REASON_BYTES_MAX);
	if (h->has_channels)
		n += 8 + 6;
	for (size_t i = 0; i < h->blocks; i++)
		n += 8 + 8 + 4 + 8 + 1 + strlen(h->block[i].name);
	for (size_t i = 0; i < h->facts; i++)
		n += 8 + 1 + 1 + strlen(h->fact[i].name) + 2 +
		     strnlen(h->fact[i].value, FERRY_FACT_BYTES_MAX);
	for (size_t i = 0; i < h->bulks; i++)
		n += 8 + 4 + 4 + 1 + strlen(h->bulk[i].name);
	if (h->software[0])
		n += 8 + strlen(h->software);
	return n;
}
