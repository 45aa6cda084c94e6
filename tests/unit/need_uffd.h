/* SPDX-License-Identifier: MIT */
/* For a test program that needs a userfaultfd: skip with the reason. */
#ifndef TESTS_UNIT_NEED_UFFD_H
#define TESTS_UNIT_NEED_UFFD_H

#include <stdio.h>

#include "mem/uffd.h"

#define SKIPPED	77

/* False, and a line that says why and what to change. */
static inline bool has_uffd(void)
{
	struct ferry_err e = { 0 };
	struct ferry_uffd u;

	if (ferry_uffd_open(&u, 0, &e)) {
		printf("# %s\n", e.msg);
		return false;
	}
	ferry_uffd_close(&u);
	return true;
}

#endif
