/* SPDX-License-Identifier: MIT */
/*
 * Commands that are one QMP command without arguments.
 */
#include "command.h"

#include "names.h"

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

static int simple(int argc, char **argv, const char *doc, const char *command)
{
	const struct argp argp = {
		.parser = one_vm, .args_doc = "VM", .doc = doc,
	};
	const char *vm = NULL;
	int code = ferry_tool_parse(&argp, argc, argv, &vm);

	return code ? code : ferry_names_command(vm, command);
}

int ferry_tool_start_postcopy(int argc, char **argv)
{
	return simple(argc, argv,
		      "Let the migration of VM that is under way go to "
		      "postcopy as soon as it can: the VM runs at the target "
		      "at once, its memory follows.\v"
		      "Example: ferry start-postcopy web",
		      "migrate-start-postcopy");
}

int ferry_tool_cancel(int argc, char **argv)
{
	return simple(argc, argv,
		      "End the migration of VM; it goes on at the source.  "
		      "Refused once the target has taken over.\v"
		      "Example: ferry cancel web", "migrate_cancel");
}

int ferry_tool_stop(int argc, char **argv)
{
	return simple(argc, argv, "Pause VM.\vExample: ferry stop web",
		      "stop");
}

int ferry_tool_cont(int argc, char **argv)
{
	return simple(argc, argv,
		      "Let a paused VM go on.  Refused where another side "
		      "runs it.\vExample: ferry cont web", "cont");
}

int ferry_tool_quit(int argc, char **argv)
{
	return simple(argc, argv,
		      "End the process of VM.  Refused while that would lose "
		      "it.\vExample: ferry quit web", "quit");
}
