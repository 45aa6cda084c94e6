/* SPDX-License-Identifier: MIT */
/*
 * Writes that the embedder tells: a bitmap of its own, so that mark() needs no
 * lock and knows nothing of the migration.
 *
 * Threads: mark by any, all the time; the rest by the engine's main thread.
 * Order:   the embedder writes, then marks.  A mark that finds the source not
 *          started comes from a write that start()'s caller will see when it
 *          looks at memory: both sides put a full barrier between.
 */
#include "mem/dirty.h"

#include <stdlib.h>

#include "mem/dirty_util.h"


struct told {
	struct ferry_dirty	 dirty;
	const struct ferry_mem	*mem;
	struct ferry_bitmap	*map;		/* one per block */
	atomic_bool		 active;
};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"	/* which sees it as nothing */
#endif
static inline void full_barrier(void)
{
	atomic_thread_fence(memory_order_seq_cst);
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

static int told_start(struct ferry_dirty *d, struct ferry_err *e)
{
	struct told *t = (struct told *)d;

	(void)e;
	for (uint32_t i = 0; i < t->mem->blocks; i++)
		ferry_bitmap_clear_range(&t->map[i], 0, t->map[i].bits);
	atomic_store_explicit(&t->active, true, memory_order_relaxed);
	full_barrier();
	return 0;
}

static void harvest_block(struct ferry_bitmap *map, struct ferry_owed *owed,
			  uint32_t block)
{
	for (uint64_t w = 0; w < map->words; w++) {
		if (!atomic_load_explicit(&map->word[w], memory_order_relaxed))
			continue;
		ferry_owed_mark_word(owed, block, w,
				     atomic_exchange_explicit(
					     &map->word[w], 0,
					     memory_order_acq_rel));
	}
}

static int told_harvest(struct ferry_dirty *d, struct ferry_owed *owed,
			bool final, struct ferry_err *e)
{
	struct told *t = (struct told *)d;

	(void)final;
	(void)e;
	for (uint32_t i = 0; i < t->mem->blocks; i++)
		harvest_block(&t->map[i], owed, i);
	return 0;
}

static void told_stop(struct ferry_dirty *d)
{
	struct told *t = (struct told *)d;

	atomic_store_explicit(&t->active, false, memory_order_relaxed);
}

static void told_free(struct ferry_dirty *d)
{
	struct told *t = (struct told *)d;

	for (uint32_t i = 0; i < t->mem->blocks; i++)
		ferry_bitmap_fini(&t->map[i]);
	free(t->map);
	free(t);
}

static const struct ferry_dirty_ops told_ops = {
	.name = "told",
	.start = told_start,
	.harvest = told_harvest,
	.arm = ferry_dirty_arm_nothing,
	.stop = told_stop,
	.free = told_free,
};

struct ferry_dirty *ferry_dirty_told(const struct ferry_mem *mem,
				     struct ferry_err *e)
{
	struct told *t = calloc(1, sizeof(*t));
	struct ferry_bitmap *map = calloc(mem->blocks + 1, sizeof(*map));

	if (!t || !map) {
		free(t);
		free(map);
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "marks of the caller");
		return NULL;
	}
	t->dirty.ops = &told_ops;
	t->mem = mem;
	t->map = map;
	for (uint32_t i = 0; i < mem->blocks; i++) {
		if (!ferry_bitmap_init(&map[i], mem->block[i].pages, e))
			continue;
		ferry_err_wrap(e, "marks of the caller");
		told_free(&t->dirty);
		return NULL;
	}
	return &t->dirty;
}

static void mark_block(struct told *t, const struct ferry_mem_block *b,
		       uint64_t from, uint64_t end)
{
	uint64_t host = (uintptr_t)b->host, limit = host + b->bytes;
	uint64_t first;

	from = from > host ? from : host;
	end = end < limit ? end : limit;
	if (from >= end)
		return;
	first = (from - host) / FERRY_PAGE_BYTES;
	ferry_bitmap_set_range(&t->map[b->index], first,
			       (end - 1 - host) / FERRY_PAGE_BYTES + 1 - first);
}

void ferry_dirty_told_mark(struct ferry_dirty *d, const void *addr,
			   uint64_t bytes)
{
	struct told *t = (struct told *)d;
	uint64_t from = (uintptr_t)addr, end;

	full_barrier();
	if (!atomic_load_explicit(&t->active, memory_order_relaxed))
		return;
	if (__builtin_add_overflow(from, bytes, &end))
		end = UINT64_MAX;
	for (uint32_t i = 0; i < t->mem->blocks; i++)
		mark_block(t, &t->mem->block[i], from, end);
}
