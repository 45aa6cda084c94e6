/* SPDX-License-Identifier: MIT */
/*
 * `ferry doctor`: what this host can do.
 */
#include "command.h"

#include <ferry/probe.h>
#include <ferry/version.h>

#include <stdio.h>
#include <string.h>

#include "ctl/json.h"

#define ROWS_MAX	32

static const char *const verdicts[] = {
	[FERRY_PROBE_OK]	= "ok",
	[FERRY_PROBE_FALLBACK]	= "fallback",
	[FERRY_PROBE_MISSING]	= "missing",
};

static error_t option(int key, char *arg, struct argp_state *state)
{
	int *json = state->input;

	(void)arg;
	if (key == 'j') {
		*json = 1;
		return 0;
	}
	if (key == ARGP_KEY_ARG)
		argp_error(state, "doctor takes no arguments");
	return ARGP_ERR_UNKNOWN;
}

static void print_table(const struct ferry_probe_row *row, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		printf("%-9s %-24s %s\n", verdicts[row[i].verdict],
		       row[i].name, row[i].found);
		if (row[i].lost[0])
			printf("%-9s %-24s lost: %s\n", "", "", row[i].lost);
		if (row[i].fix[0])
			printf("%-9s %-24s fix:  %s\n", "", "", row[i].fix);
	}
}

static void print_json(const struct ferry_probe_row *row, size_t n, int works)
{
	FERRY_AUTO_JSON *o = json_object_new_object();
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		struct json_object *r = json_object_new_object();

		ferry_json_add_str(r, "name", row[i].name);
		ferry_json_add_str(r, "verdict", verdicts[row[i].verdict]);
		ferry_json_add_str(r, "found", row[i].found);
		ferry_json_add_str(r, "lost", row[i].lost);
		ferry_json_add_str(r, "fix", row[i].fix);
		json_object_array_add(list, r);
	}
	ferry_json_add_str(o, "version", ferry_version());
	ferry_json_add_bool(o, "ok", works);
	json_object_object_add(o, "checks", list);
	puts(ferry_json_text(o));
}

/* Precopy needs KVM to have a VM at all; postcopy needs userfaultfd. */
static int both_work(const struct ferry_probe_row *row, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (row[i].verdict == FERRY_PROBE_MISSING &&
		    (!strcmp(row[i].name, "kvm") ||
		     !strcmp(row[i].name, "userfaultfd")))
			return 0;
	return 1;
}

int ferry_tool_doctor(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", 'j', NULL, 0, "one JSON object", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options, .parser = option,
		.doc = "What this host can do for migration, what is lost by "
		       "what it cannot, and how to mend it.  Exit code 0 if "
		       "VMs run here and both precopy and postcopy work, else "
		       "1.\vExample: ferry doctor",
	};
	struct ferry_probe_row row[ROWS_MAX] = { FERRY_PROBE_ROW_INIT };
	int json = 0, works, code;
	size_t n;

	code = ferry_tool_parse(&argp, argc, argv, &json);
	if (code)
		return code;
	n = ferry_probe(row, ROWS_MAX);
	n = n < ROWS_MAX ? n : ROWS_MAX;
	works = both_work(row, n);
	if (json)
		print_json(row, n, works);
	else
		print_table(row, n);
	return ferry_tool_printed(works ? FERRY_EXIT_DONE :
					  FERRY_EXIT_FAILED);
}
