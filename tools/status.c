/* SPDX-License-Identifier: MIT */
/*
 * `ferry status`: what a VM and its migration are doing; --watch follows by
 * events until the migration ends.
 */
#include "command.h"

#include <stdio.h>
#include <string.h>

#include "lost.h"
#include "peer.h"
#include "progress.h"

#define REFRESH_MS	500

struct options {
	const char *vm;
	int json, watch;
};

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'j':
		o->json = 1;
		return 0;
	case 'w':
		o->watch = 1;
		return 0;
	case ARGP_KEY_ARG:
		if (o->vm)
			argp_error(state, "one VM at a time");
		o->vm = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which VM?");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static double seconds(const struct json_object *o, const char *key)
{
	return (double)ferry_json_u64(o, key, 0) / 1e6;
}

/* One line for each bulk device; the one that the pause was for is marked. */
static void print_bulk(const struct json_object *m)
{
	struct json_object *list = NULL;
	size_t n;

	json_object_object_get_ex(m, "x-ferry-bulk", &list);
	n = json_object_is_type(list, json_type_array) ?
	    json_object_array_length(list) : 0;
	for (size_t i = 0; i < n; i++) {
		const struct json_object *d =
			json_object_array_get_idx(list, i);
		const char *name = ferry_json_str(d, "name");
		const char *state = ferry_json_str(d, "state");

		printf("device     %s/%u: %s, %.1f MiB before the pause and %.1f "
		       "in it; save %.3f s, send %.3f s, load %.3f s, "
		       "together %.3f s%s\n", name ? name : "?",
		       (unsigned)ferry_json_u64(d, "instance", 0),
		       state ? state : "?",
		       (double)ferry_json_u64(d, "precopy-bytes", 0) / 1048576,
		       (double)ferry_json_u64(d, "downtime-bytes", 0) / 1048576,
		       seconds(d, "save-us"), seconds(d, "send-us"),
		       seconds(d, "load-us"), seconds(d, "path-us"),
		       ferry_json_bool(d, "longest", false) ?
		       " (the longest)" : "");
	}
}

/* What the source does for the guest's faults, and which channels are gone. */
static void print_channels(const struct json_object *m)
{
	const struct json_object *f = ferry_json_obj(m, "x-ferry-faults");
	uint64_t lost = ferry_json_u64(m, "x-ferry-lost-channels", 0);
	uint64_t limit = ferry_json_u64(f, "push-limit", 0);

	if (lost)
		printf("channels   %d lost, the others took over\n",
		       (int)lost);
	if (limit)
		printf("governor   push held to %.1f MiB/s, faults took %.1f "
		       "ms (p99)\n", (double)limit / (1 << 20),
		       (double)ferry_json_u64(f, "target-p99-us", 0) / 1000);
}

static void print_text(const struct json_object *vm,
		       const struct json_object *m)
{
	const char *where = ferry_json_str(m, "x-ferry-where");
	const char *why = ferry_json_str(m, "error-desc");
	const char *still = ferry_json_str(vm, "x-ferry-why");
	char line[256];

	printf("VM         %s%s%s\n", ferry_json_str(vm, "status"),
	       still ? ": " : "", still ? still : "");
	ferry_progress_line(m, line, sizeof(line));
	printf("migration  %s\n", line);
	if (where)
		printf("where      %s (safe to start: %s)\n", where,
		       ferry_json_str(m, "x-ferry-safe"));
	if (why)
		printf("reason     %s\n", why);
	print_bulk(m);
	ferry_lost_print(stdout, m);
	print_channels(m);
	fflush(stdout);
}

/* How the watched migration came out; there may have been none. */
static int outcome(const struct json_object *m)
{
	return ferry_json_str(m, "status") ? ferry_progress_exit(m) :
					     FERRY_EXIT_DONE;
}

/* Prints it once; *code is the migration's exit code, -1 while it is under
 * way. */
static int show(struct ferry_peer *p, const struct options *o, int *code,
		struct ferry_err *e)
{
	FERRY_AUTO_JSON *vm = NULL;
	FERRY_AUTO_JSON *m = NULL;
	FERRY_AUTO_JSON *all = NULL;

	if (ferry_peer_look(p, &m, &vm, e))
		return -1;
	*code = ferry_progress_ended(m) ? outcome(m) : -1;
	if (!o->json) {
		print_text(vm, m);
		return 0;
	}
	all = json_object_new_object();
	json_object_object_add(all, "vm", json_object_get(vm));
	json_object_object_add(all, "migration", json_object_get(m));
	puts(ferry_json_text(all));
	fflush(stdout);
	return 0;
}

/* Until something is told: a change at once, figures twice a second. */
static int await_news(struct ferry_qmp_client *c, struct ferry_err *e)
{
	struct json_object *event = NULL;
	int rc = ferry_qmp_client_event(c, REFRESH_MS, &event, e);

	json_object_put(event);
	return rc < 0 ? -1 : 0;
}

static int status(const struct options *o)
{
	struct ferry_err err = { 0 };
	struct ferry_peer p;
	int rc, code = FERRY_EXIT_DONE;
	bool followed = false;

	if (ferry_peer_open(&p, o->vm, &err)) {
		ferry_peer_close(&p);
		return ferry_tool_fail(FERRY_EXIT_NO_VM, "%s", err.msg);
	}
	while (!(rc = show(&p, o, &code, &err)) && o->watch && code < 0) {
		followed = true;
		rc = await_news(p.qmp, &err);
		if (rc)
			break;
	}
	ferry_peer_close(&p);
	if (rc)		/* in the middle: nobody can tell any more */
		return ferry_tool_fail(followed ? FERRY_EXIT_LOST :
				       FERRY_EXIT_NO_VM, "%s", err.msg);
	return o->watch ? ferry_tool_told(code) :
			  ferry_tool_printed(FERRY_EXIT_DONE);
}

int ferry_tool_status(int argc, char **argv)
{
	static const struct argp_option list[] = {
		{ "json", 'j', NULL, 0, "one JSON object (a line each with "
		  "--watch)", 0 },
		{ "watch", 'w', NULL, 0, "go on until the migration ends",
		  0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = list, .parser = option, .args_doc = "VM",
		.doc = "What VM and its migration are doing: state, where the "
		       "VM is, which side may safely be started by hand.  "
		       "With --watch it ends as `ferry migrate` would.\v"
		       "Example: ferry status --watch web",
	};
	struct options o = { 0 };
	int code = ferry_tool_parse(&argp, argc, argv, &o);

	return code ? code : status(&o);
}
