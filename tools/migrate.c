/* SPDX-License-Identifier: MIT */
/*
 * `ferry migrate`: its words.  What they lead to is move.c.
 */
#include "command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "move.h"

struct options {
	struct ferry_order order;
	int mode;		/* key of the option that said it, or 0 */
};

static const struct argp_option list[] = {
	{ "precopy", 'p', NULL, 0, "precopy only", 0 },
	{ "postcopy", 'P', NULL, 0, "postcopy at once: the VM runs at the "
	  "target first, its memory follows", 0 },
	{ "passes", 'n', "N", 0, "N passes of precopy, then postcopy", 0 },
	{ "max-pause", 'm', "TIME", 0, "longest pause that precopy may end "
	  "with, such as 50ms (default 300ms; plain numbers are ms)", 1 },
	{ "by", 'b', "TIME", 0, "run at the target by then, such as 30s "
	  "(plain numbers are ms)", 1 },
	{ "limit", 'l', "BYTES", 0, "most that precopy sends per second, "
	  "such as 100M", 1 },
	{ "throttle", 't', NULL, 0, "slow the VM down when precopy does not "
	  "converge", 1 },
	{ "verify", 'v', NULL, 0, "in the end compare a checksum of every page "
	  "(precopy: while the VM is stopped)", 1 },
	{ "set", 's', "NAME=VALUE", 0, "set any parameter or capability", 1 },
	{ "listen", 'L', "URI", 0, "where a TARGET that is a VM shall listen "
	  "(default tcp:127.0.0.1:0)", 1 },
	{ "path", 'a', "URI", 0, "a further address of the target, on another "
	  "network say, to find it again when the link is lost in postcopy; "
	  "up to 7 times", 1 },
	{ "detach", 'd', NULL, 0, "return at once; see `ferry status`", 2 },
	{ "json", 'j', NULL, 0, "print the outcome as one JSON object", 2 },
	{ "quiet", 'q', NULL, 0, "no progress", 2 },
	{ 0 },
};

static const char doc[] =
	"Move the running VM to TARGET: an address where a VM of the same "
	"shape waits (`ferry run --incoming`, or a QEMU's -incoming), or that "
	"VM itself, by its name or QMP socket; then both sides are set alike, "
	"and watched.  VM and TARGET are both of ferry run or both QEMUs.  "
	"Without options: precopy while that gets anywhere, then postcopy.  "
	"Interrupt (Ctrl-C) and SIGTERM cancel; once the target has taken over "
	"they only stop watching.\v"
	"Addresses: tcp:HOST:PORT, unix:PATH, file:PATH[,offset=OCTETS], or "
	"fd:N with a descriptor that VM was started with.\n\n"
	"Example: ferry migrate web tcp:host2:4444 --max-pause 50ms\n"
	"         ferry migrate /run/vm1.qmp /run/vm2.qmp --passes 1\n\n"
	"Exit codes: 0 done; 1 failed, VM safe on the source; 2 wrong words; "
	"3 split or undecided: it still moves (interrupted) or needs "
	"recovery; 4 lost or unknown; 5 no such VM (any more, or yet).";

static volatile sig_atomic_t interrupts;

static void on_interrupt(int sig)
{
	(void)sig;
	interrupts++;
}

/* Before there is a migration they end the command, as anywhere. */
static void heed_signals(void)
{
	struct sigaction sa = { .sa_handler = on_interrupt };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

static void want(struct argp_state *state, const char *name,
		 const char *value)
{
	struct options *o = state->input;
	struct ferry_err err;

	if (ferry_wish_set(&o->order.wish, name, value, &err))
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

	if (!o->order.vm)
		o->order.vm = word;
	else if (!o->order.to)
		o->order.to = word;
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
	case 'v':
		want(state, "x-ferry-verify", "on");
		return 0;
	case 's':
		want_pair(state, arg);
		return 0;
	case 'L':
		o->order.listen = arg;
		return 0;
	case 'a':
		if (o->order.paths == 7)
			argp_error(state, "more than 7 times --path");
		o->order.path[o->order.paths++] = arg;
		return 0;
	case 'd':
		o->order.detach = 1;
		return 0;
	case 'j':
		o->order.json = 1;
		return 0;
	case 'q':
		o->order.quiet = 1;
		return 0;
	case ARGP_KEY_ARG:
		want_word(state, arg);
		return 0;
	case ARGP_KEY_END:
		if (!o->order.to)
			argp_error(state, "which VM, and where to?");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int ferry_tool_migrate(int argc, char **argv)
{
	static const struct argp argp = {
		.options = list, .parser = option, .args_doc = "VM TARGET",
		.doc = doc,
	};
	struct options o = {
		.order = { .begins = heed_signals, .interrupts = &interrupts },
	};
	struct ferry_err err = { 0 };
	int code;

	if (ferry_wish_init(&o.order.wish, &err))
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s", err.msg);
	code = ferry_tool_parse(&argp, argc, argv, &o);
	if (!code)
		code = ferry_move(&o.order);
	ferry_wish_fini(&o.order.wish);
	return ferry_tool_told(code);
}
