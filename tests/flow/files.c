/* SPDX-License-Identifier: MIT */
/*
 * Addresses, through the public API alone: tcp on IPv4 and IPv6, unix, and a
 * file that holds a VM: into it and back, cut short, damaged, on a full disk.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "rig.h"
#include "unit/small_tmpfs.h"

#define SMALL								\
	.block = { { "ram", 64 << 10, 4096, true } }, .blocks = 1,	\
	.zero_percent = 30

static char path[64], uri[80];

static void sockets_of_every_family_carry_it(void **state)
{
	static const char *const uris[] = {
		"tcp:127.0.0.1:0", "tcp:[::1]:0", NULL,
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(uris) * 2; i++) {
		const char *u = uris[i / 2] ? uris[i / 2] : rig_unix_uri();
		struct rig_config cfg = {
			SMALL, .writer = true, .uri = u,
			.param = { { "x-ferry-precopy-passes",
				     i % 2 ? "0" : "1000" } },
		};
		struct rig r;

		if (strchr(u, '[') && access("/proc/net/if_inet6", R_OK))
			continue;
		rig_run(&r, &cfg);
		rig_expect_moved(&r, u);
		rig_fini(&r);
	}
}

/* Source into the file; the target is still untouched. */
static void save(struct rig *r, const char *to)
{
	const struct rig_config cfg = { SMALL };

	rig_init(r, &cfg);
	assert_int_equal(ferry_source_start(r->source, to, NULL), 0);
	rig_finish_source(r);
}

static void a_file_holds_a_vm(void **state)
{
	struct rig r;

	(void)state;
	save(&r, uri);
	assert_int_equal(r.source_rc, 0);
	assert_int_equal(ferry_target_listen(r.target, uri, NULL), 0);
	assert_int_equal(ferry_target_wait(r.target, 60000, NULL), 0);
	rig_finish_target(&r);
	rig_expect_moved(&r, uri);
	rig_fini(&r);
}

static void a_file_may_have_something_before_the_vm(void **state)
{
	static const char head[] = "what a manager notes";
	char with_offset[128], found[sizeof(head)] = "";
	FILE *f = fopen(path, "w");
	struct rig r;

	(void)state;
	assert_non_null(f);
	assert_int_equal(fwrite(head, sizeof(head), 1, f), 1);
	fclose(f);
	snprintf(with_offset, sizeof(with_offset), "%s,offset=%zu", uri,
		 sizeof(head));
	save(&r, with_offset);
	assert_int_equal(r.source_rc, 0);
	assert_int_equal(ferry_target_listen(r.target, with_offset, NULL), 0);
	assert_int_equal(ferry_target_wait(r.target, 60000, NULL), 0);
	rig_finish_target(&r);
	rig_expect_moved(&r, with_offset);
	rig_fini(&r);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fread(found, sizeof(head), 1, f), 1);
	fclose(f);
	assert_string_equal(found, head);
}

/* -1: refused, with a reason; 0: it was taken whole. */
static int load(void)
{
	const struct rig_config cfg = { SMALL };
	struct ferry_err err = { 0 };
	struct rig r;
	int rc;

	rig_init(&r, &cfg);
	rc = ferry_target_listen(r.target, uri, &err);
	if (!rc)
		rc = ferry_target_wait(r.target, 60000, &err);
	assert_true(!rc || err.msg[0]);
	assert_true(err.code != FERRY_E_TIMEOUT);
	assert_int_equal(r.dst.running, !rc);
	rig_fini(&r);
	return rc;
}

static void a_file_that_was_cut_short_is_refused(void **state)
{
	struct stat st;
	struct rig r;

	(void)state;
	save(&r, uri);
	assert_int_equal(r.source_rc, 0);
	rig_fini(&r);
	assert_int_equal(stat(path, &st), 0);
	/* The description at the end, 5 octets, may be missing. */
	for (off_t n = st.st_size - 6; n >= 0; n -= n > 400 ? 1709 : 7) {
		assert_int_equal(truncate(path, n), 0);
		assert_int_equal(load(), -1);
	}
}

static void a_damaged_file_harms_nobody(void **state)
{
	struct stat st;
	struct rig r;
	int fd;

	(void)state;
	save(&r, uri);
	assert_int_equal(r.source_rc, 0);
	rig_fini(&r);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0 && !fstat(fd, &st));
	for (off_t at = 0; at < st.st_size; at += at < 200 ? 1 : 2411) {
		uint8_t octet;

		assert_int_equal(pread(fd, &octet, 1, at), 1);
		octet ^= 0xff;
		assert_int_equal(pwrite(fd, &octet, 1, at), 1);
		(void)!load();
		octet ^= 0xff;
		assert_int_equal(pwrite(fd, &octet, 1, at), 1);
	}
	close(fd);
	assert_int_equal(load(), 0);
}

static void a_full_disk_leaves_the_vm_running(void **state)
{
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	char full[16];
	struct rig r;

	(void)state;
	assert_true(fd >= 0);
	snprintf(full, sizeof(full), "fd:%d", fd);
	save(&r, full);
	assert_int_equal(r.source_rc, -1);
	assert_int_equal(r.source_stats.where, FERRY_WHERE_SOURCE);
	assert_non_null(strstr(r.source_err.msg, "No space left"));
	assert_true(r.src.running);
	rig_fini(&r);
	close(fd);
}

static void a_vm_is_not_given_away_to_a_device(void **state)
{
	struct rig r;

	(void)state;
	save(&r, "file:/dev/null");
	assert_int_equal(r.source_rc, -1);
	assert_int_equal(r.source_stats.where, FERRY_WHERE_SOURCE);
	assert_non_null(strstr(r.source_err.msg, "/dev/null: only a regular "
			       "file keeps what is written to it"));
	assert_true(r.src.running);
	rig_fini(&r);
}

/*
 * Wherever the disk is full, be it before the very last octet: the VM runs on
 * here, so what is in the file is none.
 */
static void a_file_that_could_not_be_finished_is_no_vm(void **state)
{
	const struct rig_config cfg = { SMALL };
	struct rlimit before, most;
	struct stat st;
	struct rig r;

	(void)state;
	save(&r, uri);
	assert_int_equal(r.source_rc, 0);
	rig_fini(&r);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_IGN);
	for (off_t lack = 1; lack < 20; lack++) {
		most = before;
		most.rlim_cur = (rlim_t)(st.st_size - lack);
		rig_init(&r, &cfg);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &most), 0);
		assert_int_equal(ferry_source_start(r.source, uri, NULL), 0);
		rig_finish_source(&r);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
		rig_expect_stayed(&r, "the file is limited", "File too large");
		assert_true(r.src.running);
		assert_int_equal(load(), -1);	/* though the source lives */
		rig_fini(&r);
		assert_int_equal(load(), -1);
	}
}

static void a_full_file_system_leaves_the_vm_running(void **state)
{
	struct small_tmpfs fs;
	char to[sizeof(fs.path) + 16];
	struct stat st;
	struct rig r;

	(void)state;
	if (!small_tmpfs_open(&fs, 8 * 4096)) {
		print_message("a tmpfs cannot be mounted here "
			      "(CAP_SYS_ADMIN)\n");
		skip();
	}
	snprintf(to, sizeof(to), "file:%s/vm", fs.path);
	save(&r, to);
	rig_expect_stayed(&r, "a full tmpfs", "No space left on device");
	assert_true(r.src.running);
	rig_fini(&r);
	/* Its room is given back as well. */
	assert_int_equal(stat(to + strlen("file:"), &st), 0);
	assert_int_equal(st.st_size, 0);
	small_tmpfs_close(&fs);
}

static void postcopy_into_a_file_is_refused_before_it_starts(void **state)
{
	const struct rig_config cfg = {
		SMALL, .param = { { "x-ferry-precopy-passes", "1" } },
	};
	struct ferry_err err;
	struct rig r;

	(void)state;
	unlink(path);
	rig_init(&r, &cfg);
	assert_int_equal(ferry_source_start(r.source, uri, &err), -1);
	assert_non_null(strstr(err.msg, "way back"));
	assert_int_equal(access(path, F_OK), -1);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sockets_of_every_family_carry_it),
		cmocka_unit_test(a_file_holds_a_vm),
		cmocka_unit_test(a_file_may_have_something_before_the_vm),
		cmocka_unit_test(a_file_that_was_cut_short_is_refused),
		cmocka_unit_test(a_damaged_file_harms_nobody),
		cmocka_unit_test(a_full_disk_leaves_the_vm_running),
		cmocka_unit_test(a_vm_is_not_given_away_to_a_device),
		cmocka_unit_test(a_file_that_could_not_be_finished_is_no_vm),
		cmocka_unit_test(a_full_file_system_leaves_the_vm_running),
		cmocka_unit_test(
			postcopy_into_a_file_is_refused_before_it_starts),
	};
	int rc;

	snprintf(path, sizeof(path), "/tmp/ferry-flow-%d.vm", getpid());
	snprintf(uri, sizeof(uri), "file:%s", path);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return rc;
}
