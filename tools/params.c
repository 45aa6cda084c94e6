/* SPDX-License-Identifier: MIT */
/*
 * `ferry params`: the parameters that --set takes.
 */
#include "command.h"

#include <ferry/params.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "ctl/json.h"

static error_t option(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	if (key == 'j') {
		*(int *)state->input = 1;
		return 0;
	}
	if (key == ARGP_KEY_ARG)
		argp_error(state, "params takes no arguments");
	return ARGP_ERR_UNKNOWN;
}

/* Some depend on the machine. */
static const char *default_of(const struct ferry_param_info *p,
			      const struct ferry_params *fresh, char *buf,
			      size_t bytes)
{
	return ferry_params_get_text(fresh, p->name, buf, bytes, NULL) ?
	       "" : buf;
}

static void print_values(const struct ferry_param_info *p)
{
	switch (p->type) {
	case FERRY_PARAM_BOOL:
		fputs("on, off", stdout);
		return;
	case FERRY_PARAM_UINT:
		printf("%" PRIu64 " to %" PRIu64 "%s%s", p->min, p->max,
		       *p->unit ? " " : "", p->unit);
		return;
	case FERRY_PARAM_CHOICE:
		for (size_t i = 0; p->choices[i]; i++)
			printf("%s%s", i ? ", " : "", p->choices[i]);
		return;
	case FERRY_PARAM_TEXT:
		printf("a text");
		return;
	}
}

static void print_row(const struct ferry_param_info *p,
		      const struct ferry_params *fresh)
{
	char buf[32];

	printf("%s=%s\n    %s\n    ", p->name,
	       default_of(p, fresh, buf, sizeof(buf)), p->help);
	print_values(p);
	puts(p->while_running ? "; also during a migration" : "");
}

static struct json_object *choices_of(const struct ferry_param_info *p)
{
	static const char *const on_off[] = { "on", "off", NULL };
	const char *const *c = p->type == FERRY_PARAM_BOOL ? on_off :
							     p->choices;
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; c[i]; i++)
		json_object_array_add(list, json_object_new_string(c[i]));
	return list;
}

static struct json_object *row_of(const struct ferry_param_info *p,
				  const struct ferry_params *fresh)
{
	struct json_object *row = json_object_new_object();
	char buf[32];

	ferry_json_add_str(row, "name", p->name);
	ferry_json_add_str(row, "default",
			   default_of(p, fresh, buf, sizeof(buf)));
	if (p->type == FERRY_PARAM_UINT) {
		ferry_json_add_u64(row, "min", p->min);
		ferry_json_add_u64(row, "max", p->max);
		ferry_json_add_str(row, "unit", p->unit);
	} else if (p->type != FERRY_PARAM_TEXT) {
		json_object_object_add(row, "values", choices_of(p));
	}
	ferry_json_add_bool(row, "while-running", p->while_running);
	ferry_json_add_str(row, "help", p->help);
	return row;
}

static void print_all(const struct ferry_params *fresh, bool json)
{
	FERRY_AUTO_JSON *all = json_object_new_array();
	const struct ferry_param_info *p;

	for (size_t i = 0; (p = ferry_param_info(i)); i++) {
		if (json)
			json_object_array_add(all, row_of(p, fresh));
		else
			print_row(p, fresh);
	}
	if (json)
		puts(ferry_json_text(all));
}

int ferry_tool_params(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", 'j', NULL, 0, "a JSON array", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options, .parser = option,
		.doc = "The parameters of a migration that --set takes: name, "
		       "default, what it does, values.\vExample: ferry params",
	};
	struct ferry_params *fresh;
	int json = 0, code = ferry_tool_parse(&argp, argc, argv, &json);

	if (code)
		return code;
	fresh = ferry_params_new();
	if (!fresh)
		return ferry_tool_fail(FERRY_EXIT_FAILED, "out of memory");
	print_all(fresh, json);
	ferry_params_free(fresh);
	return ferry_tool_printed(FERRY_EXIT_DONE);
}
