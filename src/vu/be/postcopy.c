/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd as a backend uses it: it registers, the front-end serves.
 *
 * Facts that this relies on, seen on Linux 6.18: a userfaultfd that is not
 * O_NONBLOCK polls as POLLERR; UFFDIO_WAKE lets a waiter look again; closing
 * the last descriptor releases waiters, who read zeroes; a registration lives
 * on after our descriptor is closed, as long as the front-end has its copy.
 */
#include "vu/be/postcopy.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/limits.h"
#include "mem/kernel.h"
#include "mem/uffd_open.h"
#include "vu/be/memory.h"
#include "vu/be/touch.h"

int ferry_vb_postcopy_probe(struct ferry_err *e)
{
	struct ferry_uffd u;

	if (ferry_uffd_open_backend(&u, e))
		return -1;
	close(u.fd);
	return 0;
}

static int open_uffd(int handed, struct ferry_err *e)
{
	struct ferry_uffd u;
	uint64_t have;
	int rc;

	if (handed < 0) {
		/* User mode only will do: be/touch.h. */
		if (ferry_uffd_open_backend(&u, e))
			return -1;
		return u.fd;
	}
	rc = ferry_uffd_handshake(handed, 0, &have);
	if (rc) {
		close(handed);
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, -rc,
				     "the userfaultfd that was handed in");
	}
	return handed;
}

int ferry_vb_postcopy_advise(struct ferry_vb_postcopy *p, int handed,
			     struct ferry_err *e)
{
	int copy;

	if (p->uffd < 0) {
		p->uffd = open_uffd(handed, e);
		if (p->uffd < 0)
			return -1;
		fcntl(p->uffd, F_SETFL, O_NONBLOCK);
	}
	copy = fcntl(p->uffd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "userfaultfd");
	return copy;
}

static int register_region(int uffd, const struct ferry_vb_region *r,
			   struct ferry_err *e)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)r->map, r->map_bytes },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	/* A huge page over 4 KiB ones would bring neighbours that are missing;
	 * hugetlb has none of that and refuses the advice. */
	madvise(r->map, r->map_bytes, MADV_NOHUGEPAGE);
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "memory at 0x%" PRIx64
				     ": userfaultfd registration", r->gpa);
	if (!(reg.ioctls & 1ull << _UFFDIO_COPY))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "memory at 0x%" PRIx64 ": its pages"
				     " cannot be placed by userfaultfd",
				     r->gpa);
	if (mprotect(r->map, r->map_bytes, PROT_READ | PROT_WRITE))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "memory at 0x%" PRIx64 ": mprotect",
				     r->gpa);
	return 0;
}

int ferry_vb_postcopy_register(struct ferry_vb_postcopy *p,
			       struct ferry_vb_memory *m,
			       struct ferry_vb_touch *t, struct ferry_err *e)
{
	for (unsigned i = 0; i < m->n; i++)
		if (register_region(p->uffd, &m->region[i], e))
			return -1;
	m->shut = false;
	p->registered = true;
	atomic_store(&t->missing, true);
	return 0;
}

static void close_uffd(struct ferry_vb_postcopy *p)
{
	if (p->uffd >= 0)
		close(p->uffd);
	*p = (struct ferry_vb_postcopy)FERRY_VB_POSTCOPY_NONE;
}

void ferry_vb_postcopy_end(struct ferry_vb_postcopy *p,
			   struct ferry_vb_memory *m, struct ferry_vb_touch *t)
{
	for (unsigned i = 0; p->registered && i < m->n; i++) {
		struct uffdio_range range = {
			(uintptr_t)m->region[i].map, m->region[i].map_bytes,
		};

		ioctl(p->uffd, UFFDIO_UNREGISTER, &range);
	}
	atomic_store(&t->missing, false);
	close_uffd(p);
}

/* ---- a front-end that died ---------------------------------------------- */

/* Put zeroes that are nobody's over a hole. */
static void cover(uint8_t *at, uint64_t bytes)
{
	void *p = mmap(at, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
		       -1, 0);

	/* Only the number of mappings can be lacking.  Then the hole stays,
	 * and whoever waits for it is let go by the last close. */
	(void)p;
}

/*
 * What is data and what is a hole: the file knows, and knows pages that are
 * swapped out too.  hugetlbfs says data everywhere; mincore() tells there, and
 * its pages are never swapped.
 */
static void cover_holes(const struct ferry_vb_region *r)
{
	off_t at = (off_t)(r->fd_offset - (uint64_t)(r->at - r->map));
	off_t start = at, end = at + (off_t)r->map_bytes;

	while (at < end) {
		off_t hole = lseek(r->fd, at, SEEK_HOLE);
		off_t data;

		if (hole < 0 || hole >= end)
			break;
		data = lseek(r->fd, hole, SEEK_DATA);
		if (data < 0 || data > end)
			data = end;
		cover(r->map + (hole - start), (uint64_t)(data - hole));
		at = data;
	}
}

static void cover_missing_huge(const struct ferry_vb_region *r)
{
	uint64_t step = r->page_bytes;

	for (uint64_t at = 0; at < r->map_bytes; at += step) {
		unsigned char in = 0;

		if (!mincore(r->map + at, FERRY_PAGE_BYTES, &in) && !(in & 1))
			cover(r->map + at, step);
	}
}

static void abandon_region(int uffd, const struct ferry_vb_region *r)
{
	struct uffdio_range range = { (uintptr_t)r->map, r->map_bytes };

	if (r->page_bytes > FERRY_PAGE_BYTES)
		cover_missing_huge(r);
	else
		cover_holes(r);
	ioctl(uffd, UFFDIO_WAKE, &range);
}

void ferry_vb_postcopy_abandon(struct ferry_vb_postcopy *p,
			       struct ferry_vb_memory *m,
			       struct ferry_vb_touch *t)
{
	if (p->registered) {
		atomic_store(&t->broken, true);
		for (unsigned i = 0; i < m->n; i++)
			abandon_region(p->uffd, &m->region[i]);
	}
	close_uffd(p);
}
