/* SPDX-License-Identifier: MIT */
/*
 * Reading pages straight to where they are gathered.  What a QEMU sends is page
 * after page, each behind a word that says which one it is: so the words can be
 * foreseen, and one read scatters pages and words, instead of reading both into
 * a buffer from which the pages are copied.  What was foreseen wrong goes back
 * into the buffer, and less is foreseen then: never more pages than have just
 * come in a row, so that what is moved twice stays a part of what is not.
 *
 * Threads: the reader's of the body.
 */
#ifndef FERRY_RECV_AHEAD_H
#define FERRY_RECV_AHEAD_H

#include "recv/stream.h"

/* The payload of `page`, whose word was read, and pages behind it: the body's
 * run grows by one at least.  It has room, and nobody waits for its pages.
 * After an error, too, those count that are whole. */
FERRY_CHECKED int ferry_ahead_read(struct ferry_rambody *b, uint64_t page,
				   struct ferry_err *e);

#endif
