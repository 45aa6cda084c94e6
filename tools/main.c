/* SPDX-License-Identifier: MIT */
/*
 * `ferry`: finds the command and runs it.
 */
#include "command.h"

#include <ferry/version.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "near.h"
#include "vmm/bulk_keeper.h"

static const struct ferry_tool tools[] = {
	{ "run", "run a virtual machine", ferry_tool_run },
	{ "migrate", "move a running VM to another process or host",
	  ferry_tool_migrate },
	{ "start-postcopy", "let a migration under way go to postcopy now",
	  ferry_tool_start_postcopy },
	{ "cancel", "end a migration; the VM goes on where it is",
	  ferry_tool_cancel },
	{ "recover", "find the other side again after the link was lost",
	  ferry_tool_recover },
	{ "status", "what a VM and its migration are doing",
	  ferry_tool_status },
	{ "list", "the VMs of this host", ferry_tool_list },
	{ "params", "the parameters that --set takes", ferry_tool_params },
	{ "doctor", "what this host can do, and how to mend what it cannot",
	  ferry_tool_doctor },
	{ "park", "write a VM that migrates to an image instead of running "
	  "it", ferry_tool_park },
	{ "serve", "let a parked VM go on at hosts that wait for it",
	  ferry_tool_serve },
	{ "rescue", "put a VM together whose migration has lost its link for "
	  "good", ferry_tool_rescue },
	{ "rollback", "run a VM at the source again whose target is dead",
	  ferry_tool_rollback },
	{ "dump", "list the records of a stream, a capture or an image",
	  ferry_tool_dump },
	{ "tls-init", "make a test CA and certificates for TLS",
	  ferry_tool_tls_init },
	{ "vhost-check", "try a vhost-user backend",
	  ferry_tool_vhost_check },
	{ "stop", "pause a VM", ferry_tool_stop },
	{ "cont", "let a paused VM go on", ferry_tool_cont },
	{ "quit", "end a VM's process", ferry_tool_quit },
};

#define TOOLS (sizeof(tools) / sizeof(tools[0]))
#define NEAR_MAX	2u	/* letters that are mistyped */

static void print_help(FILE *to)
{
	fputs("usage: ferry COMMAND [OPTION...]\n"
	      "Live migration of running virtual machines.\n\n", to);
	for (size_t i = 0; i < TOOLS; i++)
		fprintf(to, "  %-16s%s\n", tools[i].name, tools[i].help);
	fputs("\n`ferry COMMAND --help` tells more, with an example.\n\n"
	      "Exit codes:\n"
	      "  0  done (migrate: the VM runs at the target)\n"
	      "  1  failed (migrate: the VM is safe on the source)\n"
	      "  2  wrong words on the command line\n"
	      "  3  the VM is split between both sides, or undecided: it\n"
	      "     needs recovery; start neither side by hand\n"
	      "  4  lost, or nobody can tell any more\n"
	      "  5  there is no such VM, it does not answer, or (migrate) it\n"
	      "     has been moved away or has not come yet\n", to);
}

/* What may have been meant, or NULL. */
static const char *nearest(const char *name)
{
	unsigned least = NEAR_MAX + 1;
	const char *found = NULL;

	for (size_t i = 0; i < TOOLS; i++) {
		unsigned n = ferry_near(name, tools[i].name);

		if (n < least && n < strlen(name)) {
			least = n;
			found = tools[i].name;
		}
	}
	return found;
}

static int unknown(const char *name)
{
	const char *meant = nearest(name);

	if (meant)
		return ferry_tool_fail(FERRY_EXIT_USAGE, "there is no command "
				       "'%s'; is it '%s'?", name, meant);
	ferry_tool_fail(0, "there is no command '%s'; there are:", name);
	for (size_t i = 0; i < TOOLS; i++)
		fprintf(stderr, "%s %s", i ? "," : "", tools[i].name);
	fputc('\n', stderr);
	return FERRY_EXIT_USAGE;
}

/* "ferry migrate" is what --help and errors of a command call it. */
static int run_tool(const struct ferry_tool *tool, int argc, char **argv)
{
	char shown[64];

	snprintf(shown, sizeof(shown), "ferry %s", tool->name);
	argv[0] = shown;
	return tool->run(argc, argv);
}

/*
 * Or what is opened next would be taken for stdin, stdout or stderr: words
 * would end up in a socket, or what a peer says on a terminal.  What was closed
 * stays unusable, as its owner wants it: reading 0 and writing 1 or 2 fails.
 */
static int have_stdio(void)
{
	static const int useless[] = { O_WRONLY, O_RDONLY, O_RDONLY };

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", useless[fd]) != fd)
			return -1;
	return 0;
}

static int run_named(const char *name, int argc, char **argv)
{
	for (size_t i = 0; i < TOOLS; i++)
		if (!strcmp(tools[i].name, name))
			return run_tool(&tools[i], argc, argv);
	return unknown(name);
}

/* `ferry help migrate` */
static int help_of(const char *name)
{
	static char help[] = "--help";
	char *words[] = { NULL, help, NULL };

	return run_named(name, 2, words);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	if (have_stdio())
		return FERRY_EXIT_FAILED;
	if (!strcmp(name, "bulk-keeper"))	/* what `ferry run` starts */
		return ferry_keeper_main(argc - 1, argv + 1);
	if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
		printf("ferry %s\n", ferry_version());
		return ferry_tool_printed(FERRY_EXIT_DONE);
	}
	if (!strcmp(name, "help") && argc > 2 && *argv[2] != '-')
		return help_of(argv[2]);
	if (!strcmp(name, "help") || !strcmp(name, "--help") ||
	    !strcmp(name, "-h")) {
		print_help(stdout);
		return ferry_tool_printed(FERRY_EXIT_DONE);
	}
	if (!*name) {
		print_help(stderr);
		return FERRY_EXIT_USAGE;
	}
	return run_named(name, argc - 1, argv + 1);
}
