/* SPDX-License-Identifier: MIT */
/*
 * Marking is an atomic OR of an octet: several processes mark in one log.
 */
#include "vu/be/dirty.h"

#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/counter.h"
#include "base/limits.h"

int ferry_vb_dirty_open(struct ferry_vb_dirty *d,
			const struct ferry_vu_log *log, int fd,
			struct ferry_err *e)
{
	uint64_t before = log->fd_offset % FERRY_PAGE_BYTES;
	uint64_t bytes = log->bytes + before;
	struct stat st;
	void *map;

	if (fstat(fd, &st))
		return ferry_err_set(e, FERRY_E_IO, errno, "dirty log");
	if ((uint64_t)st.st_size < log->fd_offset + log->bytes)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "dirty log: its file has %" PRIu64
				     " octets, not %" PRIu64,
				     (uint64_t)st.st_size,
				     log->fd_offset + log->bytes);
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   (off_t)(log->fd_offset - before));
	if (map == MAP_FAILED)
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "dirty log: mmap of %" PRIu64 " octets",
				     bytes);

	ferry_vb_dirty_close(d);
	d->map = map;
	d->map_bytes = bytes;
	d->bits = (_Atomic uint8_t *)map + before;
	d->bytes = log->bytes;
	return 0;
}

void ferry_vb_dirty_close(struct ferry_vb_dirty *d)
{
	if (d->map)
		munmap(d->map, d->map_bytes);
	d->map = NULL;
	d->bits = NULL;
	d->bytes = 0;
}

void ferry_vb_dirty_mark(struct ferry_vb_dirty *d, uint64_t gpa,
			 uint64_t bytes)
{
	uint64_t page = gpa >> FERRY_PAGE_SHIFT;
	uint64_t last;

	if (!d->bits || !bytes)
		return;
	last = (gpa + bytes - 1) >> FERRY_PAGE_SHIFT;
	for (; page <= last && page / 8 < d->bytes; page++) {
		uint8_t bit = (uint8_t)(1u << page % 8);
		/* Release: the data is there before the bit. */
		uint8_t old = atomic_fetch_or_explicit(&d->bits[page / 8], bit,
						       memory_order_acq_rel);

		if (!(old & bit))
			ferry_count(&d->pages, 1);
	}
}
