/* SPDX-License-Identifier: MIT */
/*
 * Placing into a file: pages where they belong, zeroes as holes, and a full
 * disk that is an error before LISTEN and waited out behind it.
 */
#include "help.h"

#include <sys/stat.h>

#include "unit/small_tmpfs.h"

#define PAGES	256u
#define OFFSET	65536u

struct filed {
	int		 fd;
	struct ferry_mem mem;
	struct ferry_map map;
	struct ferry_place place;
	struct ferry_placer placer;
	struct ferry_err e;
};

/* Two blocks, one behind the other. */
static void start(struct filed *f, int fd)
{
	*f = (struct filed){ .fd = fd };
	assert_true(fd >= 0);
	assert_ok(ferry_mem_add_file(&f->mem, "a", PAGES * PAGE, PAGE, 0, fd,
				     OFFSET, &f->e));
	assert_ok(ferry_mem_add_file(&f->mem, "b", PAGES * PAGE, PAGE, 0, fd,
				     OFFSET + PAGES * PAGE, &f->e));
	assert_ok(ftruncate(fd, OFFSET + 2 * PAGES * PAGE));
	assert_ok(ferry_place_init_file(&f->place, &f->mem, &f->map, NULL,
					&f->e));
	assert_ok(ferry_map_init(&f->map, &f->mem, &f->e));
	assert_ok(ferry_place_begin(&f->place, &f->e));
	ferry_placer_init(&f->placer, &f->place);
}

static void finish(struct filed *f)
{
	ferry_placer_fini(&f->placer);
	ferry_place_fini(&f->place);
	ferry_map_fini(&f->map);
	ferry_mem_fini(&f->mem);
	close(f->fd);
}

static int write_to(struct filed *f, unsigned i, uint64_t first, uint64_t n,
		    unsigned v)
{
	FERRY_AUTO_FREE uint8_t *data = malloc(n * PAGE);

	assert_non_null(data);
	for (uint64_t p = 0; p < n; p++)
		fill_page(data + p * PAGE, first + p, v);
	return ferry_placer_pages(&f->placer, &f->mem.block[i], first, n, data,
				  &f->e);
}

static int zero_at(struct filed *f, unsigned i, uint64_t first, uint64_t n)
{
	return ferry_placer_zeroes(&f->placer, &f->mem.block[i], first, n,
				   &f->e);
}

/* v < 0: zeroes. */
static bool holds(const struct filed *f, unsigned i, uint64_t p, int v)
{
	uint8_t want[PAGE] = { 0 }, got[PAGE];

	if (v >= 0)
		fill_page(want, p, (unsigned)v);
	assert_int_equal(pread(f->fd, got, PAGE, (off_t)
			       (f->mem.block[i].fd_offset + p * PAGE)), PAGE);
	return !memcmp(want, got, PAGE);
}

static uint64_t occupied(const struct filed *f)
{
	struct stat st;

	assert_ok(fstat(f->fd, &st));
	return (uint64_t)st.st_blocks * 512 / PAGE;
}

static void pages_stand_where_they_belong(void **state)
{
	struct filed f;

	(void)state;
	start(&f, memfd_create("image", MFD_CLOEXEC));
	assert_ok(write_to(&f, 0, 3, 70, 1));
	assert_ok(write_to(&f, 1, 0, 1, 2));
	assert_ok(write_to(&f, 0, 5, 2, 3));	/* again, as it is now */
	for (uint64_t p = 0; p < PAGES; p++)
		assert_true(holds(&f, 0, p, p < 3 || p >= 73 ? -1 :
				  p == 5 || p == 6 ? 3 : 1));
	assert_true(holds(&f, 1, 0, 2) && holds(&f, 1, 1, -1));
	assert_int_equal(ferry_map_missing(&f.map), 2 * PAGES - 71);
	assert_int_equal(occupied(&f), 71);
	finish(&f);
}

static void zeroes_are_holes_also_where_something_was(void **state)
{
	struct filed f;

	(void)state;
	start(&f, memfd_create("image", MFD_CLOEXEC));
	assert_ok(write_to(&f, 0, 0, 10, 1));
	assert_ok(zero_at(&f, 0, 5, 20));
	assert_ok(zero_at(&f, 1, 0, PAGES));
	assert_int_equal(occupied(&f), 5);
	for (uint64_t p = 0; p < 25; p++)
		assert_true(holds(&f, 0, p, p < 5 ? 1 : -1));
	assert_ok(write_to(&f, 0, 7, 1, 4));
	assert_true(holds(&f, 0, 7, 4));
	assert_int_equal(ferry_map_missing(&f.map), PAGES - 25);
	finish(&f);
}

static void a_discarded_page_is_missing_and_gone(void **state)
{
	struct filed f;

	(void)state;
	start(&f, memfd_create("image", MFD_CLOEXEC));
	assert_ok(write_to(&f, 0, 0, 10, 1));
	assert_ok(ferry_place_discard(&f.place, &f.mem.block[0], 2, 4, &f.e));
	assert_int_equal(occupied(&f), 6);
	assert_int_equal(ferry_map_missing(&f.map), 2 * PAGES - 6);
	finish(&f);
}

/* In postcopy room is made for all that may come; what turns out to be zero is
 * given back, whatever was there before. */
static void room_is_made_at_listen_and_given_back(void **state)
{
	struct filed f;

	(void)state;
	start(&f, memfd_create("image", MFD_CLOEXEC));
	assert_ok(write_to(&f, 0, 0, 10, 1));
	assert_ok(zero_at(&f, 1, 0, PAGES));
	assert_ok(ferry_place_can_listen(&f.place, &f.e));
	assert_ok(ferry_place_listen(&f.place, &f.e));
	assert_int_equal(occupied(&f), PAGES);

	assert_ok(zero_at(&f, 0, 10, 100));
	assert_ok(write_to(&f, 0, 110, PAGES - 110, 2));
	assert_ok(write_to(&f, 0, 20, 1, 5));	/* and after all not zero */
	assert_int_equal(ferry_map_missing(&f.map), 0);
	assert_ok(ferry_place_trim(&f.place));
	assert_int_equal(occupied(&f), 10 + 1 + PAGES - 110);
	assert_true(holds(&f, 0, 20, 5) && holds(&f, 0, 19, -1) &&
		    holds(&f, 0, 9, 1) && holds(&f, 0, 200, 2));
	finish(&f);
}

/* ---- a full disk ------------------------------------------------------------ */

struct late {
	struct ferry_thread thread;
	struct filed	*f;
	int		 rc;
};

static void write_late(void *arg)
{
	struct late *l = arg;

	l->rc = write_to(l->f, 1, 0, 1, 3);
}

static void a_full_disk_is_an_error_while_the_source_has_the_vm(void **state)
{
	struct small_tmpfs fs;
	struct filed f;

	(void)state;
	if (!small_tmpfs_open(&fs, 64 * PAGE))
		skip();
	start(&f, openat(fs.dir, ".", O_RDWR | O_TMPFILE, 0600));
	f.place.patience_ns = 0;
	assert_ok(write_to(&f, 0, 0, 40, 1));
	assert_int_equal(write_to(&f, 0, 40, 40, 1), -1);
	assert_says(&f.e, FERRY_E_NOMEM, "the image has no room left: No space "
					 "left on device");
	assert_int_equal(f.e.sys, ENOSPC);
	assert_int_equal(ferry_place_listen(&f.place, &f.e), -1);
	assert_says(&f.e, FERRY_E_IO, "make room for block a");
	finish(&f);
	small_tmpfs_close(&fs);
}

static void a_disk_that_is_full_all_the_same_is_waited_out(void **state)
{
	struct late l = { 0 };
	struct small_tmpfs fs;
	struct filed f;

	(void)state;
	if (!small_tmpfs_open(&fs, 64 * PAGE))
		skip();
	start(&f, openat(fs.dir, ".", O_RDWR | O_TMPFILE, 0600));
	assert_ok(write_to(&f, 0, 0, 64, 1));
	atomic_store(&f.place.ops, &ferry_place_file_late);
	f.place.patience_ns = 0;
	l.f = &f;
	assert_ok(ferry_thread_start(&l.thread, "late", write_late, &l, &f.e));
	usleep(50000);
	assert_false(ferry_map_is_here(&f.map, 1, 0));
	assert_ok(fallocate(f.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    OFFSET, 8 * PAGE));
	ferry_thread_join(&l.thread);
	assert_ok(l.rc);
	assert_true(holds(&f, 1, 0, 3));
	finish(&f);
	small_tmpfs_close(&fs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_stand_where_they_belong),
		cmocka_unit_test(zeroes_are_holes_also_where_something_was),
		cmocka_unit_test(a_discarded_page_is_missing_and_gone),
		cmocka_unit_test(room_is_made_at_listen_and_given_back),
		cmocka_unit_test(
			a_full_disk_is_an_error_while_the_source_has_the_vm),
		cmocka_unit_test(
			a_disk_that_is_full_all_the_same_is_waited_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
