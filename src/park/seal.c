/* SPDX-License-Identifier: MIT */
/*
 * Workers take pieces of 16 MiB in turn.  A chunk of which no page ever came
 * is not read, nor one whose hash was noted when it came.
 */
#include "park/seal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "mem/mem.h"
#include "park/hash.h"

#define WORKERS_MAX	8
#define TURN_CHUNKS	256u
#define MIN_GAIN	8	/* compressed, if an eighth is saved */

struct seal {
	struct ferry_image_writer *w;
	const struct ferry_map *map;
	uint8_t		*table;
	_Atomic uint64_t next;		/* chunk */
	_Atomic uint64_t end;		/* of compressed chunks in w->fd */
	_Atomic int	 failed;	/* errno */
};

struct worker {
	struct seal	*seal;
	ZSTD_CCtx	*zstd;
	uint8_t		*packed;	/* FERRY_CHUNK_BYTES */
	uint8_t		*raw;
	struct ferry_thread thread;
};

static bool any_here(const struct ferry_map *map,
		     const struct ferry_chunk_place *p)
{
	struct ferry_bitmap *here = &map->here[p->block];

	return ferry_bitmap_next_set_before(here, p->page,
					    p->page + p->pages) <
	       p->page + p->pages;
}

static int transfer(int fd, bool write, uint8_t *data, size_t bytes,
		    uint64_t offset)
{
	while (bytes) {
		ssize_t n = write ? pwrite(fd, data, bytes, (off_t)offset) :
				    pread(fd, data, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		data += n;
		offset += (uint64_t)n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* Compressed where that saves enough, else as it is. */
static int store_packed(struct worker *k, struct ferry_chunk *c, size_t bytes)
{
	struct seal *s = k->seal;
	size_t n = ZSTD_compressCCtx(k->zstd, k->packed, FERRY_CHUNK_BYTES,
				     k->raw, bytes, s->w->zstd_level);
	const uint8_t *data = k->packed;

	if (ZSTD_isError(n) || n > bytes - bytes / MIN_GAIN) {
		data = k->raw;
		n = bytes;
	}
	c->stored_bytes = (uint32_t)n;
	c->hash = ferry_hash(data, n);
	c->offset = atomic_fetch_add(&s->end, n);
	return transfer(s->w->fd, true, (uint8_t *)data, n, c->offset);
}

static int seal_chunk(struct worker *k, uint64_t chunk, struct ferry_chunk *c)
{
	struct seal *s = k->seal;
	struct ferry_chunk_place p = ferry_chunk_find(&s->w->index, chunk);
	uint64_t offset = (chunk + 1) * FERRY_CHUNK_BYTES;
	size_t bytes = p.pages * FERRY_PAGE_BYTES;
	int rc;

	*c = (struct ferry_chunk){ 0 };
	if (!any_here(s->map, &p))
		return 0;
	c->hash = atomic_load_explicit(&s->w->noted[p.block][p.page /
				       FERRY_CHUNK_PAGES],
				       memory_order_relaxed);
	if (c->hash) {
		c->offset = offset;
		c->stored_bytes = (uint32_t)bytes;
		return 0;
	}
	rc = transfer(s->w->memory_fd, false, k->raw, bytes, offset);
	if (rc || ferry_is_zero(k->raw, bytes))
		return rc;
	if (k->zstd)
		return store_packed(k, c, bytes);
	c->offset = offset;
	c->stored_bytes = (uint32_t)bytes;
	c->hash = ferry_hash(k->raw, bytes);
	return 0;
}

static void work(void *arg)
{
	struct worker *k = arg;
	struct seal *s = k->seal;
	uint64_t first, chunks = s->w->chunks;

	while ((first = atomic_fetch_add(&s->next, TURN_CHUNKS)) < chunks) {
		uint64_t end = first + TURN_CHUNKS;

		for (uint64_t i = first; i < end && i < chunks; i++) {
			struct ferry_chunk c;
			int rc = seal_chunk(k, i, &c);

			if (rc)
				atomic_store(&s->failed, -rc);
			if (atomic_load(&s->failed))
				return;
			ferry_chunk_encode(s->table + i * FERRY_CHUNK_WIRE,
					   &c);
		}
	}
}

static int hire(struct worker *k, struct seal *s, struct ferry_err *e)
{
	k->seal = s;
	k->raw = malloc(FERRY_CHUNK_BYTES);
	k->packed = malloc(FERRY_CHUNK_BYTES);
	if (s->w->zstd_level)
		k->zstd = ZSTD_createCCtx();
	if (!k->raw || !k->packed || (s->w->zstd_level && !k->zstd))
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM,
				     "threads that seal");
	return ferry_thread_start(&k->thread, "ferry-seal", work, k, e);
}

static void dismiss(struct worker *k)
{
	ferry_thread_join(&k->thread);
	ZSTD_freeCCtx(k->zstd);
	free(k->packed);
	free(k->raw);
}

int ferry_seal_chunks(struct ferry_image_writer *w,
		      const struct ferry_map *map, uint8_t *table,
		      struct ferry_err *e)
{
	struct seal s = { .w = w, .map = map, .table = table,
			  .end = FERRY_CHUNK_BYTES };
	struct worker k[WORKERS_MAX] = { 0 };
	int n = get_nprocs() < WORKERS_MAX ? get_nprocs() : WORKERS_MAX;
	int rc = 0, failed;

	for (int i = 0; i < n && !rc; i++)
		rc = hire(&k[i], &s, e);
	if (rc)
		atomic_store(&s.failed, ENOMEM);
	for (int i = 0; i < n; i++)
		dismiss(&k[i]);
	failed = atomic_load(&s.failed);
	if (!rc && failed)
		return ferry_err_set(e, FERRY_E_IO, failed, "read back or "
				     "write the memory in %s", w->part);
	if (w->zstd_level) {
		w->end = atomic_load(&s.end);
		w->head.flags |= FERRY_IMAGE_ZSTD;
	}
	return rc;
}
