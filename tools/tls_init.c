/* SPDX-License-Identifier: MIT */
/*
 * `ferry tls-init`: a test CA and certificates, or a PSK.
 */
#include "command.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ferry/ferry.h>

#define HOSTS_MAX	64

struct options {
	struct ferry_credentials making;
	const char	*host[HOSTS_MAX];
};

static const struct argp_option list[] = {
	{ "host", 'H', "NAME", 0, "a name or address of the hosts; may be "
	  "repeated (default: this host's name; localhost, 127.0.0.1 and ::1 "
	  "are always there)", 0 },
	{ "days", 'd', "N", 0, "valid for so long (default 365)", 0 },
	{ "psk", 'p', "USER", 0, "a key for both ends instead of "
	  "certificates: keys.psk, of this user (QEMU's default: qemu)", 1 },
	{ 0 },
};

static const char doc[] =
	"Make what the parameter tls-creds takes, in the folder DIR: a CA and "
	"certificates signed by it, for a target (server) and for a source "
	"(client), under QEMU's file names.  Nothing is overwritten.  For "
	"tests and for small places: who runs a CA has better.\v"
	"Copy DIR to the hosts by a way that is safe, without ca-key.pem.\n\n"
	"Example: ferry tls-init /etc/ferry/tls --host host1 --host host2\n"
	"         ferry migrate web tcp:host2:4444 --set "
	"tls-creds=/etc/ferry/tls\n\n"
	"Exit codes: 0 made; 1 not made; 2 wrong words.";

static void add_host(struct options *o, const char *host,
		     struct argp_state *state)
{
	if (o->making.hosts == HOSTS_MAX)
		argp_error(state, "more than %d hosts", HOSTS_MAX);
	else
		o->host[o->making.hosts++] = host;
}

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'H':
		add_host(o, arg, state);
		return 0;
	case 'd':
		o->making.days = (unsigned)strtoul(arg, NULL, 10);
		if (!o->making.days || o->making.days > 36500)
			argp_error(state, "'%s' is not 1 to 36500 days", arg);
		return 0;
	case 'p':
		o->making.psk_user = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (o->making.dir)
			argp_error(state, "'%s' is one word too many", arg);
		o->making.dir = arg;
		return 0;
	case ARGP_KEY_END:
		if (!o->making.dir)
			argp_error(state, "DIR is needed");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* Who moves a VM on one machine has these too. */
static void add_this_host(struct options *o, char *name, size_t bytes)
{
	static const char *const always[] = { "localhost", "127.0.0.1",
					      "::1" };

	if (!o->making.hosts && !gethostname(name, bytes - 1) && *name)
		o->host[o->making.hosts++] = name;
	for (size_t i = 0; i < 3 && o->making.hosts < HOSTS_MAX; i++)
		o->host[o->making.hosts++] = always[i];
}

int ferry_tool_tls_init(int argc, char **argv)
{
	static const struct argp argp = {
		.options = list, .parser = option, .args_doc = "DIR",
		.doc = doc,
	};
	struct options o = { .making = FERRY_CREDENTIALS_INIT };
	char name[256] = "";
	struct ferry_err err = { 0 };
	int code = ferry_tool_parse(&argp, argc, argv, &o);

	if (code)
		return code;
	add_this_host(&o, name, sizeof(name));
	o.making.host = o.host;
	if (ferry_credentials_make(&o.making, &err))
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s", err.msg);
	return FERRY_EXIT_DONE;
}
