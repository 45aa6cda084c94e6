/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd: registering memory, placing pages, reading faults.
 *
 * Threads: copy, zero and wake by any; read by one.  The kernel serialises
 *          two copies to one page: one places it, the other gets -EEXIST.
 */
#include "mem/uffd.h"

#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/kernel.h"

void ferry_uffd_close(struct ferry_uffd *u)
{
	if (u->fd >= 0)
		close(u->fd);
	*u = (struct ferry_uffd){ .fd = -1, .how = "" };
}

static struct uffdio_range range_of(const struct ferry_mem_block *b)
{
	return (struct uffdio_range){ (uintptr_t)b->host, b->bytes };
}

int ferry_uffd_register(struct ferry_uffd *u, struct ferry_mem_block *b,
			struct ferry_err *e)
{
	struct uffdio_register reg = {
		.range = range_of(b),
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (ioctl(u->fd, UFFDIO_REGISTER, &reg))
		return ferry_err_set(e, errno == EINVAL ? FERRY_E_UNSUPPORTED :
				     FERRY_E_IO, errno,
				     "block %s: register with userfaultfd%s",
				     b->name, errno != EBUSY ? "" :
				     " (another one has it)");
	if (!(reg.ioctls & (1ull << _UFFDIO_COPY))) {
		ferry_uffd_unregister(u, b);
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "block %s: this kind of memory cannot be filled by userfaultfd",
				     b->name);
	}
	return 0;
}

void ferry_uffd_unregister(struct ferry_uffd *u, struct ferry_mem_block *b)
{
	struct uffdio_range r = range_of(b);

	(void)ioctl(u->fd, UFFDIO_UNREGISTER, &r);
	/* Seen on Linux 6.18: who faults while the kernel unregisters may
	 * begin to wait after it has woken all that wait. */
	(void)ioctl(u->fd, UFFDIO_WAKE, &r);
}

/* One UFFDIO_COPY: octets placed, or -errno. */
static int64_t copy_once(int fd, uint64_t dst, uint64_t src, uint64_t bytes)
{
	struct uffdio_copy c = { .dst = dst, .src = src, .len = bytes };

	if (!ioctl(fd, UFFDIO_COPY, &c) || c.copy > 0)
		return c.copy;
	return -errno;
}

int64_t ferry_uffd_copy(struct ferry_uffd *u, void *dst, const void *src,
			uint64_t bytes)
{
	uint64_t done = 0;
	int64_t n = 0;

	while (done < bytes) {
		n = copy_once(u->fd, (uintptr_t)dst + done,
			      (uintptr_t)src + done, bytes - done);
		if (n == -EAGAIN)
			sched_yield();	/* mappings are changing */
		else if (n < 0)
			break;
		else
			done += (uint64_t)n;
	}
	return done ? (int64_t)done : n;
}

static int64_t zero_once(int fd, uint64_t at, uint64_t bytes)
{
	struct uffdio_zeropage z = { .range = { at, bytes } };

	if (!ioctl(fd, UFFDIO_ZEROPAGE, &z) || z.zeropage > 0)
		return z.zeropage;
	return -errno;
}

static int64_t zero_small(struct ferry_uffd *u, uint64_t at, uint64_t bytes)
{
	uint64_t done = 0;
	int64_t n = 0;

	while (done < bytes) {
		n = zero_once(u->fd, at + done, bytes - done);
		if (n == -EAGAIN)
			sched_yield();
		else if (n < 0)
			break;
		else
			done += (uint64_t)n;
	}
	return done ? (int64_t)done : n;
}

/* hugetlb has no zero page to map: copy one, page by page. */
static int64_t zero_huge(struct ferry_uffd *u, uint8_t *at, uint64_t bytes,
			 uint32_t page_bytes)
{
	uint64_t done = 0;
	int64_t n = 0;
	void *zeroes;

	zeroes = mmap(NULL, page_bytes, PROT_READ,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (zeroes == MAP_FAILED)
		return -errno;

	while (done < bytes) {
		n = ferry_uffd_copy(u, at + done, zeroes, page_bytes);
		if (n < 0)
			break;
		done += (uint64_t)n;
	}
	munmap(zeroes, page_bytes);
	return done ? (int64_t)done : n;
}

int64_t ferry_uffd_zero(struct ferry_uffd *u, struct ferry_mem_block *b,
			uint64_t first, uint64_t pages)
{
	uint8_t *at = b->host + first * FERRY_PAGE_BYTES;
	uint64_t bytes = pages * FERRY_PAGE_BYTES;

	if (b->page_bytes != FERRY_PAGE_BYTES)
		return zero_huge(u, at, bytes, b->page_bytes);
	return zero_small(u, (uintptr_t)at, bytes);
}

void ferry_uffd_wake(struct ferry_uffd *u, void *addr, uint64_t bytes)
{
	struct uffdio_range r = { (uintptr_t)addr, bytes };

	(void)ioctl(u->fd, UFFDIO_WAKE, &r);
}

/* False: a message of another kind, which we never ask for. */
static bool decode(const struct uffd_msg *m, uint64_t features,
		   struct ferry_uffd_fault *f)
{
	uint64_t flags = m->arg.pagefault.flags;

	if (m->event != UFFD_EVENT_PAGEFAULT)
		return false;
	*f = (struct ferry_uffd_fault){
		.addr = m->arg.pagefault.address & ~(FERRY_PAGE_BYTES - 1ull),
		.write = flags & UFFD_PAGEFAULT_FLAG_WRITE,
		.wp = flags & UFFD_PAGEFAULT_FLAG_WP,
		.tid = features & UFFD_FEATURE_THREAD_ID ?
		       m->arg.pagefault.feat.ptid : 0,
	};
	return true;
}

int ferry_uffd_read(struct ferry_uffd *u, struct ferry_uffd_fault *f, int n)
{
	struct uffd_msg msg[32];
	size_t want = n < 32 ? (size_t)n : 32;
	ssize_t got;
	int faults = 0;

	do {
		got = read(u->fd, msg, want * sizeof(msg[0]));
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? 0 : -errno;

	for (size_t i = 0; i < (size_t)got / sizeof(msg[0]); i++)
		faults += decode(&msg[i], u->features, &f[faults]);
	return faults;
}
