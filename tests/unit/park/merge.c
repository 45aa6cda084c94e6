/* SPDX-License-Identifier: MIT */
/* Two halves of a VM make an image, or a sentence says why not. */
#include "parked.h"

#include <ferry/vm.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/sum.h"
#include "mig/half.h"
#include "park/merge.h"

#define RAM_PAGES	700u
#define ROM_PAGES	5u
#define ALL_PAGES	(RAM_PAGES + ROM_PAGES)
#define FILE_MAX	(16u << 20)

static char dir[64], path_a[96], path_b[96], path_image[96];

/* ---- halves ------------------------------------------------------------- */

struct side {
	uint32_t	 which;		/* enum ferry_half_side */
	uint8_t		*memory;	/* ram, then rom */
	struct ferry_vm	*vm;
	struct ferry_bitmap has[2];
	bool		 all;		/* has is not looked at */
	bool		 verified;	/* and says how its pages came */
	uint8_t		 session[FERRY_SESSION_BYTES];
	uint64_t	 ram_pages;
};

static const uint64_t pages_of[2] = { RAM_PAGES, ROM_PAGES };

/* Every third page is zero, and which are differs between the sides. */
static void fill(uint8_t *page, uint32_t side, uint64_t n)
{
	memset(page, 0, PAGE);
	for (unsigned i = 0; (n + side) % 3 && i < PAGE; i++)
		page[i] = (uint8_t)(n * 31 + side * 101 + i);
}

/* How a page came to the target: as the source's, as it is there now, or as
 * neither. */
enum { RIGHT, WRONG, MIXED };

static uint8_t came[ALL_PAGES];

static bool target_has(uint64_t n)
{
	return n % 5 < 2 || (n > 300 && n < 600);
}

static int nothing(void *opaque, struct ferry_err *e)
{
	(void)opaque, (void)e;
	return 0;
}

static int start(void *opaque, int running, struct ferry_err *e)
{
	(void)opaque, (void)running, (void)e;
	return 0;
}

static void no_resume(void *opaque)
{
	(void)opaque;
}

static void no_throttle(void *opaque, unsigned percent)
{
	(void)opaque, (void)percent;
}

static int not_running(void *opaque)
{
	(void)opaque;
	return 0;
}

static void describe(struct side *s)
{
	static const struct ferry_vm_ops ops = {
		.size = sizeof(ops), .stop = nothing, .resume = no_resume,
		.start = start, .throttle = no_throttle,
		.running = not_running,
	};
	struct ferry_block b = FERRY_BLOCK_INIT;
	struct ferry_err e = { 0 };

	s->vm = ferry_vm_new("halved", &ops, NULL, &e);
	assert_non_null(s->vm);
	b.name = "ram";
	b.addr = s->memory;
	b.bytes = s->ram_pages * PAGE;
	assert_ok(ferry_vm_add_block(s->vm, &b, &e));
	b.name = "rom";
	b.addr = s->memory + RAM_PAGES * PAGE;
	b.bytes = ROM_PAGES * PAGE;
	b.gpa = 1 << 30;
	assert_ok(ferry_vm_add_block(s->vm, &b, &e));
	assert_ok(ferry_vm_add_fact(s->vm, "vcpus", FERRY_FACT_EQUAL, "2",
				    &e));
}

/* Who touches what a target lacks dies. */
static void make_side(struct side *s, uint32_t which)
{
	struct ferry_err e = { 0 };

	*s = (struct side){
		.which = which, .all = which == FERRY_HALF_SOURCE,
		.ram_pages = RAM_PAGES, .session = "the same session",
	};
	s->memory = mmap(NULL, ALL_PAGES * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(s->memory != MAP_FAILED);
	for (unsigned b = 0; b < 2; b++)
		assert_ok(ferry_bitmap_init(&s->has[b], pages_of[b], &e));
	for (uint64_t n = 0; n < ALL_PAGES; n++) {
		bool rom = n >= RAM_PAGES;
		uint8_t *page = s->memory + n * PAGE;

		fill(page, which, n);
		if (s->all)
			continue;
		if (target_has(n))
			ferry_bitmap_set(&s->has[rom],
					 rom ? n - RAM_PAGES : n);
		else
			mprotect(page, PAGE, PROT_NONE);
	}
}

static void end_side(struct side *s)
{
	ferry_vm_free(s->vm);
	for (unsigned b = 0; b < 2; b++)
		ferry_bitmap_fini(&s->has[b]);
	munmap(s->memory, ALL_PAGES * PAGE);
}

static void note_sums(const struct side *s, struct ferry_sums *sums)
{
	static const uint32_t side[] = {
		[RIGHT] = FERRY_HALF_SOURCE, [WRONG] = FERRY_HALF_TARGET,
		[MIXED] = 7,
	};
	struct ferry_err e = { 0 };
	uint8_t page[PAGE];

	assert_ok(ferry_sums_init(sums, &s->vm->mem, &e));
	for (uint64_t n = 0; n < ALL_PAGES; n++) {
		bool rom = n >= RAM_PAGES;

		fill(page, side[came[n]], n);
		ferry_sums_note(sums, &s->vm->mem.block[rom],
				rom ? n - RAM_PAGES : n, 1, page,
				ferry_sums_way(FERRY_SUMS_DATA, 1));
	}
}

static void write_side(struct side *s, const char *path)
{
	struct ferry_save devices = { 0 };
	struct ferry_half half = {
		.side = s->which, .session = s->session,
		.has = s->all ? NULL : s->has,
		.devices = s->which == FERRY_HALF_TARGET ? &devices : NULL,
	};
	FERRY_AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	struct ferry_sums sums = { 0 };
	struct ferry_err e = { 0 };

	describe(s);
	half.vm = s->vm;
	if (s->verified) {
		note_sums(s, &sums);
		half.sums = &sums;
	}
	ferry_save_bytes(&devices, "sections", 8);
	assert_ok(ferry_half_write(&half, fd, &e));
	ferry_save_fini(&devices);
	ferry_sums_fini(&sums);
}

static const struct ferry_merge_how plain = { 0 };
static struct side source, target;

static int make_halves(void **state)
{
	(void)state;
	memset(came, RIGHT, sizeof(came));
	/* Memory: hundreds of parts are begun and thrown away. */
	strcpy(dir, access("/dev/shm", W_OK) ? "/tmp/ferry-merge-XXXXXX" :
	       "/dev/shm/ferry-merge-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path_a, sizeof(path_a), "%s/a", dir);
	snprintf(path_b, sizeof(path_b), "%s/b", dir);
	snprintf(path_image, sizeof(path_image), "%s/image", dir);
	make_side(&source, FERRY_HALF_SOURCE);
	make_side(&target, FERRY_HALF_TARGET);
	return 0;
}

static int end_halves(void **state)
{
	(void)state;
	end_side(&source);
	end_side(&target);
	unlink(path_a);
	unlink(path_b);
	unlink(path_image);
	return rmdir(dir);	/* nothing else was left */
}

static void write_both(void)
{
	write_side(&source, path_a);
	write_side(&target, path_b);
}

/* Refused with these words, and without an image. */
static void refused(const char *why, const char *words)
{
	struct ferry_merged m;
	struct ferry_err e = { 0 };

	if (!ferry_merge(path_a, path_b, path_image, &plain, &m, &e))
		fail_msg("%s: it was merged", why);
	if (!strstr(e.msg, words))
		fail_msg("%s: '%s' does not say '%s'", why, e.msg, words);
	assert_int_equal(access(path_image, F_OK), -1);
}

/* ---- what comes of it --------------------------------------------------- */

static void check_image(void)
{
	struct ferry_image_cache c;
	struct ferry_err e = { 0 };
	struct ferry_image img;
	uint8_t want[PAGE];

	assert_ok(ferry_image_open(&img, path_image, &e));
	assert_string_equal(img.index.vm.name, "halved");
	assert_string_equal(ferry_image_peer(&img), "ferry");
	assert_int_equal(img.index.vm.blocks, 2);
	assert_int_equal(img.index.vm.facts, 1);
	assert_int_equal(img.index.sections_bytes, 8);
	assert_memory_equal(img.state, "sections", 8);
	assert_ok(ferry_image_cache_init(&c, &e));
	for (uint64_t n = 0; n < ALL_PAGES; n++) {
		bool rom = n >= RAM_PAGES;
		uint64_t page = rom ? n - RAM_PAGES : n;
		const uint8_t *got = ferry_image_chunk(&img, &c,
			img.index.first_chunk[rom] + page / FERRY_CHUNK_PAGES,
			&e);

		assert_non_null(got);
		fill(want, target_has(n) && came[n] != WRONG ?
		     FERRY_HALF_TARGET : FERRY_HALF_SOURCE, n);
		assert_memory_equal(got + page % FERRY_CHUNK_PAGES * PAGE,
				    want, PAGE);
	}
	ferry_image_cache_fini(&c);
	ferry_image_close(&img);
}

static void each_page_comes_from_the_side_that_has_it(void **state)
{
	struct ferry_merged m;
	struct ferry_err e = { 0 };
	uint64_t theirs = 0;

	(void)state;
	write_both();
	for (uint64_t n = 0; n < ALL_PAGES; n++)
		theirs += target_has(n);
	for (int turn = 0; turn < 2; turn++) {	/* either order; packed */
		const struct ferry_merge_how how = {
			.zstd_level = turn ? 3 : 0,
		};

		assert_ok(ferry_merge(turn ? path_b : path_a,
				      turn ? path_a : path_b, path_image,
				      &how, &m, &e));
		assert_int_equal(m.pages, ALL_PAGES);
		assert_int_equal(m.from_target, theirs);
		assert_int_equal(m.from_source, ALL_PAGES - theirs);
		check_image();
		unlink(path_image);
	}
}

static void a_source_that_freed_what_it_owes_nobody_is_enough(void **state)
{
	struct ferry_merged m;
	struct ferry_err e = { 0 };

	(void)state;
	source.all = false;
	for (uint64_t n = 0; n < ALL_PAGES; n++)
		if (!target_has(n))
			ferry_bitmap_set(&source.has[n >= RAM_PAGES],
					 n % RAM_PAGES);
	write_both();
	assert_ok(ferry_merge(path_a, path_b, path_image, &plain, &m, &e));
	check_image();
}

static void what_is_in_neither_half_is_counted(void **state)
{
	(void)state;
	source.all = false;
	for (uint64_t n = 0; n < RAM_PAGES; n++)
		if (!target_has(n) && n != 2 && n != 3)
			ferry_bitmap_set(&source.has[0], n);
	write_both();
	refused("pages 2 and 3, and the last two of the rom",
		"5 pages are in neither half");
}

static void an_image_is_not_written_over(void **state)
{
	FERRY_AUTO_FD fd = open(path_image, O_WRONLY | O_CREAT, 0600);
	struct ferry_merged m;
	struct ferry_err e = { 0 };

	(void)state;
	write_both();
	assert_int_equal(ferry_merge(path_a, path_b, path_image, &plain, &m,
				     &e), -1);
	assert_non_null(strstr(e.msg, "exists"));
	assert_int_equal(access(path_image, F_OK), 0);
}

/* ---- pages that came wrong ---------------------------------------------- */

static void what_came_right_is_the_targets(void **state)
{
	struct ferry_merged m;
	struct ferry_err e = { 0 };

	(void)state;
	target.verified = true;
	write_both();
	assert_ok(ferry_merge(path_a, path_b, path_image, &plain, &m, &e));
	assert_int_equal(m.wrong, 0);
	check_image();
}

/* Also where one of the two is zero, and in each block. */
static void what_came_wrong_is_the_sources(void **state)
{
	static const uint64_t row[] = { 1, 5, 6, RAM_PAGES };
	struct ferry_merged m;
	struct ferry_err e = { 0 };

	(void)state;
	target.verified = true;
	for (size_t i = 0; i < FERRY_LEN(row); i++)
		came[row[i]] = WRONG;
	write_both();
	assert_ok(ferry_merge(path_a, path_b, path_image, &plain, &m, &e));
	check_image();
	assert_int_equal(m.wrong, FERRY_LEN(row));
	assert_int_equal(m.named, FERRY_LEN(row));
	assert_int_equal(m.changed, 0);
	assert_int_equal(m.from_target + m.from_source, m.pages);
	for (unsigned i = 0; i < m.named; i++) {
		bool rom = !strcmp(m.page[i].block, "rom");

		assert_false(m.page[i].changed);
		assert_int_equal(came[m.page[i].page + (rom ? RAM_PAGES : 0)],
				 WRONG);
	}
}

static void what_came_wrong_and_was_changed_is_to_be_accepted(void **state)
{
	const struct ferry_merge_how accept = { .accept_mismatch = true };
	struct ferry_merged m;
	struct ferry_err e = { 0 };

	(void)state;
	target.verified = true;
	came[10] = came[301] = MIXED;
	came[6] = WRONG;
	write_both();
	refused("two mixed pages", "block ram page 10 came wrong at the target, "
		"and the guest has changed it since: neither half has it right "
		"(such pages: 2;");
	assert_ok(ferry_merge(path_a, path_b, path_image, &accept, &m, &e));
	check_image();
	assert_int_equal(m.wrong, 3);
	assert_int_equal(m.changed, 2);
}

static void many_that_came_wrong_are_counted_and_some_named(void **state)
{
	struct ferry_merged m;
	struct ferry_err e = { 0 };
	uint64_t wrong = 0;

	(void)state;
	target.verified = true;
	memset(came, WRONG, sizeof(came));
	write_both();
	for (uint64_t n = 0; n < ALL_PAGES; n++)
		wrong += target_has(n);
	assert_ok(ferry_merge(path_a, path_b, path_image, &plain, &m, &e));
	check_image();
	assert_int_equal(m.wrong, wrong);
	assert_int_equal(m.named, FERRY_MERGE_NAMED);
	assert_int_equal(m.from_target, 0);
}

/* ---- halves that do not belong together --------------------------------- */

static void two_of_one_side_are_refused(void **state)
{
	(void)state;
	write_both();
	target.which = FERRY_HALF_SOURCE;
	ferry_vm_free(target.vm);
	write_side(&target, path_b);
	refused("two sources", "are both of the source");
}

static void halves_of_different_migrations_are_refused(void **state)
{
	(void)state;
	target.session[15] ^= 1;
	write_both();
	refused("other session", "halves of different migrations");
}

static void halves_of_other_shapes_are_refused(void **state)
{
	(void)state;
	source.ram_pages--;
	write_both();
	refused("a page less", "other shapes");
}

/* ---- damage ------------------------------------------------------------- */

static uint8_t *slurp(const char *path, size_t *bytes)
{
	FERRY_AUTO_FD fd = open(path, O_RDONLY);
	uint8_t *data = malloc(FILE_MAX);
	ssize_t n = read(fd, data, FILE_MAX);

	assert_true(n > 0 && n < FILE_MAX);
	*bytes = (size_t)n;
	return data;
}

static void spill(const char *path, const uint8_t *data, size_t bytes)
{
	FERRY_AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, data, bytes), bytes);
}

static void a_file_that_was_cut_is_refused_wherever(void **state)
{
	FERRY_AUTO_FREE uint8_t *data = NULL;
	size_t bytes;

	(void)state;
	write_both();
	data = slurp(path_b, &bytes);
	for (size_t n = 0; n < bytes; n += n < 400 ? 1 : 33331) {
		spill(path_b, data, n);
		refused("cut", path_b);
	}
	spill(path_b, data, bytes - 1);
	refused("the last octet lacks", "ends too early");
}

static void any_octet_that_changed_is_noticed(void **state)
{
	FERRY_AUTO_FREE uint8_t *data = NULL;
	size_t bytes;

	(void)state;
	write_both();
	data = slurp(path_a, &bytes);
	for (size_t n = 0; n < bytes; n += n < 300 ? 1 : 26407) {
		data[n] ^= 0x10;
		spill(path_a, data, bytes);
		refused("an octet", path_a);
		data[n] ^= 0x10;
	}
}

static void what_follows_the_end_is_noticed(void **state)
{
	FERRY_AUTO_FREE uint8_t *data = NULL;
	size_t bytes;

	(void)state;
	write_both();
	data = slurp(path_b, &bytes);
	data[bytes] = 0;
	spill(path_b, data, bytes + 1);
	refused("one octet more", "it has not what its end says");
}

static void no_file_is_a_sentence(void **state)
{
	(void)state;
	refused("nothing there", "open ");
	spill(path_a, (const uint8_t *)"no half of anything", 19);
	refused("something else", "this is no half of a VM");
}

/* A record with a digest that is right; what it says is not. */
struct record {
	const char	*why, *words;
	uint32_t	 type, bytes;
	uint64_t	 payload[4];	/* first octets, as be64 */
};

#define HEAD(block)	((uint64_t)(block) << 32)

static const struct record bad[] = {
	{ "a type that is none", "record of type 9", 9, 16, { 0 } },
	{ "type zero", "record of type 0", 0, 16, { 0 } },
	{ "no runs", "record of type 2", FERRY_HALF_HAS, 16, { 0 } },
	{ "half a run", "record of type 2", FERRY_HALF_HAS, 24, { 0 } },
	{ "no page", "record of type 4", FERRY_HALF_PAGES, 16, { 0 } },
	{ "half a page", "record of type 4", FERRY_HALF_PAGES, 2064, { 0 } },
	{ "too long", "record of type 4", FERRY_HALF_PAGES, 1u << 30, { 0 } },
	{ "a block too many", "which there are not", FERRY_HALF_HAS, 32,
	  { HEAD(2), 0, 0, 1 } },
	{ "a run of nothing", "which there are not", FERRY_HALF_HAS, 32,
	  { HEAD(0), 0, 3, 0 } },
	{ "a run past the end", "which there are not", FERRY_HALF_HAS, 32,
	  { HEAD(1), 0, 4, 2 } },
	{ "a run that wraps", "which there are not", FERRY_HALF_HAS, 32,
	  { HEAD(1), 0, 1, UINT64_MAX } },
	{ "a page past the end", "which there are not", FERRY_HALF_PAGES,
	  16 + PAGE, { HEAD(1), ROM_PAGES } },
	{ "a page far out", "which there are not", FERRY_HALF_PAGES,
	  16 + PAGE, { HEAD(0), UINT64_MAX } },
	{ "a page it says it lacks", "not in its map", FERRY_HALF_PAGES,
	  16 + PAGE, { HEAD(0), 2 } },
	{ "an end too soon", "not what its end says", FERRY_HALF_END, 16,
	  { 1, 0 } },
	{ "no sum", "record of type 6", FERRY_HALF_SUMS, 16, { 0 } },
	{ "half a sum", "record of type 6", FERRY_HALF_SUMS, 22, { 0 } },
	{ "too many sums", "record of type 6", FERRY_HALF_SUMS,
	  16 + 4 * (FERRY_HALF_SUMS_MAX + 1), { 0 } },
	{ "a sum past the end", "which there are not", FERRY_HALF_SUMS, 24,
	  { HEAD(1), ROM_PAGES - 1 } },
	{ "a sum of a page it lacks", "not in its map", FERRY_HALF_SUMS, 20,
	  { HEAD(0), 2 } },
	{ "a head again", "out of order", FERRY_HALF_HEAD, 40, { 0 } },
};

static size_t put_record(uint8_t *at, const struct record *r)
{
	struct ferry_wr w = ferry_wr_over(at, FILE_MAX / 2);
	size_t bytes = r->bytes > FILE_MAX / 4 ? 64 : r->bytes;

	memset(at, 0, bytes + 16);
	ferry_half_record_encode(&w, r->type, r->bytes);
	for (unsigned i = 0; i < 4 && 8u * i < bytes; i++)
		ferry_wr_be64(&w, r->payload[i]);
	w = ferry_wr_over(at + 8 + bytes, 8);
	ferry_wr_be64(&w, ferry_half_digest(at, 8 + bytes));
	return 16 + bytes;
}

/* Behind the head, in place of all else. */
static void hostile_records_are_refused(void **state)
{
	FERRY_AUTO_FREE uint8_t *data = NULL;
	struct ferry_rd r;
	uint32_t type, head;
	struct ferry_err e = { 0 };
	size_t bytes;

	(void)state;
	write_both();
	data = slurp(path_b, &bytes);
	r = ferry_rd_over(data + FERRY_HALF_START_WIRE, 8);
	assert_ok(ferry_half_record_decode(&r, &type, &head, &e));
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		size_t at = FERRY_HALF_START_WIRE + 16 + head;

		at += put_record(data + at, &bad[i]);
		spill(path_b, data, at);
		refused(bad[i].why, bad[i].words);
	}
}

static void a_target_without_devices_is_refused(void **state)
{
	(void)state;
	write_side(&source, path_a);
	target.which = FERRY_HALF_SOURCE;
	write_side(&target, path_b);
	{	/* the side alone is changed, and its digest */
		FERRY_AUTO_FREE uint8_t *data = NULL;
		size_t bytes, head;
		struct ferry_wr w;

		data = slurp(path_b, &bytes);
		head = 8 + ((size_t)data[FERRY_HALF_START_WIRE + 6] << 8 |
			    data[FERRY_HALF_START_WIRE + 7]);
		data[FERRY_HALF_START_WIRE + 11] = FERRY_HALF_TARGET;
		w = ferry_wr_over(data + FERRY_HALF_START_WIRE + head, 8);
		ferry_wr_be64(&w, ferry_half_digest(data +
				FERRY_HALF_START_WIRE, head));
		spill(path_b, data, bytes);
	}
	refused("no state", "no state of devices");
}

#define HALVES(test) \
	cmocka_unit_test_setup_teardown(test, make_halves, end_halves)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HALVES(each_page_comes_from_the_side_that_has_it),
		HALVES(a_source_that_freed_what_it_owes_nobody_is_enough),
		HALVES(what_is_in_neither_half_is_counted),
		HALVES(an_image_is_not_written_over),
		HALVES(what_came_right_is_the_targets),
		HALVES(what_came_wrong_is_the_sources),
		HALVES(what_came_wrong_and_was_changed_is_to_be_accepted),
		HALVES(many_that_came_wrong_are_counted_and_some_named),
		HALVES(two_of_one_side_are_refused),
		HALVES(halves_of_different_migrations_are_refused),
		HALVES(halves_of_other_shapes_are_refused),
		HALVES(a_file_that_was_cut_is_refused_wherever),
		HALVES(any_octet_that_changed_is_noticed),
		HALVES(what_follows_the_end_is_noticed),
		HALVES(no_file_is_a_sentence),
		HALVES(hostile_records_are_refused),
		HALVES(a_target_without_devices_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
