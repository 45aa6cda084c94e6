/* SPDX-License-Identifier: MIT */
/*
 * The dirty log: one bit for each 4096 octets of guest physical memory, in a
 * file that all backends of the VM's devices map.
 *
 * The file is sealed: who shrank it would kill us with SIGBUS.  It has holes
 * where nothing was marked.
 *
 * Order:   a backend writes memory, then sets the bit; we take the bit, then
 *          read memory.
 */
#include "vu/fe/fe.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"

/* ---- made and freed ---- */

static uint64_t words_for(const struct ferry_vhost_region *r, size_t n)
{
	uint64_t end = 0;

	for (size_t i = 0; i < n; i++)
		if (r[i].gpa + r[i].bytes > end)
			end = r[i].gpa + r[i].bytes;
	return (end - 1) / FERRY_PAGE_BYTES / 64 + 1;
}

static int open_file(struct ferry_vhost_log *l, struct ferry_err *e)
{
	uint64_t bytes = l->words * 8;
	void *map;

	l->fd = memfd_create("ferry-vhost-log",
			     MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (l->fd < 0 || ftruncate(l->fd, (off_t)bytes) ||
	    fcntl(l->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW |
		  F_SEAL_SEAL))
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "dirty log of vhost-user devices: %"
				     PRIu64 " octets", bytes);
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd, 0);
	if (map == MAP_FAILED)
		return ferry_err_set(e, FERRY_E_IO, errno,
				     "dirty log of vhost-user devices: mmap of"
				     " %" PRIu64 " octets", bytes);
	l->word = map;
	return 0;
}

static int check_regions(const struct ferry_vhost_region *region, size_t n,
			 struct ferry_err *e)
{
	if (!n || n > FERRY_VHOST_FE_REGIONS_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "dirty log: %zu regions, not 1 to %d", n,
				     FERRY_VHOST_FE_REGIONS_MAX);
	for (size_t i = 0; i < n; i++) {
		const char *wrong = ferry_vf_wrong_with(&region[i]);

		if (wrong)
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "dirty log: region at 0x%" PRIx64
					     " %s", region[i].gpa, wrong);
	}
	return 0;
}

struct ferry_vhost_log *
ferry_vhost_log_new(const struct ferry_vhost_region *region, size_t n,
		    struct ferry_err *e)
{
	struct ferry_vhost_log *l;

	if (check_regions(region, n, e))
		return NULL;
	l = calloc(1, sizeof(*l));
	if (!l) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "dirty log");
		return NULL;
	}
	l->regions = n;
	for (size_t i = 0; i < n; i++)
		l->region[i] = region[i];
	l->words = words_for(region, n);
	if (!open_file(l, e))
		return l;
	ferry_vhost_log_free(l);
	return NULL;
}

void ferry_vhost_log_free(struct ferry_vhost_log *l)
{
	if (!l)
		return;
	if (l->word)
		munmap((void *)l->word, l->words * 8);
	ferry_cleanup_fd(&l->fd);
	free(l);
}

/* ---- marked and taken ---- */

void ferry_vf_log_mark(struct ferry_vhost_log *l, uint64_t gpa,
		       uint64_t bytes)
{
	uint64_t page = gpa / FERRY_PAGE_BYTES;
	uint64_t last = (gpa + bytes - 1) / FERRY_PAGE_BYTES;

	for (; page <= last && page / 64 < l->words; page++)
		atomic_fetch_or_explicit(&l->word[page / 64], 1ull << page % 64,
					 memory_order_release);
}

/* Pages that follow each other, until one does not. */
struct run {
	void		(*dirty)(void *opaque, void *host, uint64_t bytes);
	void		*opaque;
	uint8_t		*host;
	uint64_t	bytes;
	uint64_t	pages;		/* of all runs */
};

static void end_run(struct run *r)
{
	if (r->bytes)
		r->dirty(r->opaque, r->host, r->bytes);
	r->pages += r->bytes / FERRY_PAGE_BYTES;
	r->bytes = 0;
}

static void add_page(struct run *r, uint8_t *host)
{
	if (!r->bytes || r->host + r->bytes != host) {
		end_run(r);
		r->host = host;
	}
	r->bytes += FERRY_PAGE_BYTES;
}

/* Where the word's pages are; what lies outside of a region was marked by
 * mistake. */
static void take_word(const struct ferry_vhost_log *l, uint64_t at,
		      uint64_t bits, struct run *run)
{
	for (; bits; bits &= bits - 1) {
		uint64_t gpa = (at * 64 + (uint64_t)__builtin_ctzll(bits)) *
			       FERRY_PAGE_BYTES;

		for (size_t i = 0; i < l->regions; i++) {
			const struct ferry_vhost_region *r = &l->region[i];

			if (gpa >= r->gpa && gpa - r->gpa < r->bytes)
				add_page(run, (uint8_t *)r->host +
					      (gpa - r->gpa));
		}
	}
}

uint64_t ferry_vhost_log_take(struct ferry_vhost_log *l,
			      void (*dirty)(void *opaque, void *host,
					    uint64_t bytes),
			      void *opaque)
{
	struct run run = { .dirty = dirty, .opaque = opaque };

	for (uint64_t i = 0; i < l->words; i++) {
		uint64_t bits;

		if (!atomic_load_explicit(&l->word[i], memory_order_relaxed))
			continue;
		bits = atomic_exchange_explicit(&l->word[i], 0,
						memory_order_acq_rel);
		take_word(l, i, bits, &run);
	}
	end_run(&run);
	return run.pages;
}
