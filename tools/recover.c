/* SPDX-License-Identifier: MIT */
/*
 * `ferry recover`: after the link was lost in postcopy the source is told to
 * find the target again, or the target to be found at another address.  VM is
 * either of them, of ferry run or a QEMU; it says which it is.
 */
#include "command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "peer.h"
#include "regain.h"

#define WAIT_S		10	/* FERRY_P_TIMEOUT, 2.5 times */
#define WAIT_MAX_S	86400

struct options {
	const char *vm, *uri;
	int detach;
	long wait_s;		/* with a QEMU that gets nowhere */
};

static void want_wait(struct argp_state *state, const char *text)
{
	struct options *o = state->input;
	char *end;

	o->wait_s = strtol(text, &end, 10);
	if (end == text || *end || o->wait_s < 1 || o->wait_s > WAIT_MAX_S)
		argp_error(state, "'%s' is no number of seconds, 1 to %d",
			   text, WAIT_MAX_S);
}

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'd':
		o->detach = 1;
		return 0;
	case 'w':
		want_wait(state, arg);
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

	if (need_uri(o, "a target listens where it did, as long as it lives; "
		     "name another address, or let its source recover", e))
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

static int begin(struct ferry_peer *p, const struct options *o, bool *source,
		 struct ferry_regain *search, struct ferry_err *e)
{
	FERRY_AUTO_JSON *vm = NULL;
	FERRY_AUTO_JSON *m = NULL;

	if (ferry_peer_look(p, &m, &vm, e))
		return -1;
	*source = is(ferry_json_str(m, "x-ferry-role"), "source");
	ferry_regain_begin(search, m);
	if (!o->detach)
		ferry_regain_heed_signals();
	return *source ? seek(p, o, e) : open_door(p, o, e);
}

/* Nothing is paused (1); or an earlier attempt still goes on, or stands. */
static int refused(struct ferry_peer *p, const struct ferry_err *err)
{
	FERRY_AUTO_JSON *vm = NULL;
	FERRY_AUTO_JSON *m = NULL;
	struct ferry_err gone;

	if (err->code == FERRY_E_INVALID)
		return ferry_tool_fail(FERRY_EXIT_USAGE, "%s", err->msg);
	if (err->code != FERRY_E_PEER || ferry_peer_look(p, &m, &vm, &gone))
		return ferry_tool_fail(FERRY_EXIT_NO_VM, "%s", err->msg);
	if (!is(ferry_json_str(m, "status"), "postcopy-recover"))
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s", err->msg);
	return ferry_tool_fail(FERRY_EXIT_SPLIT, "%s; it is postcopy-recover, "
			       "and the VM is: split", err->msg);
}

static int recover(const struct options *o)
{
	struct ferry_regain search = {
		.uri = o->uri,
		.wait_ns = (uint64_t)o->wait_s * FERRY_NS_PER_S,
	};
	struct ferry_err err = { 0 };
	struct ferry_peer p;
	bool source = false;
	int code = FERRY_EXIT_DONE;

	if (ferry_peer_open(&p, o->vm, &err)) {
		ferry_peer_close(&p);
		return ferry_tool_fail(FERRY_EXIT_NO_VM, "%s", err.msg);
	}
	if (begin(&p, o, &source, &search, &err))
		code = refused(&p, &err);
	else if (!source)
		printf("%s: listens at %s, too\n", p.name, o->uri);
	else if (!o->detach)
		code = ferry_regain_watch(&p, &search);
	ferry_peer_close(&p);
	return ferry_tool_told(code);
}

int ferry_tool_recover(int argc, char **argv)
{
	static const struct argp_option list[] = {
		{ "detach", 'd', NULL, 0, "return at once; see `ferry "
		  "status`", 0 },
		{ "wait", 'w', "SECONDS", 0, "how long a QEMU may talk to "
		  "somebody who does not answer (default 10)", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = list, .parser = option, .args_doc = "VM [URI]",
		.doc = "After the link was lost in postcopy (`ferry status`: "
		       "postcopy-paused): a source finds its target again, at "
		       "URI or where it was, and this waits until all of the "
		       "VM is there, saying how the search goes; a target "
		       "listens at URI, which it needs, too.  Between "
		       "two of ferry run that happens by itself, for as long "
		       "as x-ferry-recover says.  QEMUs need it of both, the "
		       "target first.\v"
		       "Example: ferry recover web\n"
		       "         ferry recover web tcp:10.1.0.7:4444\n\n"
		       "Exit codes: 0 done; 1 refused, such as when nothing is "
		       "paused, or the target gave the VM back; 2 wrong words, "
		       "or a target without URI; "
		       "3 it is still split, or undecided (also when "
		       "interrupted); 4 lost or unknown; 5 no such VM.",
	};
	struct options o = { .wait_s = WAIT_S };
	int code = ferry_tool_parse(&argp, argc, argv, &o);

	return code ? code : recover(&o);
}
