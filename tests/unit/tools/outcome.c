/* SPDX-License-Identifier: MIT */
/*
 * Where the VM is, and when to go on differently: tables.
 */
#include "outcome.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "command.h"
#include "shape.h"
#include "tempo.h"

#define RUNS		.running = true
#define THERE		.known = true
#define DEAD		.known = true, .gone = true

static const struct {
	struct ferry_end source, target;
	int code;
	const char *where;
} ends[] = {
	{ { .status = "completed" }, { 0 }, 0, "target" },
	{ { .status = "completed" }, { THERE, RUNS, .status = "completed" },
	  0, "target" },
	{ { .status = "completed" }, { THERE }, 0, "target" },
	{ { .status = "completed" }, { DEAD }, 4, "lost" },

	{ { .status = "failed", RUNS }, { 0 }, 1, "source" },
	{ { .status = "failed", RUNS }, { DEAD }, 1, "source" },
	{ { .status = "failed", RUNS }, { THERE, .status = "failed" }, 1,
	  "source" },
	{ { .status = "cancelled", RUNS }, { DEAD }, 1, "source" },
	{ { .status = "failed" }, { DEAD }, 1, "source" },
	{ { .status = "failed" }, { 0 }, 3, "undecided" },
	{ { .status = "failed", RUNS }, { THERE, RUNS, .status = "completed" },
	  3, "undecided" },
	{ { .status = "failed", RUNS },
	  { THERE, RUNS, .status = "postcopy-paused" }, 3, "undecided" },
	{ { .status = "failed", RUNS, .stopped = true },
	  { THERE, RUNS, .status = "completed" }, 3, "target" },
	{ { .status = "failed" }, { THERE, RUNS, .status = "completed" }, 0,
	  "target" },
	{ { .status = "failed" }, { THERE, .status = "postcopy-paused" }, 3,
	  "split" },

	{ { .status = "postcopy-paused" }, { 0 }, 3, "split" },
	{ { .status = "postcopy-paused" },
	  { THERE, RUNS, .status = "postcopy-paused" }, 3, "split" },
	{ { .status = "postcopy-paused" }, { DEAD, .ran = true }, 4, "lost" },
	{ { .status = "postcopy-paused" }, { DEAD }, 3, "undecided" },
	{ { .status = "postcopy-active" }, { DEAD, .ran = true }, 4, "lost" },
	{ { .status = "postcopy-paused" },
	  { THERE, RUNS, .status = "completed" }, 0, "target" },
	{ { .status = "active" }, { DEAD }, 3, "undecided" },
	{ { .status = "active" }, { THERE, RUNS, .status = "completed" }, 3,
	  "target" },
	{ { .status = "active" }, { THERE, .done = true }, 3, "target" },
	{ { .status = "postcopy-active" }, { THERE, .done = true }, 0,
	  "target" },

	{ { .gone = true }, { 0 }, 4, "lost" },
	{ { .gone = true }, { THERE, RUNS, .status = "completed" }, 0,
	  "target" },
	{ { .gone = true }, { THERE, RUNS, .status = "postcopy-paused" }, 4,
	  "lost" },
};

static void both_sides_tell_where_the_vm_is(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(ends); i++) {
		struct ferry_outcome o = ferry_outcome(&ends[i].source,
						       &ends[i].target, true);

		if (o.code != ends[i].code || strcmp(o.where, ends[i].where))
			fail_msg("row %zu: %d %s, not %d %s", i, o.code,
				 o.where, ends[i].code, ends[i].where);
	}
}

static void a_vm_that_was_paused_comes_back_paused(void **state)
{
	struct ferry_end source = { .status = "failed" };
	struct ferry_end target = { 0 };

	(void)state;
	assert_int_equal(ferry_outcome(&source, &target, false).code,
			 FERRY_EXIT_FAILED);
}

static const struct {
	const char *run_state, *m, *role, *where;
} shapes[] = {
	{ "running", "{}", NULL, NULL },
	{ "inmigrate", "{}", NULL, NULL },
	{ "inmigrate", "{\"socket-address\":[]}", "target", "source" },
	{ "inmigrate", "{\"status\":\"active\"}", "target", "source" },
	{ "running", "{\"status\":\"completed\"}", "target", "target" },
	{ "running", "{\"status\":\"postcopy-active\"}", "target", "split" },
	{ "running", "{\"status\":\"active\",\"ram\":{}}", "source",
	  "source" },
	{ "finish-migrate", "{\"status\":\"active\",\"ram\":{}}", "source",
	  "undecided" },
	{ "finish-migrate", "{\"status\":\"device\",\"ram\":{}}", "source",
	  "undecided" },
	{ "postmigrate", "{\"status\":\"completed\",\"ram\":{}}", "source",
	  "target" },
	{ "running", "{\"status\":\"completed\",\"ram\":{}}", "source",
	  "undecided" },
	{ "running", "{\"status\":\"failed\",\"ram\":{}}", "source",
	  "source" },
	{ "running", "{\"status\":\"failed\",\"ram\":{\"postcopy-bytes\":1}}",
	  "source", "undecided" },
	{ "paused", "{\"status\":\"cancelled\",\"ram\":{}}", "source",
	  "source" },
};

static void equal_or_both_null(size_t row, const char *a, const char *b)
{
	if (!a != !b || (a && strcmp(a, b)))
		fail_msg("row %zu: %s, not %s", row, a ? a : "nothing",
			 b ? b : "nothing");
}

static void a_qemus_answer_gets_ferrys_shape(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(shapes); i++) {
		FERRY_AUTO_JSON *m = json_tokener_parse(shapes[i].m);

		ferry_shape_qemu(m, shapes[i].run_state, "QEMU 7.2.22");
		equal_or_both_null(i, ferry_json_str(m, "x-ferry-role"),
				   shapes[i].role);
		equal_or_both_null(i, ferry_json_str(m, "x-ferry-where"),
				   shapes[i].where);
	}
}

#define AUTO	.passes = FERRY_PLAN_AUTO, .max_passes = 30

static const struct {
	struct ferry_plan plan;
	int syncs, remaining_mb, elapsed_ms, throttle;
	enum ferry_tempo what;
} tempos[] = {
	{ { AUTO, .may_postcopy = true }, 1, 900, 0, 0, FERRY_TEMPO_GO_ON },
	{ { AUTO, .may_postcopy = true }, 2, 900, 0, 0, FERRY_TEMPO_GO_ON },
	{ { AUTO, .may_postcopy = true }, 3, 1, 0, 0, FERRY_TEMPO_POSTCOPY },
	{ { AUTO }, 30, 900, 0, 0, FERRY_TEMPO_GO_ON },
	{ { AUTO }, 31, 900, 0, 0, FERRY_TEMPO_GIVE_UP },
	{ { .passes = 2, .may_postcopy = true }, 2, 1, 0, 0,
	  FERRY_TEMPO_GO_ON },
	{ { .passes = 2, .may_postcopy = true }, 3, 1, 0, 0,
	  FERRY_TEMPO_POSTCOPY },
	{ { .passes = 0, .may_postcopy = true }, 0, 1, 0, 0,
	  FERRY_TEMPO_POSTCOPY },
	/* 100 MB/s */
	{ { AUTO, .may_postcopy = true, .by_ms = 10000 }, 2, 100, 8000, 0,
	  FERRY_TEMPO_GO_ON },
	{ { AUTO, .may_postcopy = true, .by_ms = 10000 }, 2, 300, 8000, 0,
	  FERRY_TEMPO_POSTCOPY },
	{ { .passes = 9, .may_postcopy = true, .by_ms = 10000 }, 2, 300, 8000,
	  0, FERRY_TEMPO_POSTCOPY },
	{ { AUTO, .by_ms = 10000 }, 2, 300, 8000, 0, FERRY_TEMPO_GO_ON },
	{ { AUTO, .by_ms = 10000 }, 2, 300, 10000, 0, FERRY_TEMPO_GIVE_UP },
	{ { AUTO, .may_postcopy = true, .throttle = true, .max_throttle = 99 },
	  9, 300, 0, 50, FERRY_TEMPO_GO_ON },
	{ { AUTO, .may_postcopy = true, .throttle = true, .max_throttle = 99 },
	  9, 300, 0, 99, FERRY_TEMPO_POSTCOPY },
};

static void a_qemu_is_told_when_to_go_on_differently(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(tempos); i++) {
		FERRY_AUTO_JSON *m = NULL;
		enum ferry_tempo what;
		char text[300];

		snprintf(text, sizeof(text), "{\"status\":\"active\","
			 "\"x-ferry-software\":\"QEMU\",\"total-time\":%d,"
			 "\"cpu-throttle-percentage\":%d,\"ram\":{"
			 "\"dirty-sync-count\":%d,\"remaining\":%d,"
			 "\"mbps\":800.0}}", tempos[i].elapsed_ms,
			 tempos[i].throttle, tempos[i].syncs,
			 tempos[i].remaining_mb * 1000000);
		m = json_tokener_parse(text);
		what = ferry_tempo(&tempos[i].plan, m);
		if (what != tempos[i].what)
			fail_msg("row %zu: %d, not %d", i, what,
				 tempos[i].what);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_sides_tell_where_the_vm_is),
		cmocka_unit_test(a_vm_that_was_paused_comes_back_paused),
		cmocka_unit_test(a_qemus_answer_gets_ferrys_shape),
		cmocka_unit_test(a_qemu_is_told_when_to_go_on_differently),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
