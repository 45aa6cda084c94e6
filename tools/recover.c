/* SPDX-License-Identifier: MIT */
/*
 * `ferry recover`: after the link was lost in postcopy the source is told to
 * find the target again, or the target to be found at another address.  VM is
 * either of them, of ferry run or a QEMU; it says which it is.
 */
#include "command.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "peer.h"
#include "progress.h"

#define REFRESH_MS	200
#define STALE_NS	(3000 * FERRY_NS_PER_MS)

struct options {
	const char *vm, *uri;
	int detach;
};

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'd':
		o->detach = 1;
		return 0;
	case ARGP_KEY_ARG:
		if (o->uri)
			argp_error(state, "'%s' is one word too many", arg);
		if (o->vm)
			o->uri = arg;
		else
			o->vm = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which VM?");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static bool is(const char *a, const char *b)
{
	return a && !strcmp(a, b);
}

static int need_uri(const struct options *o, const char *why,
		    struct ferry_err *e)
{
	return o->uri ? 0 : ferry_err_set(e, FERRY_E_INVALID, 0, "%s: at "
					  "which address? (%s)", o->vm, why);
}

/* The target: it has to know nothing but where to listen. */
static int open_door(struct ferry_peer *p, const struct options *o,
		     struct ferry_err *e)
{
	struct json_object *args;

	if (need_uri(o, "a target listens where it did, as long as it lives",
		     e))
		return -1;
	args = json_object_new_object();
	ferry_json_add_str(args, "uri", o->uri);
	return ferry_peer_call(p, "migrate-recover", args, NULL, e);
}

static int seek(struct ferry_peer *p, const struct options *o,
		struct ferry_err *e)
{
	struct json_object *args;

	if (p->kind == FERRY_PEER_QEMU &&
	    need_uri(o, "that its target was told by migrate-recover", e))
		return -1;
	args = json_object_new_object();
	if (o->uri)
		ferry_json_add_str(args, "uri", o->uri);
	ferry_json_add_bool(args, "resume", true);
	return ferry_peer_call(p, "migrate", args, NULL, e);
}

static void say_why(const struct ferry_peer *p, const struct json_object *m)
{
	const char *why = ferry_json_str(m, "error-desc");

	ferry_tool_fail(0, "%s: %s: %s", p->name, ferry_json_str(m, "status"),
			why ? why : "no reason given");
}

/* A QEMU that was told says for a moment what it said before. */
static bool is_stale(const struct ferry_peer *p, const struct json_object *m,
		     uint64_t *until_ns)
{
	if (p->kind != FERRY_PEER_QEMU)
		return false;
	if (!is(ferry_json_str(m, "status"), "postcopy-paused"))
		*until_ns = 0;		/* it has begun */
	return ferry_now_ns() < *until_ns;
}

/* Until it is completed, or was given up again. */
static int watch(struct ferry_peer *p)
{
	uint64_t stale_ns = ferry_now_ns() + STALE_NS;
	struct ferry_err err = { 0 };
	int code = -1;

	while (code < 0) {
		FERRY_AUTO_JSON *vm = NULL;
		FERRY_AUTO_JSON *m = NULL;
		struct json_object *event = NULL;

		if (ferry_peer_look(p, &m, &vm, &err))
			return ferry_tool_fail(FERRY_EXIT_LOST, "%s",
					       err.msg);
		if (!is_stale(p, m, &stale_ns) && ferry_progress_ended(m)) {
			code = ferry_progress_exit(m);
			if (code != FERRY_EXIT_DONE)
				say_why(p, m);
			continue;
		}
		if (ferry_qmp_client_event(p->qmp, REFRESH_MS, &event, &err) <
		    0)
			return ferry_tool_fail(FERRY_EXIT_LOST, "%s",
					       err.msg);
		json_object_put(event);
	}
	return code;
}

static int begin(struct ferry_peer *p, const struct options *o, bool *source,
		 struct ferry_err *e)
{
	FERRY_AUTO_JSON *vm = NULL;
	FERRY_AUTO_JSON *m = NULL;

	if (ferry_peer_look(p, &m, &vm, e))
		return -1;
	*source = is(ferry_json_str(m, "x-ferry-role"), "source");
	return *source ? seek(p, o, e) : open_door(p, o, e);
}

static int recover(const struct options *o)
{
	struct ferry_err err = { 0 };
	struct ferry_peer p;
	bool source = false;
	int code;

	if (ferry_peer_open(&p, o->vm, &err)) {
		ferry_peer_close(&p);
		return ferry_tool_fail(FERRY_EXIT_NO_VM, "%s", err.msg);
	}
	if (begin(&p, o, &source, &err))
		code = ferry_tool_fail(err.code == FERRY_E_INVALID ?
				       FERRY_EXIT_USAGE : err.code ==
				       FERRY_E_PEER ? FERRY_EXIT_FAILED :
				       FERRY_EXIT_NO_VM, "%s", err.msg);
	else
		code = source && !o->detach ? watch(&p) : FERRY_EXIT_DONE;
	ferry_peer_close(&p);
	return ferry_tool_told(code);
}

int ferry_tool_recover(int argc, char **argv)
{
	static const struct argp_option list[] = {
		{ "detach", 'd', NULL, 0, "return at once; see `ferry "
		  "status`", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = list, .parser = option, .args_doc = "VM [URI]",
		.doc = "After the link was lost in postcopy (`ferry status`: "
		       "postcopy-paused): a source finds its target again, at "
		       "URI or where it was, and this waits until all of the "
		       "VM is there; a target is found at URI too.  Between "
		       "two of ferry run that happens by itself, for as long "
		       "as x-ferry-recover says.  QEMUs need it of both, the "
		       "target first.\v"
		       "Example: ferry recover web\n"
		       "         ferry recover web tcp:10.1.0.7:4444\n\n"
		       "Exit codes: 0 done; 1 refused, such as when nothing is "
		       "paused, or the target gave the VM back; 2 wrong words; "
		       "3 it is still split, or undecided; 4 lost or unknown; "
		       "5 no such VM.",
	};
	struct options o = { 0 };
	int code = ferry_tool_parse(&argp, argc, argv, &o);

	return code ? code : recover(&o);
}
