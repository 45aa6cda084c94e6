/* SPDX-License-Identifier: MIT */
/*
 * `ferry list`: the VMs that have a socket in the runtime folder.
 */
#include "command.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "names.h"

#define ANSWER_MS	2000

static error_t option(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	if (key == 'j') {
		*(int *)state->input = 1;
		return 0;
	}
	if (key == ARGP_KEY_ARG)
		argp_error(state, "list takes no arguments");
	return ARGP_ERR_UNKNOWN;
}

/* Its process is gone.  Removing the socket is the user's to do: to be sure
 * that nobody is about to listen there takes more than a look. */
static void add_dead(struct json_object *row, const char *name)
{
	struct ferry_err none;
	char path[512];

	ferry_json_add_str(row, "status", "dead");
	if (!ferry_names_socket(name, path, sizeof(path), &none))
		ferry_json_add_str(row, "socket", path);
}

/* What the VM says of itself, or that it says nothing. */
static struct json_object *look(const char *name)
{
	struct json_object *row = json_object_new_object();
	FERRY_AUTO_JSON *vm = NULL;
	FERRY_AUTO_JSON *m = NULL;
	struct ferry_err err = { 0 };
	struct ferry_qmp_client *c;
	const char *s;

	ferry_json_add_str(row, "name", name);
	c = ferry_names_open(name, ANSWER_MS, &err);
	if (!c && ferry_names_is_dead(&err)) {
		add_dead(row, name);
	} else if (!c ||
		   ferry_qmp_client_call(c, "query-status", NULL, ANSWER_MS,
					 &vm, &err) ||
		   ferry_qmp_client_call(c, "query-migrate", NULL, ANSWER_MS,
					 &m, &err)) {
		ferry_json_add_str(row, "status", "no answer");
	} else {
		s = ferry_json_str(vm, "status");
		ferry_json_add_str(row, "status", s ? s : "");
		s = ferry_json_str(m, "status");
		ferry_json_add_str(row, "migration", s ? s : "none");
		ferry_json_add_u64(row, "pid",
				   (uint64_t)ferry_qmp_client_pid(c));
	}
	if (c)
		ferry_qmp_client_close(c);
	return row;
}

static void print_row(const struct json_object *row)
{
	const char *m = ferry_json_str(row, "migration");
	const char *left = ferry_json_str(row, "socket");

	printf("%-20s %8d  %-16s %s%s\n", ferry_json_str(row, "name"),
	       (int)ferry_json_u64(row, "pid", 0),
	       ferry_json_str(row, "status"),
	       left ? "its process is gone; to clear it away: rm " :
	       m ? m : "", left ? left : "");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_socket(const struct dirent *d)
{
	const char *dot = strrchr(d->d_name, '.');

	return dot && dot != d->d_name && !strcmp(dot, ".qmp");
}

int ferry_tool_list(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", 'j', NULL, 0, "a JSON array", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options, .parser = option,
		.doc = "The VMs of this host (and user): name, process, "
		       "state, migration.\vExample: ferry list",
	};
	FERRY_AUTO_JSON *all = json_object_new_array();
	struct dirent **found = NULL;
	struct ferry_err err;
	int json = 0, n, code = ferry_tool_parse(&argp, argc, argv, &json);
	char dir[256];

	if (code)
		return code;
	if (ferry_names_dir(dir, sizeof(dir), 0, &err))
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s", err.msg);
	n = scandir(dir, &found, is_socket, by_name);
	if (n < 0 && errno != ENOENT)
		return ferry_tool_fail(FERRY_EXIT_FAILED, "look for VMs in "
				       "%s%s: %s", dir, FERRY_NAMES_HINT,
				       strerror(errno));
	for (int i = 0; i < n; i++) {
		struct json_object *row;

		*strrchr(found[i]->d_name, '.') = '\0';
		row = look(found[i]->d_name);
		if (!json)
			print_row(row);
		json_object_array_add(all, row);
		free(found[i]);
	}
	free(found);
	if (json)
		puts(ferry_json_text(all));
	return ferry_tool_printed(FERRY_EXIT_DONE);
}
