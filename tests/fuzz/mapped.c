/* SPDX-License-Identifier: MIT */
/* mapped-ram headers.  First eight octets: size of the block. */
#include "fuzz.h"

#include "wire/mapped.h"

static uint64_t block_bytes;	/* of this input */

static int decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_mapped_decode(r, block_bytes, out, e);
}

static void encode(struct ferry_wr *w, const void *in)
{
	ferry_mapped_encode(w, in);
}

static const struct fuzz_codec codec = {
	sizeof(struct ferry_mapped), true, decode, encode
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct ferry_rd r = ferry_rd_over(data, bytes);
	struct ferry_mapped m;

	/* The list holds sizes to whole pages and 64 TiB before this. */
	block_bytes = ferry_rd_be64(&r) % (FERRY_BLOCK_BYTES_MAX + 1) &
		      ~(uint64_t)(FERRY_PAGE_BYTES - 1);
	if (!r.bad && fuzz_stream(&codec, r.p, ferry_rd_left(&r), &m)) {
		FUZZ_CHECK(m.pages_offset % FERRY_PAGE_BYTES == 0);
		FUZZ_CHECK(m.pages_offset + block_bytes <= INT64_MAX);
		FUZZ_CHECK(m.bitmap_offset +
			   ferry_mapped_bitmap_bytes(block_bytes) <=
			   m.pages_offset);
	}
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	static const uint64_t sizes[] = { 4096, 1 << 20, 1ull << 46 };

	for (size_t i = 0; i < FERRY_LEN(sizes); i++) {
		uint8_t buf[64];
		struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
		struct ferry_mapped m = ferry_mapped_layout(0x308e, sizes[i]);

		ferry_wr_be64(&w, sizes[i]);
		ferry_mapped_encode(&w, &m);
		emit(buf, ferry_wr_used(&w));
	}
}
