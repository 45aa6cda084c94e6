/* SPDX-License-Identifier: MIT */
/* The host's report agrees with what really works, for root and for nobody. */
#include "help.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <ferry/probe.h>

#include "mem/dirty_way.h"
#include "mem/uffd.h"

#define MOST	32
#define NOBODY	65534

static const char *const names[] = {
	"kernel", "kvm", "kvm-kernel-mode", "kvm-dirty-log", "userfaultfd",
	"userfaultfd-wp-async", "unprivileged-userfaultfd",
	"userfaultfd-device", "userfaultfd-call", "userfaultfd-user-mode",
	"vhost-user-postcopy", "pagemap-scan",
	"hugepages-2M", "shmem-thp", "memlock", "io-uring",
};
#define NAMES	(sizeof(names) / sizeof(names[0]))

static const struct ferry_probe_row *row(const struct ferry_probe_row *r,
					 const char *name)
{
	while (strcmp(r->name, name))
		r++;
	return r;
}

static void rows_have_stable_names_and_say_something(void **state)
{
	struct ferry_probe_row r[MOST] = { FERRY_PROBE_ROW_INIT };
	size_t n = ferry_probe(r, MOST);

	(void)state;
	assert_int_equal(n, NAMES);
	for (size_t i = 0; i < n; i++) {
		print_message("%-26s %d  %s | %s | %s\n", r[i].name,
			      r[i].verdict, r[i].found, r[i].lost, r[i].fix);
		assert_string_equal(r[i].name, names[i]);
		assert_true(r[i].found[0] != '\0');
		assert_true(strlen(r[i].found) < sizeof(r[i].found) - 1);
		assert_true(strlen(r[i].lost) < sizeof(r[i].lost) - 1);
		assert_true(strlen(r[i].fix) < sizeof(r[i].fix) - 1);
		/* What is lost is said exactly when something is. */
		assert_int_equal(r[i].verdict == FERRY_PROBE_OK,
				 r[i].lost[0] == '\0');
	}
}

static void no_more_rows_are_filled_than_there_is_room_for(void **state)
{
	struct ferry_probe_row r[3] = { FERRY_PROBE_ROW_INIT };

	(void)state;
	assert_int_equal(ferry_probe(NULL, 0), NAMES);
	assert_int_equal(ferry_probe(r, 2), NAMES);
	assert_non_null(r[1].name);
	assert_null(r[2].name);
}

/* As a program knows it that was built with an older header, or a newer. */
struct shorter { uint32_t size; enum ferry_probe_verdict verdict;
		 const char *name; };
struct longer { struct ferry_probe_row row; uint64_t more; };

static void a_row_is_as_long_as_its_owner_says(void **state)
{
	struct shorter s[MOST] = { { .size = sizeof(s[0]) } };
	struct longer l[MOST];
	struct ferry_probe_row none = { 0 };

	(void)state;
	memset(l, 0xff, sizeof(l));
	l[0].row.size = sizeof(l[0]);
	assert_int_equal(ferry_probe((struct ferry_probe_row *)s, NAMES),
			 NAMES);
	assert_int_equal(ferry_probe(&l[0].row, NAMES), NAMES);
	for (size_t i = 0; i < NAMES; i++) {
		assert_string_equal(s[i].name, names[i]);
		assert_string_equal(l[i].row.name, names[i]);
		assert_int_equal(s[i].size, sizeof(s[0]));
		assert_int_equal(l[i].row.size, sizeof(l[0]));
		assert_int_equal(s[i].verdict, l[i].row.verdict);
		assert_int_equal(l[i].more, 0);
	}
	assert_int_equal(s[NAMES].size, 0);
	assert_int_equal(l[NAMES].row.size, UINT32_MAX);
	assert_int_equal(ferry_probe(&none, 1), NAMES);
	assert_null(none.name);
}

/* Its own way, not the one that is tested. */
static bool can_serve_a_backend(void)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1);

	if (dev >= 0)
		close(dev);
	if (fd >= 0)
		close(fd);
	return dev >= 0 || fd >= 0;
}

/* 0 when every verdict is what one gets by trying. */
static int disagreements(void)
{
	const struct ferry_mem nothing = { 0 };
	struct ferry_probe_row r[MOST] = { FERRY_PROBE_ROW_INIT };
	struct ferry_err e;
	struct ferry_uffd u;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	bool uffd = !ferry_uffd_open(&u, 0, &e);
	bool backend = can_serve_a_backend();
	bool async = !ferry_dirty_way_async.probe(&nothing, &e);
	bool sync = !ferry_dirty_way_sync.probe(&nothing, &e);
	int bad = 0;

	ferry_probe(r, MOST);
	bad |= (row(r, "kvm")->verdict == FERRY_PROBE_OK) != (kvm >= 0);
	bad |= ((row(r, "userfaultfd")->verdict != FERRY_PROBE_MISSING) !=
		uffd) << 1;
	bad |= (row(r, "userfaultfd-wp-async")->verdict !=
		(async ? FERRY_PROBE_OK :
		 sync ? FERRY_PROBE_FALLBACK : FERRY_PROBE_MISSING)) << 2;
	bad |= ((row(r, "unprivileged-userfaultfd")->verdict ==
		 FERRY_PROBE_OK) != uffd) << 3;
	if (!uffd)
		bad |= (row(r, "userfaultfd")->fix[0] == '\0') << 4;
	bad |= ((row(r, "vhost-user-postcopy")->verdict == FERRY_PROBE_OK) !=
		backend) << 5;
	bad |= ((row(r, "userfaultfd-device")->verdict == FERRY_PROBE_OK ||
		 row(r, "userfaultfd-call")->verdict == FERRY_PROBE_OK) !=
		uffd) << 6;
	bad |= (row(r, "userfaultfd-user-mode")->verdict == FERRY_PROBE_OK &&
		!backend) << 7;
	if (kvm >= 0)
		close(kvm);
	ferry_uffd_close(&u);
	return bad;
}

static void verdicts_are_what_one_gets_by_trying(void **state)
{
	(void)state;
	assert_int_equal(disagreements(), 0);
}

static int as_nobody(void)
{
	if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY) ||
	    prctl(PR_SET_DUMPABLE, 1))
		return 100;
	return disagreements();
}

static void they_are_right_for_another_user_too(void **state)
{
	int status = 0;
	pid_t child;

	(void)state;
	if (geteuid() != 0) {
		print_message("only root can become another user\n");
		skip();
	}
	child = fork();
	if (child == 0)
		_exit(as_nobody());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_have_stable_names_and_say_something),
		cmocka_unit_test(
			no_more_rows_are_filled_than_there_is_room_for),
		cmocka_unit_test(a_row_is_as_long_as_its_owner_says),
		cmocka_unit_test(verdicts_are_what_one_gets_by_trying),
		cmocka_unit_test(they_are_right_for_another_user_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
