/* SPDX-License-Identifier: MIT */
/*
 * Other processes share the VM's memory: what they write moves, and in postcopy
 * they wait for pages and get them.  "Another process" is another mapping of
 * the same files here, with a userfaultfd of its own: to the engine it is the
 * same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <assert.h>
#include <cmocka.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <ferry/foreign.h>

#include "rig.h"
#include "unit/need_uffd.h"

#define BYTES	(2u << 20)
#define PAGES	(BYTES / RIG_PAGE)

/* One that shares a side's memory. */
struct other {
	struct ferry_uffd uffd;
	uint8_t		*map;
	pthread_t	thread;
	_Atomic bool	quit;
	bool		runs;
	unsigned	first, step;	/* pages, in which order */
	_Atomic unsigned touched;
	uint64_t	seen[PAGES];	/* the first word of each */
	_Atomic bool	dirty[PAGES];	/* the source's log */
};

struct world {
	struct other	other[2];
	unsigned	others;
	_Atomic bool	cannot_log, cannot_fault, cannot_start;
	bool		is_logging, writes;
	unsigned	collected, final, ended, whole;
};

static struct world *world_of(struct rig_side *s)
{
	return s->rig->cfg.hook_arg;
}

static int can(void *opaque, enum ferry_foreign_ability what,
	       struct ferry_err *e)
{
	struct world *w = world_of(opaque);
	bool not = what == FERRY_FOREIGN_LOG ? atomic_load(&w->cannot_log) :
		   what == FERRY_FOREIGN_START ? atomic_load(&w->cannot_start) :
						 atomic_load(&w->cannot_fault);

	if (!not)
		return 0;
	snprintf(e->msg, sizeof(e->msg), "disk7 cannot do that");
	e->code = FERRY_E_UNSUPPORTED;
	return -1;
}

/* ---- what they write ------------------------------------------------------ */

static void *scribble(void *arg)
{
	struct other *o = arg;

	for (unsigned n = 0; !atomic_load(&o->quit); n++) {
		unsigned page = n * 7919 % PAGES;

		o->map[page * RIG_PAGE + n % RIG_PAGE] = (uint8_t)n;
		atomic_store(&o->dirty[page], true);
		if (n % 64 == 0)
			usleep(100);
	}
	return NULL;
}

static int log_start(void *opaque, struct ferry_err *e)
{
	struct world *w = world_of(opaque);
	struct other *o = &w->other[0];

	(void)e;
	w->is_logging = true;
	if (w->writes && !o->runs) {
		o->runs = true;
		assert(!pthread_create(&o->thread, NULL, scribble, o));
	}
	return 0;
}

static int log_collect(void *opaque, int final, struct ferry_err *e)
{
	struct rig_side *s = opaque;
	struct world *w = world_of(s);

	(void)e;
	for (unsigned i = 0; i < PAGES; i++) {
		if (!atomic_exchange(&w->other[0].dirty[i], false))
			continue;
		ferry_vm_mark_dirty(s->vm, s->mem[0] + i * RIG_PAGE, RIG_PAGE);
		w->collected++;
	}
	w->final += final ? 1 : 0;
	return 0;
}

static void log_stop(void *opaque)
{
	world_of(opaque)->is_logging = false;
}

static void end_thread(struct other *o)
{
	atomic_store(&o->quit, true);
	if (o->runs)
		pthread_join(o->thread, NULL);
	o->runs = false;
}

/* The embedder's stop(). */
static void stop_writing(struct rig *r, enum rig_moment m, unsigned arg)
{
	struct world *w = r->cfg.hook_arg;

	(void)arg;
	if (m == RIG_STOP)
		end_thread(&w->other[0]);
}

/* ---- what they wait for --------------------------------------------------- */

static void *touch_all(void *arg)
{
	struct other *o = arg;

	for (unsigned i = 0; i < PAGES; i++) {
		unsigned page = (o->first + i * o->step) % PAGES;

		o->seen[page] = *(volatile uint64_t *)(o->map +
						       page * RIG_PAGE);
		atomic_fetch_add(&o->touched, 1);
	}
	return NULL;
}

static int watch_missing(struct other *o)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)o->map, BYTES },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return ioctl(o->uffd.fd, UFFDIO_REGISTER, &reg);
}

static void listen_for(struct other *o, struct rig_side *s,
		       struct ferry_target *t)
{
	struct ferry_uffd_range range[2];

	o->map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		      s->fd[0], 0);
	assert(o->map != MAP_FAILED);
	madvise(o->map, BYTES, MADV_NOHUGEPAGE);
	assert(!ferry_uffd_open(&o->uffd, 0, NULL) && !watch_missing(o));
	for (unsigned i = 0; i < 2; i++) {	/* the second half first */
		uint64_t at = i ? 0 : BYTES / 2;

		range[i].addr = (uintptr_t)o->map + at;
		range[i].bytes = BYTES / 2;
		range[i].host = s->mem[0] + at;
	}
	assert(ferry_target_add_uffd(t, o->uffd.fd, "other", range, 2,
				     NULL) > 0);
	o->runs = true;
	assert(!pthread_create(&o->thread, NULL, touch_all, o));
}

static int listen_all(void *opaque, struct ferry_target *t,
		      struct ferry_err *e)
{
	struct rig_side *s = opaque;
	struct world *w = world_of(s);

	(void)e;
	for (unsigned i = 0; i < w->others; i++)
		listen_for(&w->other[i], s, t);
	return 0;
}

static void end(void *opaque, int whole)
{
	struct world *w = world_of(opaque);

	w->ended++;
	w->whole += whole ? 1 : 0;
	for (unsigned i = 0; i < w->others && whole; i++)
		end_thread(&w->other[i]);
}

static const struct ferry_foreign_ops ops = {
	.size = sizeof(ops), .can = can, .listen = listen_all, .end = end,
};

static const struct ferry_track_ops logs = {
	.size = sizeof(logs), .start = log_start, .collect = log_collect,
	.stop = log_stop,
};

static void close_other(struct other *o)
{
	if (o->map)
		munmap(o->map, BYTES);
	if (o->uffd.fd > 0)
		close(o->uffd.fd);
}

/* ---- tests ---------------------------------------------------------------- */

#define SHARED								\
	.block = { { "ram", BYTES, RIG_PAGE, true } }, .blocks = 1,	\
	.zero_percent = 20, .foreign = &ops, .log = &logs

static void what_others_write_moves(void **state)
{
	static struct world w;
	const struct rig_config cfg = {
		SHARED, .hook = stop_writing, .hook_arg = &w,
		.param = { { "max-bandwidth", "20000000" } },
	};
	struct rig r;

	(void)state;
	memset(&w, 0, sizeof(w));
	w.writes = true;
	rig_init(&r, &cfg);
	w.other[0].map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			      r.src.fd[0], 0);
	rig_start(&r);
	rig_finish(&r);
	end_thread(&w.other[0]);
	rig_expect_moved(&r, "written by others");
	assert_true(w.collected > 0);
	assert_int_equal(w.final, 1);
	assert_false(w.is_logging);
	assert_int_equal(w.ended, 0);
	close_other(&w.other[0]);
	rig_fini(&r);
}

static void others_wait_for_pages_and_get_them(void **state)
{
	static struct world w;
	const struct rig_config cfg = {
		SHARED, .hook_arg = &w, .reader = true, .param = {
			{ "postcopy-ram", "true" },
			{ "x-ferry-precopy-passes", "0" },
			{ "max-postcopy-bandwidth", "4000000" },
		},
	};
	struct rig r;

	(void)state;
	memset(&w, 0, sizeof(w));
	w.others = 2;
	w.other[0].step = 77;
	w.other[1].step = PAGES - 3;	/* and from the end */
	w.other[1].first = PAGES - 1;
	rig_run(&r, &cfg);
	rig_expect_moved(&r, "touched by others");
	assert_int_equal(w.ended, 1);
	assert_int_equal(w.whole, 1);
	for (unsigned i = 0; i < w.others; i++) {
		assert_int_equal(atomic_load(&w.other[i].touched), PAGES);
		for (unsigned n = 0; n < PAGES; n++)
			assert_memory_equal(&w.other[i].seen[n],
					    r.dst.mem[0] + n * RIG_PAGE, 8);
		close_other(&w.other[i]);
	}
	rig_fini(&r);
}

static void who_cannot_tell_its_writes_blocks_a_migration(void **state)
{
	static struct world w;
	const struct rig_config cfg = { SHARED, .hook_arg = &w };
	struct ferry_err e = { 0 };
	struct rig r;

	(void)state;
	memset(&w, 0, sizeof(w));
	atomic_store(&w.cannot_log, true);
	rig_init(&r, &cfg);
	rig_start_target(&r);
	assert_int_equal(ferry_source_start(r.source, "unix:/nowhere", &e),
			 -1);
	assert_non_null(strstr(e.msg, "disk7"));
	/* Nothing was begun: it is asked again. */
	atomic_store(&w.cannot_log, false);
	rig_start_source(&r);
	rig_finish(&r);
	rig_expect_moved(&r, "asked again");
	rig_fini(&r);
}

static void who_cannot_wait_has_no_postcopy(void **state)
{
	static struct world w;
	static const char *const passes[] = { "0", "1000" };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		const struct rig_config cfg = {
			SHARED, .hook_arg = &w, .param = {
				{ "postcopy-ram", "true" },
				{ "x-ferry-precopy-passes", passes[i] },
			},
		};
		struct rig r;

		memset(&w, 0, sizeof(w));
		atomic_store(&w.cannot_fault, true);
		rig_run(&r, &cfg);
		if (i)
			rig_expect_moved(&r, "by precopy");
		else
			rig_expect_stayed(&r, "no postcopy", "disk7");
		assert_int_equal(w.ended, 0);
		rig_fini(&r);
	}
}

/* Whoever died with what was loaded into him: the source is not let go. */
static void who_cannot_go_on_keeps_the_vm_at_its_source(void **state)
{
	static struct world w;
	const struct rig_config cfg = { SHARED, .hook_arg = &w };
	struct rig r;

	(void)state;
	memset(&w, 0, sizeof(w));
	atomic_store(&w.cannot_start, true);
	rig_run(&r, &cfg);
	rig_expect_stayed(&r, "not started", "disk7");
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_others_write_moves),
		cmocka_unit_test(others_wait_for_pages_and_get_them),
		cmocka_unit_test(who_cannot_tell_its_writes_blocks_a_migration),
		cmocka_unit_test(who_cannot_wait_has_no_postcopy),
		cmocka_unit_test(who_cannot_go_on_keeps_the_vm_at_its_source),
	};

	if (!has_uffd())
		return SKIPPED;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
