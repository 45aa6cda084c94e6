/* SPDX-License-Identifier: MIT */
/*
 * A hello body is a sequence of items:
 *
 *   0       2       4               8
 *   | kind  | 0     | bytes         | payload ... |
 */
#include "wire/hello.h"

#include <inttypes.h>
#include <stdlib.h>

#include <ferry/vm.h>

#include "wire/text.h"

#define ITEM_WIRE	8

static int wrong(struct ferry_err *e, const char *what)
{
	return ferry_err_set(e, FERRY_E_PROTO, 0, "hello: %s", what);
}

void ferry_hello_fini(struct ferry_hello *h)
{
	for (size_t i = 0; i < h->facts; i++)
		free(h->fact[i].value);
	free(h->fact);
	free(h->bulk);
	free(h->block);
	*h = (struct ferry_hello){ 0 };
}

/* Room for one more; the arrays are short and this path is cold. */
static void *grown(void *array, size_t n, size_t bytes, struct ferry_err *e)
{
	void *more = realloc(array, (n + 1) * bytes);

	if (!more)
		ferry_err_set(e, FERRY_E_NOMEM, errno, "hello");
	return more;
}

int ferry_hello_add_block(struct ferry_hello *h, const char *name,
			  uint64_t bytes, uint32_t page_bytes, uint64_t gpa,
			  struct ferry_err *e)
{
	struct ferry_hello_block *b;

	if (h->blocks == FERRY_BLOCKS_MAX)
		return wrong(e, "too many memory blocks");
	for (size_t i = 0; i < h->blocks; i++)
		if (!strcmp(h->block[i].name, name))
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "hello: two memory blocks \"%s\"",
					     FERRY_SHOW(name));
	b = grown(h->block, h->blocks, sizeof(*b), e);
	if (!b)
		return -1;
	h->block = b;
	b += h->blocks++;
	*b = (struct ferry_hello_block){
		.bytes = bytes, .gpa = gpa, .page_bytes = page_bytes,
	};
	memcpy(b->name, name, strnlen(name, FERRY_NAME_MAX));
	return 0;
}

int ferry_hello_add_fact(struct ferry_hello *h, const char *name, uint8_t rule,
			 const char *value, size_t value_bytes,
			 struct ferry_err *e)
{
	struct ferry_hello_fact *f;
	char *copy;

	if (h->facts == FERRY_FACTS_MAX)
		return wrong(e, "too many facts");
	for (size_t i = 0; i < h->facts; i++)
		if (!strcmp(h->fact[i].name, name))
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "hello: two facts \"%s\"",
					     FERRY_SHOW(name));
	f = grown(h->fact, h->facts, sizeof(*f), e);
	if (!f)
		return -1;
	h->fact = f;
	copy = strndup(value, value_bytes);
	if (!copy)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "hello");
	f += h->facts++;
	*f = (struct ferry_hello_fact){ .rule = rule, .value = copy };
	memcpy(f->name, name, strnlen(name, FERRY_NAME_MAX));
	return 0;
}

int ferry_hello_add_bulk(struct ferry_hello *h, const char *name,
			 uint32_t instance, uint32_t version,
			 struct ferry_err *e)
{
	struct ferry_hello_bulk *b;

	if (h->bulks == FERRY_BULK_DEVICES_MAX)
		return wrong(e, "too many bulk devices");
	for (size_t i = 0; i < h->bulks; i++)
		if (h->bulk[i].instance == instance &&
		    !strcmp(h->bulk[i].name, name))
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "hello: two bulk devices \"%s\"/%"
					     PRIu32, FERRY_SHOW(name),
					     instance);
	b = grown(h->bulk, h->bulks, sizeof(*b), e);
	if (!b)
		return -1;
	h->bulk = b;
	b += h->bulks++;
	*b = (struct ferry_hello_bulk){
		.instance = instance, .version = version,
	};
	memcpy(b->name, name, strnlen(name, FERRY_NAME_MAX));
	return 0;
}

static int name_decode(struct ferry_rd *r, struct ferry_hello *h,
		       struct ferry_err *e)
{
	size_t n = ferry_rd_left(r);
	const uint8_t *at = ferry_rd_bytes(r, n);

	if (h->name[0] || !n || n > FERRY_NAME_MAX || memchr(at, '\0', n))
		return wrong(e, "bad or second VM name");
	memcpy(h->name, at, n);
	h->name[n] = '\0';
	return 0;
}

/* | be64 bytes | be32 page_bytes | be64 gpa | str8 name | */
static int block_decode(struct ferry_rd *r, struct ferry_hello *h,
			struct ferry_err *e)
{
	char name[FERRY_NAME_MAX + 1];
	uint64_t bytes = ferry_rd_be64(r);
	uint32_t page_bytes = ferry_rd_be32(r);
	uint64_t gpa = ferry_rd_be64(r);

	if (!ferry_text_read_name(r, name) || r->bad)
		return wrong(e, "memory block without a name");
	if ((page_bytes != FERRY_PAGE_BYTES &&
	     page_bytes != FERRY_HUGE_BYTES) || !bytes ||
	    bytes % page_bytes || bytes > FERRY_BLOCK_BYTES_MAX)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "hello: memory block \"%s\" of %" PRIu64
				     " octets in pages of %" PRIu32,
				     FERRY_SHOW(name), bytes, page_bytes);
	return ferry_hello_add_block(h, name, bytes, page_bytes, gpa, e);
}

/* | u8 rule | str8 name | be16 n | n octets | */
static int fact_decode(struct ferry_rd *r, struct ferry_hello *h,
		       struct ferry_err *e)
{
	char name[FERRY_NAME_MAX + 1];
	uint8_t rule = ferry_rd_u8(r);
	bool named = ferry_text_read_name(r, name);
	size_t n = ferry_rd_be16(r);
	const char *at = (const char *)ferry_rd_bytes(r, n);

	if (!at || !named)
		return wrong(e, "fact without a name or value");
	if (rule != FERRY_FACT_EQUAL && rule != FERRY_FACT_SUBSET)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "hello: fact \"%s\" has unknown rule %u",
				     FERRY_SHOW(name), rule);
	if (n > FERRY_FACT_BYTES_MAX || memchr(at, '\0', n))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "hello: fact \"%s\" of %zu octets is"
				     " malformed", FERRY_SHOW(name), n);
	return ferry_hello_add_fact(h, name, rule, at, n, e);
}

/* | be32 instance | be32 version | str8 name | */
static int bulk_decode(struct ferry_rd *r, struct ferry_hello *h,
		       struct ferry_err *e)
{
	char name[FERRY_NAME_MAX + 1];
	uint32_t instance = ferry_rd_be32(r);
	uint32_t version = ferry_rd_be32(r);

	if (!ferry_text_read_name(r, name) || r->bad)
		return wrong(e, "bulk device without a name");
	return ferry_hello_add_bulk(h, name, instance, version, e);
}

/* | be16 data | be16 urgent | be16 device | */
static int channels_decode(struct ferry_rd *r, struct ferry_hello *h,
			   struct ferry_err *e)
{
	if (h->has_channels)
		return wrong(e, "CHANNELS twice");
	h->has_channels = true;
	h->data = ferry_rd_be16(r);
	h->urgent = ferry_rd_be16(r);
	h->device = ferry_rd_be16(r);
	if (h->data > FERRY_DATA_CHANNELS_MAX ||
	    h->urgent > FERRY_URGENT_CHANNELS_MAX ||
	    h->device > FERRY_DEVICE_CHANNELS_MAX)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "hello: %u data, %u urgent, %u device"
				     " channels", h->data, h->urgent,
				     h->device);
	return 0;
}

/* | be32 code | be16 n | n octets | */
static int verdict_decode(struct ferry_rd *r, struct ferry_hello *h,
			  struct ferry_err *e)
{
	if (h->has_verdict)
		return wrong(e, "VERDICT twice");
	h->has_verdict = true;
	h->verdict = ferry_rd_be32(r);
	if (!ferry_text_read_prose(r, h->verdict_text,
				   sizeof(h->verdict_text) - 1))
		return wrong(e, "the verdict's text is too long");
	return 0;
}

/* Prose for people; what is too long is cut. */
static int software_decode(struct ferry_rd *r, struct ferry_hello *h,
			   struct ferry_err *e)
{
	size_t n = ferry_rd_left(r);
	const uint8_t *at = ferry_rd_bytes(r, n);

	(void)e;
	if (n > FERRY_NAME_MAX)
		n = FERRY_NAME_MAX;
	for (size_t i = 0; i < n; i++)
		h->software[i] = at[i] ? (char)at[i] : '?';
	h->software[n] = '\0';
	ferry_text_clean(h->software);
	return 0;
}

static const struct {
	uint16_t	kind;
	int		(*decode)(struct ferry_rd *r, struct ferry_hello *h,
				  struct ferry_err *e);
} kinds[] = {
	{ FERRY_HELLO_NAME, name_decode },
	{ FERRY_HELLO_BLOCK, block_decode },
	{ FERRY_HELLO_FACT, fact_decode },
	{ FERRY_HELLO_CHANNELS, channels_decode },
	{ FERRY_HELLO_VERDICT, verdict_decode },
	{ FERRY_HELLO_SOFTWARE, software_decode },
	{ FERRY_HELLO_BULK, bulk_decode },
};

/* The octets of an item's payload, all of them there. */
static int payload_decode(struct ferry_rd *r, uint16_t kind,
			  struct ferry_hello *h, struct ferry_err *e)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].kind != kind)
			continue;
		if (kinds[i].decode(r, h, e))
			return -1;
		return ferry_decode_whole(r, "hello item", e);
	}
	if (kind & FERRY_HELLO_OPTIONAL)
		return 0;
	return ferry_err_set(e, FERRY_E_MISMATCH, 0,
			     "hello: item of unknown kind 0x%04x", kind);
}

static int item_decode(struct ferry_rd *r, struct ferry_hello *h,
		       struct ferry_err *e)
{
	uint16_t kind = ferry_rd_be16(r);
	uint16_t reserved = ferry_rd_be16(r);
	uint32_t bytes = ferry_rd_be32(r);
	const uint8_t *at = ferry_rd_bytes(r, bytes);
	struct ferry_rd in;

	if (!at || reserved)
		return wrong(e, "malformed item");
	in = ferry_rd_over(at, bytes);
	return payload_decode(&in, kind, h, e);
}

int ferry_hello_decode(struct ferry_rd *r, bool answer, struct ferry_hello *h,
		       struct ferry_err *e)
{
	int rc = 0;

	*h = (struct ferry_hello){ 0 };
	while (!rc && ferry_rd_left(r))
		rc = item_decode(r, h, e);
	if (!rc && !h->name[0])
		rc = wrong(e, "no VM name");
	if (!rc && h->has_verdict != answer)
		rc = wrong(e, answer ? "no verdict" : "a verdict in an offer");
	if (rc)
		ferry_hello_fini(h);
	return rc;
}

int ferry_hello_head_decode(struct ferry_rd *r, uint32_t *bytes,
			    struct ferry_err *e)
{
	struct ferry_rd from = *r;
	int rc = 0;

	*bytes = ferry_rd_be32(r);
	if (!r->bad && (!*bytes || *bytes > FERRY_HELLO_BYTES_MAX))
		rc = ferry_err_set(e, FERRY_E_PROTO, 0,
				   "hello of %" PRIu32 " octets", *bytes);
	return ferry_decode_end(r, from, rc);
}
