/* SPDX-License-Identifier: MIT */
/*
 * `ferry status`: what a VM and its migration are doing; --watch follows by
 * events until the migration ends.
 */
#include "command.h"

#include <stdio.h>
#include <string.h>

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

/* What became of a link that was lost, when, and who waited how long. */
static void print_recovery(const struct json_object *m)
{
	const struct json_object *r = ferry_json_obj(m, "x-ferry-recovery");
	uint64_t worst = ferry_json_u64(ferry_json_obj(m, "x-ferry-faults"),
					"max-us", 0);

	if (!r)
		return;
	printf("link       lost %.1f s ago, found again %d times in %d "
	       "attempts, %.1f s without%s\n",
	       (double)ferry_json_u64(r, "lost-ms-ago", 0) / 1000,
	       (int)ferry_json_u64(r, "count", 0),
	       (int)ferry_json_u64(r, "attempts", 0),
	       (double)ferry_json_u64(r, "apart-us", 0) / 1e6,
	       ferry_json_bool(r, "seeking", false) ? "; looking for it" : "");
	if (worst)
		printf("guest      waited %.3f s for a page at most\n",
		       (double)worst / 1e6);
}

static void print_text(const struct json_object *vm,
		       const struct json_object *m)
{
	const char *where = ferry_json_str(m, "x-ferry-where");
	const char *why = ferry_json_str(m, "error-desc");
	char line[256];

	printf("VM         %s\n", ferry_json_str(vm, "status"));
	ferry_progress_line(m, line, sizeof(line));
	printf("migration  %s\n", line);
	if (where)
		printf("where      %s (safe to start: %s)\n", where,
		       ferry_json_str(m, "x-ferry-safe"));
	if (why)
		printf("reason     %s\n", why);
	fflush(stdout);
	print_recovery(m);
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
