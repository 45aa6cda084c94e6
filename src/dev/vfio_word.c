/* SPDX-License-Identifier: MIT */
/*
 * The words of VFIO devices.
 *
 *   0       4               8               16   octets, big-endian
 *   | kind  | reserved = 0  | value          |
 */
#include "dev/vfio_word.h"

#include <inttypes.h>

void ferry_vfio_word_encode(struct ferry_wr *wr,
			    const struct ferry_vfio_word *w)
{
	ferry_wr_be32(wr, w->kind);
	ferry_wr_be32(wr, 0);
	ferry_wr_be64(wr, w->value);
}

int ferry_vfio_word_decode(const void *data, size_t bytes,
			   struct ferry_vfio_word *w, struct ferry_err *e)
{
	static const uint64_t most[] = {
		[FERRY_VFIO_WORD_BEGIN] = 1,
		[FERRY_VFIO_WORD_FIRST] = 0,
		[FERRY_VFIO_WORD_END] = UINT64_MAX,
	};
	struct ferry_rd r = ferry_rd_over(data, bytes);
	uint32_t reserved;

	w->kind = ferry_rd_be32(&r);
	reserved = ferry_rd_be32(&r);
	w->value = ferry_rd_be64(&r);
	if (r.bad || ferry_rd_left(&r) || reserved)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "a word of %zu "
				     "octets is malformed", bytes);
	if (w->kind < FERRY_VFIO_WORD_BEGIN || w->kind > FERRY_VFIO_WORD_END ||
	    w->value > most[w->kind])
		return ferry_err_set(e, FERRY_E_PROTO, 0, "no word %" PRIu32
				     " with %" PRIu64, w->kind, w->value);
	return 0;
}
