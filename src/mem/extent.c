/* SPDX-License-Identifier: MIT */
/*
 * Finding, dropping, reserving and allocating pages.  Any thread.
 */
#include "mem/extent.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "mem/kernel.h"
#include "mem/pagemap.h"

/* ---- which pages were touched ------------------------------------------- */

/* Joins runs that touch, and keeps them ascending where a source rounds. */
struct joiner {
	int		(*fn)(void *arg, uint64_t first, uint64_t pages);
	void		*arg;
	uint64_t	 first;
	uint64_t	 end;
};

/* 1 when fn wants to stop, else 0. */
static int flush(struct joiner *j)
{
	if (j->end == j->first)
		return 0;
	return j->fn(j->arg, j->first, j->end - j->first) ? 1 : 0;
}

static int add(void *arg, uint64_t first, uint64_t pages)
{
	struct joiner *j = arg;

	if (j->end != j->first && first <= j->end) {
		j->end = first + pages;
		return 0;
	}
	if (flush(j))
		return 1;
	j->first = first;
	j->end = first + pages;
	return 0;
}

/* Data lies at [*from, *to) octets of the file.  0: there is none up to end;
 * 1: there is; -errno. */
static int next_data(int fd, uint64_t at, uint64_t end, uint64_t *from,
		     uint64_t *to)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

	if (data < 0)
		return errno == ENXIO ? 0 : -errno;
	if ((uint64_t)data >= end)
		return 0;
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0)
		return -errno;
	*from = (uint64_t)data;
	*to = (uint64_t)hole < end ? (uint64_t)hole : end;
	return 1;
}

static int walk_file(const struct ferry_mem_block *b, struct joiner *j)
{
	uint64_t at = b->fd_offset, end = at + b->bytes, from = 0, to = 0;
	FERRY_AUTO_FD own = -1;
	char path[32];
	int rc;

	/* lseek() moves a position that the embedder may be using: take a
	 * position of our own where we can. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", b->fd);
	own = open(path, O_RDONLY | O_CLOEXEC);

	while (at < end) {
		rc = next_data(own >= 0 ? own : b->fd, at, end, &from, &to);
		if (rc < 0)
			return rc;
		if (rc == 0)
			break;
		from = (from - b->fd_offset) / FERRY_PAGE_BYTES;
		rc = add(j, from, (to - b->fd_offset + FERRY_PAGE_BYTES - 1) /
				  FERRY_PAGE_BYTES - from);
		if (rc)
			return rc;
		at = to;
	}
	return 0;
}

static int walk_private(const struct ferry_mem_block *b, struct joiner *j)
{
	/* Present or swapped, and not the zero page that a read maps. */
	static const struct ferry_pagemap_query touched = {
		.inverted = PAGE_IS_PFNZERO,
		.all_of = PAGE_IS_PFNZERO,
		.any_of = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.give = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
	};
	struct ferry_pagemap p;
	int rc = ferry_pagemap_open(&p);

	if (rc)
		return rc;
	rc = p.scan ? ferry_pagemap_scan(&p, b, &touched, add, j) :
		      ferry_pagemap_read(&p, b, FERRY_PAGEMAP_PRESENT |
					 FERRY_PAGEMAP_SWAPPED, add, j);
	ferry_pagemap_close(&p);
	return rc;
}

static int walk_store(const struct ferry_mem_block *b, struct joiner *j)
{
	int rc = 0;

	for (uint64_t i = 0, n; !rc && i < b->pages; i += n) {
		bool zero;

		n = b->store->run(b->store->arg, b->index, i, &zero);
		if (!zero)
			rc = add(j, i, n);
	}
	return rc;
}

/* 0; 1 when fn stopped it; -errno when it cannot be known. */
static int walk_any(const struct ferry_mem_block *b, struct joiner *j)
{
	if (b->store)
		return walk_store(b, j);
	if (b->fd < 0)
		return walk_private(b, j);
	if (b->page_bytes != FERRY_PAGE_BYTES)
		return -EOPNOTSUPP;
	return walk_file(b, j);
}

int ferry_extent_walk(struct ferry_mem_block *b,
		      int (*fn)(void *arg, uint64_t first, uint64_t pages),
		      void *arg, struct ferry_err *e)
{
	struct joiner j = { .fn = fn, .arg = arg };
	int rc = walk_any(b, &j);

	/* Not to be known, perhaps half way: the rest counts as touched. */
	if (rc < 0) {
		uint64_t told = j.end;

		rc = add(&j, told, b->pages - told);
	}
	if (rc > 0 || flush(&j))
		return ferry_err_wrap(e, "block %s: touched pages", b->name);
	return 0;
}

/* ---- dropping ----------------------------------------------------------- */

static int drop_private(void *at, uint64_t bytes)
{
	if (!madvise(at, bytes, MADV_DONTNEED))
		return 0;
	/* EINVAL: locked in memory. */
	return errno == EINVAL ? madvise(at, bytes, MADV_DONTNEED_LOCKED) : -1;
}

int ferry_extent_drop(struct ferry_mem_block *b, uint64_t first,
		      uint64_t pages, struct ferry_err *e)
{
	uint64_t from = first * FERRY_PAGE_BYTES;
	uint64_t bytes = pages * FERRY_PAGE_BYTES;
	int rc;

	if (!bytes || b->store)
		return 0;
	if (b->fd < 0)
		rc = drop_private(b->host + from, bytes);
	else
		rc = fallocate(b->fd,
			       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       (off_t)(b->fd_offset + from), (off_t)bytes);
	/* A file system without holes: what is dropped is written anew. */
	if (rc && b->in_file && errno == EOPNOTSUPP)
		return 0;
	if (rc)
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "block %s: drop %" PRIu64
				     " pages at %" PRIu64, b->name, pages,
				     first);
	return 0;
}

void ferry_extent_allow_huge(const struct ferry_mem_block *b, bool allow)
{
	/* EINVAL: this kernel has none. */
	if (b->page_bytes == FERRY_PAGE_BYTES && !b->store)
		(void)madvise(b->host, b->bytes,
			      allow ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

/* ---- reserving huge pages ----------------------------------------------- */

/*
 * A shared mapping reserves what its range lacks, for the file: it stays when
 * the mapping goes.  Seen on Linux 6.18: punching a present page gives up its
 * reservation, punching an absent one keeps it; a second mapping brings back
 * exactly what lacks, or fails with ENOMEM.
 */
static int reserve(const struct ferry_mem_block *b, uint64_t from,
		   uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd,
		       (off_t)(b->fd_offset + from));

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, bytes);
	return 0;
}

static uint64_t pages_that_lack(const struct ferry_mem_block *b)
{
	uint64_t n = 0;

	for (uint64_t at = 0; at < b->bytes; at += b->page_bytes)
		n += reserve(b, at, b->page_bytes) != 0;
	return n;
}

static uint64_t huge_pages_configured(void)
{
	FERRY_AUTO_FILE f = fopen("/proc/sys/vm/nr_hugepages", "re");
	uint64_t n = 0;

	return f && fscanf(f, "%" SCNu64, &n) == 1 ? n : 0;
}

int ferry_extent_reserve(struct ferry_mem_block *b, struct ferry_err *e)
{
	uint64_t lack;
	int rc;

	/* Private huge pages keep their reservation through MADV_DONTNEED on
	 * Linux 6.18.  On 6.1 they lose it, and only a new mapping in their
	 * place would bring it back, which must not fail half way: left. */
	if (b->page_bytes == FERRY_PAGE_BYTES || b->fd < 0)
		return 0;

	rc = reserve(b, 0, b->bytes);
	if (!rc)
		return 0;
	if (rc != -ENOMEM)
		return ferry_err_set(e, FERRY_E_IO, -rc,
				     "block %s: reserve huge pages", b->name);
	lack = pages_that_lack(b);
	if (!lack)
		return 0;
	return ferry_err_set(e, FERRY_E_NOMEM, 0,
			     "block %s: %" PRIu64
			     " huge pages of 2 MiB lack; as root: sysctl -w vm.nr_hugepages=%"
			     PRIu64, b->name, lack,
			     huge_pages_configured() + lack);
}

/* ---- allocating --------------------------------------------------------- */

/* Linux before 5.14.  Private memory it cannot refuse. */
static int allocate(const struct ferry_mem_block *b, uint64_t from,
		    uint64_t bytes)
{
	if (b->fd < 0)
		return 0;
	if (!fallocate(b->fd, FALLOC_FL_KEEP_SIZE,
		       (off_t)(b->fd_offset + from), (off_t)bytes))
		return 0;
	return errno == ENOSPC ? -ENOMEM : -errno;
}

int ferry_extent_populate(const struct ferry_mem_block *b, uint64_t first,
			  uint64_t pages)
{
	uint64_t from = first * FERRY_PAGE_BYTES;
	uint64_t bytes = pages * FERRY_PAGE_BYTES;

	if (!madvise(b->host + from, bytes, MADV_POPULATE_WRITE))
		return 0;
	if (errno == EINVAL)
		return allocate(b, from, bytes);
	/* EFAULT: a write would be SIGBUS. */
	return errno == EFAULT ? -ENOMEM : -errno;
}
