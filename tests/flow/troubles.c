/* SPDX-License-Identifier: MIT */
/*
 * The VM's own troubles: it does not stop, its devices cannot be saved or
 * loaded, it does not start there.  It then runs at the source with its memory
 * as it was, and both ends know why.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "rig.h"

#define BLOCKS								\
	.block = { { "ram", 1 << 20, 4096, true },			\
		   { "vram", 64 << 10, 4096, false } },			\
	.blocks = 2, .zero_percent = 20, .writer = true

static const struct mode {
	const char *what;
	struct rig_config cfg;
} modes[] = {
	{ "precopy", { BLOCKS } },
	{ "one pass, then postcopy", { BLOCKS,
		.param = { { "x-ferry-precopy-passes", "1" } } } },
	{ "postcopy", { BLOCKS,
		.param = { { "x-ferry-precopy-passes", "0" } } } },
	{ "postcopy that frees what it sent", { BLOCKS, .freed = true,
		.param = { { "x-ferry-precopy-passes", "0" },
			   { "release-ram", "on" } } } },
};

static const struct trouble {
	const char *reason;
	bool at_target;		/* the target has seen it, and says it too */
	bool stop, save, load, start;
} troubles[] = {
	{ "it will not stop", .stop = true },
	{ "it will not be saved", .save = true },
	{ "it will not be loaded", .load = true, .at_target = true },
	{ "it will not start", .start = true, .at_target = true },
};

static void run(const struct mode *m, const struct trouble *t)
{
	struct rig_config cfg = m->cfg;
	char what[128];
	struct rig r;

	snprintf(what, sizeof(what), "%s, %s", m->what, t->reason);
	cfg.stop_fails = t->stop;
	cfg.save_fails = t->save;
	cfg.load_fails = t->load;
	cfg.start_fails = t->start;
	rig_run(&r, &cfg);
	rig_expect_stayed(&r, what, t->reason);
	if (!strstr(r.target_err.msg, t->reason))
		fail_msg("%s: the target says: %s", what, r.target_err.msg);
	if (t->at_target)
		assert_non_null(strstr(r.source_err.msg, "target"));
	assert_false(r.dst.running);
	rig_fini(&r);
}

static void a_vm_in_trouble_runs_on_at_the_source(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(modes); i++)
		for (size_t j = 0; j < FERRY_LEN(troubles); j++)
			run(&modes[i], &troubles[j]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vm_in_trouble_runs_on_at_the_source),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
