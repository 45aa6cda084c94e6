/* SPDX-License-Identifier: MIT */
/*
 * Huge pages for a test program: where there are too few and it may change
 * that, more are made, and unmade when the program ends.
 */
#ifndef TESTS_UNIT_HUGE_H
#define TESTS_UNIT_HUGE_H

#include "base/cleanup.h"
#include "unit/mem/help.h"

#define HUGE_POOL	"/proc/sys/vm/nr_hugepages"

static long huge_pages_made;

static inline void change_huge_pages(long by)
{
	FERRY_AUTO_FILE f = fopen(HUGE_POOL, "r+e");
	long n;

	if (!f || fscanf(f, "%ld", &n) != 1)
		return;
	rewind(f);
	fprintf(f, "%ld\n", n + by);
}

static inline void unmake_huge_pages(void)
{
	change_huge_pages(-huge_pages_made);
}

/* Of the memory help: n free ones can be had now. */
static inline bool huge_pages_for(long n)
{
	long lack = n - free_huge_pages();

	if (lack <= 0)
		return true;
	change_huge_pages(lack);
	if (!huge_pages_made)
		atexit(unmake_huge_pages);
	huge_pages_made += lack;
	return free_huge_pages() >= n;
}

#endif
