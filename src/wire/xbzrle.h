/* SPDX-License-Identifier: MIT */
/*
 * XBZRLE: a page as what differs from the copy that the target has.
 * Hot: no text, any thread.
 */
#ifndef FERRY_WIRE_XBZRLE_H
#define FERRY_WIRE_XBZRLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

/*
 * out = old with the n octets at `in` applied.  All of it is checked: 0, or
 * -EBADMSG with out undefined.  out and old do not overlap.
 */
FERRY_CHECKED int ferry_xbzrle_decode(const uint8_t *in, size_t n,
				      const uint8_t old[FERRY_PAGE_BYTES],
				      uint8_t out[FERRY_PAGE_BYTES]);

/*
 * Returns the octets written to `to`; 0 when the pages are equal (send
 * nothing); -ENOSPC when they would be more than `most` (send the page).
 */
FERRY_CHECKED int ferry_xbzrle_encode(const uint8_t old[FERRY_PAGE_BYTES],
				      const uint8_t now[FERRY_PAGE_BYTES],
				      uint8_t *to, size_t most);

#endif
