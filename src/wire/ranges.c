/* SPDX-License-Identifier: MIT */
/*
 * | u8 0 | str8 block | u8 0 | n * (be64 start, be64 bytes) |
 */
#include "wire/ranges.h"

#include "wire/text.h"

#define RANGE_WIRE	16

static size_t payload_bytes(const char *block, size_t n)
{
	return 1 + 1 + strlen(block) + 1 + n * RANGE_WIRE;
}

size_t ferry_ranges_most(const char *block)
{
	return (FERRY_COMMAND_BYTES_MAX - payload_bytes(block, 0)) /
	       RANGE_WIRE;
}

size_t ferry_ranges_bytes(const char *block, size_t n)
{
	return FERRY_COMMAND_HEAD_WIRE + payload_bytes(block, n);
}

void ferry_ranges_encode(struct ferry_wr *w, enum ferry_command command,
			 const char *block, const struct ferry_span *spans,
			 size_t n)
{
	if (!n || n > ferry_ranges_most(block)) {
		w->bad = true;
		return;
	}
	ferry_command_head_encode(w, (uint16_t)command,
				  (uint16_t)payload_bytes(block, n));
	ferry_wr_u8(w, 0);
	ferry_wr_str8(w, block);
	ferry_wr_u8(w, 0);
	for (size_t i = 0; i < n; i++) {
		ferry_wr_be64(w, spans[i].start);
		ferry_wr_be64(w, spans[i].bytes);
	}
}

bool ferry_ranges_next(struct ferry_ranges *g, struct ferry_span *s)
{
	if (!ferry_rd_left(&g->left))
		return false;
	s->start = ferry_rd_be64(&g->left);
	s->bytes = ferry_rd_be64(&g->left);
	return true;
}

int ferry_ranges_decode(struct ferry_rd *r, uint16_t command,
			struct ferry_ranges *g, struct ferry_err *e)
{
	const char *what = ferry_command_name(command);
	unsigned zero = ferry_rd_u8(r);
	bool name = ferry_text_read_name(r, g->name);

	zero |= ferry_rd_u8(r);
	if (r->bad)
		return ferry_decode_whole(r, what, e);
	if (zero || !name)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s: malformed header", what);
	if (!ferry_rd_left(r) || ferry_rd_left(r) % RANGE_WIRE)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s: %s: %zu octets are no ranges", what,
				     FERRY_SHOW(g->name), ferry_rd_left(r));

	g->count = (uint32_t)(ferry_rd_left(r) / RANGE_WIRE);
	g->left = *r;
	r->p = r->end;
	return 0;
}

int ferry_ranges_check_in(const struct ferry_ranges *g,
			  const struct ferry_block_shape *block,
			  struct ferry_err *e)
{
	struct ferry_ranges walk = *g;
	struct ferry_span s;

	while (ferry_ranges_next(&walk, &s))
		if (ferry_span_check_in(&s, block, "ranges", e))
			return -1;
	return 0;
}
