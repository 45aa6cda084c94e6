/* SPDX-License-Identifier: MIT */
/*
 * `ferry migrate`: sets the parameters, starts the migration, shows its
 * progress, and ends with a code that says where the VM is.
 */
#include "command.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "migrate_params.h"
#include "names.h"
#include "progress.h"

#define REFRESH_MS	200

struct options {
	const char *vm, *uri;
	struct ferry_params *params;
	int mode;		/* key of the option that said it, or 0 */
	int json, detach, quiet;
};

static const struct argp_option list[] = {
	{ "precopy", 'p', NULL, 0, "precopy only", 0 },
	{ "postcopy", 'P', NULL, 0, "postcopy at once: the VM runs at the "
	  "target first, its memory follows", 0 },
	{ "passes", 'n', "N", 0, "N passes of precopy, then postcopy", 0 },
	{ "max-pause", 'm', "TIME", 0, "longest pause that precopy may end "
	  "with, such as 50ms (default 300ms)", 1 },
	{ "by", 'b', "TIME", 0, "run at the target by then, such as 30s", 1 },
	{ "limit", 'l', "BYTES", 0, "most that precopy sends per second, "
	  "such as 100M", 1 },
	{ "throttle", 't', NULL, 0, "slow the VM down when precopy does not "
	  "converge", 1 },
	{ "set", 's', "NAME=VALUE", 0, "set any parameter or capability", 1 },
	{ "detach", 'd', NULL, 0, "return at once; see `ferry status`", 2 },
	{ "json", 'j', NULL, 0, "print the outcome as one JSON object", 2 },
	{ "quiet", 'q', NULL, 0, "no progress", 2 },
	{ 0 },
};

static const char doc[] =
	"Move the running VM to URI, where a VM of the same shape waits "
	"(`ferry run --incoming`).  Without options: precopy while that gets "
	"anywhere, then postcopy.  Interrupt (Ctrl-C) cancels; once the "
	"target has taken over it only stops watching.\v"
	"URI: tcp:HOST:PORT, unix:PATH, file:PATH[,offset=OCTETS], or fd:N "
	"with a descriptor that VM was started with.\n\n"
	"Example: ferry migrate web tcp:host2:4444 --max-pause 50ms\n\n"
	"Exit codes: 0 done; 1 failed, VM safe on the source; 2 wrong words; "
	"3 split or undecided: it still moves (interrupted) or needs "
	"recovery; 4 lost or unknown; 5 no such VM.";

static volatile sig_atomic_t interrupts;

static void on_interrupt(int sig)
{
	(void)sig;
	interrupts++;
}

static void want(struct argp_state *state, const char *name,
		 const char *value)
{
	struct options *o = state->input;
	struct ferry_err err;

	if (ferry_params_set(o->params, name, value, &err))
		argp_error(state, "%s", err.msg);
}

static void want_mode(struct argp_state *state, int key, const char *name,
		      const char *value)
{
	struct options *o = state->input;

	if (o->mode && o->mode != key)
		argp_error(state, "only one of --precopy, --postcopy and "
			   "--passes can be had");
	o->mode = key;
	want(state, name, value);
}

static void want_time(struct argp_state *state, const char *name,
		      const char *text, double least_ms)
{
	char value[32], *end;
	double n = strtod(text, &end);

	if (!strcmp(end, "s"))
		n *= 1000;
	else if (*end && strcmp(end, "ms"))
		argp_error(state, "'%s' is no time: such as 300ms or 30s",
			   text);
	if (end == text || n < 0 || n > 4e9)
		argp_error(state, "'%s' is no time: such as 300ms or 30s",
			   text);
	if (n < least_ms)
		argp_error(state, "'%s' is too short: at least %.0f ms", text,
			   least_ms);
	snprintf(value, sizeof(value), "%.0f", n);
	want(state, name, value);
}

static void want_pair(struct argp_state *state, char *pair)
{
	char *equals = strchr(pair, '=');

	if (!equals) {
		argp_error(state, "'%s' is not NAME=VALUE", pair);
		return;
	}
	*equals = '\0';
	want(state, pair, equals + 1);
}

static void want_word(struct argp_state *state, const char *word)
{
	struct options *o = state->input;

	if (!o->vm)
		o->vm = word;
	else if (!o->uri)
		o->uri = word;
	else
		argp_error(state, "'%s' is one word too many", word);
}

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'p':
		want_mode(state, key, "postcopy-ram", "off");
		return 0;
	case 'P':
		want_mode(state, key, "x-ferry-precopy-passes", "0");
		return 0;
	case 'n':
		want_mode(state, key, "x-ferry-precopy-passes", arg);
		return 0;
	case 'm':
		want_time(state, "downtime-limit", arg, 0);
		return 0;
	case 'b':
		want_time(state, "x-ferry-by", arg, 1);
		return 0;
	case 'l':
		want(state, "max-bandwidth", arg);
		return 0;
	case 't':
		want(state, "auto-converge", "on");
		return 0;
	case 's':
		want_pair(state, arg);
		return 0;
	case 'd':
		o->detach = 1;
		return 0;
	case 'j':
		o->json = 1;
		return 0;
	case 'q':
		o->quiet = 1;
		return 0;
	case ARGP_KEY_ARG:
		want_word(state, arg);
		return 0;
	case ARGP_KEY_END:
		if (!o->uri)
			argp_error(state, "which VM, and where to?");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int query(struct ferry_qmp_client *c, struct json_object **m,
		 struct ferry_err *e)
{
	json_object_put(*m);
	*m = NULL;
	return ferry_qmp_client_call(c, "query-migrate", NULL,
				     FERRY_QMP_TIMEOUT_MS, m, e);
}

static void show(const struct options *o, struct json_object *m)
{
	char line[256];

	if (o->quiet || !isatty(STDERR_FILENO))
		return;
	ferry_progress_line(m, line, sizeof(line));
	ferry_progress_cut(line, STDERR_FILENO);
	fprintf(stderr, "\r\033[K%s", line);
}

/* The first interrupt cancels, the second (or a refusal) stops watching.
 * True: stop watching. */
static bool interrupted(struct ferry_qmp_client *c, const struct options *o,
			int seen)
{
	struct ferry_err err;

	if (seen == 1 &&
	    !ferry_qmp_client_call(c, "migrate_cancel", NULL,
				   FERRY_QMP_TIMEOUT_MS, NULL, &err))
		return false;
	if (seen == 1)
		ferry_tool_fail(0, "it cannot be cancelled any more: %s",
				err.msg);
	ferry_tool_fail(0, "the migration goes on; see `ferry status %s`",
			o->vm);
	return true;
}

/* Until it ends: 0; 1 when nobody watches any more; -1 when the VM is gone.
 * *m is how it stands then. */
static int watch(struct ferry_qmp_client *c, const struct options *o,
		 struct json_object **m, struct ferry_err *e)
{
	int handled = 0;

	for (;;) {
		struct json_object *event = NULL;

		if (query(c, m, e))
			return -1;
		show(o, *m);
		if (ferry_progress_ended(*m))
			return 0;
		if (interrupts > handled && interrupted(c, o, ++handled))
			return query(c, m, e) ? -1 : 1;
		if (ferry_qmp_client_event(c, REFRESH_MS, &event, e) < 0)
			return -1;
		json_object_put(event);
	}
}

static int tell(const struct options *o, struct json_object *m)
{
	int code = ferry_progress_exit(m);
	const char *why = ferry_json_str(m, "error-desc");
	const char *where = ferry_json_str(m, "x-ferry-where");

	if (!o->quiet && isatty(STDERR_FILENO))
		fputc('\n', stderr);
	if (o->json)
		puts(ferry_json_text(m));
	if (code == FERRY_EXIT_DONE && !o->json)
		printf("%s %s %s; %d ms, pause %d ms\n", o->vm,
		       strncmp(o->uri, "file:", 5) ? "runs at" : "is in",
		       o->uri, (int)ferry_json_u64(m, "total-time", 0),
		       (int)ferry_json_u64(m, "downtime", 0));
	if (code != FERRY_EXIT_DONE)
		ferry_tool_fail(code, "%s: migration %s: %s; the VM is: "
				"%s", o->vm, ferry_json_str(m, "status"),
				why ? why : "no reason given",
				where ? where : "unknown");
	return code;
}

static int begin(struct ferry_qmp_client *c, const struct options *o,
		 struct ferry_err *e)
{
	struct json_object *args = json_object_new_object();

	if (ferry_migrate_params_send(c, o->params, e)) {
		json_object_put(args);
		return -1;
	}
	ferry_json_add_str(args, "uri", o->uri);
	return ferry_qmp_client_call(c, "migrate", args, FERRY_QMP_TIMEOUT_MS,
				     NULL, e);
}

static int migrate(const struct options *o)
{
	FERRY_AUTO_JSON *m = NULL;
	struct ferry_err err = { 0 };
	struct ferry_qmp_client *c =
		ferry_names_open(o->vm, FERRY_QMP_TIMEOUT_MS, &err);
	int code, rc;

	if (!c)
		return ferry_tool_fail(FERRY_EXIT_NO_VM, "%s", err.msg);
	if (begin(c, o, &err)) {
		code = ferry_tool_fail(err.code == FERRY_E_PEER ?
				       FERRY_EXIT_FAILED : FERRY_EXIT_NO_VM,
				       "%s: %s", o->vm, err.msg);
	} else if (o->detach) {
		code = FERRY_EXIT_DONE;
	} else {
		rc = watch(c, o, &m, &err);
		if (rc < 0)
			code = ferry_tool_fail(FERRY_EXIT_LOST, "%s does not "
					       "answer any more: %s", o->vm,
					       err.msg);
		else
			code = rc ? ferry_progress_exit(m) : tell(o, m);
	}
	ferry_qmp_client_close(c);
	return code;
}

int ferry_tool_migrate(int argc, char **argv)
{
	static const struct argp argp = {
		.options = list, .parser = option, .args_doc = "VM URI",
		.doc = doc,
	};
	struct sigaction sa = { .sa_handler = on_interrupt };
	struct options o = { .params = ferry_params_new() };
	int code;

	if (!o.params)
		return ferry_tool_fail(FERRY_EXIT_FAILED, "out of memory");
	code = ferry_tool_parse(&argp, argc, argv, &o);
	if (!code) {
		sigaction(SIGINT, &sa, NULL);
		code = migrate(&o);
	}
	ferry_params_free(o.params);
	return ferry_tool_told(code);
}
