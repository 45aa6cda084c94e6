/* SPDX-License-Identifier: MIT */
/*
 * Writes found by asynchronous write protection and PAGEMAP_SCAN.
 *
 * A scan tells which pages are not protected any more and protects them again,
 * in one step per page, so a harvest loses nothing and arm() has nothing to do.
 *
 * To the scan a page that is not mapped and has no marker counts as written.
 * Memory files: everything is protected at the start, which leaves a marker in
 * every page table entry; so "no marker" means written and then unmapped again
 * (by reclaim), and is told.  It costs page tables: 2 MiB for each GiB.
 * Private memory: what was written stays in the page tables, as present or
 * swapped; only that is asked for, and untouched pages get no marker (with
 * one they would look swapped, that is, touched).
 *
 * A transparent huge page is split by the first write to it.
 *
 * Threads: the engine's main thread.
 */
#include "mem/dirty_way.h"

#include <stdlib.h>

#include "mem/dirty_util.h"
#include "mem/kernel.h"
#include "mem/pagemap.h"
#include "mem/uffd_open.h"
#include "mem/wp.h"

#define FEATURES	(UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED)

struct async {
	struct ferry_dirty	 dirty;
	const struct ferry_mem	*mem;
	struct ferry_uffd	 u;
	struct ferry_pagemap	 map;
};

static const struct ferry_pagemap_query written_file = {
	.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
	.all_of = PAGE_IS_WRITTEN,
	.give = PAGE_IS_WRITTEN,
};

static const struct ferry_pagemap_query written_private = {
	.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
	.all_of = PAGE_IS_WRITTEN,
	.any_of = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
	.give = PAGE_IS_WRITTEN,
};

/* ---- start and stop ----------------------------------------------------- */

static void close_all(struct async *a)
{
	ferry_uffd_close(&a->u);
	ferry_pagemap_close(&a->map);
}

static int open_all(struct async *a, struct ferry_err *e)
{
	int rc = ferry_pagemap_open(&a->map);

	if (rc)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, -rc,
				     "/proc/self/pagemap");
	if (!a->map.scan) {
		ferry_pagemap_close(&a->map);
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "no PAGEMAP_SCAN (Linux 6.7)");
	}

	/* Nobody ever waits for a fault of this kind, so it does not matter
	 * that those of the kernel would not be delivered. */
	if (ferry_wp_open(&a->u, a->mem, FEATURES, true, e)) {
		ferry_pagemap_close(&a->map);
		return -1;
	}
	return 0;
}

static int ignore(void *arg, uint64_t first, uint64_t pages)
{
	(void)arg;
	(void)first;
	(void)pages;
	return 0;
}

static int protect_block(struct async *a, const struct ferry_mem_block *b,
			 struct ferry_err *e)
{
	int rc;

	if (ferry_wp_register(&a->u, b, UFFDIO_REGISTER_MODE_WP, e))
		return -1;
	rc = b->fd >= 0 ?
	     ferry_wp_set(&a->u, b, 0, b->pages, true) :
	     ferry_pagemap_scan(&a->map, b, &written_private, ignore, NULL);
	if (rc)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, -rc,
				     "block %s: write protection", b->name);
	return 0;
}

static void async_stop(struct ferry_dirty *d)
{
	struct async *a = (struct async *)d;

	if (a->u.fd < 0)
		return;
	for (uint32_t i = 0; i < a->mem->blocks; i++)
		ferry_wp_unregister(&a->u, &a->mem->block[i]);
	close_all(a);
}

static int async_start(struct ferry_dirty *d, struct ferry_err *e)
{
	struct async *a = (struct async *)d;

	if (open_all(a, e))
		return -1;
	for (uint32_t i = 0; i < a->mem->blocks; i++) {
		if (!protect_block(a, &a->mem->block[i], e))
			continue;
		async_stop(d);
		return -1;
	}
	return 0;
}

/* ---- harvest ------------------------------------------------------------ */

static int async_harvest(struct ferry_dirty *d, struct ferry_owed *owed,
			 bool final, struct ferry_err *e)
{
	struct async *a = (struct async *)d;

	(void)final;
	for (uint32_t i = 0; i < a->mem->blocks; i++) {
		const struct ferry_mem_block *b = &a->mem->block[i];
		struct ferry_dirty_into to = { owed, i };
		int rc = ferry_pagemap_scan(&a->map, b, b->fd >= 0 ?
					    &written_file : &written_private,
					    ferry_dirty_mark_run, &to);

		if (rc)
			return ferry_err_set(e, FERRY_E_IO, -rc,
					     "block %s: scan for written pages",
					     b->name);
	}
	return 0;
}

static void async_free(struct ferry_dirty *d)
{
	free(d);
}

static const struct ferry_dirty_ops async_ops = {
	.name = "uffd-wp-async",
	.start = async_start,
	.harvest = async_harvest,
	.arm = ferry_dirty_arm_nothing,
	.stop = async_stop,
	.free = async_free,
};

static struct ferry_dirty *async_make(const struct ferry_mem *mem,
				      struct ferry_err *e)
{
	struct async *a = calloc(1, sizeof(*a));

	if (!a) {
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "write tracking");
		return NULL;
	}
	a->dirty.ops = &async_ops;
	a->mem = mem;
	a->u.fd = -1;
	a->map.fd = -1;
	return &a->dirty;
}

static int async_probe(const struct ferry_mem *mem, struct ferry_err *e)
{
	struct async a = { .mem = mem };

	if (open_all(&a, e))
		return -1;
	close_all(&a);
	return 0;
}

const struct ferry_dirty_way ferry_dirty_way_async = {
	.name = "uffd-wp-async",
	.probe = async_probe,
	.make = async_make,
};
