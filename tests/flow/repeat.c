/* SPDX-License-Identifier: MIT */
/*
 * Again and again: two VMs' worth of memory in one process, the VM moved back
 * and forth between them; nothing is lost on the way, and nothing is left
 * behind (descriptors, memory).  Two migrations at once do not meet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "rig.h"

#define BYTES	(1u << 20)
#define TIMES	50
#define WARM	6	/* moves until the allocator has what it needs */

struct house {
	struct ferry_vm *vm;
	uint8_t *mem;
	bool runs;
};

static int stop(void *opaque, struct ferry_err *e)
{
	(void)e;
	((struct house *)opaque)->runs = false;
	return 0;
}

static void resume(void *opaque)
{
	((struct house *)opaque)->runs = true;
}

static int start(void *opaque, int running, struct ferry_err *e)
{
	(void)e;
	((struct house *)opaque)->runs = running;
	return 0;
}

static void throttle(void *opaque, unsigned percent)
{
	(void)opaque;
	(void)percent;
}

static int running(void *opaque)
{
	return ((struct house *)opaque)->runs;
}

static void build(struct house *h)
{
	const struct ferry_vm_ops ops = {
		.size = sizeof(ops), .stop = stop, .resume = resume,
		.start = start, .throttle = throttle, .running = running,
	};
	struct ferry_block b = FERRY_BLOCK_INIT;

	h->mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(h->mem != MAP_FAILED);
	h->vm = ferry_vm_new("house", &ops, h, NULL);
	b.name = "ram";
	b.addr = h->mem;
	b.bytes = BYTES;
	assert_int_equal(ferry_vm_add_block(h->vm, &b, NULL), 0);
}

static void move(struct house *from, struct house *to, const char *passes)
{
	struct ferry_params *p = ferry_params_new();
	struct ferry_source *s;
	struct ferry_target *t;
	struct ferry_err err;
	char uri[128];

	assert_int_equal(ferry_params_set(p, "x-ferry-precopy-passes", passes,
					  NULL), 0);
	t = ferry_target_new(to->vm, NULL, NULL, NULL);
	s = ferry_source_new(from->vm, p, NULL, NULL);
	ferry_params_free(p);
	assert_int_equal(ferry_target_listen(t, rig_unix_uri(), NULL), 0);
	assert_int_equal(ferry_target_uri(t, uri, sizeof(uri), NULL), 0);
	assert_int_equal(ferry_source_start(s, uri, NULL), 0);
	if (ferry_source_wait(s, 60000, &err) ||
	    ferry_target_wait(t, 60000, &err))
		fail_msg("%s", err.msg);
	ferry_source_free(s);
	ferry_target_free(t);
	assert_true(to->runs && !from->runs);
}

static unsigned open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Under a sanitizer freed memory is kept for a while. */
static long resident_pages(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return 0;
#else
	FERRY_AUTO_FILE f = fopen("/proc/self/statm", "re");
	long all, pages = 0;

	assert_true(f && fscanf(f, "%ld %ld", &all, &pages) == 2);
	return pages;
#endif
}

static void back_and_forth_leaves_nothing_behind(void **state)
{
	static const char *const passes[] = { "1000", "0", "1" };
	struct house house[2] = { { 0 }, { 0 } };
	unsigned files = 0;
	long pages = 0;

	(void)state;
	build(&house[0]);
	build(&house[1]);
	house[0].runs = true;
	for (unsigned i = 0; i < BYTES; i += 64)
		house[0].mem[i] = (uint8_t)(i >> 6);
	for (unsigned n = 0; n < TIMES; n++) {
		struct house *from = &house[n % 2], *to = &house[!(n % 2)];

		from->mem[n * 4096 + 1] = (uint8_t)n;
		move(from, to, passes[n % 3]);
		assert_memory_equal(from->mem, to->mem, BYTES);
		if (n == WARM) {
			files = open_files();
			pages = resident_pages();
		}
	}
	assert_int_equal(open_files(), files);
	assert_true(resident_pages() < pages + 1024);
	for (int i = 0; i < 2; i++) {
		ferry_vm_free(house[i].vm);
		munmap(house[i].mem, BYTES);
	}
}

static void two_at_once_do_not_meet(void **state)
{
	const struct rig_config cfg = {
		.block = { { "ram", 2 << 20, 4096, true } }, .blocks = 1,
		.zero_percent = 20, .writer = true, .reader = true,
		.param = { { "x-ferry-precopy-passes", "1" } },
	};
	struct rig a, b;

	(void)state;
	rig_init(&a, &cfg);
	rig_init(&b, &cfg);
	rig_start(&a);
	rig_start(&b);
	rig_finish(&a);
	rig_finish(&b);
	rig_expect_moved(&a, "one");
	rig_expect_moved(&b, "the other");
	rig_fini(&a);
	rig_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(back_and_forth_leaves_nothing_behind),
		cmocka_unit_test(two_at_once_do_not_meet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
