/* SPDX-License-Identifier: MIT */
/* cmocka and what it wants before it; files that are only in memory. */
#ifndef TESTS_UNIT_VMM_HELP_H
#define TESTS_UNIT_VMM_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/err.h"

#define assert_ok(rc)	assert_int_equal((rc), 0)

/* Refused, with this code, and a sentence that contains this. */
static inline void assert_refused(int rc, const struct ferry_err *e, int code,
				  const char *sentence)
{
	assert_int_equal(rc, -1);
	if (e->code != code || !strstr(e->msg, sentence))
		fail_msg("got \"%s\" (%s), not \"%s\" (%s)", e->msg,
			 ferry_err_name(e->code), sentence,
			 ferry_err_name(code));
}

/* A file with this content; path goes to buf.  Returns its descriptor. */
static inline int memory_file(const void *data, size_t bytes, char buf[32])
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, bytes), (ssize_t)bytes);
	snprintf(buf, 32, "/proc/self/fd/%d", fd);
	return fd;
}

#endif
