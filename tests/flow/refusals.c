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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    what_does_not_fit_is_refused_before_memory_is_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
