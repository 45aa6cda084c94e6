/* SPDX-License-Identifier: MIT */
/*
 * What both shapes of encoding need: a look at the pages, wherever they are.
 */
#include "send/encode.h"

#include <stdlib.h>

static int make_copy(struct ferry_encoder *x, struct ferry_err *e)
{
	size_t bytes = (size_t)FERRY_PACKET_PAGES_MAX * FERRY_PAGE_BYTES;

	if (!x->copy && posix_memalign((void **)&x->copy, FERRY_PAGE_BYTES,
				       bytes)) {
		x->copy = NULL;
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM,
				     "room for a batch of pages");
	}
	return 0;
}

static bool is_untouched(const struct ferry_encoder *x,
			 const struct ferry_batch *b, uint32_t i)
{
	return x->untouched &&
	       ferry_bitmap_test(&x->untouched[b->block->index], b->page[i]);
}

/* What was never touched is not read. */
int ferry_encoder_fetch(struct ferry_encoder *x, const struct ferry_batch *b,
			struct ferry_err *e)
{
	const struct ferry_mem_store *store = b->block->store;

	if (!store)
		return 0;
	if (make_copy(x, e))
		return -1;
	for (uint32_t i = 0, end; i < b->n; i = end + 1) {
		for (end = i; end < b->n && !is_untouched(x, b, end); end++)
			;
		if (end > i && store->read(store->arg, b->block->index,
					   b->page + i, end - i, x->copy +
					   (size_t)i * FERRY_PAGE_BYTES, e))
			return -1;
	}
	return 0;
}

bool ferry_encoder_is_zero(const struct ferry_encoder *x,
			   const struct ferry_batch *b, uint32_t i)
{
	if (is_untouched(x, b, i))
		return true;
	return ferry_is_zero(ferry_encoder_page(x, b, i), FERRY_PAGE_BYTES);
}

void ferry_encoder_count(struct ferry_encoder *x, uint64_t bytes)
{
	x->sent_bytes += bytes;
	ferry_count(&x->count->bytes, bytes);
	if (x->flow)
		ferry_count(&x->flow->bytes, bytes);
}

void ferry_encoder_fini(struct ferry_encoder *x)
{
	free(x->copy);
	x->copy = NULL;
	ferry_squeeze_close(x->squeeze);
	x->squeeze = NULL;
	ferry_packer_fini(&x->packer);
}
