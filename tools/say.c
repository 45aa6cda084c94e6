/* SPDX-License-Identifier: MIT */
/*
 * What all commands share: how they read their words, and how they fail.
 */
#include "command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int ferry_tool_fail(int code, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("ferry: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

int ferry_tool_printed(int code)
{
	if (!fflush(stdout) && !ferror(stdout))
		return code;
	return ferry_tool_fail(FERRY_EXIT_FAILED, "write the answer: %s",
			       strerror(errno));
}

int ferry_tool_told(int code)
{
	(void)!ferry_tool_printed(code);
	return code;
}

/* Set while argp may end the process. */
static bool parsing;

/* --help is an answer, too. */
static void check_help(void)
{
	if (parsing && ferry_tool_printed(FERRY_EXIT_DONE))
		_exit(FERRY_EXIT_FAILED);
}

int ferry_tool_parse(const struct argp *argp, int argc, char **argv,
		     void *input)
{
	int rc;

	/* argp_parse() ends the process itself for --help, with 0, and for
	 * wrong words, with this. */
	argp_err_exit_status = FERRY_EXIT_USAGE;
	atexit(check_help);
	parsing = true;
	rc = argp_parse(argp, argc, argv, 0, NULL, input);
	parsing = false;
	return rc ? FERRY_EXIT_USAGE : 0;
}
