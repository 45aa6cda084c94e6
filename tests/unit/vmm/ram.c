/* SPDX-License-Identifier: MIT */
/* Guest memory: its size, its two pieces, its edges. */
#include "help.h"

#include <inttypes.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "vmm/machine.h"
#include "vmm/ram.h"

#define GIB	(1ull << 30)

static void sizes_that_make_no_sense_are_refused(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *sentence;
	} bad[] = {
		{ 0, "RAM of 0 bytes" },
		{ 1, "1 bytes is not a multiple of 2 MiB" },
		{ (2 << 20) - 4096, "not a multiple" },
		{ (1 << 30) + 1, "not a multiple" },
		{ 64 * GIB + (2 << 20), "the most is 64 GiB" },
		{ UINT64_MAX - (2 << 20) + 1, "the most is 64 GiB" },
	};
	struct ferry_ram ram;
	struct ferry_err e;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++)
		assert_refused(ferry_ram_init(&ram, bad[i].bytes,
					      FERRY_RAM_ANONYMOUS, NULL, &e),
			       &e, FERRY_E_INVALID, bad[i].sentence);
}

static void more_than_the_machine_has_is_refused_with_both_numbers(void **state)
{
	struct sysinfo si;
	struct ferry_ram ram;
	struct ferry_err e;
	char want[64];

	(void)state;
	assert_ok(sysinfo(&si));
	if ((uint64_t)si.totalram * si.mem_unit >= 64 * GIB) {
		print_message("this machine has all that can be asked for\n");
		skip();
	}
	snprintf(want, sizeof(want), "this machine has only %.1f GiB",
		 (double)si.totalram * si.mem_unit / (double)GIB);
	assert_refused(ferry_ram_init(&ram, 64 * GIB, FERRY_RAM_ANONYMOUS, NULL,
				      &e), &e,
		       FERRY_E_INVALID, want);
	assert_non_null(strstr(e.msg, "RAM of 64.0 GiB"));
}

static void ram_in_a_file_goes_with_the_vm(void **state)
{
	char path[64];
	struct ferry_ram ram;
	struct ferry_err e;

	(void)state;
	snprintf(path, sizeof(path), "/dev/shm/ferry-ram-%d", (int)getpid());
	assert_ok(ferry_ram_init(&ram, 4 << 20, FERRY_RAM_FILE, path, &e));
	assert_int_equal(ram.page_bytes, 4096);
	memset(ram.base + 4096, 7, 10);
	assert_ok(access(path, R_OK));
	{
		struct ferry_ram second;

		assert_refused(ferry_ram_init(&second, 4 << 20, FERRY_RAM_FILE,
					      path, &e), &e, FERRY_E_INVALID,
			       "it exists: another VM has it");
	}
	assert_ok(access(path, R_OK));
	ferry_ram_fini(&ram);
	assert_int_equal(access(path, R_OK), -1);
}

static void ram_in_another_kind_of_file_is_refused(void **state)
{
	static const struct {
		const char *path, *sentence;
	} bad[] = {
		{ "/proc/ferry-ram", "RAM in /proc/ferry-ram" },
		{ "/nonexistent/ram", "No such file or directory" },
		{ "", "RAM in " },
	};
	char path[64] = "/var/tmp/ferry-ram-XXXXXX";
	struct ferry_ram ram;
	struct statfs fs;
	struct ferry_err e;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++)
		assert_refused(ferry_ram_init(&ram, 4 << 20, FERRY_RAM_FILE,
					      bad[i].path, &e), &e,
			       FERRY_E_IO, bad[i].sentence);
	close(mkstemp(path));
	unlink(path);
	assert_ok(statfs("/var/tmp", &fs));
	if (fs.f_type == TMPFS_MAGIC)
		return;
	assert_refused(ferry_ram_init(&ram, 4 << 20, FERRY_RAM_FILE, path,
				      &e), &e, FERRY_E_INVALID,
		       "it has to lie in a tmpfs");
	assert_int_equal(access(path, F_OK), -1);
}

/* Only looked at, never touched: costs nothing. */
static void ram_above_3_gib_goes_on_at_4_gib(void **state)
{
	struct ferry_kvm_slot slots[FERRY_RAM_SLOTS_MAX];
	struct ferry_ram ram;
	struct ferry_err e;

	(void)state;
	if (ferry_ram_init(&ram, 4 * GIB, FERRY_RAM_ANONYMOUS, NULL, &e)) {
		assert_non_null(strstr(e.msg, "this machine has only"));
		print_message("%s\n", e.msg);
		skip();
	}
	assert_int_equal(ferry_ram_slots(&ram, slots), 2);
	assert_int_equal(slots[0].gpa, 0);
	assert_int_equal(slots[0].bytes, 3 * GIB);
	assert_int_equal(slots[1].gpa, 4 * GIB);
	assert_int_equal(slots[1].bytes, GIB);
	assert_ptr_equal(slots[1].addr, ram.base + 3 * GIB);

	assert_ptr_equal(ferry_ram_at(&ram, 0, 3 * GIB), ram.base);
	assert_ptr_equal(ferry_ram_at(&ram, 4 * GIB, GIB), ram.base + 3 * GIB);
	assert_null(ferry_ram_at(&ram, 0, 3 * GIB + 1));
	assert_null(ferry_ram_at(&ram, 3 * GIB, 1));
	assert_null(ferry_ram_at(&ram, 3 * GIB - 1, 2));
	assert_null(ferry_ram_at(&ram, 4 * GIB - 1, 2));
	assert_null(ferry_ram_at(&ram, 5 * GIB, 1));
	assert_null(ferry_ram_at(&ram, UINT64_MAX, 2));
	assert_null(ferry_ram_at(&ram, 1, UINT64_MAX));
	ferry_ram_fini(&ram);
}

static void a_small_machine_has_one_piece(void **state)
{
	struct ferry_kvm_slot slots[FERRY_RAM_SLOTS_MAX];
	struct ferry_ram ram;
	struct ferry_err e;

	(void)state;
	assert_ok(ferry_ram_init(&ram, 2 << 20, FERRY_RAM_ANONYMOUS, NULL, &e));
	assert_int_equal(ferry_ram_slots(&ram, slots), 1);
	assert_int_equal(ferry_ram_low_bytes(&ram), 2 << 20);
	assert_ok(ferry_ram_write(&ram, (2 << 20) - 1, "x", 1, "it", &e));
	assert_refused(ferry_ram_write(&ram, (2 << 20) - 1, "xy", 2, "it", &e),
		       &e, FERRY_E_INVALID, "it does not fit");
	assert_refused(ferry_ram_zero(&ram, 0, UINT64_MAX, "it", &e), &e,
		       FERRY_E_INVALID, "it does not fit");
	ferry_ram_fini(&ram);
}

static void huge_pages_that_are_not_there_are_counted(void **state)
{
	struct ferry_ram ram;
	struct ferry_err e;

	(void)state;
	if (!ferry_ram_init(&ram, GIB, FERRY_RAM_HUGE, NULL, &e)) {
		assert_int_equal(ram.page_bytes, 2 << 20);
		ferry_ram_fini(&ram);
		print_message("this machine has free huge pages\n");
		skip();
	}
	assert_int_equal(e.code, FERRY_E_NOMEM);
	assert_non_null(strstr(e.msg, "512 huge pages of 2 MiB are needed"));
	assert_non_null(strstr(e.msg, "sysctl vm.nr_hugepages="));
	assert_int_equal(ram.fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_that_make_no_sense_are_refused),
		cmocka_unit_test(
			more_than_the_machine_has_is_refused_with_both_numbers),
		cmocka_unit_test(ram_in_a_file_goes_with_the_vm),
		cmocka_unit_test(ram_in_another_kind_of_file_is_refused),
		cmocka_unit_test(ram_above_3_gib_goes_on_at_4_gib),
		cmocka_unit_test(a_small_machine_has_one_piece),
		cmocka_unit_test(huge_pages_that_are_not_there_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
