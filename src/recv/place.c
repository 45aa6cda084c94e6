/* SPDX-License-Identifier: MIT */
/*
 * Placing: what surrounds the hot ways of place_ops.c - its beginning and end,
 * and who waits for what.  place_arm.c has registration and discards.
 */
#include "recv/place.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "recv/place_ops.h"

#define PATIENCE_NS	(5 * FERRY_NS_PER_S)

/* Receivers read all the time: who wants to write must get a turn. */
static void init_shape(struct ferry_place *p)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(
		&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&p->shape, &attr);
	pthread_rwlockattr_destroy(&attr);
}

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
	init_shape(p);
	if (!p->registered)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "placing");
	return 0;
}

int ferry_place_init(struct ferry_place *p, struct ferry_mem *mem,
		     struct ferry_map *map, struct ferry_err *e)
{
	return init(p, mem, map, &ferry_place_precopy, e);
}

static void nobody(void *arg, const struct ferry_mem_block *b, uint64_t first,
		   uint64_t n, const uint8_t *data)
{
	(void)arg;
	(void)b;
	(void)first;
	(void)n;
	(void)data;
}

int ferry_place_init_file(struct ferry_place *p, struct ferry_mem *mem,
			  struct ferry_map *map,
			  const struct ferry_place_watch *watch,
			  struct ferry_err *e)
{
	if (init(p, mem, map, &ferry_place_file, e))
		return -1;
	p->in_file = true;
	p->watch = watch ? *watch : (struct ferry_place_watch){ nobody, NULL };
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
	pthread_rwlock_destroy(&p->shape);
	pthread_mutex_destroy(&p->lock);
}

void ferry_place_stop_waiting(struct ferry_place *p)
{
	atomic_store(&p->stopped, true);
}

void ferry_place_wait_again(struct ferry_place *p)
{
	atomic_store(&p->stopped, false);
}

/* Whoever waits goes on, by whatever is there. */
static void end_waits(struct ferry_place *p)
{
	uint64_t now = ferry_now_ns();

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < FERRY_WAITING_MAX; i++) {
		if (p->waiting[i].since_ns)
			ferry_hist_add(&p->faults, now -
				       p->waiting[i].since_ns);
		p->waiting[i].since_ns = 0;
	}
	pthread_mutex_unlock(&p->lock);
}

void ferry_place_end(struct ferry_place *p)
{
	ferry_place_stop_waiting(p);
	atomic_store(&p->ops, &ferry_place_done);
	ferry_place_disarm(p);
	end_waits(p);
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

uint64_t ferry_place_oldest_wait_ns(struct ferry_place *p, unsigned *pages)
{
	uint64_t since = UINT64_MAX, now;
	unsigned n = 0;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < FERRY_WAITING_MAX; i++) {
		if (!p->waiting[i].since_ns)
			continue;
		n++;
		if (p->waiting[i].since_ns < since)
			since = p->waiting[i].since_ns;
	}
	now = ferry_now_ns();
	pthread_mutex_unlock(&p->lock);
	if (pages)
		*pages = n;
	return since < now ? now - since : 0;
}
