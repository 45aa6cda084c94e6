/* SPDX-License-Identifier: MIT */
/*
 * Commands that are one QMP command without arguments, but for a look before.
 */
#include "command.h"

#include <string.h>

#include "base/cleanup.h"
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

static int simple_if(int argc, char **argv, const char *doc,
		     const char *command,
		     int (*may)(struct ferry_qmp_client *c,
				struct ferry_err *e))
{
	const struct argp argp = {
		.parser = one_vm, .args_doc = "VM", .doc = doc,
	};
	const char *vm = NULL;
	int code = ferry_tool_parse(&argp, argc, argv, &vm);

	return code ? code : ferry_names_command(vm, command, may);
}

static int simple(int argc, char **argv, const char *doc, const char *command)
{
	return simple_if(argc, argv, doc, command, NULL);
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

/* To QMP nothing to cancel is success, as in QEMU; who typed it wants to
 * know.  And a QEMU before 10.0 obeys in postcopy, which loses the VM. */
static int may_cancel(struct ferry_qmp_client *c, struct ferry_err *e)
{
	static const char *const over[] = {
		"none", "completed", "failed", "cancelled",
	};
	FERRY_AUTO_JSON *m = NULL;
	const char *status;

	if (ferry_qmp_client_call(c, "query-migrate", NULL,
				  FERRY_QMP_TIMEOUT_MS, &m, e))
		return -1;
	status = ferry_json_str(m, "status");
	if (status && !strncmp(status, "postcopy-", 9))
		return ferry_err_set(e, FERRY_E_STATE, 0, "it cannot be "
				     "cancelled any more: the target has taken "
				     "over");
	for (size_t i = 0; i < FERRY_LEN(over); i++)
		if (!strcmp(status ? status : "none", over[i]))
			return ferry_err_set(e, FERRY_E_STATE, 0, "there is "
					     "nothing to cancel: the "
					     "migration is %s", over[i]);
	return 0;
}

int ferry_tool_cancel(int argc, char **argv)
{
	return simple_if(argc, argv,
			 "End the migration of VM; it goes on at the source.  "
			 "Refused once the target has taken over, or when the "
			 "migration is over.\v"
			 "Example: ferry cancel web", "migrate_cancel",
			 may_cancel);
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
