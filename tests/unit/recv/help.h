/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the target's half share: memory to place into, threads
 * that touch it, and what a host must have.
 */
#ifndef TESTS_UNIT_RECV_HELP_H
#define TESTS_UNIT_RECV_HELP_H

#include <poll.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/counter.h"
#include "base/thread.h"
#include "mem/uffd.h"
#include "recv/place_ops.h"
#include "unit/huge.h"
#include "unit/mem/help.h"

#define assert_ok(rc)	assert_int_equal((rc), 0)
#define HUGE_PAGES	(HUGE / PAGE)

/* The error is of this code and its sentence has this in it. */
static inline void assert_says(const struct ferry_err *e, int code,
			       const char *part)
{
	if (e->code != code || !strstr(e->msg, part))
		fail_msg("error %s '%s', not %s '%s'", ferry_err_name(e->code),
			 e->msg, ferry_err_name(code), part);
}

/* ---- hosts -------------------------------------------------------------- */

static inline bool have_uffd(struct ferry_err *e)
{
	struct ferry_uffd u;

	if (ferry_uffd_open(&u, 0, e))
		return false;
	ferry_uffd_close(&u);
	return true;
}

/* ---- a place ------------------------------------------------------------ */

struct rig {
	struct area	area[4];
	unsigned	 areas;
	struct ferry_mem mem;
	struct ferry_map map;
	struct ferry_place place;
	struct ferry_placer placer;
	struct ferry_err e;
};

/* Block i is named "a", "b", ...; false when the host has no such memory. */
static inline bool rig_add(struct rig *r, enum kind kind, uint64_t pages)
{
	char name[2] = { (char)('a' + r->areas), '\0' };

	if (kind >= HUGE_MEMFD && !huge_pages_for((long)(pages / HUGE_PAGES)))
		return false;
	if (!area_make(&r->area[r->areas], kind, pages * PAGE))
		return false;
	area_add(&r->mem, name, &r->area[r->areas]);
	r->areas++;
	return true;
}

/* A block that counts by huge pages; the memory behind it is ordinary, which
 * nobody notices before LISTEN. */
static inline void rig_add_huge_in_name(struct rig *r, uint64_t pages)
{
	assert_true(rig_add(r, PRIVATE, pages));
	r->mem.block[r->areas - 1].page_bytes = HUGE;
	r->mem.block[r->areas - 1].host_pages = HUGE_PAGES;
}

static inline void rig_init(struct rig *r)
{
	assert_ok(ferry_map_init(&r->map, &r->mem, &r->e));
	assert_ok(ferry_place_init(&r->place, &r->mem, &r->map, &r->e));
	ferry_placer_init(&r->placer, &r->place);
}

static inline void rig_fini(struct rig *r)
{
	ferry_placer_fini(&r->placer);
	ferry_place_fini(&r->place);
	ferry_map_fini(&r->map);
	ferry_mem_fini(&r->mem);
	for (unsigned i = 0; i < r->areas; i++)
		area_free(&r->area[i]);
}

static inline struct ferry_mem_block *block(struct rig *r, unsigned i)
{
	return &r->mem.block[i];
}

/* What page p holds in its v-th version: never zero. */
static inline uint8_t octet(uint64_t p, unsigned v)
{
	return (uint8_t)(1 + (p * 7 + v * 31) % 255);
}

static inline void fill_page(uint8_t *at, uint64_t p, unsigned v)
{
	memset(at, octet(p, v), PAGE);
}

/* Pages [first, first + n) of version v arrive. */
static inline int put(struct rig *r, unsigned i, uint64_t first, uint64_t n,
		      unsigned v)
{
	FERRY_AUTO_FREE uint8_t *data = malloc(n * PAGE);

	assert_non_null(data);
	for (uint64_t p = 0; p < n; p++)
		fill_page(data + p * PAGE, first + p, v);
	return ferry_placer_pages(&r->placer, block(r, i), first, n, data,
				  &r->e);
}

static inline int put_zeroes(struct rig *r, unsigned i, uint64_t first,
			     uint64_t n)
{
	return ferry_placer_zeroes(&r->placer, block(r, i), first, n, &r->e);
}

/* v: its version, or -1 for zeroes.  Touches the page. */
static inline bool page_is(struct rig *r, unsigned i, uint64_t p, int v)
{
	const uint8_t *at = r->area[i].p + p * PAGE;
	uint8_t want = v < 0 ? 0 : octet(p, (unsigned)v);

	for (unsigned k = 0; k < PAGE; k++)
		if (at[k] != want)
			return false;
	return true;
}

/* Octets of the file that are allocated. */
static inline uint64_t allocated(struct rig *r, unsigned i)
{
	struct stat st;

	assert_ok(fstat(r->area[i].fd, &st));
	return (uint64_t)st.st_blocks * 512;
}

/* ---- who touches memory ------------------------------------------------- */

struct toucher {
	struct ferry_thread thread;
	const uint8_t	*at;
	_Atomic int	 got;		/* -1 while it waits */
};

static inline void touch_main(void *arg)
{
	struct toucher *t = arg;

	atomic_store(&t->got, *(const volatile uint8_t *)t->at);
}

static inline void touch(struct toucher *t, const uint8_t *at)
{
	struct ferry_err e;

	t->at = at;
	atomic_store(&t->got, -1);
	assert_ok(ferry_thread_start(&t->thread, "toucher", touch_main, t,
				     &e));
}

/* What it read, once it got through. */
static inline int touched(struct toucher *t)
{
	ferry_thread_join(&t->thread);
	return atomic_load(&t->got);
}

/* The kernel has a fault to tell: somebody waits. */
static inline void await_fault(struct ferry_place *p)
{
	struct pollfd fd = { .fd = p->uffd.fd, .events = POLLIN };

	assert_int_equal(poll(&fd, 1, 60000), 1);
}

#endif
