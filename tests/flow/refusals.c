/* SPDX-License-Identifier: MIT */
/*
 * VMs that do not fit together: refused before memory is copied, with both
 * values in the sentence; the target stays waiting, and one that fits is then
 * served.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "mig/target_test.h"
#include "rig.h"
#include "unit/huge.h"

#define RAM(bytes_)	{ "ram", bytes_, 4096, false }

static const struct {
	const char *what;
	struct rig_config cfg;	/* of the source */
	const char *says[2];
} misfits[] = {
	{ "more memory", { .block = { RAM(4 << 20) }, .blocks = 1 },
	  { "4", "2" } },
	{ "less memory", { .block = { RAM(1 << 20) }, .blocks = 1 },
	  { "1", "2" } },
	{ "another block", { .block = { { "mar", 2 << 20, 4096, false } },
		.blocks = 1 }, { "mar", "block" } },
	{ "one block more", { .block = { RAM(2 << 20),
			{ "vram", 4096, 4096, false } }, .blocks = 2 },
	  { "vram", "block" } },
	{ "another CPU", { .block = { RAM(2 << 20) }, .blocks = 1,
		.fact = "other" }, { "other", "same" } },
	{ "another name", { .block = { RAM(2 << 20) }, .blocks = 1,
		.vm_name = "gir" }, { "gir", "rig" } },
};

static void what_does_not_fit_is_refused_before_memory_is_copied(void **state)
{
	const struct rig_config fits = {
		.block = { RAM(2 << 20) }, .blocks = 1, .writer = true,
	};
	struct rig r;

	(void)state;
	rig_init(&r, &fits);
	rig_start_target(&r);
	for (size_t i = 0; i < FERRY_LEN(misfits); i++) {
		struct rig m;

		rig_init(&m, &misfits[i].cfg);
		m.to = &r;
		rig_start_source(&m);
		rig_finish_source(&m);
		for (int j = 0; j < 2; j++)
			rig_expect_stayed(&m, misfits[i].what,
					  misfits[i].says[j]);
		assert_int_equal(m.source_err.code, FERRY_E_MISMATCH);
		assert_int_equal(m.source_stats.sent_bytes, 0);
		assert_false(m.has_sum);	/* it was never stopped */
		rig_fini(&m);
		assert_int_equal(ferry_status_state(&r.target->status),
				 FERRY_STATE_SETUP);
	}
	rig_start_source(&r);
	rig_finish(&r);
	rig_expect_moved(&r, "one that fits");
	rig_fini(&r);
}

/* A host page is missing as a whole or not at all, so both sides must have the
 * same; also for precopy, which might go to postcopy at any time. */
static void page_sizes_that_differ_are_refused(void **state)
{
	static const struct {
		uint32_t source, target;
		const char *says;
	} rows[] = {
		{ HUGE, PAGE, "\"ram\" has pages of 2048 KiB on the source, "
			      "4 KiB on the target" },
		{ PAGE, HUGE, "\"ram\" has pages of 4 KiB on the source, "
			      "2048 KiB on the target" },
	};

	(void)state;
	if (!huge_pages_for(8)) {
		print_message("8 free huge pages of 2 MiB lack\n");
		skip();
	}
	for (size_t i = 0; i < FERRY_LEN(rows) * 2; i++) {
		struct rig_config from = {
			.block = { { "ram", 2 << 20, rows[i / 2].source,
				     true } }, .blocks = 1,
			.param = { { "x-ferry-precopy-passes",
				     i % 2 ? "0" : "1000" } },
		};
		struct rig_config to = from;
		struct rig r, m;

		to.block[0].page_bytes = rows[i / 2].target;
		rig_init(&r, &to);
		rig_start_target(&r);
		rig_init(&m, &from);
		m.to = &r;
		rig_start_source(&m);
		rig_finish_source(&m);
		rig_expect_stayed(&m, "page sizes", rows[i / 2].says);
		assert_int_equal(m.source_err.code, FERRY_E_MISMATCH);
		assert_int_equal(m.source_stats.sent_bytes, 0);
		assert_false(m.has_sum);
		rig_fini(&m);
		assert_int_equal(ferry_status_state(&r.target->status),
				 FERRY_STATE_SETUP);
		rig_fini(&r);
	}
}

/* ---- what does not go together ------------------------------------------------- */

#define QEMU	{ "x-ferry-peer", "qemu" }
#define PLAIN	{ "channel-header", "off" }
#define VERIFY	{ "x-ferry-verify", "on" }
#define LEASE	{ "x-ferry-lease", "2000" }
#define FREES	{ "release-ram", "on" }
#define AT_ONCE	{ "x-ferry-precopy-passes", "0" }
#define ANY	"unix:/tmp/ferry-nobody"
#define DISK	"file:/tmp/ferry-nothing"

static const struct {
	const char *param[2][2];
	unsigned    devices;		/* bulk */
	const char *uri;
	const char *says;
} odd_ones[] = {
	{ { AT_ONCE, { "postcopy-ram", "off" } }, 0, ANY,
	  "postcopy-ram is off" },
	{ { AT_ONCE }, 0, DISK, "needs a way back" },
	{ { VERIFY, QEMU }, 0, ANY, "knows no checksums" },
	{ { VERIFY, PLAIN }, 0, ANY, "knows no checksums" },
	{ { VERIFY }, 0, DISK, "knows no checksums" },
	{ { VERIFY, FREES }, 0, ANY, "frees what is to be compared" },
	{ { LEASE, QEMU }, 0, ANY, "knows no lease" },
	{ { LEASE, PLAIN }, 0, ANY, "knows no lease" },
	{ { LEASE }, 0, DISK, "knows no lease" },
	{ { LEASE, FREES }, 0, ANY, "frees what would be rolled back" },
	{ { { "x-ferry-lease", "999" } }, 0, ANY, "less than 1000 ms" },
	{ { QEMU }, 1, ANY, "bulk device bulk" },
	{ { PLAIN }, 1, ANY, "bulk device bulk" },
	{ { { "" } }, 1, DISK, "bulk device bulk" },
	{ { { "tls-creds", "/nowhere" } }, 0, ANY, "/nowhere" },
	{ { { "tls-hostname", "host" } }, 0, ANY, "tls-creds is not" },
};

static void what_does_not_go_together_is_refused_at_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(odd_ones); i++) {
		struct rig_config cfg = {
			.block = { RAM(1 << 20) }, .blocks = 1,
			.bulk = { .devices = odd_ones[i].devices,
				  .blocks = 2 },
		};
		struct ferry_stats st = FERRY_STATS_INIT;
		struct ferry_err err = { 0 };
		struct rig r;

		for (unsigned k = 0; k < 2 && odd_ones[i].param[k][0]; k++)
			if (*odd_ones[i].param[k][0])
				memcpy(cfg.param[k], odd_ones[i].param[k],
				       sizeof(cfg.param[k]));
		rig_init(&r, &cfg);
		assert_int_equal(ferry_source_start(r.source, odd_ones[i].uri,
						    &err), -1);
		if (!strstr(err.msg, odd_ones[i].says))
			fail_msg("'%s' is not in '%s'", odd_ones[i].says,
				 err.msg);
		ferry_source_stats(r.source, &st);
		assert_int_equal(st.state, FERRY_STATE_NONE);
		assert_true(rig_side_runs(&r.src));
		rig_fini(&r);
	}
}

static void a_target_lets_nobody_in_who_was_not_asked_who_it_is(void **state)
{
	static const char *const rows[][3] = {
		{ "tls-authz", "host1", "tls-creds is not" },
		{ "tls-creds", "/nowhere", "/nowhere" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct rig_config cfg = {
			.block = { RAM(1 << 20) }, .blocks = 1,
			.target_param = { { rows[i][0], rows[i][1] } },
		};
		struct ferry_err err = { 0 };
		struct rig r;

		rig_init(&r, &cfg);
		assert_int_equal(ferry_target_listen(r.target, rig_unix_uri(),
						     &err), -1);
		if (!strstr(err.msg, rows[i][2]))
			fail_msg("'%s' is not in '%s'", rows[i][2], err.msg);
		rig_fini(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    what_does_not_fit_is_refused_before_memory_is_copied),
		cmocka_unit_test(page_sizes_that_differ_are_refused),
		cmocka_unit_test(what_does_not_go_together_is_refused_at_once),
		cmocka_unit_test(
		    a_target_lets_nobody_in_who_was_not_asked_who_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
