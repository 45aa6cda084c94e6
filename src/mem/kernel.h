/* SPDX-License-Identifier: MIT */
/*
 * The parts of the kernel's interface that are newer than the headers of the
 * oldest system we build on (Debian 12: Linux 6.1).  Numbers are those of the
 * named uapi header; whether the running kernel has them is probed at run
 * time, never assumed.
 */
#ifndef FERRY_MEM_KERNEL_H
#define FERRY_MEM_KERNEL_H

#include <linux/ioctl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>

/* ---- linux/userfaultfd.h ------------------------------------------------ */

#ifndef USERFAULTFD_IOC_NEW			/* 6.1 */
#define USERFAULTFD_IOC_NEW		_IO(0xAA, 0x00)
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM		/* 5.19 */
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM	(1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED		/* 6.4 */
#define UFFD_FEATURE_WP_UNPOPULATED	(1 << 13)
#endif
#ifndef UFFD_FEATURE_POISON			/* 6.6 */
#define UFFD_FEATURE_POISON		(1 << 14)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC			/* 6.7 */
#define UFFD_FEATURE_WP_ASYNC		(1 << 15)
#endif
#ifndef UFFD_FEATURE_MOVE			/* 6.8 */
#define UFFD_FEATURE_MOVE		(1 << 16)
#endif

/* Without it a fault inside the kernel is not delivered but fails. */
#ifndef UFFD_USER_MODE_ONLY			/* 5.11 */
#define UFFD_USER_MODE_ONLY		1
#endif

#ifndef UFFDIO_POISON				/* 6.6 */
struct uffdio_poison {
	struct uffdio_range range;
	uint64_t mode;
	int64_t updated;		/* octets, or -errno */
};
#define UFFDIO_POISON			_IOWR(0xAA, 0x08, struct uffdio_poison)
#endif

#ifndef UFFDIO_MOVE				/* 6.8 */
struct uffdio_move {
	uint64_t dst;
	uint64_t src;
	uint64_t len;
	uint64_t mode;
	int64_t move;			/* octets, or -errno */
};
#define UFFDIO_MOVE			_IOWR(0xAA, 0x05, struct uffdio_move)
#endif

/* ---- linux/fs.h: PAGEMAP_SCAN on /proc/PID/pagemap (6.7) ---------------- */

#ifndef PAGEMAP_SCAN
#define PAGE_IS_WPALLOWED	(1 << 0)
#define PAGE_IS_WRITTEN		(1 << 1)
#define PAGE_IS_FILE		(1 << 2)
#define PAGE_IS_PRESENT		(1 << 3)
#define PAGE_IS_SWAPPED		(1 << 4)
#define PAGE_IS_PFNZERO		(1 << 5)
#define PAGE_IS_HUGE		(1 << 6)

struct page_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

#define PM_SCAN_WP_MATCHING	(1 << 0)
#define PM_SCAN_CHECK_WPASYNC	(1 << 1)

struct pm_scan_arg {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};
#define PAGEMAP_SCAN		_IOWR('f', 16, struct pm_scan_arg)
#endif

/* Documentation/admin-guide/mm/pagemap.rst: bits of a pagemap entry. */
#define FERRY_PAGEMAP_SOFT_DIRTY	(1ull << 55)
#define FERRY_PAGEMAP_SWAPPED		(1ull << 62)
#define FERRY_PAGEMAP_PRESENT		(1ull << 63)

/* ---- sys/mman.h --------------------------------------------------------- */

#ifndef MADV_POPULATE_WRITE			/* 5.14 */
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_DONTNEED_LOCKED			/* 5.18 */
#define MADV_DONTNEED_LOCKED	24
#endif

#endif
