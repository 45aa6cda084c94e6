/* SPDX-License-Identifier: MIT */
#include "line.h"

void line_bytes(struct line *l, const char *text, size_t length)
{
	for (size_t i = 0; i < length && l->length < sizeof(l->text); i++)
		l->text[l->length++] = text[i];
}

void line_text(struct line *l, const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	line_bytes(l, text, length);
}

static void number(struct line *l, uint64_t value, unsigned base,
		   size_t min_digits)
{
	char digits[20];
	size_t n = sizeof(digits);

	while (value || sizeof(digits) - n < min_digits) {
		digits[--n] = "0123456789abcdef"[value % base];
		value /= base;
	}
	line_bytes(l, digits + n, sizeof(digits) - n);
}

void line_number(struct line *l, uint64_t value)
{
	number(l, value, 10, 1);
}

void line_hex(struct line *l, uint64_t value)
{
	line_text(l, "0x");
	number(l, value, 16, 1);
}

static void key_equals(struct line *l, const char *key)
{
	line_text(l, " ");
	line_text(l, key);
	line_text(l, "=");
}

void line_key(struct line *l, const char *key, uint64_t value)
{
	key_equals(l, key);
	line_number(l, value);
}

void line_key_hex(struct line *l, const char *key, uint64_t value)
{
	key_equals(l, key);
	line_hex(l, value);
}

void line_key_text(struct line *l, const char *key, const char *value)
{
	key_equals(l, key);
	line_text(l, value);
}

void line_key_milli(struct line *l, const char *key, uint64_t value)
{
	line_key(l, key, value / 1000);
	line_text(l, ".");
	number(l, value % 1000, 10, 3);
}

void line_bucket(struct line *l, unsigned bucket, unsigned buckets,
		 uint64_t n)
{
	const unsigned last = buckets - 1;

	if (!n)
		return;
	line_text(l, bucket < last ? " <=" : " >");
	line_number(l, 1ull << (bucket < last ? bucket : last - 1));
	line_text(l, "us:");
	line_number(l, n);
}
