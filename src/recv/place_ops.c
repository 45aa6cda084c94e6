/* SPDX-License-Identifier: MIT */
/*
 * The ways to place pages in memory.  Hot: no text, -errno.
 */
#include "recv/place_ops.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/counter.h"
#include "mem/extent.h"

#define RETRY_NS	(10 * FERRY_NS_PER_MS)

static uint8_t *at_page(const struct ferry_mem_block *b, uint64_t page)
{
	return b->host + page * FERRY_PAGE_BYTES;
}

/* Before LISTEN the VM is whole at the source: nothing is lost by an end. */
static bool may_give_up(const struct ferry_place *p, uint64_t since_ns)
{
	return atomic_load(&p->ops)->may_give_up &&
	       ferry_now_ns() - since_ns >= p->patience_ns;
}

bool ferry_place_wait_for_room(struct ferry_place *p, int64_t rc,
			       uint64_t *since_ns)
{
	struct timespec pause = ferry_timespec(RETRY_NS);

	if (rc != -ENOMEM || atomic_load(&p->stopped))
		return false;
	if (!*since_ns)
		*since_ns = ferry_now_ns();
	else if (may_give_up(p, *since_ns))
		return false;
	nanosleep(&pause, NULL);
	return true;
}

/* UFFDIO_COPY that outlasts a lack of memory: never a lost page.  Returns
 * octets, or -EEXIST, or another error. */
static int64_t copy(struct ferry_place *p, void *dst, const void *src,
		    uint64_t bytes)
{
	uint64_t since_ns = 0;
	int64_t got;

	do
		got = ferry_uffd_copy(&p->uffd, dst, src, bytes);
	while (ferry_place_wait_for_room(p, got, &since_ns));
	return got;
}

int64_t ferry_place_zero(struct ferry_place *p, struct ferry_mem_block *b,
			 uint64_t first, uint64_t n)
{
	uint64_t since_ns = 0;
	int64_t got;

	do
		got = ferry_uffd_zero(&p->uffd, b, first, n);
	while (ferry_place_wait_for_room(p, got, &since_ns));
	return got;
}

static void wait_ends(struct ferry_place *p, uint32_t block, uint64_t first,
		      uint64_t n)
{
	uint64_t now = ferry_now_ns();

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < FERRY_WAITING_MAX; i++) {
		struct ferry_waiting *w = &p->waiting[i];

		if (!w->since_ns || w->block != block || w->page < first ||
		    w->page >= first + n)
			continue;
		ferry_hist_add(&p->faults, now - w->since_ns);
		w->since_ns = 0;
	}
	pthread_mutex_unlock(&p->lock);
}

void ferry_place_arrived(struct ferry_place *p, struct ferry_mem_block *b,
			 uint64_t first, uint64_t n)
{
	struct ferry_bitmap *asked = &p->map->asked[b->index];

	ferry_map_set_here(p->map, b->index, first, n);
	if (ferry_bitmap_next_set_before(asked, first, first + n) <
	    first + n) {
		wait_ends(p, b->index, first, n);
		if (p->foreign)
			ferry_foreign_wake(p->foreign, at_page(b, first),
					   n * FERRY_PAGE_BYTES);
		ferry_bitmap_clear_range(asked, first, n);
	}
}

/* ---- before the VM runs here -------------------------------------------- */

/* Plain writes, into room that was made for them first. */
static int write_absent(struct ferry_place *p, struct ferry_mem_block *b,
			uint64_t first, uint64_t n, const uint8_t *data)
{
	uint64_t since_ns = 0;
	int rc;

	do
		rc = ferry_extent_populate(b, first, n);
	while (ferry_place_wait_for_room(p, rc, &since_ns));
	if (!rc)
		memcpy(at_page(b, first), data, n * FERRY_PAGE_BYTES);
	return rc;
}

/* Pages that are absent: by UFFDIO_COPY where that is possible. */
static int fill_absent(struct ferry_place *p, struct ferry_mem_block *b,
		       uint64_t first, uint64_t n, const uint8_t *data)
{
	uint64_t bytes = n * FERRY_PAGE_BYTES, done = 0;
	uint8_t *dst = at_page(b, first);

	if (!p->registered[b->index])
		return write_absent(p, b, first, n, data);
	while (done < bytes) {
		int64_t got = copy(p, dst + done, data + done, bytes - done);

		if (got == -EEXIST) {
			/* The embedder touched it: nobody runs yet, so it
			 * may be written over. */
			memcpy(dst + done, data + done, FERRY_PAGE_BYTES);
			got = FERRY_PAGE_BYTES;
		}
		if (got < 0)
			return (int)got;
		done += (uint64_t)got;
	}
	return 0;
}

static int precopy_runs(struct ferry_place *p, struct ferry_mem_block *b,
			uint64_t first, uint64_t n, const uint8_t *data)
{
	for (uint64_t done = 0, run; done < n; done += run) {
		const uint8_t *src = data + done * FERRY_PAGE_BYTES;
		bool here;
		int rc = 0;

		run = ferry_map_run(p->map, b->index, first + done, n - done,
				    &here);
		if (here)
			memcpy(at_page(b, first + done), src,
			       run * FERRY_PAGE_BYTES);
		else
			rc = fill_absent(p, b, first + done, run, src);
		if (rc)
			return rc;
		ferry_map_set_here(p->map, b->index, first + done, run);
	}
	return 0;
}

/* What is missing may be dropped as long as it is not noted as here. */
static int precopy_pages(struct ferry_place *p, struct ferry_mem_block *b,
			 uint64_t first, uint64_t n, const uint8_t *data)
{
	int rc;

	pthread_rwlock_rdlock(&p->shape);
	rc = precopy_runs(p, b, first, n, data);
	pthread_rwlock_unlock(&p->shape);
	return rc;
}

/* Zero pages that were never here stay unallocated. */
static int precopy_zeroes(struct ferry_place *p, struct ferry_mem_block *b,
			  uint64_t first, uint64_t n)
{
	for (uint64_t done = 0, run; done < n; done += run) {
		bool here;

		run = ferry_map_run(p->map, b->index, first + done, n - done,
				    &here);
		if (here)
			memset(at_page(b, first + done), 0,
			       run * FERRY_PAGE_BYTES);
		else
			ferry_map_set_zero(p->map, b->index, first + done,
					   run);
	}
	return 0;
}

/* Of a page that is missing: touching it might fault, for ever. */
static int memory_read(struct ferry_place *p, struct ferry_mem_block *b,
		       uint64_t page, uint8_t *out)
{
	if (ferry_map_is_here(p->map, b->index, page))
		memcpy(out, at_page(b, page), FERRY_PAGE_BYTES);
	else
		memset(out, 0, FERRY_PAGE_BYTES);
	return 0;
}

const struct ferry_place_ops ferry_place_precopy = {
	.name = "precopy",
	.pages = precopy_pages,
	.zeroes = precopy_zeroes,
	.read = memory_read,
	.may_give_up = true,
};

/* ---- while it runs -------------------------------------------------------- */

/* No page lies between its copy and its note while nobody holds `shape`. */
static int64_t copy_and_note(struct ferry_place *p, struct ferry_mem_block *b,
			     uint64_t first, uint64_t n, const uint8_t *data)
{
	uint64_t since_ns = 0;
	int64_t got;

	do {
		pthread_rwlock_rdlock(&p->shape);
		got = ferry_uffd_copy(&p->uffd, at_page(b, first), data,
				      n * FERRY_PAGE_BYTES);
		if (got > 0)
			ferry_place_arrived(p, b, first, (uint64_t)got /
					    FERRY_PAGE_BYTES);
		pthread_rwlock_unlock(&p->shape);
	} while (ferry_place_wait_for_room(p, got, &since_ns));
	return got;
}

static bool is_known(const struct ferry_place *p,
		     const struct ferry_mem_block *b, uint64_t page)
{
	return ferry_map_is_here(p->map, b->index, page) ||
	       ferry_map_is_zero(p->map, b->index, page);
}

/*
 * The page is there: placed by another receiver (requested pages come twice),
 * which may be about to note it; when all have, it is noted, or it was not
 * placed by us.
 */
static bool is_second_copy(struct ferry_place *p,
			   const struct ferry_mem_block *b, uint64_t page)
{
	bool known = is_known(p, b, page);

	if (known)
		return true;
	pthread_rwlock_wrlock(&p->shape);
	known = is_known(p, b, page);
	pthread_rwlock_unlock(&p->shape);
	return known;
}

static int postcopy_pages(struct ferry_place *p, struct ferry_mem_block *b,
			  uint64_t first, uint64_t n, const uint8_t *data)
{
	for (uint64_t i = 0, run; i < n; i += run) {
		int64_t got = copy_and_note(p, b, first + i, n - i,
					    data + i * FERRY_PAGE_BYTES);

		run = (uint64_t)got / FERRY_PAGE_BYTES;
		if (got > 0)
			continue;
		if (got != -EEXIST || !is_second_copy(p, b, first + i))
			return (int)got;
		ferry_count(&p->dropped_pages, b->host_pages);
		ferry_place_arrived(p, b, first + i, b->host_pages);
		run = b->host_pages;
	}
	return 0;
}

/*
 * A zero page that nobody waits for is only noted, so that it stays
 * unallocated; a fault on it is filled by the fault thread.  The note comes
 * first, then the look whether somebody asked meanwhile.
 */
static int postcopy_zeroes(struct ferry_place *p, struct ferry_mem_block *b,
			   uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n; i += b->host_pages) {
		int64_t got;

		if (ferry_map_is_here(p->map, b->index, i)) {
			ferry_count(&p->dropped_pages, b->host_pages);
			continue;
		}
		ferry_map_set_zero(p->map, b->index, i, b->host_pages);
		if (!ferry_bitmap_test(&p->map->asked[b->index], i))
			continue;
		got = ferry_place_zero(p, b, i, b->host_pages);
		if (got < 0 && got != -EEXIST)
			return (int)got;
		ferry_place_arrived(p, b, i, b->host_pages);
	}
	return 0;
}

const struct ferry_place_ops ferry_place_postcopy = {
	.name = "postcopy",
	.pages = postcopy_pages,
	.zeroes = postcopy_zeroes,
	.read = memory_read,
};

/* ---- after the end: late second copies -------------------------------------- */

static int drop_pages(struct ferry_place *p, struct ferry_mem_block *b,
		      uint64_t first, uint64_t n, const uint8_t *data)
{
	(void)b;
	(void)first;
	(void)data;
	ferry_count(&p->dropped_pages, n);
	return 0;
}

static int drop_zeroes(struct ferry_place *p, struct ferry_mem_block *b,
		       uint64_t first, uint64_t n)
{
	return drop_pages(p, b, first, n, NULL);
}

const struct ferry_place_ops ferry_place_done = {
	.name = "done",
	.pages = drop_pages,
	.zeroes = drop_zeroes,
	.read = memory_read,
};
