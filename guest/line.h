/* SPDX-License-Identifier: MIT */
/*
 * A line of text being put together; what does not fit is dropped.  Pure.
 */
#ifndef GUEST_LINE_H
#define GUEST_LINE_H

#include <stddef.h>
#include <stdint.h>

struct line {
	size_t	length;
	char	text[512];
};

void line_text(struct line *l, const char *text);
void line_bytes(struct line *l, const char *text, size_t length);
void line_number(struct line *l, uint64_t value);
void line_hex(struct line *l, uint64_t value);	/* 0x... */

/* " key=value" */
void line_key(struct line *l, const char *key, uint64_t value);
void line_key_hex(struct line *l, const char *key, uint64_t value);
void line_key_text(struct line *l, const char *key, const char *value);

/* " key=1.234" of 1234 */
void line_key_milli(struct line *l, const char *key, uint64_t value);

/* One bucket of a histogram of microseconds, " <=8us:3"; the last one is " >".
 * Nothing for 0. */
void line_bucket(struct line *l, unsigned bucket, unsigned buckets,
		 uint64_t n);

#endif
