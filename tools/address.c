/* SPDX-License-Identifier: MIT */
/*
 * The kinds of addresses, as a table.  A QEMU takes more than ferry run:
 * options behind a port, services by name, commands.
 */
#include "address.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define PORT_MAX	65535

/* What may follow the kind, for anybody. */
typedef int check_fn(const char *rest, struct ferry_err *e);

static int check_some(const char *rest, struct ferry_err *e)
{
	return *rest ? 0 : ferry_err_set(e, FERRY_E_INVALID, 0,
					 "it ends there");
}

/* Behind the host, which may be IPv6 in brackets; NULL: there is none. */
static const char *port_of(const char *rest)
{
	const char *colon;

	if (*rest == '[') {
		rest = strchr(rest, ']');
		return rest && rest[1] == ':' ? rest + 2 : NULL;
	}
	colon = strchr(rest, ':');
	return colon ? colon + 1 : NULL;
}

static int check_tcp(const char *rest, struct ferry_err *e)
{
	const char *port = port_of(rest);

	if (!port || !*port)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "no port: write tcp:HOST:PORT");
	return 0;
}

/* ---- and what for ferry run ----------------------------------------------------- */

static int check_port(const char *rest, struct ferry_err *e)
{
	const char *port = port_of(rest);

	if (strspn(port, "0123456789") != strlen(port) || strlen(port) > 5 ||
	    strtoul(port, NULL, 10) > PORT_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "port '%.32s' is "
				     "not a number up to %d", port, PORT_MAX);
	return 0;
}

static int check_number(const char *rest, struct ferry_err *e)
{
	if (strspn(rest, "0123456789") != strlen(rest))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "'%.32s' is not "
				     "the number of an fd", rest);
	return 0;
}

static int check_qemus(const char *rest, struct ferry_err *e)
{
	(void)rest;
	return ferry_err_set(e, FERRY_E_INVALID, 0, "that is a QEMU's; ferry "
			     "run goes to tcp:HOST:PORT, unix:PATH, fd:NUMBER "
			     "or file:PATH[,offset=OCTETS]");
}

static const struct {
	const char *kind;
	check_fn *check, *ferry;
} kinds[] = {
	{ "tcp:",	check_tcp,	check_port },
	{ "unix:",	check_some,	check_some },
	{ "fd:",	check_some,	check_number },
	{ "file:",	check_some,	check_some },
	{ "exec:",	check_some,	check_qemus },
	{ "vsock:",	check_some,	check_qemus },
	{ "rdma:",	check_some,	check_qemus },
};

/* A ':' before any '/', which neither a name nor a path has. */
bool ferry_address_is_one(const char *text)
{
	return !*text || text[strcspn(text, ":/")] == ':';
}

static int check(const char *text, bool ferry, struct ferry_err *e)
{
	for (size_t i = 0; i < FERRY_LEN(kinds); i++) {
		size_t n = strlen(kinds[i].kind);
		check_fn *fn = ferry ? kinds[i].ferry : kinds[i].check;

		if (strncmp(text, kinds[i].kind, n))
			continue;
		if (fn(text + n, e))
			return ferry_err_wrap(e, "address '%.80s'", text);
		return 0;
	}
	return ferry_err_set(e, FERRY_E_INVALID, 0, "'%.80s' is no address: "
			     "tcp:HOST:PORT, unix:PATH, fd:NUMBER or "
			     "file:PATH[,offset=OCTETS]; nor is it a name or "
			     "a path", text);
}

int ferry_address_check(const char *text, struct ferry_err *e)
{
	return check(text, false, e);
}

int ferry_address_check_ferry(const char *text, struct ferry_err *e)
{
	return check(text, false, e) || check(text, true, e) ? -1 : 0;
}
