/* SPDX-License-Identifier: MIT */
/*
 * Placing: when touching a missing page is a fault that waits, and that such a
 * page is really absent then.
 */
#include "mem/extent.h"
#include "recv/place_ops.h"

static int arm(struct ferry_place *p, struct ferry_mem_block *b,
	       struct ferry_err *e)
{
	if (p->registered[b->index])
		return 0;
	ferry_extent_allow_huge(b, false);
	if (ferry_uffd_register(&p->uffd, b, e))
		return -1;
	p->registered[b->index] = true;
	return 0;
}

static void disarm(struct ferry_place *p, struct ferry_mem_block *b)
{
	if (p->registered[b->index])
		ferry_uffd_unregister(&p->uffd, b);
	p->registered[b->index] = false;
	ferry_extent_allow_huge(b, true);
}

void ferry_place_disarm(struct ferry_place *p)
{
	for (uint32_t i = 0; i < p->mem->blocks; i++)
		if (p->registered[i] || p->exact)
			disarm(p, &p->mem->block[i]);
	p->exact = false;
}

void ferry_place_complete(struct ferry_place *p)
{
	ferry_place_disarm(p);
}

/* ---- at the beginning --------------------------------------------------- */

/* A memory that cannot be registered is refused now, not when a VM has stopped
 * for it. */
static int arm_or_try(struct ferry_place *p, struct ferry_mem_block *b,
		      struct ferry_err *e)
{
	if (b->host_pages > 1)
		return 0;
	if (arm(p, b, e))
		return -1;
	if (ferry_extent_may_be_huge(b))
		disarm(p, b);
	return 0;
}

int ferry_place_begin(struct ferry_place *p, struct ferry_err *e)
{
	if (p->in_file)		/* a new one */
		return 0;
	p->exact = false;
	for (uint32_t i = 0; i < p->mem->blocks; i++) {
		struct ferry_mem_block *b = &p->mem->block[i];

		if (ferry_extent_drop(b, 0, b->pages, e) ||
		    ferry_extent_reserve(b, e))
			return -1;
		ferry_extent_allow_huge(b, true);
	}
	if (p->uffd.fd < 0 && ferry_uffd_open(&p->uffd, 0, &p->no_uffd))
		return 0;
	for (uint32_t i = 0; i < p->mem->blocks; i++)
		if (arm_or_try(p, &p->mem->block[i], e))
			return -1;
	return 0;
}

int ferry_place_can_listen(const struct ferry_place *p, struct ferry_err *why)
{
	if (p->uffd.fd >= 0 || p->in_file)
		return 0;
	if (why)
		*why = p->no_uffd;
	return -1;
}

/* ---- when pages are going to be owed ------------------------------------ */

static int drop_missing(struct ferry_place *p, struct ferry_mem_block *b,
			struct ferry_err *e)
{
	uint32_t block = b->index;
	uint64_t page = 0, end;

	while (ferry_map_next_missing(p->map, &block, &page) &&
	       block == b->index) {
		end = ferry_map_missing_end(p->map, block, page);
		if (ferry_extent_drop(b, page, end - page, e))
			return -1;
		page = end;
	}
	return 0;
}

/* Little is missing after a pass, and all of it in one piece before the first:
 * few calls in any case. */
static int make_exact(struct ferry_place *p, struct ferry_err *e)
{
	int rc = 0;

	if (p->exact || p->in_file)
		return 0;
	pthread_rwlock_wrlock(&p->shape);
	for (uint32_t i = 0; !rc && i < p->mem->blocks; i++) {
		struct ferry_mem_block *b = &p->mem->block[i];

		if (!ferry_extent_may_be_huge(b))
			continue;
		ferry_extent_allow_huge(b, false);
		rc = drop_missing(p, b, e);
	}
	p->exact = true;
	pthread_rwlock_unlock(&p->shape);
	return rc;
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
	    make_exact(p, e))
		return -1;
	for (uint32_t i = 0; i < p->mem->blocks; i++)
		if (arm(p, &p->mem->block[i], e))
			return -1;
	atomic_store(&p->ops, &ferry_place_postcopy);
	return 0;
}

/* What may lie in memory: that is here, or, in a huge page, zero. */
static bool is_there(const struct ferry_place *p,
		     const struct ferry_mem_block *b, uint64_t page)
{
	return ferry_map_is_here(p->map, b->index, page) ||
	       (ferry_extent_may_be_huge(b) &&
		ferry_map_is_zero(p->map, b->index, page));
}

/*
 * Runs of what is there are dropped together, across gaps that are absent
 * anyway: a system call costs more than a few pages.
 */
int ferry_place_discard(struct ferry_place *p, struct ferry_mem_block *b,
			uint64_t first, uint64_t n, struct ferry_err *e)
{
	uint64_t from = first, to = first + n;

	if (make_exact(p, e))
		return -1;
	while (from < to && !is_there(p, b, from))
		from++;
	while (from < to && !is_there(p, b, to - 1))
		to--;
	if (from < to) {
		from -= from % b->host_pages;
		to += (b->host_pages - to % b->host_pages) % b->host_pages;
		if (ferry_extent_drop(b, from, to - from, e))
			return -1;
	}
	ferry_map_set_missing(p->map, b->index, first, n);
	return 0;
}
