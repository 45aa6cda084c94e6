/* SPDX-License-Identifier: MIT */
/*
 * Walking /proc/self/pagemap, by PAGEMAP_SCAN or by reading its entries.
 */
#include "mem/pagemap.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "mem/kernel.h"

#define REGIONS		256

/*
 * Of one call.  A call that protects tells KVM (if this process has a VM) to
 * forget its whole range, not only what it got round to: with 32 GiB at once,
 * 65536 scattered pages took 2.8 s.
 */
#define SCAN_BYTES	(64ull << 20)

#define ENTRIES		2048	/* 8 MiB of memory per read */

static int scan(int fd, struct pm_scan_arg *a)
{
	int n;

	a->size = sizeof(*a);
	do {
		n = ioctl(fd, PAGEMAP_SCAN, a);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int ferry_pagemap_open(struct ferry_pagemap *p)
{
	struct pm_scan_arg nothing = { .return_mask = PAGE_IS_PRESENT };

	p->fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (p->fd < 0)
		return -errno;
	p->scan = scan(p->fd, &nothing) >= 0;
	return 0;
}

void ferry_pagemap_close(struct ferry_pagemap *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

int ferry_pagemap_scan(const struct ferry_pagemap *p,
		       const struct ferry_mem_block *b,
		       const struct ferry_pagemap_query *q,
		       ferry_pagemap_fn *fn, void *arg)
{
	uint64_t base = (uintptr_t)b->host, end = base + b->bytes;
	struct page_region r[REGIONS];
	struct pm_scan_arg a = {
		.flags = q->flags,
		.start = base,
		.vec = (uintptr_t)r,
		.vec_len = REGIONS,
		.category_inverted = q->inverted,
		.category_mask = q->all_of,
		.category_anyof_mask = q->any_of,
		.return_mask = q->give,
	};

	while (a.start < end) {
		int n;

		a.end = end - a.start < SCAN_BYTES ? end : a.start + SCAN_BYTES;
		n = scan(p->fd, &a);
		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			int rc = fn(arg, (r[i].start - base) /
					 FERRY_PAGE_BYTES,
				    (r[i].end - r[i].start) /
					 FERRY_PAGE_BYTES);

			if (rc)
				return rc;
		}
		a.start = a.walk_end;
	}
	return 0;
}

/* Runs among n entries, the first of which is page `first`. */
static int runs(const uint64_t *entry, uint64_t n, uint64_t first,
		uint64_t bits, ferry_pagemap_fn *fn, void *arg)
{
	for (uint64_t i = 0, from; i < n; i++) {
		int rc;

		if (!(entry[i] & bits))
			continue;
		for (from = i; i < n && entry[i] & bits; i++)
			;
		rc = fn(arg, first + from, i - from);
		if (rc)
			return rc;
	}
	return 0;
}

int ferry_pagemap_read(const struct ferry_pagemap *p,
		       const struct ferry_mem_block *b, uint64_t bits,
		       ferry_pagemap_fn *fn, void *arg)
{
	uint64_t base = (uintptr_t)b->host / FERRY_PAGE_BYTES, done = 0;
	uint64_t entry[ENTRIES];

	while (done < b->pages) {
		uint64_t n = b->pages - done < ENTRIES ? b->pages - done :
			     ENTRIES;
		ssize_t got = pread(p->fd, entry, n * sizeof(entry[0]),
				    (off_t)((base + done) * sizeof(entry[0])));
		int rc;

		if (got < (ssize_t)sizeof(entry[0]))
			return got < 0 ? -errno : -EIO;
		n = (uint64_t)got / sizeof(entry[0]);
		rc = runs(entry, n, done, bits, fn, arg);
		if (rc)
			return rc;
		done += n;
	}
	return 0;
}
