/* SPDX-License-Identifier: MIT */
/*
 * Writes found by soft-dirty bits; dirty_way.h says why the set only grows.
 *
 * Threads: the engine's main thread.
 * Limits:  a page of a memory file that the kernel swaps out loses its bit.
 */
#include "mem/dirty_way.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "mem/dirty_util.h"
#include "mem/kernel.h"
#include "mem/pagemap.h"

struct soft {
	struct ferry_dirty	 dirty;
	const struct ferry_mem	*mem;
	struct ferry_pagemap	 map;
};

static int yes(void *arg, uint64_t first, uint64_t pages)
{
	(void)first;
	(void)pages;
	*(bool *)arg = true;
	return 0;
}

/* A page that was just written has the bit, on a kernel that keeps it. */
static bool kernel_has_it(const struct ferry_pagemap *map)
{
	struct ferry_mem_block b = { .bytes = FERRY_PAGE_BYTES, .pages = 1 };
	bool has = false;
	void *p = mmap(NULL, b.bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return false;
	b.host = p;
	*(volatile uint8_t *)b.host = 1;
	(void)ferry_pagemap_read(map, &b, FERRY_PAGEMAP_SOFT_DIRTY, yes, &has);
	munmap(p, b.bytes);
	return has;
}

static int check(const struct ferry_mem *mem, struct ferry_pagemap *map,
		 struct ferry_err *e)
{
	int rc;

	for (uint32_t i = 0; i < mem->blocks; i++)
		if (mem->block[i].host_pages > 1)
			return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
					     "block %s: no soft-dirty bits for huge pages",
					     mem->block[i].name);
	rc = ferry_pagemap_open(map);
	if (rc)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, -rc,
				     "/proc/self/pagemap");
	if (kernel_has_it(map))
		return 0;
	ferry_pagemap_close(map);
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
			     "kernel without CONFIG_MEM_SOFT_DIRTY");
}

static void soft_stop(struct ferry_dirty *d)
{
	ferry_pagemap_close(&((struct soft *)d)->map);
}

static int soft_start(struct ferry_dirty *d, struct ferry_err *e)
{
	struct soft *s = (struct soft *)d;
	FERRY_AUTO_FD clear = -1;

	if (check(s->mem, &s->map, e))
		return -1;
	clear = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	if (clear >= 0 && write(clear, "4", 1) == 1)
		return 0;
	ferry_err_set(e, FERRY_E_UNSUPPORTED, errno, "/proc/self/clear_refs");
	soft_stop(d);
	return -1;
}

static int soft_harvest(struct ferry_dirty *d, struct ferry_owed *owed,
			bool final, struct ferry_err *e)
{
	struct soft *s = (struct soft *)d;

	(void)final;
	for (uint32_t i = 0; i < s->mem->blocks; i++) {
		struct ferry_dirty_into to = { owed, i };
		int rc = ferry_pagemap_read(&s->map, &s->mem->block[i],
					    FERRY_PAGEMAP_SOFT_DIRTY,
					    ferry_dirty_mark_run, &to);

		if (rc)
			return ferry_err_set(e, FERRY_E_IO, -rc,
					     "block %s: read soft-dirty bits",
					     s->mem->block[i].name);
	}
	return 0;
}

static void soft_free(struct ferry_dirty *d)
{
	free(d);
}

static const struct ferry_dirty_ops soft_ops = {
	.name = "soft-dirty",
	.start = soft_start,
	.harvest = soft_harvest,
	.arm = ferry_dirty_arm_nothing,
	.stop = soft_stop,
	.free = soft_free,
};

static struct ferry_dirty *soft_make(const struct ferry_mem *mem,
				     struct ferry_err *e)
{
	struct soft *s = calloc(1, sizeof(*s));

	if (!s) {
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "write tracking");
		return NULL;
	}
	s->dirty.ops = &soft_ops;
	s->mem = mem;
	s->map.fd = -1;
	return &s->dirty;
}

static int soft_probe(const struct ferry_mem *mem, struct ferry_err *e)
{
	struct ferry_pagemap map;

	if (check(mem, &map, e))
		return -1;
	ferry_pagemap_close(&map);
	return 0;
}

const struct ferry_dirty_way ferry_dirty_way_soft = {
	.name = "soft-dirty",
	.probe = soft_probe,
	.make = soft_make,
};
