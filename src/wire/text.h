/* SPDX-License-Identifier: MIT */
/*
 * Text that a peer sent.  The one place that makes it fit for a person's
 * terminal and log: control characters and octets that are not UTF-8 become
 * '?'.  Names are compared as they came and cleaned only when shown; prose
 * (reasons) is cleaned when decoded.  Pure, any thread.
 */
#ifndef FERRY_WIRE_TEXT_H
#define FERRY_WIRE_TEXT_H

#include "base/cursor.h"
#include "base/limits.h"

/* Make s printable, in place; its length stays. */
void ferry_text_clean(char *s);

#define FERRY_SHOWN_BYTES	72

/* A printable copy of s in out, cut with "..." where it is longer. */
const char *ferry_text_show(char out[FERRY_SHOWN_BYTES], const char *s);

/* For the arguments of a message; lives until the end of the block. */
#define FERRY_SHOW(s) ferry_text_show((char[FERRY_SHOWN_BYTES]){ 0 }, (s))

/*
 * A str8 that is a name: 1 to 255 octets, none of them NUL.  False when it is
 * there and is none (a short read is not wrong, see r->bad).
 */
bool ferry_text_read_name(struct ferry_rd *r, char name[FERRY_NAME_MAX + 1]);

/*
 * Prose: be16 length and octets, cleaned.  out has room for most + 1.  False
 * when it is longer than most.
 */
bool ferry_text_read_prose(struct ferry_rd *r, char *out, size_t most);

/* Writes at most `most` octets of s. */
void ferry_text_write_prose(struct ferry_wr *w, const char *s, size_t most);

/* Octets that ferry_text_write_prose() writes. */
size_t ferry_text_prose_bytes(const char *s, size_t most);

#endif
