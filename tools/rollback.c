/* SPDX-License-Identifier: MIT */
/*
 * `ferry rollback`: the target of a migration is lost for good, and the VM is
 * to run at the source again, as it was at the switchover.
 */
#include "command.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "peer.h"

#define DEAD		"--target-is-dead"
#define KEY_DEAD	256		/* has no letter */
#define CALL_MS		20000	/* a try to find the target is given up first */
#define LOOK_US		200000

struct options {
	const char	*vm;
	int		 dead, wait;
};

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case KEY_DEAD:
		o->dead = 1;
		return 0;
	case 'w':
		o->wait = 1;
		return 0;
	case ARGP_KEY_ARG:
		if (o->vm)
			argp_error(state, "one VM at a time");
		o->vm = arg;
		return 0;
	case ARGP_KEY_END:
		if (!o->vm)
			argp_error(state, "which VM?");
		if (!o->dead)
			argp_error(state, "only with " DEAD ": what the guest "
				   "did at the target is lost, and if that "
				   "one is not dead there may be two");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* argp takes every beginning of a long option; this one is typed out. */
static bool is_typed_out(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strncmp(argv[i], "--t", 3) && strcmp(argv[i], DEAD))
			return false;
	return true;
}

static bool is(const char *a, const char *b)
{
	return a && !strcmp(a, b);
}

/* Until its lease has run out, if it has one; *proven: it had. */
static int await_lease(struct ferry_peer *p, const struct options *o,
		       bool *proven, struct ferry_err *e)
{
	for (;;) {
		FERRY_AUTO_JSON *vm = NULL;
		FERRY_AUTO_JSON *m = NULL;
		const char *may;

		if (ferry_peer_look(p, &m, &vm, e))
			return -1;
		may = ferry_json_str(m, "x-ferry-rollback");
		*proven = is(may, "proven");
		if (!o->wait || !is(may, "later"))
			return 0;
		usleep(LOOK_US);
	}
}

static int roll_back(struct ferry_peer *p, const struct options *o,
		     bool *proven, struct ferry_err *e)
{
	struct json_object *args;

	if (p->kind != FERRY_PEER_FERRY)
		return ferry_err_set(e, FERRY_E_PEER, 0, "%s is a QEMU, which "
				     "cannot be rolled back", p->name);
	if (await_lease(p, o, proven, e))
		return -1;
	args = json_object_new_object();
	ferry_json_add_bool(args, "target-is-dead", true);
	p->patience_ms = CALL_MS;
	return ferry_peer_call(p, "x-ferry-rollback", args, NULL, e);
}

static int rollback(const struct options *o)
{
	struct ferry_err err = { 0 };
	struct ferry_peer p;
	bool proven = false;
	int code = FERRY_EXIT_DONE;

	if (ferry_peer_open(&p, o->vm, &err))
		code = ferry_tool_fail(FERRY_EXIT_NO_VM, "%s", err.msg);
	else if (roll_back(&p, o, &proven, &err))
		code = ferry_tool_fail(err.code == FERRY_E_PEER ?
				       FERRY_EXIT_FAILED : FERRY_EXIT_LOST,
				       "%s", err.msg);
	else
		printf("%s: is here again as it was at the switchover; what "
		       "the guest did since is lost%s\n", o->vm, proven ? "" :
		       "; that the target is dead is your word alone");
	ferry_peer_close(&p);
	return ferry_tool_told(code);
}

int ferry_tool_rollback(int argc, char **argv)
{
	static const struct argp_option list[] = {
		{ "target-is-dead", KEY_DEAD, NULL, 0, "it is, and everything that "
		  "it ran; not to be shortened", 0 },
		{ "wait", 'w', NULL, 0, "wait until the target's lease has "
		  "run out", 1 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = list, .parser = option,
		.args_doc = "VM " DEAD,
		.doc = "The last resort when the link was lost behind the "
		       "switchover and the target is dead: VM, which is the "
		       "source, runs here again as it was at the switchover.  "
		       "WHAT THE GUEST DID AT THE TARGET SINCE IS LOST, also "
		       "what others have seen of it.  As long as the target "
		       "may live `ferry recover` and `ferry rescue` lose "
		       "nothing.\v"
		       "With a lease (`ferry migrate --set x-ferry-lease=MS`) a "
		       "target that is only cut off stops the VM by itself, "
		       "and a rollback is refused until that time has passed: "
		       "there are never two.  Without one nothing but your "
		       "word says that the target is dead.  A target that "
		       "comes back is told that its VM is void, and ends.\n\n"
		       "Example: ferry rollback web " DEAD "\n\n"
		       "Exit codes: 0 the VM is here; 1 refused, such as when "
		       "the lease has not run out, or not all was kept; 2 "
		       "wrong words; 4 unknown: look again; 5 no such VM.",
	};
	struct options o = { 0 };
	int code;

	if (!is_typed_out(argc, argv))
		return ferry_tool_fail(FERRY_EXIT_USAGE, DEAD " is to be typed "
				       "out in full");
	code = ferry_tool_parse(&argp, argc, argv, &o);
	return code ? code : rollback(&o);
}
