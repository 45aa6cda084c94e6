/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd: missing pages of a block become messages; pages are placed
 * whole.  Kernel interface: linux/userfaultfd.h, newer parts defined by us and
 * probed at run time.
 *
 * Threads: copy, zero and wake by any; read by one thread (the fault thread).
 */
#ifndef FERRY_MEM_UFFD_H
#define FERRY_MEM_UFFD_H

#include "mem/mem.h"

struct ferry_uffd {
	int		fd;
	uint64_t	features;	/* UFFD_FEATURE_* granted */
	const char	*how;		/* "/dev/userfaultfd", "system call" */
};

/*
 * /dev/userfaultfd first, then the system call; `want` features are asked for
 * as far as the kernel has them.  FERRY_E_PERM or FERRY_E_UNSUPPORTED with the
 * exact fix.  Non-blocking, close-on-exec.
 */
FERRY_CHECKED int ferry_uffd_open(struct ferry_uffd *u, uint64_t want,
				  struct ferry_err *e);
void ferry_uffd_close(struct ferry_uffd *u);

/*
 * Faults on missing pages of the block become messages.  No transparent huge
 * page may appear over them: ferry_extent_allow_huge().
 */
FERRY_CHECKED int ferry_uffd_register(struct ferry_uffd *u,
				      struct ferry_mem_block *b,
				      struct ferry_err *e);
void ferry_uffd_unregister(struct ferry_uffd *u, struct ferry_mem_block *b);

/*
 * Place a run whose pages are all absent, from src; whoever waits is woken.
 * Returns octets placed (less than asked when a page is present already: skip
 * it and go on), or -EEXIST when the first is present, or another -errno.
 * Retries -EAGAIN by itself.  Multiples of the host page.
 */
int64_t ferry_uffd_copy(struct ferry_uffd *u, void *dst, const void *src,
			uint64_t bytes);

/* The same with zeroes.  Where the kernel has no zero page for this memory
 * (hugetlb), copies zeroes. */
int64_t ferry_uffd_zero(struct ferry_uffd *u, struct ferry_mem_block *b,
			uint64_t first, uint64_t pages);

/* Let whoever waits on this range look again. */
void ferry_uffd_wake(struct ferry_uffd *u, void *addr, uint64_t bytes);

/* One fault. */
struct ferry_uffd_fault {
	uint64_t	addr;	/* rounded down to 4 KiB */
	bool		write;
	bool		wp;	/* a write-protect fault */
	uint32_t	tid;	/* 0 when the kernel does not say */
};

/* Up to n waiting messages; 0 when there are none; or -errno. */
int ferry_uffd_read(struct ferry_uffd *u, struct ferry_uffd_fault *f, int n);

#endif
