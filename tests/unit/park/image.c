/* SPDX-License-Identifier: MIT */
/* Images are written, read, damaged, and fought over. */
#include "parked.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void assert_says(const struct ferry_err *e, const char *text)
{
	if (!strstr(e->msg, text))
		fail_msg("'%s' does not say '%s'", e->msg, text);
}

static void assert_memory(const struct ferry_image *img)
{
	struct ferry_image_cache c;
	struct ferry_err e = { 0 };
	uint8_t want[PAGE];

	assert_ok(ferry_image_cache_init(&c, &e));
	for (unsigned b = 0; b < PARKED_BLOCKS; b++) {
		for (uint64_t n = 0; n < parked_block[b].pages; n++) {
			uint64_t chunk = img->index.first_chunk[b] +
					 n / FERRY_CHUNK_PAGES;
			const uint8_t *got = ferry_image_chunk(img, &c, chunk,
							       &e);

			assert_non_null(got);
			parked_page(want, b, n);
			assert_memory_equal(got + n % FERRY_CHUNK_PAGES * PAGE,
					    want, PAGE);
		}
	}
	ferry_image_cache_fini(&c);
}

static void check_whole(const char *path)
{
	struct ferry_image img;
	struct ferry_err e = { 0 };

	assert_ok(ferry_image_open(&img, path, &e));
	assert_string_equal(img.index.vm.name, "pc-i440fx-7.2");
	assert_int_equal(img.index.vm.blocks, PARKED_BLOCKS);
	for (unsigned b = 0; b < PARKED_BLOCKS; b++) {
		const struct ferry_hello_block *hb = &img.index.vm.block[b];

		assert_string_equal(hb->name, parked_block[b].name);
		assert_int_equal(hb->bytes, parked_block[b].pages * PAGE);
		assert_int_equal(hb->gpa, b << 20);
	}
	assert_int_equal(img.index.vm.facts, 1);
	assert_string_equal(img.index.vm.fact[0].name, "vcpus");
	assert_string_equal(img.index.vm.fact[0].value, "2");
	assert_true(img.index.has_uuid);
	assert_memory_equal(img.index.uuid, parked_uuid, 16);
	assert_memory_equal(img.state, "sections{}", 10);
	assert_memory(&img);
	assert_ok(ferry_image_verify(&img, NULL, NULL, &e));
	ferry_image_close(&img);
}

static void what_was_parked_is_read_again(void **state)
{
	struct parked p;

	(void)state;
	parked_make(&p, 0);
	check_whole(p.path);
	parked_remove(&p);
}

static void compressed_too_and_it_is_smaller(void **state)
{
	struct parked raw, packed;
	struct stat a, b;

	(void)state;
	parked_make(&raw, 0);
	parked_make(&packed, 1);
	check_whole(packed.path);
	assert_int_equal(stat(raw.path, &a), 0);
	assert_int_equal(stat(packed.path, &b), 0);
	assert_true(b.st_size < a.st_size * 3 / 4);
	parked_remove(&raw);
	parked_remove(&packed);
}

static void memory_that_never_came_takes_no_room(void **state)
{
	struct parked p;
	struct stat st;
	uint64_t pages = 0;
	uint8_t page[PAGE];

	(void)state;
	parked_make(&p, 0);
	for (unsigned b = 0; b < PARKED_BLOCKS; b++)
		for (uint64_t n = 0; n < parked_block[b].pages; n++) {
			parked_page(page, b, n);
			pages += !ferry_is_zero(page, PAGE);
		}
	assert_int_equal(stat(p.path, &st), 0);
	/* and the head, the table, state and index, and slack of blocks */
	assert_true((uint64_t)st.st_blocks * 512 <= (pages + 16) * PAGE);
	parked_remove(&p);
}

/* ---- damage -------------------------------------------------------------- */

static void flip(const char *path, uint64_t at)
{
	FERRY_AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t x;

	assert_int_equal(pread(fd, &x, 1, (off_t)at), 1);
	x ^= 0x10;
	assert_int_equal(pwrite(fd, &x, 1, (off_t)at), 1);
}

static void expect_refused(const char *path)
{
	struct ferry_image img;
	struct ferry_err e = { 0 };

	assert_int_equal(ferry_image_open(&img, path, &e), -1);
	assert_says(&e, path);
}

/* Every octet of all that is read when an image is opened. */
static void an_octet_that_changed_is_found(void **state)
{
	struct ferry_err e = { 0 };
	struct ferry_image img;
	struct ferry_piece piece[4];
	struct parked p;

	(void)state;
	parked_make(&p, 0);
	assert_ok(ferry_image_open(&img, p.path, &e));
	piece[0] = (struct ferry_piece){ 0, FERRY_IMAGE_HEAD_BYTES, 0 };
	piece[1] = img.head.table;
	piece[2] = img.head.state;
	piece[3] = img.head.index;
	ferry_image_close(&img);
	for (unsigned i = 0; i < FERRY_LEN(piece); i++) {
		for (uint64_t at = 0; at < piece[i].bytes; at++) {
			flip(p.path, piece[i].offset + at);
			expect_refused(p.path);
			flip(p.path, piece[i].offset + at);
		}
	}
	check_whole(p.path);
	parked_remove(&p);
}

static void damaged_memory_is_never_handed_out(void **state)
{
	int *level = *state;
	struct ferry_image_cache c;
	struct ferry_err e = { 0 };
	struct ferry_image img;
	struct ferry_chunk rec;
	struct parked p;

	parked_make(&p, *level);
	assert_ok(ferry_image_open(&img, p.path, &e));
	assert_ok(ferry_chunk_decode(img.table + 2 * FERRY_CHUNK_WIRE,
				     img.head.file_bytes, &rec));
	flip(p.path, rec.offset + rec.stored_bytes - 1);
	assert_ok(ferry_image_cache_init(&c, &e));
	assert_null(ferry_image_chunk(&img, &c, 2, &e));
	assert_says(&e, "block pc.ram at 0x20000 does not match its hash");
	assert_null(ferry_image_chunk(&img, &c, 2, &e));
	assert_non_null(ferry_image_chunk(&img, &c, 3, &e));
	assert_int_equal(ferry_image_verify(&img, NULL, NULL, &e), -1);
	ferry_image_cache_fini(&c);
	ferry_image_close(&img);
	parked_remove(&p);
}

/* A chunk of pc.ram, written and noted. */
static void write_chunk(struct parked *p, uint64_t chunk, uint8_t *data)
{
	uint64_t first = chunk * FERRY_CHUNK_PAGES;

	for (uint64_t i = 0; i < FERRY_CHUNK_PAGES; i++) {
		parked_page(data + i * PAGE, 0, first + i);
		data[i * PAGE] |= 1;
	}
	assert_int_equal(pwrite(p->w.memory_fd, data, FERRY_CHUNK_BYTES,
				(off_t)(p->offset[0] + first * PAGE)),
			 FERRY_CHUNK_BYTES);
	ferry_map_set_here(&p->map, 0, first, FERRY_CHUNK_PAGES);
	ferry_image_writer_note(&p->w, 0, first, FERRY_CHUNK_PAGES, data);
}

static void put_page(struct parked *p, uint64_t page, const uint8_t *data)
{
	assert_int_equal(pwrite(p->w.memory_fd, data, PAGE,
				(off_t)(p->offset[0] + page * PAGE)), PAGE);
}

/* What is written in two pieces, or zero, or shorter than a chunk, is read
 * back; what a disk makes of a chunk that was hashed as it came is found. */
static void a_chunk_is_hashed_as_it_came(void **state)
{
	FERRY_AUTO_FREE uint8_t *data = calloc(2, FERRY_CHUNK_BYTES);
	static const uint8_t other[PAGE] = { 7 };
	struct ferry_image_vm vm = parked_vm();
	struct ferry_image_cache c;
	struct ferry_err e = { 0 };
	struct ferry_image img;
	struct parked p;

	(void)state;
	assert_non_null(data);
	parked_folder(&p);
	parked_begin(&p, 0);
	parked_fill(&p);
	for (uint64_t chunk = 0; chunk < 5; chunk++)
		write_chunk(&p, chunk, data);
	put_page(&p, 1 * FERRY_CHUNK_PAGES + 3, other);
	put_page(&p, 2 * FERRY_CHUNK_PAGES + 3, other);
	ferry_image_writer_note(&p.w, 0, 2 * FERRY_CHUNK_PAGES + 3, 1, other);
	put_page(&p, 3 * FERRY_CHUNK_PAGES + 15, other);
	put_page(&p, 4 * FERRY_CHUNK_PAGES, other);
	memcpy(data, other, PAGE);
	memcpy(data + PAGE, other, PAGE);
	ferry_image_writer_note(&p.w, 0, 4 * FERRY_CHUNK_PAGES - 1, 2, data);
	memset(data, 0, 2 * FERRY_CHUNK_BYTES);
	ferry_image_writer_note(&p.w, 2, 0, 32, data);
	ferry_image_writer_note(&p.w, 1, 0, 5, NULL);
	assert_ok(ferry_image_writer_seal(&p.w, &p.map, &vm, &e));
	parked_end(&p);

	assert_ok(ferry_image_open(&img, p.path, &e));
	assert_ok(ferry_image_cache_init(&c, &e));
	for (uint64_t chunk = 0; chunk < img.chunks; chunk++)
		if (chunk != 1)
			assert_non_null(ferry_image_chunk(&img, &c, chunk,
							  &e));
	assert_null(ferry_image_chunk(&img, &c, 1, &e));
	assert_says(&e, "block pc.ram at 0x10000 does not match its hash");
	ferry_image_cache_fini(&c);
	ferry_image_close(&img);
	parked_remove(&p);
}

static void an_image_that_was_cut_is_refused(void **state)
{
	struct parked p;
	struct stat st;

	(void)state;
	parked_make(&p, 0);
	assert_int_equal(stat(p.path, &st), 0);
	for (off_t bytes = st.st_size - 1; bytes >= 0;
	     bytes -= bytes > 8192 ? 4001 : 13) {
		assert_int_equal(truncate(p.path, bytes), 0);
		expect_refused(p.path);
	}
	parked_remove(&p);
}

static void memory_cut_away_under_a_reader_is_an_error(void **state)
{
	struct ferry_image_cache c;
	struct ferry_err e = { 0 };
	struct ferry_image img;
	struct parked p;

	(void)state;
	parked_make(&p, 0);
	assert_ok(ferry_image_open(&img, p.path, &e));
	assert_ok(ferry_image_cache_init(&c, &e));
	assert_int_equal(truncate(p.path, 2 * FERRY_CHUNK_BYTES), 0);
	assert_non_null(ferry_image_chunk(&img, &c, 0, &e));
	assert_null(ferry_image_chunk(&img, &c, 1, &e));
	assert_says(&e, "cannot be read");
	ferry_image_cache_fini(&c);
	ferry_image_close(&img);
	parked_remove(&p);
}

static void what_is_no_image_is_told_so(void **state)
{
	static const struct { const char *path, *says; } rows[] = {
		{ "/dev/null", "not a regular file" },
		{ "/etc/passwd", "no image of a parked VM" },
		{ "/nowhere/vm", "No such file" },
		{ "/tmp", "not a regular file" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_image img;
		struct ferry_err e = { 0 };

		assert_int_equal(ferry_image_open(&img, rows[i].path, &e), -1);
		assert_says(&e, rows[i].says);
		assert_says(&e, rows[i].path);
	}
}

/* ---- who writes ------------------------------------------------------------ */

static void two_do_not_park_in_one_image(void **state)
{
	struct ferry_image_writer second;
	struct ferry_err e = { 0 };
	struct parked p;

	(void)state;
	parked_folder(&p);
	parked_begin(&p, 0);
	assert_int_equal(ferry_image_writer_open(&second, p.path, 0, &e), -1);
	assert_says(&e, "another process is parking a VM in");
	parked_end(&p);
	assert_ok(ferry_image_writer_open(&second, p.path, 0, &e));
	ferry_image_writer_fini(&second);
	assert_int_equal(rmdir(p.dir), 0);
}

static void an_image_is_not_written_over(void **state)
{
	struct ferry_image_writer second;
	struct ferry_err e = { 0 };
	struct parked p;

	(void)state;
	parked_make(&p, 0);
	assert_int_equal(ferry_image_writer_open(&second, p.path, 0, &e), -1);
	assert_says(&e, "exists; remove it or choose another name");
	check_whole(p.path);
	parked_remove(&p);
}

/* Not even one that came meanwhile. */
static void nor_one_that_came_while_parking(void **state)
{
	struct ferry_image_vm vm = parked_vm();
	struct ferry_err e = { 0 };
	struct parked p;
	int fd;

	(void)state;
	parked_folder(&p);
	parked_begin(&p, 0);
	parked_fill(&p);
	fd = open(p.path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "mine", 4), 4);
	close(fd);
	assert_int_equal(ferry_image_writer_seal(&p.w, &p.map, &vm, &e), -1);
	assert_says(&e, "File exists");
	parked_end(&p);
	parked_remove(&p);
}

/* A process that dies leaves no image, and nothing in the way of the next. */
static void a_dead_parker_leaves_no_image(void **state)
{
	struct parked p;
	pid_t child;
	int status;

	(void)state;
	parked_folder(&p);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		parked_begin(&p, 0);
		parked_fill(&p);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(access(p.path, F_OK), -1);
	expect_refused(p.path);
	{
		struct ferry_image_vm vm = parked_vm();
		struct ferry_err e = { 0 };

		parked_begin(&p, 0);
		parked_fill(&p);
		assert_ok(ferry_image_writer_seal(&p.w, &p.map, &vm, &e));
		parked_end(&p);
	}
	check_whole(p.path);
	parked_remove(&p);
}

static void names_that_cannot_be_are_refused(void **state)
{
	static const struct { const char *path, *says; } rows[] = {
		{ "", "cannot be the name of an image" },
		{ "/nowhere/vm", "create /nowhere/vm.part: No such file" },
		{ "/proc/vm", "create /proc/vm.part" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_image_writer w;
		struct ferry_err e = { 0 };

		assert_int_equal(ferry_image_writer_open(&w, rows[i].path, 0,
							 &e), -1);
		assert_says(&e, rows[i].says);
	}
}

int main(void)
{
	static int raw = 0, packed = 3;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_parked_is_read_again),
		cmocka_unit_test(compressed_too_and_it_is_smaller),
		cmocka_unit_test(memory_that_never_came_takes_no_room),
		cmocka_unit_test(an_octet_that_changed_is_found),
		cmocka_unit_test_prestate(damaged_memory_is_never_handed_out,
					  &raw),
		cmocka_unit_test_prestate(damaged_memory_is_never_handed_out,
					  &packed),
		cmocka_unit_test(a_chunk_is_hashed_as_it_came),
		cmocka_unit_test(an_image_that_was_cut_is_refused),
		cmocka_unit_test(memory_cut_away_under_a_reader_is_an_error),
		cmocka_unit_test(what_is_no_image_is_told_so),
		cmocka_unit_test(two_do_not_park_in_one_image),
		cmocka_unit_test(an_image_is_not_written_over),
		cmocka_unit_test(nor_one_that_came_while_parking),
		cmocka_unit_test(a_dead_parker_leaves_no_image),
		cmocka_unit_test(names_that_cannot_be_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
