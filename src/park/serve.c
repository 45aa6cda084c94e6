/* SPDX-License-Identifier: MIT */
/*
 * The VM of an image.  Senders and the thread that answers requests read at
 * the same time; each borrows a cache for as long as it reads.
 */
#include "park/serve.h"

#include <string.h>

#include "base/cleanup.h"
#include "mig/vm.h"

/* ---- reading pages --------------------------------------------------------- */

static struct ferry_image_cache *new_cache(struct ferry_serve *s,
					   struct ferry_err *e)
{
	struct ferry_image_cache *c = &s->cache[s->caches];

	if (ferry_image_cache_init(c, e))
		return NULL;
	s->caches++;
	return c;
}

static struct ferry_image_cache *borrow(struct ferry_serve *s,
					struct ferry_err *e)
{
	struct ferry_image_cache *c;

	pthread_mutex_lock(&s->lock);
	while (!s->frees && s->caches == FERRY_SERVE_CACHES)
		pthread_cond_wait(&s->given_back, &s->lock);
	c = s->frees ? s->free[--s->frees] : new_cache(s, e);
	pthread_mutex_unlock(&s->lock);
	return c;
}

static void give_back(struct ferry_serve *s, struct ferry_image_cache *c)
{
	pthread_mutex_lock(&s->lock);
	s->free[s->frees++] = c;
	pthread_cond_signal(&s->given_back);
	pthread_mutex_unlock(&s->lock);
}

static uint64_t chunk_of(const struct ferry_serve *s, uint32_t block,
			 uint64_t page)
{
	return s->img->index.first_chunk[block] + page / FERRY_CHUNK_PAGES;
}

/* The first of these pages, or, where they begin with a whole chunk, all of
 * that: how many; -1. */
static int read_some(struct ferry_serve *s, struct ferry_image_cache *c,
		     uint32_t block, const uint64_t *page, uint32_t n,
		     uint8_t *out, struct ferry_err *e)
{
	uint64_t which = chunk_of(s, block, *page);
	uint64_t at = *page % FERRY_CHUNK_PAGES;
	const uint8_t *chunk;

	if (!at && n >= FERRY_CHUNK_PAGES && page[FERRY_CHUNK_PAGES - 1] ==
	    *page + FERRY_CHUNK_PAGES - 1)
		return ferry_image_read(s->img, c, which, out, e) ? -1 :
		       (int)FERRY_CHUNK_PAGES;
	chunk = ferry_image_chunk(s->img, c, which, e);
	if (!chunk)
		return -1;
	memcpy(out, chunk + at * FERRY_PAGE_BYTES, FERRY_PAGE_BYTES);
	return 1;
}

static void note_damage(struct ferry_serve *s, const struct ferry_err *what)
{
	pthread_mutex_lock(&s->lock);
	if (!s->damage.code)
		s->damage = *what;
	pthread_mutex_unlock(&s->lock);
}

bool ferry_serve_is_damaged(struct ferry_serve *s, struct ferry_err *what)
{
	bool damaged;

	pthread_mutex_lock(&s->lock);
	damaged = s->damage.code;
	if (damaged)
		*what = s->damage;
	pthread_mutex_unlock(&s->lock);
	return damaged;
}

static int read_pages(void *arg, uint32_t block, const uint64_t *page,
		      uint32_t n, uint8_t *out, struct ferry_err *e)
{
	struct ferry_serve *s = arg;
	struct ferry_image_cache *c = borrow(s, e);
	struct ferry_err err = { 0 };
	uint32_t i = 0;
	int got = 0;

	if (!c)
		return -1;
	while (got >= 0 && i < n) {
		got = read_some(s, c, block, page + i, n - i, out +
				(size_t)i * FERRY_PAGE_BYTES, &err);
		i += got > 0 ? (uint32_t)got : 0;
	}
	give_back(s, c);
	if (got >= 0)
		return 0;
	note_damage(s, &err);
	if (e)
		*e = err;
	return -1;
}

/* The pages of a chunk are alike. */
static uint64_t run_of(void *arg, uint32_t block, uint64_t page, bool *zero)
{
	struct ferry_serve *s = arg;
	uint64_t left = s->img->index.vm.block[block].bytes /
			FERRY_PAGE_BYTES - page;
	uint64_t run = FERRY_CHUNK_PAGES - page % FERRY_CHUNK_PAGES;

	*zero = ferry_image_is_zero(s->img, chunk_of(s, block, page));
	return run < left ? run : left;
}

static bool kept_at(void *arg, uint32_t i, struct ferry_kept *k)
{
	struct ferry_serve *s = arg;
	struct ferry_kept_place p;

	if (!ferry_image_kept(s->img, i, &p))
		return false;
	*k = p.k;
	return true;
}

static int read_kept(void *arg, uint32_t i, uint8_t *out, struct ferry_err *e)
{
	struct ferry_serve *s = arg;

	return ferry_image_read_kept(s->img, i, out, e);
}

/* ---- a VM that stands still -------------------------------------------------- */

static int stop(void *opaque, struct ferry_err *e)
{
	(void)opaque;
	(void)e;
	return 0;
}

static void resume(void *opaque)
{
	(void)opaque;
}

static int start(void *opaque, int running, struct ferry_err *e)
{
	(void)opaque;
	(void)running;
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
			     "an image does not run");
}

static void throttle(void *opaque, unsigned percent)
{
	(void)opaque;
	(void)percent;
}

static int running(void *opaque)
{
	(void)opaque;
	return 0;
}

static int describe(struct ferry_serve *s, struct ferry_err *e)
{
	const struct ferry_hello *h = &s->img->index.vm;

	for (size_t i = 0; i < h->blocks; i++) {
		const struct ferry_hello_block *b = &h->block[i];

		if (ferry_vm_add_stored(s->vm, b->name, b->bytes,
					b->page_bytes, b->gpa, &s->store, e))
			return -1;
	}
	for (size_t i = 0; i < h->facts; i++) {
		const struct ferry_hello_fact *f = &h->fact[i];

		if (ferry_vm_add_fact(s->vm, f->name, f->rule, f->value, e))
			return -1;
	}
	ferry_vm_set_state(s->vm, s->img->state, s->img->index.sections_bytes);
	memcpy(s->vm->uuid, s->img->index.uuid, sizeof(s->vm->uuid));
	if (s->img->kept_records)
		s->vm->kept = &s->kept;
	return 0;
}

int ferry_serve_init(struct ferry_serve *s, const struct ferry_image *img,
		     struct ferry_err *e)
{
	static const struct ferry_vm_ops ops = {
		.size = sizeof(ops), .stop = stop, .resume = resume,
		.start = start, .throttle = throttle, .running = running,
	};

	*s = (struct ferry_serve){
		.img = img, .store = { read_pages, run_of, s },
		.kept = { kept_at, read_kept, s },
	};
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->given_back, NULL);
	s->vm = ferry_vm_new(img->index.vm.name, &ops, s, e);
	if (s->vm && !describe(s, e))
		return 0;
	ferry_serve_fini(s);
	return -1;
}

void ferry_serve_fini(struct ferry_serve *s)
{
	ferry_vm_free(s->vm);
	s->vm = NULL;
	for (unsigned i = 0; i < s->caches; i++)
		ferry_image_cache_fini(&s->cache[i]);
	pthread_cond_destroy(&s->given_back);
	pthread_mutex_destroy(&s->lock);
}
