/* SPDX-License-Identifier: MIT */
/*
 * | str8 block | be64 first page | n * be32 sum |
 */
#include "wire/verify.h"

#include <inttypes.h>

#include "wire/text.h"

static size_t payload_bytes(const char *block, uint32_t pages)
{
	return 1 + strlen(block) + 8 + 4 * (size_t)pages;
}

size_t ferry_verify_bytes(const char *block, uint32_t pages)
{
	return FERRY_COMMAND_HEAD_WIRE + payload_bytes(block, pages);
}

void ferry_verify_encode(struct ferry_wr *w, const char *block,
			 uint64_t first, const uint32_t *sum, uint32_t pages)
{
	if (!pages || pages > FERRY_VERIFY_PAGES_MAX) {
		w->bad = true;
		return;
	}
	ferry_command_head_encode(w, FERRY_COMMAND_VERIFY,
				  (uint16_t)payload_bytes(block, pages));
	ferry_wr_str8(w, block);
	ferry_wr_be64(w, first);
	for (uint32_t i = 0; i < pages; i++)
		ferry_wr_be32(w, sum[i]);
}

int ferry_verify_decode(struct ferry_rd *r, struct ferry_verify *v,
			struct ferry_err *e)
{
	bool name = ferry_text_read_name(r, v->name);

	v->first = ferry_rd_be64(r);
	if (r->bad)
		return ferry_decode_whole(r, "VERIFY", e);
	if (!name)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "VERIFY: bad block name");
	if (!ferry_rd_left(r) || ferry_rd_left(r) % 4)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "VERIFY: %s: %zu octets are no sums",
				     FERRY_SHOW(v->name), ferry_rd_left(r));

	v->pages = (uint32_t)(ferry_rd_left(r) / 4);
	v->left = *r;
	r->p = r->end;
	return 0;
}

int ferry_verify_check_in(const struct ferry_verify *v, uint64_t block_pages,
			  struct ferry_err *e)
{
	if (v->first < block_pages && v->pages <= block_pages - v->first)
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0, "VERIFY: block %s has %"
			     PRIu64 " pages: %" PRIu32 " from %" PRIu64
			     " are outside", FERRY_SHOW(v->name), block_pages,
			     v->pages, v->first);
}

bool ferry_verify_next(struct ferry_verify *v, uint32_t *sum)
{
	if (!ferry_rd_left(&v->left))
		return false;
	*sum = ferry_rd_be32(&v->left);
	return true;
}
