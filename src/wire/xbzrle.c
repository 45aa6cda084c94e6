/* SPDX-License-Identifier: MIT */
/*
 * A page is a sequence of | uleb skip | uleb n | n new octets |; what comes
 * after the last is unchanged.  A uleb here is one or two octets, low seven
 * bits first.  Only the first skip may be 0, and no n.
 */
#include "wire/xbzrle.h"

#include "base/cursor.h"

/* A gap this short costs less as new octets than as another pair of ulebs. */
#define GAP_MIN		3

/* Sets bad also for a third octet. */
static size_t uleb_read(struct ferry_rd *r)
{
	size_t v = ferry_rd_u8(r);

	if (v & 0x80) {
		size_t hi = ferry_rd_u8(r);

		if (hi & 0x80)
			r->bad = true;
		v = (v & 0x7f) | hi << 7;
	}
	return v;
}

static void uleb_write(struct ferry_wr *w, size_t v)
{
	if (v < 0x80) {
		ferry_wr_u8(w, (uint8_t)v);
		return;
	}
	ferry_wr_u8(w, (uint8_t)(v | 0x80));
	ferry_wr_u8(w, (uint8_t)(v >> 7));
}

int ferry_xbzrle_decode(const uint8_t *in, size_t n,
			const uint8_t old[FERRY_PAGE_BYTES],
			uint8_t out[FERRY_PAGE_BYTES])
{
	struct ferry_rd r = ferry_rd_over(in, n);
	size_t at = 0;

	if (!n)
		return -EBADMSG;
	memcpy(out, old, FERRY_PAGE_BYTES);
	while (ferry_rd_left(&r)) {
		size_t skip = uleb_read(&r);
		size_t fresh = uleb_read(&r);
		const uint8_t *data = ferry_rd_bytes(&r, fresh);

		if (!data || !fresh || (!skip && at) ||
		    skip > FERRY_PAGE_BYTES - at ||
		    fresh > FERRY_PAGE_BYTES - at - skip)
			return -EBADMSG;
		memcpy(out + at + skip, data, fresh);
		at += skip + fresh;
	}
	return 0;
}

static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* First difference at or after `at`, or the end of the page. */
static size_t next_change(const uint8_t *old, const uint8_t *now, size_t at)
{
	while (at + 8 <= FERRY_PAGE_BYTES &&
	       load64(old + at) == load64(now + at))
		at += 8;
	while (at < FERRY_PAGE_BYTES && old[at] == now[at])
		at++;
	return at;
}

/* End of the run that begins at `at`: GAP_MIN equal octets, or the rest. */
static size_t run_end(const uint8_t *old, const uint8_t *now, size_t at)
{
	size_t end = at + 1;

	for (size_t i = end; i < FERRY_PAGE_BYTES && i < end + GAP_MIN; i++)
		if (old[i] != now[i])
			end = i + 1;
	return end;
}

int ferry_xbzrle_encode(const uint8_t old[FERRY_PAGE_BYTES],
			const uint8_t now[FERRY_PAGE_BYTES],
			uint8_t *to, size_t most)
{
	struct ferry_wr w = ferry_wr_over(to, most);
	size_t at = 0;

	for (;;) {
		size_t first = next_change(old, now, at);
		size_t end;

		if (first == FERRY_PAGE_BYTES)
			return (int)ferry_wr_used(&w);
		end = run_end(old, now, first);
		uleb_write(&w, first - at);
		uleb_write(&w, end - first);
		ferry_wr_bytes(&w, now + first, end - first);
		if (w.bad)
			return -ENOSPC;
		at = end;
	}
}
