/* SPDX-License-Identifier: MIT */
/*
 * Mapping what the front-end hands over, and finding addresses in it.
 *
 * At most eight regions, so a walk over all of them is as good as any tree.
 */
#include "vu/be/memory.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "base/limits.h"

static bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a < b + b_bytes && b < a + a_bytes;
}

/* 0, or -1: the file cannot hold the region, or is no memory. */
static int look_at_file(struct ferry_vb_region *r, struct ferry_err *e)
{
	struct statfs fs;
	struct stat st;
	int seals;

	if (fstat(r->fd, &st) || fstatfs(r->fd, &fs))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "memory at 0x%" PRIx64 ": its file",
				     r->gpa);
	if (!S_ISREG(st.st_mode))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "memory at 0x%" PRIx64
				     " does not lie in a file", r->gpa);
	if ((uint64_t)st.st_size < r->fd_offset + r->bytes)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "memory at 0x%" PRIx64 ": its file has"
				     " %" PRIu64 " octets, not %" PRIu64,
				     r->gpa, (uint64_t)st.st_size,
				     r->fd_offset + r->bytes);
	seals = fcntl(r->fd, F_GET_SEALS);
	r->sealed = seals >= 0 && seals & F_SEAL_SHRINK;
	r->page_bytes = fs.f_type == HUGETLBFS_MAGIC ?
			(uint64_t)fs.f_bsize : FERRY_PAGE_BYTES;
	if (r->page_bytes < FERRY_PAGE_BYTES)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "memory at 0x%" PRIx64 ": pages of %"
				     PRIu64 " octets", r->gpa, r->page_bytes);
	return 0;
}

static int map_file(struct ferry_vb_region *r, int protection,
		    struct ferry_err *e)
{
	uint64_t before, bytes;
	void *map;

	assert(r->page_bytes >= FERRY_PAGE_BYTES);
	before = r->fd_offset % r->page_bytes;
	bytes = r->bytes + before;
	bytes = (bytes + r->page_bytes - 1) / r->page_bytes * r->page_bytes;
	map = mmap(NULL, bytes, protection, MAP_SHARED | MAP_NORESERVE, r->fd,
		   (off_t)(r->fd_offset - before));
	if (map == MAP_FAILED)
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "memory at 0x%" PRIx64 ": mmap of"
				     " %" PRIu64 " octets", r->gpa, bytes);
	r->map = map;
	r->map_bytes = bytes;
	r->at = r->map + before;
	return 0;
}

static int check_region(const struct ferry_vb_memory *m,
			const struct ferry_vu_region *r, struct ferry_err *e)
{
	if ((r->gpa | r->bytes | r->user_addr | r->fd_offset) %
	    FERRY_PAGE_BYTES)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "memory at 0x%" PRIx64 " of %" PRIu64
				     " octets is not made of whole pages",
				     r->gpa, r->bytes);
	if (m->n == FERRY_VU_REGIONS_MAX)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "more than %d regions of memory",
				     FERRY_VU_REGIONS_MAX);
	for (unsigned i = 0; i < m->n; i++) {
		const struct ferry_vb_region *old = &m->region[i];

		if (overlap(r->gpa, r->bytes, old->gpa, old->bytes) ||
		    overlap(r->user_addr, r->bytes, old->user_addr,
			    old->bytes))
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "memory at 0x%" PRIx64
					     " overlaps that at 0x%" PRIx64,
					     r->gpa, old->gpa);
	}
	return 0;
}

int ferry_vb_memory_add(struct ferry_vb_memory *m,
			const struct ferry_vu_region *r, int fd,
			int protection, struct ferry_err *e)
{
	FERRY_AUTO_FD own = fd;
	struct ferry_vb_region new = {
		.gpa = r->gpa, .bytes = r->bytes, .user_addr = r->user_addr,
		.fd_offset = r->fd_offset, .fd = fd,
	};

	if (check_region(m, r, e) || look_at_file(&new, e) ||
	    map_file(&new, protection, e))
		return -1;
	m->region[m->n++] = new;
	m->shut |= protection == PROT_NONE;
	ferry_steal_fd(&own);
	return 0;
}

static void drop(struct ferry_vb_region *r)
{
	munmap(r->map, r->map_bytes);
	close(r->fd);
}

int ferry_vb_memory_remove(struct ferry_vb_memory *m,
			   const struct ferry_vu_region *r,
			   struct ferry_err *e)
{
	for (unsigned i = 0; i < m->n; i++) {
		struct ferry_vb_region *old = &m->region[i];

		if (old->gpa != r->gpa || old->user_addr != r->user_addr ||
		    old->bytes != r->bytes)
			continue;
		drop(old);
		*old = m->region[--m->n];
		return 0;
	}
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "no memory at 0x%" PRIx64 " to remove", r->gpa);
}

void ferry_vb_memory_clear(struct ferry_vb_memory *m)
{
	while (m->n)
		drop(&m->region[--m->n]);
	m->shut = false;
}

static bool same_file(int a, int b)
{
	struct stat sa, sb;

	return !fstat(a, &sa) && !fstat(b, &sb) && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino;
}

bool ferry_vb_memory_same(const struct ferry_vb_memory *m,
			  const struct ferry_vu_mem *table, const int *fds)
{
	if (m->n != table->n)
		return false;
	for (unsigned i = 0; i < m->n; i++) {
		const struct ferry_vb_region *a = &m->region[i];
		const struct ferry_vu_region *b = &table->region[i];

		if (a->gpa != b->gpa || a->bytes != b->bytes ||
		    a->user_addr != b->user_addr ||
		    a->fd_offset != b->fd_offset || !same_file(a->fd, fds[i]))
			return false;
	}
	return true;
}

void *ferry_vb_memory_user(const struct ferry_vb_memory *m, uint64_t user_addr,
			   uint64_t bytes)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct ferry_vb_region *r = &m->region[i];
		uint64_t into = user_addr - r->user_addr;

		if (user_addr >= r->user_addr && into < r->bytes &&
		    bytes <= r->bytes - into)
			return r->at + into;
	}
	return NULL;
}

uint64_t ferry_vb_memory_gpa_of(const struct ferry_vb_memory *m, const void *at)
{
	uintptr_t where = (uintptr_t)at;

	for (unsigned i = 0; i < m->n; i++) {
		const struct ferry_vb_region *r = &m->region[i];
		uintptr_t start = (uintptr_t)r->at;

		if (where >= start && where - start < r->bytes)
			return r->gpa + (where - start);
	}
	assert(false);	/* an address that did not come from here */
	return 0;
}
