/* SPDX-License-Identifier: MIT */
/*
 * The commands of `ferry`: one file each, one row each in main.c.
 */
#ifndef FERRY_TOOLS_COMMAND_H
#define FERRY_TOOLS_COMMAND_H

#include <argp.h>

/*
 * How a command ends.  Scripts rely on these; `ferry help` prints them.
 */
enum ferry_exit {
	FERRY_EXIT_DONE		= 0,	/* done; migrate: it runs there */
	FERRY_EXIT_FAILED	= 1,	/* failed; migrate: VM safe on the
					 * source */
	FERRY_EXIT_USAGE	= 2,	/* wrong words */
	FERRY_EXIT_SPLIT	= 3,	/* split or undecided: needs recovery */
	FERRY_EXIT_LOST		= 4,	/* lost, or nobody can tell any more */
	FERRY_EXIT_NO_VM	= 5,	/* no such VM (any more, or yet), or it
					 * does not answer */
};

struct ferry_tool {
	const char *name;
	const char *help;	/* one line */
	int (*run)(int argc, char **argv);
};

int ferry_tool_run(int argc, char **argv);
int ferry_tool_migrate(int argc, char **argv);
int ferry_tool_start_postcopy(int argc, char **argv);
int ferry_tool_cancel(int argc, char **argv);
int ferry_tool_recover(int argc, char **argv);
int ferry_tool_status(int argc, char **argv);
int ferry_tool_list(int argc, char **argv);
int ferry_tool_params(int argc, char **argv);
int ferry_tool_doctor(int argc, char **argv);
int ferry_tool_park(int argc, char **argv);
int ferry_tool_serve(int argc, char **argv);
int ferry_tool_dump(int argc, char **argv);
int ferry_tool_rescue(int argc, char **argv);
int ferry_tool_rollback(int argc, char **argv);
int ferry_tool_tls_init(int argc, char **argv);
int ferry_tool_vhost_check(int argc, char **argv);
int ferry_tool_stop(int argc, char **argv);
int ferry_tool_cont(int argc, char **argv);
int ferry_tool_quit(int argc, char **argv);

/* "ferry: text" on stderr; returns code. */
int ferry_tool_fail(int code, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The end of a command whose purpose is what it prints: code, unless that
 * could not be written. */
int ferry_tool_printed(int code);

/* The end of a command whose code says where a VM is: that stays true, also
 * when what it printed could not be written. */
int ferry_tool_told(int code);

/* Parse with argp; 0, or an exit code to end with. */
int ferry_tool_parse(const struct argp *argp, int argc, char **argv,
		     void *input);

#endif
