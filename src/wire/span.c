/* SPDX-License-Identifier: MIT */
/*
 * Checks of spans: once, here, so that page arithmetic behind them is safe.
 */
#include "wire/span.h"

#include <inttypes.h>

#include "wire/text.h"

int ferry_span_check(const struct ferry_span *s, const char *what,
		     struct ferry_err *e)
{
	if (!s->bytes || s->start % FERRY_PAGE_BYTES ||
	    s->bytes % FERRY_PAGE_BYTES || s->bytes > UINT64_MAX - s->start)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s: 0x%" PRIx64 "+0x%" PRIx64
				     " is no span of pages",
				     what, s->start, s->bytes);
	return 0;
}

int ferry_span_check_in(const struct ferry_span *s,
			const struct ferry_block_shape *block,
			const char *what, struct ferry_err *e)
{
	if (ferry_span_check(s, what, e))
		return -1;
	if (s->start % block->page_bytes || s->bytes % block->page_bytes)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s: %s 0x%" PRIx64 "+0x%" PRIx64
				     " cuts a page of %" PRIu32 " octets",
				     what, FERRY_SHOW(block->name), s->start,
				     s->bytes, block->page_bytes);
	if (s->start + s->bytes > block->bytes)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "%s: %s 0x%" PRIx64 "+0x%" PRIx64
				     " is past its end, 0x%" PRIx64,
				     what, FERRY_SHOW(block->name), s->start,
				     s->bytes, block->bytes);
	return 0;
}
