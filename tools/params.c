/* SPDX-License-Identifier: MIT */
/*
 * `ferry params`: the parameters that --set takes.
 */
#include "command.h"

#include <ferry/params.h>

#include <inttypes.h>
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

static const char *default_of(const struct ferry_param_info *p, char *buf,
			      size_t bytes)
{
	switch (p->type) {
	case FERRY_PARAM_BOOL:
		return p->def ? "on" : "off";
	case FERRY_PARAM_UINT:
		snprintf(buf, bytes, "%" PRIu64, p->def);
		return buf;
	case FERRY_PARAM_CHOICE:
		return p->choices[p->def];
	}
	return "";
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
	}
}

static void print_row(const struct ferry_param_info *p)
{
	char buf[32];

	printf("%s=%s\n    %s\n    ", p->name,
	       default_of(p, buf, sizeof(buf)), p->help);
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

static struct json_object *row_of(const struct ferry_param_info *p)
{
	struct json_object *row = json_object_new_object();
	char buf[32];

	ferry_json_add_str(row, "name", p->name);
	ferry_json_add_str(row, "default", default_of(p, buf, sizeof(buf)));
	if (p->type == FERRY_PARAM_UINT) {
		ferry_json_add_u64(row, "min", p->min);
		ferry_json_add_u64(row, "max", p->max);
		ferry_json_add_str(row, "unit", p->unit);
	} else {
		json_object_object_add(row, "values", choices_of(p));
	}
	ferry_json_add_bool(row, "while-running", p->while_running);
	ferry_json_add_str(row, "help", p->help);
	return row;
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
	FERRY_AUTO_JSON *all = json_object_new_array();
	const struct ferry_param_info *p;
	int json = 0, code = ferry_tool_parse(&argp, argc, argv, &json);

	if (code)
		return code;
	for (size_t i = 0; (p = ferry_param_info(i)); i++) {
		if (json)
			json_object_array_add(all, row_of(p));
		else
			print_row(p);
	}
	if (json)
		puts(ferry_json_text(all));
	return ferry_tool_printed(FERRY_EXIT_DONE);
}
