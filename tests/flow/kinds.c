/* SPDX-License-Identifier: MIT */
/*
 * Kinds of memory and ways to carry it: huge pages, odd sizes, many blocks,
 * writers that tell nobody, every number of channels; limits that change on
 * the way; policy as a user sees it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "rig.h"
#include "unit/huge.h"

static const char *const passes[] = { "1000", "0", "1" };

static void in_all_modes(struct rig_config *cfg, const char *what)
{
	for (size_t i = 0; i < FERRY_LEN(passes); i++) {
		struct rig r;

		cfg->param[0][0] = "x-ferry-precopy-passes";
		cfg->param[0][1] = passes[i];
		cfg->reader = i > 0;
		rig_run(&r, cfg);
		rig_expect_moved(&r, what);
		rig_fini(&r);
	}
}

static void odd_sizes_and_many_blocks_move(void **state)
{
	static char name[RIG_BLOCKS_MAX][16];
	static struct rig_config cfg = {
		.blocks = RIG_BLOCKS_MAX, .zero_percent = 20, .writer = true,
	};

	(void)state;
	for (unsigned i = 0; i < RIG_BLOCKS_MAX; i++) {
		snprintf(name[i], sizeof(name[i]), "block %u", i);
		cfg.block[i] = (struct rig_block){
			name[i], (1 + i % 67) * 4096ull, 4096, i % 2,
		};
	}
	in_all_modes(&cfg, "256 blocks");
}

static void any_number_of_channels_carries_it(void **state)
{
	(void)state;
	for (int n = 1; n <= 8; n++) {
		char digits[4];
		struct rig_config cfg = {
			.block = { { "ram", 1 << 20, 4096, true } },
			.blocks = 1, .zero_percent = 20, .writer = true,
			.param = { { "" }, { "multifd-channels", digits },
				   { "postcopy-preempt", n % 2 ? "on" : "off" },
				   { "x-ferry-prefault-backward", "3" } },
		};

		snprintf(digits, sizeof(digits), "%d", n);
		in_all_modes(&cfg, "channels");
	}
}

static void writers_that_tell_nobody_are_noticed(void **state)
{
	struct rig_config cfg = {
		.block = { { "ram", 1 << 20, 4096, true },
			   { "vram", 1 << 20, 4096, false } },
		.blocks = 2, .zero_percent = 20, .writer = true,
		.track_process = true,
	};

	(void)state;
	in_all_modes(&cfg, "write protection");
}

static void huge_pages_move(void **state)
{
	struct rig_config cfg = {
		.block = { { "ram", 8 << 20, 2 << 20, true },
			   { "vram", 12288, 4096, false } },
		.blocks = 2, .zero_percent = 20, .writer = true,
	};

	(void)state;
	if (!huge_pages_for(8)) {
		print_message("8 free huge pages of 2 MiB lack\n");
		skip();
	}
	in_all_modes(&cfg, "huge pages");
	cfg.param[1][0] = "multifd-channels";
	cfg.param[1][1] = "3";
	in_all_modes(&cfg, "huge pages on 3 channels");
}

static void what_was_sent_is_freed(void **state)
{
	struct rig_config cfg = {
		.block = { { "ram", 4 << 20, 4096, true } }, .blocks = 1,
		.freed = true,
		.param = { { "x-ferry-precopy-passes", "0" },
			   { "release-ram", "on" } },
	};
	struct stat before, after;
	struct rig r;

	(void)state;
	rig_init(&r, &cfg);
	assert_int_equal(fstat(r.src.fd[0], &before), 0);
	rig_start(&r);
	rig_finish(&r);
	assert_int_equal(fstat(r.src.fd[0], &after), 0);
	rig_expect_moved(&r, "release-ram");
	assert_true(after.st_blocks < before.st_blocks / 4);
	rig_fini(&r);
}

/* Pages remain after every pass, and with a limit of 0 that is too much. */
#define NEVER								\
	.block = { { "ram", 1 << 20, 4096, true } }, .blocks = 1,	\
	.writer = true, .restless = true

static void precopy_that_cannot_converge_says_so(void **state)
{
	struct rig_config cfg = {
		NEVER, .param = { { "postcopy-ram", "off" },
				  { "downtime-limit", "0" },
				  { "max-bandwidth", "8M" },
				  { "x-ferry-max-passes", "4" } },
	};
	struct rig r;

	(void)state;
	rig_run(&r, &cfg);
	rig_expect_stayed(&r, "too fast a guest", "does not converge");
	assert_int_equal(r.source_err.code, FERRY_E_NOTCONVERGED);
	rig_fini(&r);
}

static void precopy_that_cannot_converge_goes_postcopy(void **state)
{
	struct rig_config cfg = {
		NEVER, .reader = true, .param = { { "downtime-limit", "0" },
						  { "max-bandwidth", "8M" } },
	};
	struct rig r;

	(void)state;
	rig_run(&r, &cfg);
	rig_expect_moved(&r, "too fast a guest");
	assert_true(r.source_stats.postcopy_bytes > 0);
	rig_fini(&r);
}

struct throttled {
	unsigned percent[8], calls;
};

static void note_throttle(struct rig *r, enum rig_moment m, unsigned arg)
{
	struct throttled *got = r->cfg.hook_arg;

	if (m != RIG_THROTTLE)
		return;
	assert_true(got->calls < FERRY_LEN(got->percent));
	got->percent[got->calls++] = arg;
}

/* Two passes over the limit, then a step before each pass, none past the
 * maximum; and the guest that stays is let go. */
static void throttling_rises_and_ends(void **state)
{
	static const unsigned want[] = { 20, 30, 40, 45, 0 };
	struct throttled got = { .calls = 0 };
	struct rig_config cfg = {
		NEVER, .hook = note_throttle, .hook_arg = &got,
		.param = { { "postcopy-ram", "off" }, { "downtime-limit", "0" },
			   { "auto-converge", "on" },
			   { "max-cpu-throttle", "45" },
			   { "max-bandwidth", "16M" },
			   { "x-ferry-max-passes", "7" } },
	};
	struct rig r;

	(void)state;
	rig_run(&r, &cfg);
	rig_expect_stayed(&r, "too fast a guest", "does not converge");
	assert_int_equal(got.calls, FERRY_LEN(want));
	assert_memory_equal(got.percent, want, sizeof(want));
	rig_fini(&r);
}

/* It would take a quarter of an hour. */
static void a_deadline_is_kept_by_postcopy(void **state)
{
	struct rig_config cfg = {
		NEVER, .reader = true, .param = { { "x-ferry-by", "300" },
						  { "max-bandwidth", "1k" } },
	};
	struct rig r;

	(void)state;
	rig_run(&r, &cfg);
	rig_expect_moved(&r, "a deadline");
	rig_fini(&r);
}

static void a_push_that_is_off_can_be_switched_on(void **state)
{
	struct rig_config cfg = {
		.block = { { "ram", 1 << 20, 4096, true } }, .blocks = 1,
		.param = { { "x-ferry-precopy-passes", "0" },
			   { "x-ferry-background-push", "off" } },
	};
	struct rig r;

	(void)state;
	rig_init(&r, &cfg);
	rig_start(&r);
	rig_await(&r, FERRY_STATE_POSTCOPY_ACTIVE);
	assert_int_equal(ferry_source_wait(r.source, 100, NULL), -1);
	assert_int_equal(ferry_source_set(r.source, "x-ferry-background-push",
					  "on", NULL), 0);
	rig_finish(&r);
	rig_expect_moved(&r, "a push switched on");
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(odd_sizes_and_many_blocks_move),
		cmocka_unit_test(any_number_of_channels_carries_it),
		cmocka_unit_test(writers_that_tell_nobody_are_noticed),
		cmocka_unit_test(huge_pages_move),
		cmocka_unit_test(what_was_sent_is_freed),
		cmocka_unit_test(precopy_that_cannot_converge_says_so),
		cmocka_unit_test(precopy_that_cannot_converge_goes_postcopy),
		cmocka_unit_test(throttling_rises_and_ends),
		cmocka_unit_test(a_deadline_is_kept_by_postcopy),
		cmocka_unit_test(a_push_that_is_off_can_be_switched_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
