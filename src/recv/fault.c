/* SPDX-License-Identifier: MIT */
/*
 * The fault thread.  A fault costs one look at the received map and, when the
 * page is really missing and nobody asked yet, one request.
 */
#include "recv/fault.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/counter.h"
#include "recv/place_ops.h"

#define FAULTS_AT_ONCE	32

/* Known zero: filled here, nobody needs to send it. */
static int fill_zero(struct ferry_fault_thread *f, struct ferry_mem_block *b,
		     uint64_t page)
{
	struct ferry_place *p = f->place;
	int64_t rc = ferry_place_zero(p, b, page, b->host_pages);

	if (rc == -EEXIST)
		ferry_uffd_wake(&p->uffd, b->host + page * FERRY_PAGE_BYTES,
				b->page_bytes);
	else if (rc < 0)
		return (int)rc;
	ferry_count(&f->zero_filled, 1);
	ferry_place_arrived(p, b, page, b->host_pages);
	return 0;
}

static bool is_zero(const struct ferry_map *m, struct ferry_mem_block *b,
		    uint64_t page)
{
	for (uint64_t i = page; i < page + b->host_pages; i++)
		if (!ferry_map_is_zero(m, b->index, i))
			return false;
	return true;
}

/* Somebody waits for this page. */
static int serve(struct ferry_fault_thread *f, struct ferry_mem_block *b,
		 uint64_t page, bool ask, struct ferry_err *e)
{
	struct ferry_map *map = f->place->map;
	int rc;

	if (is_zero(map, b, page)) {
		rc = fill_zero(f, b, page);
		return rc ? ferry_err_set(e, rc == -ENOMEM ? FERRY_E_NOMEM :
					  FERRY_E_IO, -rc,
					  "fill zero page of block %s",
					  b->name) : 0;
	}
	if (ferry_map_is_here(map, b->index, page)) {
		ferry_uffd_wake(&f->place->uffd,
				b->host + page * FERRY_PAGE_BYTES,
				b->page_bytes);
		ferry_place_arrived(f->place, b, page, b->host_pages);
		return 0;
	}
	if (!ask || f->mute)
		return 0;
	return ferry_answer_request(f->answer, b, page, b->host_pages, e);
}

/*
 * Say that somebody waits, then look: a page that comes in between is seen
 * here, one that comes later finds `asked` set.
 */
static int handle(struct ferry_fault_thread *f, struct ferry_mem_block *b,
		  uint64_t page, struct ferry_err *e)
{
	struct ferry_map *map = f->place->map;
	bool asked = ferry_bitmap_test(&map->asked[b->index], page);

	if (!asked) {
		ferry_place_wait_begins(f->place, b->index, page);
		ferry_bitmap_set(&map->asked[b->index], page);
	}
	return serve(f, b, page, !asked, e);
}

/* Somebody, here or in another process, touched this place of ours. */
static int touched(struct ferry_fault_thread *f, void *addr,
		   struct ferry_err *e)
{
	struct ferry_mem_block *b = ferry_mem_by_addr(f->place->mem, addr);
	uint64_t page;

	if (!b)
		return 0;
	ferry_count(&f->faults, 1);
	page = (uint64_t)((uint8_t *)addr - b->host) / FERRY_PAGE_BYTES;
	return handle(f, b, page - page % b->host_pages, e);
}

/* All of them, whatever becomes of the first: none is forgotten. */
static int all_touched(struct ferry_fault_thread *f, void *const *addr,
		       unsigned n, struct ferry_err *e)
{
	int rc = 0;

	for (unsigned i = 0; i < n; i++) {
		if (!touched(f, addr[i], rc ? NULL : e))
			continue;
		f->mute = true;
		rc = -1;
	}
	return rc;
}

static int take(struct ferry_fault_thread *f, struct ferry_err *e)
{
	struct ferry_uffd_fault fault[FAULTS_AT_ONCE];
	void *addr[FAULTS_AT_ONCE];
	int n = ferry_uffd_read(&f->place->uffd, fault, FAULTS_AT_ONCE);

	if (n < 0)
		return ferry_err_set(e, FERRY_E_IO, -n, "read userfaultfd");
	for (int i = 0; i < n; i++)
		addr[i] = (void *)(uintptr_t)fault[i].addr;
	return all_touched(f, addr, (unsigned)n, e);
}

/* What the thread waits for. */
enum { OWN, STOP, CHANGED, OTHERS };

struct watch {
	struct pollfd	fd[OTHERS + FERRY_FOREIGN_MAX];
	int		number[FERRY_FOREIGN_MAX];
	unsigned	others;
};

static int take_others(struct ferry_fault_thread *f, const struct watch *w,
		       struct ferry_err *e)
{
	int rc = 0;

	for (unsigned i = 0; i < w->others; i++) {
		void *addr[FERRY_FOREIGN_AT_ONCE];
		short revents = w->fd[OTHERS + i].revents;
		unsigned n;

		if (!revents)
			continue;
		n = ferry_foreign_read(f->place->foreign, w->number[i],
				       revents, addr);
		if (all_touched(f, addr, n, rc ? NULL : e))
			rc = -1;
	}
	return rc;
}

static void look(struct ferry_fault_thread *f, const struct watch *w)
{
	struct ferry_err err = { 0 }, other = { 0 };

	pthread_mutex_lock(&f->lock);
	if (w->fd[OWN].revents && take(f, &err))
		f->failed(f->arg, &err);
	if (take_others(f, w, &other))
		f->failed(f->arg, &other);
	pthread_mutex_unlock(&f->lock);
}

static void fault_main(void *arg)
{
	struct ferry_fault_thread *f = arg;
	struct ferry_foreign *o = f->place->foreign;

	for (;;) {
		struct watch w = { .fd = {
			[OWN] = { f->place->uffd.fd, POLLIN, 0 },
			[STOP] = { f->stop_fd, POLLIN, 0 },
			[CHANGED] = { o ? o->changed : -1, POLLIN, 0 },
		} };

		if (o)
			w.others = ferry_foreign_poll(o, &w.fd[OTHERS],
						      w.number);
		if (poll(w.fd, OTHERS + w.others, -1) < 0)
			continue;
		if (w.fd[STOP].revents)
			return;
		look(f, &w);
	}
}

void ferry_fault_mute(struct ferry_fault_thread *f)
{
	if (!f->thread.started)
		return;
	pthread_mutex_lock(&f->lock);
	f->mute = true;
	pthread_mutex_unlock(&f->lock);
}

static int ask_again_locked(struct ferry_fault_thread *f, struct ferry_err *e)
{
	const struct ferry_mem *mem = f->place->mem;

	for (uint32_t i = 0; i < mem->blocks; i++) {
		struct ferry_bitmap *asked = &f->place->map->asked[i];
		uint64_t page = 0;

		while ((page = ferry_bitmap_next_set(asked, page)) <
		       asked->bits)
			if (serve(f, (struct ferry_mem_block *)&mem->block[i],
				  page++, true, e))
				return -1;
	}
	return 0;
}

int ferry_fault_ask_again(struct ferry_fault_thread *f, struct ferry_err *e)
{
	int rc;

	if (!f->thread.started)
		return 0;
	pthread_mutex_lock(&f->lock);
	f->mute = false;
	rc = ask_again_locked(f, e);
	pthread_mutex_unlock(&f->lock);
	return rc;
}

void ferry_fault_ask_once_more(struct ferry_fault_thread *f)
{
	struct ferry_err err = { 0 };

	pthread_mutex_lock(&f->lock);
	if (f->on && !f->mute && ask_again_locked(f, &err)) {
		f->mute = true;
		f->failed(f->arg, &err);
	}
	pthread_mutex_unlock(&f->lock);
}

static void set_on(struct ferry_fault_thread *f, bool on)
{
	pthread_mutex_lock(&f->lock);
	f->on = on;
	pthread_mutex_unlock(&f->lock);
}

int ferry_fault_start(struct ferry_fault_thread *f, struct ferry_err *e)
{
	f->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->stop_fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "eventfd");
	f->mute = false;
	if (ferry_thread_start(&f->thread, "ferry-fault", fault_main, f, e)) {
		close(f->stop_fd);
		return -1;
	}
	set_on(f, true);
	return 0;
}

void ferry_fault_stop(struct ferry_fault_thread *f)
{
	uint64_t one = 1;

	if (!f->thread.started)
		return;
	set_on(f, false);
	(void)!write(f->stop_fd, &one, sizeof(one));
	ferry_thread_join(&f->thread);
	close(f->stop_fd);
}
