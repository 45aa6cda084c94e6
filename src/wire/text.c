/* SPDX-License-Identifier: MIT */
/*
 * Peer text, made printable.
 */
#include "wire/text.h"

#include <stdio.h>

/* Lead octets of UTF-8, and the range of the octet after each: this is where
 * overlong forms, surrogates, C1 controls and values past U+10FFFF end. */
static const struct {
	uint8_t first, last;
	uint8_t more;
	uint8_t lo, hi;
} leads[] = {
	{ 0xc2, 0xc2, 1, 0xa0, 0xbf },
	{ 0xc3, 0xdf, 1, 0x80, 0xbf },
	{ 0xe0, 0xe0, 2, 0xa0, 0xbf },
	{ 0xe1, 0xec, 2, 0x80, 0xbf },
	{ 0xed, 0xed, 2, 0x80, 0x9f },
	{ 0xee, 0xef, 2, 0x80, 0xbf },
	{ 0xf0, 0xf0, 3, 0x90, 0xbf },
	{ 0xf1, 0xf3, 3, 0x80, 0xbf },
	{ 0xf4, 0xf4, 3, 0x80, 0x8f },
};

/* Octets of the printable character at p, or 0. */
static size_t printable(const uint8_t *p)
{
	if (*p < 0x80)
		return *p >= 0x20 && *p != 0x7f;

	for (size_t i = 0; i < sizeof(leads) / sizeof(leads[0]); i++) {
		if (*p < leads[i].first || *p > leads[i].last)
			continue;
		if (p[1] < leads[i].lo || p[1] > leads[i].hi)
			return 0;
		for (size_t k = 2; k <= leads[i].more; k++)
			if ((p[k] & 0xc0) != 0x80)
				return 0;
		return 1u + leads[i].more;
	}
	return 0;
}

void ferry_text_clean(char *s)
{
	uint8_t *p = (uint8_t *)s;

	while (*p) {
		size_t n = printable(p);

		if (!n)
			*p = '?';
		p += n ? n : 1;
	}
}

const char *ferry_text_show(char out[FERRY_SHOWN_BYTES], const char *s)
{
	int n = snprintf(out, FERRY_SHOWN_BYTES, "%s", s);

	/* Clean after the cut, which may halve a character. */
	ferry_text_clean(out);
	if (n >= FERRY_SHOWN_BYTES)
		memcpy(out + FERRY_SHOWN_BYTES - 4, "...", 4);
	return out;
}

bool ferry_text_read_name(struct ferry_rd *r, char name[FERRY_NAME_MAX + 1])
{
	size_t n = ferry_rd_str8(r, name);

	return r->bad || (n > 0 && strlen(name) == n);
}

bool ferry_text_read_prose(struct ferry_rd *r, char *out, size_t most)
{
	size_t n = ferry_rd_be16(r);
	const uint8_t *at;

	out[0] = '\0';
	if (n > most)
		return false;
	at = ferry_rd_bytes(r, n);
	if (!at)
		return true;
	for (size_t i = 0; i < n; i++)
		out[i] = at[i] ? (char)at[i] : '?';
	out[n] = '\0';
	ferry_text_clean(out);
	return true;
}

void ferry_text_write_prose(struct ferry_wr *w, const char *s, size_t most)
{
	size_t n = strnlen(s, most);

	ferry_wr_be16(w, (uint16_t)n);
	ferry_wr_bytes(w, s, n);
}

size_t ferry_text_prose_bytes(const char *s, size_t most)
{
	return 2 + strnlen(s, most);
}
