/* SPDX-License-Identifier: MIT */
/*
 * Commands that are one QMP command without arguments, but for a look before.
 */
#include "command.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "peer.h"

static error_t one_vm(int key, char *arg, struct argp_state *state)
{
	const char **vm = state->input;

	switch (key) {
	case ARGP_KEY_ARG:
		if (*vm)
			argp_error(state, "one VM at a time");
		*vm = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which VM?");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* May it, as things stand?  0, or -1 and why not. */
typedef int may_fn(struct ferry_peer *p, struct ferry_err *e);

static int call(struct ferry_peer *p, const char *command, may_fn *may,
		struct ferry_err *e)
{
	if (may && may(p, e))
		return ferry_err_wrap(e, "%s", p->name);
	return ferry_peer_call(p, command, NULL, NULL, e);
}

/* What is left to say when it was done; an exit code. */
typedef int then_fn(struct ferry_peer *p);

static int open_and_call(const char *vm, const char *command, may_fn *may,
			 then_fn *then)
{
	struct ferry_err err = { 0 };
	struct ferry_peer p;
	int rc = ferry_peer_open(&p, vm, &err), code = FERRY_EXIT_DONE;
	bool there = !rc;

	if (there)
		rc = call(&p, command, may, &err);
	if (!rc && then)
		code = then(&p);
	ferry_peer_close(&p);
	if (!rc)
		return code;
	return ferry_tool_fail(there && (err.code == FERRY_E_PEER ||
					 err.code == FERRY_E_STATE) ?
			       FERRY_EXIT_FAILED : FERRY_EXIT_NO_VM, "%s",
			       err.msg);
}

static int simple_then(int argc, char **argv, const char *doc,
		       const char *command, may_fn *may, then_fn *then)
{
	const struct argp argp = {
		.parser = one_vm, .args_doc = "VM", .doc = doc,
	};
	const char *vm = NULL;
	int code = ferry_tool_parse(&argp, argc, argv, &vm);

	return code ? code : open_and_call(vm, command, may, then);
}

static int simple_if(int argc, char **argv, const char *doc,
		     const char *command, may_fn *may)
{
	return simple_then(argc, argv, doc, command, may, NULL);
}

static int simple(int argc, char **argv, const char *doc, const char *command)
{
	return simple_if(argc, argv, doc, command, NULL);
}

/* ---- where ferry run refuses by itself, and a QEMU would obey ------------------ */

struct place {
	char status[24], role[8], where[12];
};

static void copy(char *to, size_t bytes, const char *text)
{
	snprintf(to, bytes, "%s", text ? text : "none");
}

static int look(struct ferry_peer *p, struct place *at, struct ferry_err *e)
{
	FERRY_AUTO_JSON *m = NULL;
	FERRY_AUTO_JSON *vm = NULL;

	if (ferry_peer_look(p, &m, &vm, e))
		return -1;
	copy(at->status, sizeof(at->status), ferry_json_str(m, "status"));
	copy(at->role, sizeof(at->role), ferry_json_str(m, "x-ferry-role"));
	copy(at->where, sizeof(at->where), ferry_json_str(m, "x-ferry-where"));
	return 0;
}

static bool is_over(const struct place *at)
{
	static const char *const over[] = {
		"none", "completed", "failed", "cancelled",
	};

	for (size_t i = 0; i < FERRY_LEN(over); i++)
		if (!strcmp(at->status, over[i]))
			return true;
	return false;
}

static int may_postcopy(struct ferry_peer *p, struct ferry_err *e)
{
	struct place at;

	if (look(p, &at, e))
		return -1;
	if (is_over(&at))
		return ferry_err_set(e, FERRY_E_STATE, 0, "there is nothing "
				     "to take to postcopy: the migration is "
				     "%s", at.status);
	return 0;
}

/* To QMP nothing to cancel is success, as in QEMU; who typed it wants to
 * know.  A QEMU before 10.0 obeys in postcopy, which loses the VM. */
static int may_cancel(struct ferry_peer *p, struct ferry_err *e)
{
	struct place at;

	if (look(p, &at, e))
		return -1;
	if (is_over(&at))
		return ferry_err_set(e, FERRY_E_STATE, 0, "there is nothing "
				     "to cancel: the migration is %s",
				     at.status);
	if (p->kind == FERRY_PEER_QEMU && strcmp(at.where, "source"))
		return ferry_err_set(e, FERRY_E_STATE, 0, "it cannot be "
				     "cancelled any more: the target has taken "
				     "over, or is about to");
	return 0;
}

/* What was given away is not run again, not by accident. */
static int may_cont(struct ferry_peer *p, struct ferry_err *e)
{
	struct place at;

	if (p->kind == FERRY_PEER_FERRY)
		return 0;
	if (look(p, &at, e))
		return -1;
	if (!strcmp(at.role, "source") &&
	    (!strcmp(at.where, "target") || !strcmp(at.where, "split")))
		return ferry_err_set(e, FERRY_E_STATE, 0, "the VM was given "
				     "to the target; only QMP's own cont "
				     "takes it back, if it runs nowhere else");
	return 0;
}

static int may_quit(struct ferry_peer *p, struct ferry_err *e)
{
	struct place at;

	if (p->kind == FERRY_PEER_FERRY)
		return 0;
	if (look(p, &at, e))
		return -1;
	if (!strcmp(at.where, "split") ||
	    (!strcmp(at.where, "undecided") && !strcmp(at.status, "device")))
		return ferry_err_set(e, FERRY_E_STATE, 0, "part of the VM is "
				     "here and part at the other side: that "
				     "would lose it");
	return 0;
}

int ferry_tool_start_postcopy(int argc, char **argv)
{
	return simple_if(argc, argv,
			 "Let the migration of VM that is under way go to "
			 "postcopy as soon as it can: the VM runs at the "
			 "target at once, its memory follows.\v"
			 "Example: ferry start-postcopy web",
			 "migrate-start-postcopy", may_postcopy);
}

/* What was looked for may be left alone, with that the VM is not back. */
static int after_cancel(struct ferry_peer *p)
{
	struct ferry_err ignored = { 0 };
	struct place at;

	if (look(p, &at, &ignored) || is_over(&at) ||
	    !strcmp(at.where, "source"))
		return FERRY_EXIT_DONE;
	return ferry_tool_fail(FERRY_EXIT_SPLIT, "%s: the target is not looked "
			       "for any more, and nothing was taken back; the "
			       "VM is: %s; `ferry recover` looks again, `ferry "
			       "status %s` tells the other ways out", p->name,
			       at.where, p->name);
}

int ferry_tool_cancel(int argc, char **argv)
{
	return simple_then(argc, argv,
			 "End the migration of VM; it goes on at the source.  "
			 "Refused once the target has taken over, or when the "
			 "migration is over.  Where the link was lost behind "
			 "that, looking for the target ends, with exit code 3, "
			 "and `ferry status` says what can be done.\v"
			 "Example: ferry cancel web", "migrate_cancel",
			 may_cancel, after_cancel);
}

int ferry_tool_stop(int argc, char **argv)
{
	return simple(argc, argv, "Pause VM.\vExample: ferry stop web",
		      "stop");
}

int ferry_tool_cont(int argc, char **argv)
{
	return simple_if(argc, argv,
			 "Let a paused VM go on.  Refused where another side "
			 "runs it.\vExample: ferry cont web", "cont",
			 may_cont);
}

int ferry_tool_quit(int argc, char **argv)
{
	return simple_if(argc, argv,
			 "End the process of VM.  Refused while that would "
			 "lose it.\vExample: ferry quit web", "quit",
			 may_quit);
}
