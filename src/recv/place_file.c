/* SPDX-License-Identifier: MIT */
/*
 * Placing the pages of a VM that is parked: into a file, each at its place,
 * through the page cache.  Zeroes stay holes.  Hot: no text, -errno.
 *
 * A full disk is an error as long as the source has the VM.  Before LISTEN,
 * room is made for all that may still come; if there is none later all the
 * same (a disk that fails), writing pauses and tries again, for the page exists
 * nowhere else.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#include "recv/place_ops.h"

static off_t offset_of(const struct ferry_mem_block *b, uint64_t page)
{
	return (off_t)(b->fd_offset + page * FERRY_PAGE_BYTES);
}

/* -ENOMEM is what is tried again: a lack of room, and whatever goes wrong when
 * nobody else has the page. */
static int tried_again(const struct ferry_place *p, int rc)
{
	bool full = rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG ||
		    rc == -ENOMEM;

	return rc && (full || !atomic_load(&p->ops)->may_give_up) ? -ENOMEM :
								    rc;
}

static int write_some(int fd, const uint8_t *data, uint64_t bytes, off_t at)
{
	while (bytes) {
		ssize_t n = pwrite(fd, data, bytes, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		data += n;
		bytes -= (uint64_t)n;
		at += n;
	}
	return 0;
}

static int write_pages(struct ferry_place *p, const struct ferry_mem_block *b,
		       uint64_t first, uint64_t n, const uint8_t *data)
{
	uint64_t since_ns = 0;
	int rc;

	do
		rc = write_some(b->fd, data, n * FERRY_PAGE_BYTES,
				offset_of(b, first));
	while (ferry_place_wait_for_room(p, tried_again(p, rc), &since_ns));
	return rc;
}

/* Where the file system knows no holes, zeroes are written. */
static int write_zeroes(struct ferry_place *p, const struct ferry_mem_block *b,
			uint64_t first, uint64_t n)
{
	static const uint8_t zeroes[FERRY_PAGE_BYTES];
	int rc = 0;

	if (!fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       offset_of(b, first), (off_t)(n * FERRY_PAGE_BYTES)))
		return 0;
	for (uint64_t i = first; !rc && i < first + n; i++)
		rc = write_pages(p, b, i, 1, zeroes);
	return rc;
}

static void tell(const struct ferry_place *p, const struct ferry_mem_block *b,
		 uint64_t first, uint64_t n, const uint8_t *data)
{
	p->watch.wrote(p->watch.arg, b, first, n, data);
}

static int file_pages(struct ferry_place *p, struct ferry_mem_block *b,
		      uint64_t first, uint64_t n, const uint8_t *data)
{
	int rc = write_pages(p, b, first, n, data);

	tell(p, b, first, n, rc ? NULL : data);
	if (!rc)
		ferry_map_set_here(p->map, b->index, first, n);
	return rc;
}

/* What was written before becomes a hole; the rest is one. */
static int file_zeroes(struct ferry_place *p, struct ferry_mem_block *b,
		       uint64_t first, uint64_t n)
{
	tell(p, b, first, n, NULL);
	for (uint64_t done = 0, run; done < n; done += run) {
		bool here;
		int rc = 0;

		run = ferry_map_run(p->map, b->index, first + done, n - done,
				    &here);
		if (here)
			rc = write_zeroes(p, b, first + done, run);
		else
			ferry_map_set_zero(p->map, b->index, first + done,
					   run);
		if (rc)
			return rc;
	}
	return 0;
}

static int file_read(struct ferry_place *p, struct ferry_mem_block *b,
		     uint64_t page, uint8_t *out)
{
	uint64_t done = 0;

	(void)p;
	while (done < FERRY_PAGE_BYTES) {
		ssize_t n = pread(b->fd, out + done, FERRY_PAGE_BYTES - done,
				  offset_of(b, page) + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		done += (uint64_t)n;
	}
	return 0;
}

const struct ferry_place_ops ferry_place_file = {
	.name = "file",
	.pages = file_pages,
	.zeroes = file_zeroes,
	.read = file_read,
	.may_give_up = true,
};

/* ---- from LISTEN on: each page comes once; a second copy says the same ------ */

static int late_pages(struct ferry_place *p, struct ferry_mem_block *b,
		      uint64_t first, uint64_t n, const uint8_t *data)
{
	int rc = write_pages(p, b, first, n, data);

	tell(p, b, first, n, rc ? NULL : data);
	if (!rc)
		ferry_place_arrived(p, b, first, n);
	return rc;
}

/* Only noted: the room that was made is given back in one piece later. */
static int late_zeroes(struct ferry_place *p, struct ferry_mem_block *b,
		       uint64_t first, uint64_t n)
{
	tell(p, b, first, n, NULL);
	ferry_map_set_zero(p->map, b->index, first, n);
	return 0;
}

const struct ferry_place_ops ferry_place_file_late = {
	.name = "file, late",
	.pages = late_pages,
	.zeroes = late_zeroes,
	.read = file_read,
};

int ferry_place_file_listen(struct ferry_place *p, struct ferry_err *e)
{
	uint64_t page = 0, end;
	uint32_t block = 0;

	while (ferry_map_next_missing(p->map, &block, &page)) {
		const struct ferry_mem_block *b = &p->mem->block[block];

		end = ferry_map_missing_end(p->map, block, page);
		/* Some file systems cannot promise: then it is tried again
		 * later, if need be. */
		if (fallocate(b->fd, FALLOC_FL_KEEP_SIZE, offset_of(b, page),
			      (off_t)((end - page) * FERRY_PAGE_BYTES)) &&
		    errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR)
			return ferry_err_set(e, FERRY_E_IO, errno, "make room "
					     "for block %s", b->name);
		page = end;
	}
	atomic_store(&p->ops, &ferry_place_file_late);
	return 0;
}

/* Pages [*first, end) are known to be zero and were never written since. */
static bool next_zeroes(const struct ferry_map *m, uint32_t block,
			uint64_t *first, uint64_t *end)
{
	uint64_t pages = m->mem->block[block].pages;

	for (; *first < pages; *first = *end + 1) {
		*first = ferry_bitmap_next_set_before(&m->zero[block], *first,
						      pages);
		*end = ferry_bitmap_next_clear_before(&m->zero[block], *first,
						      pages);
		*end = ferry_bitmap_next_set_before(&m->here[block], *first,
						    *end);
		if (*first < *end)
			return true;
	}
	return false;
}

int ferry_place_trim(struct ferry_place *p)
{
	for (uint32_t i = 0; p->in_file && i < p->mem->blocks; i++) {
		uint64_t first = 0, end = 0;

		for (; next_zeroes(p->map, i, &first, &end); first = end) {
			int rc = write_zeroes(p, &p->mem->block[i], first,
					      end - first);

			if (rc)
				return rc;
		}
	}
	return 0;
}
