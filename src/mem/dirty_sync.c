/* SPDX-License-Identifier: MIT */
/*
 * Writes found by write faults that a thread of ours answers.
 *
 * Threads: `wp` reads faults; the rest is the engine's main thread.  A writer
 *          waits in the kernel until `wp` has answered; `wp` itself touches no
 *          tracked memory and waits for nobody but the holder of `lock`, who
 *          touches none either: so no write can wait for itself.
 * Order:   under `lock`, `wp` notes a page and lifts its protection, and a
 *          harvest takes the note and protects again.  Were these two mixed, a
 *          page could end unprotected with no note, and its writes be lost.
 *
 * Kernels before 6.4 cannot protect private memory that is not there yet, so
 * there we also ask for faults on missing pages, and give zeroes.
 */
#include "mem/dirty_way.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "mem/dirty_util.h"
#include "mem/extent.h"
#include "mem/kernel.h"
#include "mem/wp.h"

#define HARVEST_PAGES	512u	/* under the lock at once; a huge page */
#define FAULTS		32

struct sync {
	struct ferry_dirty	 dirty;
	const struct ferry_mem	*mem;
	struct ferry_uffd	 u;
	struct ferry_bitmap	*noted;		/* one per block */
	pthread_mutex_t		 lock;
	struct ferry_thread	 wp;
	int			 quit;		/* an eventfd */
	atomic_int		 broken;	/* -errno: no more answers */
};

/* ---- the thread --------------------------------------------------------- */

static int answer(struct sync *s, const struct ferry_uffd_fault *f)
{
	struct ferry_mem_block *b;
	uint64_t first;
	int64_t rc;

	b = ferry_mem_by_addr(s->mem, (void *)(uintptr_t)f->addr);
	if (!b)
		return 0;
	first = (f->addr - (uintptr_t)b->host) / b->page_bytes * b->host_pages;

	pthread_mutex_lock(&s->lock);
	ferry_bitmap_set_range(&s->noted[b->index], first, b->host_pages);
	rc = f->wp ? ferry_wp_set(&s->u, b, first, b->host_pages, false) :
		     ferry_uffd_zero(&s->u, b, first, b->host_pages);
	pthread_mutex_unlock(&s->lock);

	/* Present meanwhile, or stop() has unregistered it. */
	if (rc == -EEXIST)
		ferry_uffd_wake(&s->u, b->host + first * FERRY_PAGE_BYTES,
				b->page_bytes);
	return rc >= 0 || rc == -EEXIST || rc == -ENOENT ? 0 : (int)rc;
}

/* The writer that waits is let look again, and faults again, until stop(). */
static void fail(struct sync *s, const struct ferry_uffd_fault *f, int rc)
{
	atomic_store(&s->broken, rc);
	usleep(1000);
	ferry_uffd_wake(&s->u, (void *)(uintptr_t)f->addr, FERRY_PAGE_BYTES);
}

static void answer_all(void *arg)
{
	struct sync *s = arg;
	struct ferry_uffd_fault f[FAULTS];
	struct pollfd p[2] = {
		{ .fd = s->u.fd, .events = POLLIN },
		{ .fd = s->quit, .events = POLLIN },
	};

	for (;;) {
		int n = ferry_uffd_read(&s->u, f, FAULTS);

		for (int i = 0; i < n; i++) {
			int rc = answer(s, &f[i]);

			if (rc)
				fail(s, &f[i], rc);
		}
		if (n > 0)
			continue;
		if (n < 0) {
			atomic_store(&s->broken, n);
			return;		/* stop() releases the writers */
		}
		(void)poll(p, FERRY_LEN(p), -1);
		if (p[1].revents)
			return;
	}
}

/* ---- start and stop ----------------------------------------------------- */

static uint64_t mode_of(const struct ferry_mem_block *b)
{
	return UFFDIO_REGISTER_MODE_WP |
	       (b->fd < 0 ? UFFDIO_REGISTER_MODE_MISSING : 0);
}

static void sync_stop(struct ferry_dirty *d)
{
	struct sync *s = (struct sync *)d;
	uint64_t one = 1;

	/* Unregistering releases every writer that waits; `wp` answers until
	 * then. */
	for (uint32_t i = 0; s->u.fd >= 0 && i < s->mem->blocks; i++)
		ferry_wp_unregister(&s->u, &s->mem->block[i]);
	if (s->quit >= 0 && write(s->quit, &one, sizeof(one)) != sizeof(one))
		atomic_store(&s->broken, -errno);
	ferry_thread_join(&s->wp);
	ferry_uffd_close(&s->u);
	if (s->quit >= 0)
		close(s->quit);
	s->quit = -1;
}

struct part {
	struct sync			*s;
	const struct ferry_mem_block	*b;
};

static int protect_run(void *arg, uint64_t first, uint64_t pages)
{
	struct part *p = arg;

	return ferry_wp_set(&p->s->u, p->b, first, pages, true);
}

/*
 * Private huge pages that are absent would get a marker, and look touched from
 * then on; faults on missing pages tell them already.  (Small ones get none
 * from these kernels.  There the zero page, which reading maps and which does
 * not count as touched, must be protected as well.)
 */
static int protect_block(struct sync *s, struct ferry_mem_block *b,
			 struct ferry_err *e)
{
	struct part part = { s, b };
	int rc;

	ferry_bitmap_clear_range(&s->noted[b->index], 0, b->pages);
	if (ferry_wp_register(&s->u, b, mode_of(b), e))
		return -1;
	errno = 0;
	rc = b->fd < 0 && b->host_pages > 1 ?
	     ferry_extent_walk(b, protect_run, &part, NULL) :
	     protect_run(&part, 0, b->pages);
	if (rc)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, errno,
				     "block %s: write protection", b->name);
	return 0;
}

static int protect_all(struct sync *s, struct ferry_err *e)
{
	for (uint32_t i = 0; i < s->mem->blocks; i++)
		if (protect_block(s, &s->mem->block[i], e))
			return -1;
	return 0;
}

static int sync_start(struct ferry_dirty *d, struct ferry_err *e)
{
	struct sync *s = (struct sync *)d;

	atomic_store(&s->broken, 0);
	if (ferry_wp_open(&s->u, s->mem, 0, false, e))
		return -1;
	s->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->quit < 0) {
		ferry_err_set(e, FERRY_E_IO, errno, "eventfd");
		goto undo;
	}
	if (ferry_thread_start(&s->wp, "ferry-wp", answer_all, s, e) ||
	    protect_all(s, e))
		goto undo;
	return 0;
undo:
	sync_stop(d);
	return -1;
}

/* ---- harvest ------------------------------------------------------------ */

/* Take a run of notes that begins at `first`, at most HARVEST_PAGES. */
static int take_run(struct sync *s, const struct ferry_mem_block *b,
		    uint64_t first, uint64_t *end)
{
	struct ferry_bitmap *noted = &s->noted[b->index];
	int rc;

	pthread_mutex_lock(&s->lock);
	*end = ferry_bitmap_next_clear(noted, first);
	if (*end > first + HARVEST_PAGES)
		*end = first + HARVEST_PAGES;
	ferry_bitmap_clear_range(noted, first, *end - first);
	rc = ferry_wp_set(&s->u, b, first, *end - first, true);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static int harvest_block(struct sync *s, const struct ferry_mem_block *b,
			 struct ferry_owed *owed)
{
	struct ferry_bitmap *noted = &s->noted[b->index];
	uint64_t first = ferry_bitmap_next_set(noted, 0), end = 0;

	while (first < b->pages) {
		int rc = take_run(s, b, first, &end);

		ferry_owed_mark(owed, b->index, first, end - first);
		if (rc)
			return rc;
		first = ferry_bitmap_next_set(noted, end);
	}
	return 0;
}

static int sync_harvest(struct ferry_dirty *d, struct ferry_owed *owed,
			bool final, struct ferry_err *e)
{
	struct sync *s = (struct sync *)d;
	int rc = 0;

	(void)final;
	for (uint32_t i = 0; i < s->mem->blocks && !rc; i++)
		rc = harvest_block(s, &s->mem->block[i], owed);
	if (!rc)
		rc = atomic_load(&s->broken);
	if (rc)
		return ferry_err_set(e, FERRY_E_IO, -rc,
				     "tracking writes by userfaultfd");
	return 0;
}

/* ---- making ------------------------------------------------------------- */

static void sync_free(struct ferry_dirty *d)
{
	struct sync *s = (struct sync *)d;

	for (uint32_t i = 0; s->noted && i < s->mem->blocks; i++)
		ferry_bitmap_fini(&s->noted[i]);
	free(s->noted);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct ferry_dirty_ops sync_ops = {
	.name = "uffd-wp-sync",
	.start = sync_start,
	.harvest = sync_harvest,
	.arm = ferry_dirty_arm_nothing,
	.stop = sync_stop,
	.free = sync_free,
};

static struct ferry_dirty *sync_make(const struct ferry_mem *mem,
				     struct ferry_err *e)
{
	struct sync *s = calloc(1, sizeof(*s));
	bool ok;

	if (!s) {
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "write tracking");
		return NULL;
	}
	s->dirty.ops = &sync_ops;
	s->mem = mem;
	s->u.fd = -1;
	s->quit = -1;
	pthread_mutex_init(&s->lock, NULL);

	s->noted = calloc(mem->blocks + 1, sizeof(*s->noted));
	ok = s->noted;
	for (uint32_t i = 0; ok && i < mem->blocks; i++)
		ok = !ferry_bitmap_init(&s->noted[i], mem->block[i].pages, e);
	if (ok)
		return &s->dirty;
	sync_free(&s->dirty);
	ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "write tracking");
	return NULL;
}

static int sync_probe(const struct ferry_mem *mem, struct ferry_err *e)
{
	struct ferry_uffd u;

	if (ferry_wp_open(&u, mem, 0, false, e))
		return -1;
	ferry_uffd_close(&u);
	return 0;
}

const struct ferry_dirty_way ferry_dirty_way_sync = {
	.name = "uffd-wp-sync",
	.probe = sync_probe,
	.make = sync_make,
};
