/* SPDX-License-Identifier: MIT */
/*
 * Memory for tests, in the kinds that a VM can have, and skipping.
 */
#ifndef FERRY_TESTS_MEM_HELP_H
#define FERRY_TESTS_MEM_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "mem/mem.h"

#define PAGE	4096ull
#define HUGE	(2ull << 20)

enum kind { MEMFD, PRIVATE, HUGE_MEMFD, HUGE_PRIVATE, KINDS };

static const char *const kind_name[KINDS] = {
	"memfd", "private", "hugetlb memfd", "private hugetlb",
};

struct area {
	uint8_t	*p;
	uint64_t bytes;
	uint32_t page_bytes;
	int	 fd;
	uint64_t fd_offset;
};

/* Free huge pages that nobody has reserved. */
static inline long free_huge_pages(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	long n = 0, v;
	char line[128];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "HugePages_Free: %ld", &v) == 1)
			n += v;
		if (sscanf(line, "HugePages_Rsvd: %ld", &v) == 1)
			n -= v;
	}
	if (f)
		fclose(f);
	return n;
}

/* False when this host has no huge pages for it. */
static inline bool area_make(struct area *a, enum kind kind, uint64_t bytes)
{
	bool huge = kind == HUGE_MEMFD || kind == HUGE_PRIVATE;
	bool file = kind == MEMFD || kind == HUGE_MEMFD;
	int flags = file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;

	*a = (struct area){ .bytes = bytes, .fd = -1 };
	a->page_bytes = huge ? HUGE : PAGE;
	if (huge && free_huge_pages() < (long)(bytes / HUGE))
		return false;
	if (file) {
		a->fd_offset = a->page_bytes;	/* not 0: catches who assumes */
		a->fd = memfd_create("test", huge ? MFD_HUGETLB : 0);
		assert_true(a->fd >= 0);
		assert_int_equal(ftruncate(a->fd, (off_t)(a->fd_offset +
							  bytes)), 0);
	} else if (huge) {
		flags |= MAP_HUGETLB;
	}
	a->p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, a->fd,
		    (off_t)a->fd_offset);
	assert_true(a->p != MAP_FAILED);
	return true;
}

static inline void area_free(struct area *a)
{
	munmap(a->p, a->bytes);
	if (a->fd >= 0)
		close(a->fd);
}

static inline void area_add(struct ferry_mem *m, const char *name,
			    const struct area *a)
{
	struct ferry_err e = { 0 };

	if (ferry_mem_add(m, name, a->p, a->bytes, a->page_bytes, 0, a->fd,
			  a->fd_offset, &e))
		fail_msg("%s", e.msg);
}

/* Leave the program with 77 when *what is not there. */
static inline void need(bool there, const char *what)
{
	if (there)
		return;
	printf("SKIP: %s\n", what);
	exit(77);
}

#endif
