/* SPDX-License-Identifier: MIT */
/*
 * | be32 version | be64 page size | be64 bitmap offset | be64 pages offset |
 */
#include "wire/mapped.h"

#include <inttypes.h>

uint64_t ferry_mapped_bitmap_bytes(uint64_t block_bytes)
{
	return (block_bytes / FERRY_PAGE_BYTES + 63) / 64 * 8;
}

struct ferry_mapped ferry_mapped_layout(uint64_t behind_header,
					uint64_t block_bytes)
{
	uint64_t end = behind_header + ferry_mapped_bitmap_bytes(block_bytes);
	uint64_t align = FERRY_MAPPED_ALIGN_BYTES;

	return (struct ferry_mapped){
		.bitmap_offset = behind_header,
		.pages_offset = (end + align - 1) / align * align,
	};
}

/* Offsets are file positions, so they end at INT64_MAX. */
static bool fits(const struct ferry_mapped *m, uint64_t block_bytes)
{
	uint64_t most = INT64_MAX - block_bytes;
	uint64_t bitmap_bytes = ferry_mapped_bitmap_bytes(block_bytes);

	return m->pages_offset <= most &&
	       m->pages_offset % FERRY_PAGE_BYTES == 0 &&
	       m->bitmap_offset <= m->pages_offset &&
	       bitmap_bytes <= m->pages_offset - m->bitmap_offset;
}

static int mapped_read(struct ferry_rd *r, uint64_t block_bytes,
		       struct ferry_mapped *m, struct ferry_err *e)
{
	uint32_t version = ferry_rd_be32(r);
	uint64_t page_bytes;

	if (!r->bad && version != FERRY_MAPPED_VERSION)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "mapped-ram: version %" PRIu32, version);
	page_bytes = ferry_rd_be64(r);
	if (!r->bad && page_bytes != FERRY_PAGE_BYTES)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "mapped-ram: pages of %" PRIu64 " octets",
				     page_bytes);
	m->bitmap_offset = ferry_rd_be64(r);
	m->pages_offset = ferry_rd_be64(r);
	if (!r->bad && !fits(m, block_bytes))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "mapped-ram: bitmap at 0x%" PRIx64
				     ", pages at 0x%" PRIx64,
				     m->bitmap_offset, m->pages_offset);
	return 0;
}

int ferry_mapped_decode(struct ferry_rd *r, uint64_t block_bytes,
			struct ferry_mapped *m, struct ferry_err *e)
{
	struct ferry_rd from = *r;

	return ferry_decode_end(r, from, mapped_read(r, block_bytes, m, e));
}

void ferry_mapped_encode(struct ferry_wr *w, const struct ferry_mapped *m)
{
	ferry_wr_be32(w, FERRY_MAPPED_VERSION);
	ferry_wr_be64(w, FERRY_PAGE_BYTES);
	ferry_wr_be64(w, m->bitmap_offset);
	ferry_wr_be64(w, m->pages_offset);
}
