/* SPDX-License-Identifier: MIT */
/*
 * Write protection by userfaultfd.  Any thread.
 */
#include "mem/wp.h"

#include <sched.h>
#include <sys/ioctl.h>

#include "mem/kernel.h"
#include "mem/uffd_open.h"

#define PIECE_PAGES	16384ull	/* of one ioctl: 64 MiB */

/* The first block that is not private memory of small pages, or NULL. */
static const struct ferry_mem_block *unusual(const struct ferry_mem *mem)
{
	for (uint32_t i = 0; i < mem->blocks; i++)
		if (mem->block[i].fd >= 0 || mem->block[i].host_pages > 1)
			return &mem->block[i];
	return NULL;
}

int ferry_wp_open(struct ferry_uffd *u, const struct ferry_mem *mem,
		  uint64_t want, bool user_only, struct ferry_err *e)
{
	const struct ferry_mem_block *b = unusual(mem);
	uint64_t must = want | UFFD_FEATURE_PAGEFAULT_FLAG_WP;

	if (b)
		must |= UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
	if (ferry_uffd_open_as(u, must, user_only, e))
		return -1;
	if (u->features == must)
		return 0;

	must &= ~u->features;
	ferry_uffd_close(u);
	if (must & UFFD_FEATURE_WP_ASYNC)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "no asynchronous write protection (Linux 6.7)");
	if (must & UFFD_FEATURE_PAGEFAULT_FLAG_WP)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "no write protection (Linux 5.7)");
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
			     "block %s: no write protection of files and huge pages (Linux 5.19)",
			     b->name);
}

int ferry_wp_register(struct ferry_uffd *u, const struct ferry_mem_block *b,
		      uint64_t mode, struct ferry_err *e)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)b->host, b->bytes },
		.mode = mode,
	};

	if (ioctl(u->fd, UFFDIO_REGISTER, &reg))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, errno,
				     "block %s: register for write protection%s",
				     b->name, errno != EBUSY ? "" :
				     " (another userfaultfd has it)");
	return 0;
}

void ferry_wp_unregister(struct ferry_uffd *u, const struct ferry_mem_block *b)
{
	struct uffdio_range r = { (uintptr_t)b->host, b->bytes };

	(void)ioctl(u->fd, UFFDIO_UNREGISTER, &r);
}

static int set_piece(int fd, uint64_t at, uint64_t bytes, bool protect)
{
	struct uffdio_writeprotect w = {
		.range = { at, bytes },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	while (ioctl(fd, UFFDIO_WRITEPROTECT, &w)) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		sched_yield();		/* mappings are changing */
	}
	return 0;
}

int ferry_wp_set(struct ferry_uffd *u, const struct ferry_mem_block *b,
		 uint64_t first, uint64_t pages, bool protect)
{
	int rc = 0;

	while (pages && !rc) {
		uint64_t n = pages < PIECE_PAGES ? pages : PIECE_PAGES;

		rc = set_piece(u->fd, (uintptr_t)b->host +
			       first * FERRY_PAGE_BYTES,
			       n * FERRY_PAGE_BYTES, protect);
		first += n;
		pages -= n;
	}
	return rc;
}
