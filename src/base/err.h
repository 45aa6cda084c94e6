/* SPDX-License-Identifier: MIT */
/*
 * Making and wrapping errors.
 *
 * The layer that can name the object makes the text; layers above prepend what
 * they were doing.  Hot paths return -errno and make no text.
 */
#ifndef FERRY_BASE_ERR_H
#define FERRY_BASE_ERR_H

#include <errno.h>
#include <stdbool.h>

#include <ferry/err.h>

#define FERRY_CHECKED		__attribute__((warn_unused_result))
#define FERRY_PRINTF(f, a)	__attribute__((format(printf, f, a)))

/*
 * Fill *e (may be NULL) and return -1, so that `return ferry_err_set(...)`
 * reads well.  When sys is not 0, ": " and its strerror text are appended.
 */
int ferry_err_set(struct ferry_err *e, int code, int sys, const char *fmt, ...)
	FERRY_PRINTF(4, 5);

/* Prepend "text: " to the message; code and sys stay.  Returns -1. */
int ferry_err_wrap(struct ferry_err *e, const char *fmt, ...)
	FERRY_PRINTF(2, 3);

/* True when the error says that the connection is gone or silent. */
bool ferry_err_is_link(const struct ferry_err *e);

#endif
