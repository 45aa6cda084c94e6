/* SPDX-License-Identifier: MIT */
/*
 * Placing: what surrounds the hot ways of place_ops.c - registration, discards
 * and who waits for what.
 */
#include "recv/place.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "mem/extent.h"
#include "recv/place_ops.h"

#define PATIENCE_NS	(5 * FERRY_NS_PER_S)

static int init(struct ferry_place *p, struct ferry_mem *mem,
		struct ferry_map *map, const struct ferry_place_ops *ops,
		struct ferry_err *e)
{
	*p = (struct ferry_place){
		.mem = mem, .map = map, .uffd = { .fd = -1 },
		.registered = calloc(FERRY_BLOCKS_MAX, sizeof(_Atomic bool)),
		.patience_ns = PATIENCE_NS,
	};
	atomic_init(&p->ops, ops);
	pthread_mutex_init(&p->lock, NULL);
	if (!p->registered)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "placing");
	return 0;
}

int ferry_place_init(struct ferry_place *p, struct ferry_mem *mem,
		     struct ferry_map *map, struct ferry_err *e)
{
	return init(p, mem, map, &ferry_place_precopy, e);
}

int ferry_place_init_file(struct ferry_place *p, struct ferry_mem *mem,
			  struct ferry_map *map, struct ferry_err *e)
{
	if (init(p, mem, map, &ferry_place_file, e))
		return -1;
	p->in_file = true;
	return 0;
}

void ferry_place_fini(struct ferry_place *p)
{
	if (!p->mem)
		return;
	ferry_place_end(p);
	if (p->uffd.fd >= 0)
		ferry_uffd_close(&p->uffd);
	free((void *)p->registered);
	pthread_mutex_destroy(&p->lock);
}

static int register_blocks(struct ferry_place *p, uint32_t host_pages_max,
			   struct ferry_err *e)
{
	for (uint32_t i = 0; i < p->mem->blocks; i++) {
		struct ferry_mem_block *b = &p->mem->block[i];

		if (p->registered[i] || b->host_pages > host_pages_max)
			continue;
		if (ferry_uffd_register(&p->uffd, b, e))
			return -1;
		p->registered[i] = true;
	}
	return 0;
}

int ferry_place_begin(struct ferry_place *p, struct ferry_err *e)
{
	if (p->in_file)		/* a new one */
		return 0;
	for (uint32_t i = 0; i < p->mem->blocks; i++) {
		struct ferry_mem_block *b = &p->mem->block[i];

		if (ferry_extent_drop(b, 0, b->pages, e) ||
		    ferry_extent_reserve(b, e))
			return -1;
	}
	if (p->uffd.fd < 0 && ferry_uffd_open(&p->uffd, 0, &p->no_uffd))
		return 0;
	return register_blocks(p, 1, e);
}

int ferry_place_can_listen(const struct ferry_place *p, struct ferry_err *why)
{
	if (p->uffd.fd >= 0 || p->in_file)
		return 0;
	if (why)
		*why = p->no_uffd;
	return -1;
}

/* A host page is missing as a whole or not at all: a page that is partly here
 * would never fault. */
static int check_whole(struct ferry_place *p, struct ferry_err *e)
{
	uint32_t block = 0;
	uint64_t page = 0;

	while (ferry_map_next_missing(p->map, &block, &page)) {
		struct ferry_mem_block *b = &p->mem->block[block];

		if (b->host_pages == 1) {	/* nothing to be torn */
			block++;
			page = 0;
			continue;
		}
		for (uint64_t i = page - page % b->host_pages, end =
		     i + b->host_pages; i < end; i++)
			if (ferry_map_is_here(p->map, block, i))
				return ferry_err_set(e, FERRY_E_PROTO, 0,
						     "block %s: a host page "
						     "is owed in part only",
						     b->name);
		page += b->host_pages - page % b->host_pages;
	}
	return 0;
}

int ferry_place_listen(struct ferry_place *p, struct ferry_err *e)
{
	if (p->in_file)
		return ferry_place_file_listen(p, e);
	if (check_whole(p, e) || ferry_place_can_listen(p, e) ||
	    register_blocks(p, UINT32_MAX, e))
		return -1;
	atomic_store(&p->ops, &ferry_place_postcopy);
	return 0;
}

static void unregister(struct ferry_place *p)
{
	for (uint32_t i = 0; i < p->mem->blocks; i++) {
		if (p->registered[i])
			ferry_uffd_unregister(&p->uffd, &p->mem->block[i]);
		p->registered[i] = false;
	}
}

void ferry_place_complete(struct ferry_place *p)
{
	unregister(p);
}

void ferry_place_stop_waiting(struct ferry_place *p)
{
	atomic_store(&p->stopped, true);
}

void ferry_place_wait_again(struct ferry_place *p)
{
	atomic_store(&p->stopped, false);
}

void ferry_place_end(struct ferry_place *p)
{
	ferry_place_stop_waiting(p);
	atomic_store(&p->ops, &ferry_place_done);
	unregister(p);
}

static void forbid(struct ferry_mem_block *b, uint64_t first, uint64_t end)
{
	/* Too many pieces for the kernel: then all of the block goes. */
	if (mprotect(b->host + first * FERRY_PAGE_BYTES,
		     (end - first) * FERRY_PAGE_BYTES, PROT_NONE))
		mprotect(b->host, b->bytes, PROT_NONE);
}

void ferry_place_abandon(struct ferry_place *p)
{
	uint32_t block = 0;
	uint64_t page = 0;

	if (p->in_file) {	/* nobody can look */
		ferry_place_end(p);
		return;
	}
	while (ferry_map_next_missing(p->map, &block, &page)) {
		struct ferry_mem_block *b = &p->mem->block[block];
		uint64_t end = page - page % b->host_pages;
		uint64_t first = end;

		while (end < b->pages && !ferry_map_is_here(p->map, block, end)
		       && !ferry_map_is_zero(p->map, block, end))
			end += b->host_pages;
		forbid(b, first, end);
		page = end;
	}
	ferry_place_end(p);
}

/*
 * Only what is here occupies memory.  Runs of it are dropped together, across
 * gaps that are absent anyway: a system call costs more than a few pages.
 */
int ferry_place_discard(struct ferry_place *p, struct ferry_mem_block *b,
			uint64_t first, uint64_t n, struct ferry_err *e)
{
	struct ferry_bitmap *here = &p->map->here[b->index];
	uint64_t from = ferry_bitmap_next_set_before(here, first, first + n);

	if (from < first + n) {
		uint64_t to = first + n;

		while (!ferry_bitmap_test(here, to - 1))
			to--;
		from -= from % b->host_pages;
		to += (b->host_pages - to % b->host_pages) % b->host_pages;
		if (ferry_extent_drop(b, from, to - from, e))
			return -1;
	}
	ferry_map_set_missing(p->map, b->index, first, n);
	return 0;
}

void ferry_place_wait_begins(struct ferry_place *p, uint32_t block,
			     uint64_t page)
{
	uint64_t now = ferry_now_ns();

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < FERRY_WAITING_MAX; i++) {
		if (p->waiting[i].since_ns)
			continue;
		p->waiting[i] = (struct ferry_waiting){ block, page, now };
		break;
	}
	pthread_mutex_unlock(&p->lock);
}
