/* SPDX-License-Identifier: MIT */
/* Blocks of memory: what is refused, what is found, what is zero. */
#include "help.h"

static struct area ram;

static const char long_name[] =
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

enum { FD_GIVEN = -2, FD_BAD = 1000000 };

static const struct {
	const char *why;
	const char *name;
	int64_t shift;		/* of the address */
	uint64_t bytes;
	uint32_t page_bytes;
	int fd;
	int64_t offset_shift;
	const char *says;
} bad[] = {
	{ "no name", "", 0, 64 * PAGE, PAGE, FD_GIVEN, 0, "name" },
	{ "long name", long_name, 0, 64 * PAGE, PAGE, FD_GIVEN, 0, "256" },
	{ "name twice", "taken", 0, 64 * PAGE, PAGE, FD_GIVEN, 0, "this name" },
	{ "no octets", "a", 0, 0, PAGE, FD_GIVEN, 0, "0 octets" },
	{ "half a page", "a", 0, PAGE / 2, PAGE, FD_GIVEN, 0, "whole pages" },
	{ "too much", "a", 0, (1ull << 46) + PAGE, PAGE, FD_GIVEN, 0, "2^46" },
	{ "odd page size", "a", 0, 64 * PAGE, 8192, FD_GIVEN, 0, "8192" },
	{ "address not aligned", "a", 1, 64 * PAGE, PAGE, FD_GIVEN, 0,
	  "aligned" },
	{ "overlap", "a", 192 * PAGE, 64 * PAGE, PAGE, FD_GIVEN, 0,
	  "overlaps block taken" },
	{ "not an fd", "a", 0, 64 * PAGE, PAGE, FD_BAD, 0, "fd 1000000" },
	{ "file too short", "a", 0, 64 * PAGE, PAGE, FD_GIVEN, 256 * PAGE,
	  "are needed" },
	{ "offset not aligned", "a", 0, 64 * PAGE, PAGE, FD_GIVEN, 1,
	  "aligned" },
	{ "another offset", "a", 0, 64 * PAGE, PAGE, FD_GIVEN, 1 * PAGE,
	  "another offset" },
	{ "another file", "a", 0, 64 * PAGE, PAGE, -3, 0, "not a mapping" },
	{ "shared without fd", "a", 0, 64 * PAGE, PAGE, -1, 0, "no fd" },
};

static void blocks_that_make_no_sense_are_refused(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e;
	int other = memfd_create("other", 0);

	(void)state;
	assert_int_equal(ftruncate(other, (off_t)(ram.bytes + 2 * PAGE)), 0);
	assert_int_equal(ferry_mem_add(&m, "taken", ram.p + 200 * PAGE,
				       56 * PAGE, PAGE, 0, ram.fd,
				       ram.fd_offset + 200 * PAGE, &e), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int fd = bad[i].fd == FD_GIVEN ? ram.fd :
			 bad[i].fd == -3 ? other : bad[i].fd;

		e = (struct ferry_err){ 0 };
		if (!ferry_mem_add(&m, bad[i].name, ram.p + bad[i].shift,
				   bad[i].bytes, bad[i].page_bytes, 0, fd,
				   ram.fd_offset + (uint64_t)
				   bad[i].offset_shift, &e) ||
		    e.code != FERRY_E_INVALID || !strstr(e.msg, bad[i].says))
			fail_msg("%s: %s", bad[i].why, e.msg);
	}
	assert_int_equal(m.blocks, 1);
	assert_int_equal(m.pages, 56);
	ferry_mem_fini(&m);
	close(other);
}

static void private_memory_is_refused_when_it_is_a_file(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };
	void *p = mmap(NULL, ram.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE,
		       ram.fd, 0);

	(void)state;
	assert_int_equal(ferry_mem_add(&m, "a", p, ram.bytes, PAGE, 0, -1, 0,
				       &e), -1);
	assert_non_null(strstr(e.msg, "private mapping of a file"));
	assert_int_equal(ferry_mem_add(&m, "a", p, ram.bytes, PAGE, 0, ram.fd,
				       0, &e), -1);
	assert_non_null(strstr(e.msg, "mapped private"));
	munmap(p, ram.bytes);
	assert_int_equal(ferry_mem_add(&m, "a", p, ram.bytes, PAGE, 0, -1, 0,
				       &e), -1);
	assert_non_null(strstr(e.msg, "not mapped"));
	ferry_mem_fini(&m);
}

static void a_block_may_span_several_mappings(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };

	(void)state;
	/* Splits the mapping in three. */
	assert_int_equal(mprotect(ram.p + 8 * PAGE, PAGE, PROT_READ), 0);
	assert_int_equal(ferry_mem_add(&m, "a", ram.p, ram.bytes, PAGE, 0,
				       ram.fd, ram.fd_offset, &e), 0);
	assert_int_equal(mprotect(ram.p + 8 * PAGE, PAGE,
				  PROT_READ | PROT_WRITE), 0);
	ferry_mem_fini(&m);
}

static void huge_pages_must_be_what_they_are_said_to_be(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };
	struct area a;

	(void)state;
	for (enum kind k = HUGE_MEMFD; k < KINDS; k++) {
		if (!area_make(&a, k, HUGE)) {
			print_message("no huge pages: %s left out\n",
				      kind_name[k]);
			continue;
		}
		assert_int_equal(ferry_mem_add(&m, "a", a.p, a.bytes, PAGE, 0,
					       a.fd, a.fd_offset, &e), -1);
		area_add(&m, "a", &a);
		assert_int_equal(m.block[0].host_pages, 512);
		ferry_mem_fini(&m);
		area_free(&a);
	}
}

static void blocks_are_found_by_name_and_address(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_mem_block *first;
	struct area one, two;

	(void)state;
	area_make(&one, PRIVATE, 4 * PAGE);
	area_make(&two, MEMFD, 8 * PAGE);
	area_add(&m, "one", &one);
	first = &m.block[0];
	area_add(&m, "two", &two);

	assert_ptr_equal(ferry_mem_by_name(&m, "one"), first);
	assert_ptr_equal(ferry_mem_by_name(&m, "two"), first + 1);
	assert_null(ferry_mem_by_name(&m, "three"));
	assert_ptr_equal(ferry_mem_by_addr(&m, one.p + 4 * PAGE - 1), first);
	assert_ptr_equal(ferry_mem_by_addr(&m, two.p), first + 1);
	assert_null(ferry_mem_by_addr(&m, NULL));
	assert_null(ferry_mem_by_addr(&m, &m));
	assert_int_equal(m.pages, 12);
	assert_int_equal(m.block[1].index, 1);
	ferry_mem_fini(&m);
	area_free(&one);
	area_free(&two);
}

static void there_is_a_most_of_blocks(void **state)
{
	struct ferry_mem m = { 0 };
	struct ferry_err e = { 0 };
	char name[16];

	(void)state;
	for (unsigned i = 0; i < FERRY_BLOCKS_MAX; i++) {
		snprintf(name, sizeof(name), "b%u", i);
		assert_int_equal(ferry_mem_add(&m, name, ram.p + i * PAGE,
					       PAGE, PAGE, 0, ram.fd,
					       ram.fd_offset + i * PAGE, &e),
				 0);
	}
	assert_int_equal(ferry_mem_add(&m, "more", ram.p, PAGE, PAGE, 0,
				       ram.fd, ram.fd_offset, &e), -1);
	ferry_mem_fini(&m);
}

static void one_octet_anywhere_is_not_zero(void **state)
{
	static uint8_t buf[4096 + 80];

	(void)state;
	for (size_t at = 0; at < 9; at++) {
		assert_true(ferry_is_zero(buf + at, 4096));
		for (size_t i = 0; i < 4096; i += at ? 61 : 1) {
			buf[at + i] = 1;
			assert_false(ferry_is_zero(buf + at, 4096));
			buf[at + i] = 0;
		}
	}
	/* What lies around does not matter. */
	for (size_t n = 0; n < 200; n++) {
		buf[7] = buf[8 + n] = 1;
		assert_true(ferry_is_zero(buf + 8, n));
		buf[7] = buf[8 + n] = 0;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_that_make_no_sense_are_refused),
		cmocka_unit_test(private_memory_is_refused_when_it_is_a_file),
		cmocka_unit_test(a_block_may_span_several_mappings),
		cmocka_unit_test(huge_pages_must_be_what_they_are_said_to_be),
		cmocka_unit_test(blocks_are_found_by_name_and_address),
		cmocka_unit_test(there_is_a_most_of_blocks),
		cmocka_unit_test(one_octet_anywhere_is_not_zero),
	};

	area_make(&ram, MEMFD, 256 * PAGE);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
