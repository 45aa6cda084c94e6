/* SPDX-License-Identifier: MIT */
/*
 * `ferry park`: takes a VM in and writes it to an image.
 */
#include "command.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ferry/ferry.h>

#include "ctl/json.h"
#include "park/park.h"
#include "vmm/inherited.h"

#define REFRESH_MS	200
#define ZSTD_DEFAULT	3
#define ZSTD_MAX	19
#define MULTIFD_MAX	64

struct options {
	const char	*uri;
	struct ferry_park_config park;
	struct ferry_params *params;
	struct ferry_inherited inherited;	/* what fd:N may name */
	int		 json, quiet, once;
};

static const struct argp_option list[] = {
	{ "zstd", 'z', "LEVEL", OPTION_ARG_OPTIONAL, "compress the image "
	  "(level 1 to 19, default 3)", 0 },
	{ "once", 'o', NULL, 0, "end when a source fails, instead of waiting "
	  "for the next, or for one whose connection broke", 0 },
	{ "preempt", 'p', NULL, 0, "the source has postcopy-preempt on", 1 },
	{ "multifd", 'm', "N", 0, "the source has multifd on, with N "
	  "channels", 1 },
	{ "switchover-ack", 'a', NULL, 0, "the source has "
	  "switchover-ack on", 1 },
	{ "set", 's', "NAME=VALUE", 0, "set a parameter, such as tls-creds",
	  1 },
	{ "json", 'j', NULL, 0, "print one JSON object at the end", 2 },
	{ "quiet", 'q', NULL, 0, "no progress", 2 },
	{ 0 },
};

static const char doc[] =
	"Be the target of a migration, from QEMU or from `ferry run`, and "
	"write the VM to IMAGE instead of running it.  IMAGE appears when all "
	"of the VM is in it and on the disk; until then the source keeps the "
	"VM.  `ferry serve` lets it go on.\v"
	"Precopy or postcopy, xbzrle, zlib, zstd: it finds out.  What QEMU "
	"does not say must be said here: --multifd and --preempt, as at the "
	"source.\n\n"
	"Example: ferry park tcp:127.0.0.1:4444 web.ferry\n"
	"and at the QEMU: migrate_set_capability return-path on, then "
	"migrate tcp:127.0.0.1:4444\n\n"
	"Exit codes: 0 parked; 1 not parked, the VM is at the source; 2 wrong "
	"words; 3 the connection broke in postcopy, and the VM is stopped at "
	"the source, or came back to another park than it left; or at the very end, and it is in IMAGE.undecided.";

static int number(struct argp_state *state, const char *text, int most,
		  const char *what)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < 1 || n > most)
		argp_error(state, "%s '%s' is not 1 to %d", what, text, most);
	return (int)n;
}

static void want_pair(struct argp_state *state, char *pair)
{
	struct options *o = state->input;
	char *equals = strchr(pair, '=');
	struct ferry_err err;

	if (!equals) {
		argp_error(state, "'%s' is not NAME=VALUE", pair);
		return;
	}
	*equals = '\0';
	if (ferry_params_set(o->params, pair, equals + 1, &err))
		argp_error(state, "%s", err.msg);
}

static error_t word(char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	if (!o->uri)
		o->uri = arg;
	else if (!o->park.image)
		o->park.image = arg;
	else
		argp_error(state, "'%s' is one word too many", arg);
	return 0;
}

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'z':
		o->park.zstd_level = arg ? number(state, arg, ZSTD_MAX,
						  "level") : ZSTD_DEFAULT;
		return 0;
	case 'm':
		o->park.multifd = (unsigned)number(state, arg, MULTIFD_MAX,
						   "channels");
		return 0;
	case 'p':
		o->park.preempt = true;
		return 0;
	case 's':
		want_pair(state, arg);
		return 0;
	case 'a':
		o->park.switchover_ack = true;
		return 0;
	case 'o':
		o->once = 1;
		return 0;
	case 'j':
		o->json = 1;
		return 0;
	case 'q':
		o->quiet = 1;
		return 0;
	case ARGP_KEY_ARG:
		return word(arg, state);
	case ARGP_KEY_END:
		if (!o->park.image)
			argp_error(state, "URI and IMAGE are needed");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* ---- being told to stop ------------------------------------------------------- */

static volatile sig_atomic_t interrupted;	/* to be acted upon */
static volatile sig_atomic_t told_to_stop;	/* ever */

static void on_signal(int signal)
{
	(void)signal;
	interrupted = told_to_stop = 1;
}

static void watch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* A file that may grow no more is as good as a full disk. */
	signal(SIGXFSZ, SIG_IGN);
}

/* ---- one source ------------------------------------------------------------------ */

static void on_log(void *opaque, enum ferry_log_level level, const char *line)
{
	(void)opaque;
	if (level <= FERRY_LOG_WARN)
		fprintf(stderr, "ferry: %s\n", line);
}

static void show(const struct ferry_stats *st)
{
	fprintf(stderr, "\r%s: %" PRIu64 " of %" PRIu64 " MiB\033[K",
		ferry_state_name(st->state),
		(st->memory_bytes - st->remaining_bytes) >> 20,
		st->memory_bytes >> 20);
}

/* Once; behind the point of no return it is too late. */
static void try_cancel(struct ferry_target *t)
{
	struct ferry_err err = { 0 };

	interrupted = 0;
	if (ferry_target_cancel(t, &err))
		ferry_tool_fail(0, "%s", err.msg);
}

/* A little; true when it has ended, or nobody shall be waited for any more. */
static bool await_end(struct ferry_park *p)
{
	struct ferry_target *t = ferry_park_target(p);
	bool awaits;

	(void)!ferry_target_wait(t, REFRESH_MS, NULL);
	awaits = ferry_park_awaits_source(p);
	if (interrupted && !awaits)
		try_cancel(t);
	if (ferry_park_is_over(p) || (interrupted && awaits))
		return true;
	if (awaits)		/* it does not wait when it is paused */
		poll(NULL, 0, REFRESH_MS);
	return false;
}

/* Until it has ended; true when it was cancelled. */
static int await(struct ferry_park *p, const struct options *o,
		 struct ferry_stats *st)
{
	int progress = !o->quiet && !o->json && isatty(STDERR_FILENO);
	bool ended;

	do {
		ended = await_end(p);
		ferry_target_stats(ferry_park_target(p), st);
		if (progress && st->state >= FERRY_STATE_ACTIVE)
			show(st);
	} while (!ended);
	if (progress)
		fputs("\r\033[K", stderr);
	return st->state == FERRY_STATE_CANCELLED;
}

static void print_json(const struct options *o, const struct ferry_stats *st,
		       const struct ferry_parked *p)
{
	FERRY_AUTO_JSON *j = json_object_new_object();

	ferry_json_add_str(j, "image", o->park.image);
	ferry_json_add_str(j, "status", ferry_state_name(st->state));
	ferry_json_add_str(j, "where", p->image_bytes ? "image" :
			   p->undecided || (p->stray && !p->met) ?
			   "undecided" : "source");
	ferry_json_add_str(j, "machine", p->machine);
	ferry_json_add_u64(j, "total-ms", st->total_ns / 1000000);
	ferry_json_add_u64(j, "memory-bytes", st->memory_bytes);
	ferry_json_add_u64(j, "image-bytes", p->image_bytes);
	ferry_json_add_u64(j, "disk-bytes", p->disk_bytes);
	ferry_json_add_u64(j, "state-bytes", p->state_bytes);
	ferry_json_add_u64(j, "normal-pages", st->normal_pages);
	ferry_json_add_u64(j, "zero-pages", st->zero_pages);
	if (st->error[0])
		ferry_json_add_str(j, "error-desc", st->error);
	puts(ferry_json_text(j));
}

static int tell(const struct options *o, const struct ferry_stats *st,
		const struct ferry_parked *p)
{
	if (o->json)
		print_json(o, st, p);
	if (st->state == FERRY_STATE_COMPLETED) {
		if (!o->json)
			printf("%s: %s, %u blocks, %" PRIu64 " MiB of memory, "
			       "%" PRIu64 " MiB on disk, %" PRIu64 " ms\n",
			       o->park.image, p->machine, p->blocks,
			       st->memory_bytes >> 20, p->disk_bytes >> 20,
			       st->total_ns / 1000000);
		return FERRY_EXIT_DONE;
	}
	if (p->undecided)
		return ferry_tool_fail(FERRY_EXIT_SPLIT, "the VM is in "
				       "%s.undecided; rename that only if it "
				       "does not run at the source: %s",
				       o->park.image, st->error);
	if (st->where != FERRY_WHERE_SOURCE)
		return ferry_tool_fail(FERRY_EXIT_SPLIT, "%s was not written; "
				       "the VM is stopped at the source, "
				       "unless that says that it failed: %s",
				       o->park.image, st->error);
	if (p->stray && !p->met)
		return ferry_tool_fail(FERRY_EXIT_SPLIT, "%s was not written; "
				       "a source came back whose VM is in two "
				       "halves, and the other one is not here: "
				       "the VM is: split: %s", o->park.image,
				       st->error);
	if (!p->met)
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s was not written; "
				       "nobody came: %s", o->park.image,
				       st->error);
	return ferry_tool_fail(FERRY_EXIT_FAILED, "%s was not written; the VM "
			       "is at the source: %s", o->park.image,
			       st->error);
}

/* The port that was chosen is the one of the next try, too. */
static int listen_at(struct ferry_target *t, struct options *o, char *uri,
		     size_t bytes, struct ferry_err *e)
{
	struct ferry_err none;

	if (ferry_target_listen(t, o->uri, e))
		return -1;
	if (!strncmp(o->uri, "fd:", 3) || !strncmp(o->uri, "file:", 5)) {
		o->once = 1;
		return 0;
	}
	if (o->uri == uri || ferry_target_uri(t, uri, bytes, &none))
		return 0;
	o->uri = uri;
	if (!o->quiet)
		fprintf(stderr, "waiting at %s\n", uri);
	return 0;
}

/* *again: somebody else may come. */
static int park_one(struct options *o, char *uri, size_t bytes, int *again)
{
	struct ferry_callbacks cb = FERRY_CALLBACKS_INIT;
	struct ferry_stats st = FERRY_STATS_INIT;
	struct ferry_parked parked;
	struct ferry_err err = { 0 };
	struct ferry_park *p;
	int cancelled, code;

	cb.log = on_log;
	*again = 0;
	p = ferry_park_new(&o->park, &cb, &err);
	if (!p || listen_at(ferry_park_target(p), o, uri, bytes, &err)) {
		ferry_park_free(p);
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s", err.msg);
	}
	cancelled = await(p, o, &st);
	ferry_park_stats(p, &parked);
	/* Who reads that it failed finds nobody listening before the next
	 * try does. */
	ferry_park_free(p);
	code = tell(o, &st, &parked);
	*again = code == FERRY_EXIT_FAILED && !cancelled && !told_to_stop &&
		 !o->once;
	return code;
}

static int park(struct options *o)
{
	char uri[512] = "";
	struct ferry_err err;
	int again, code;

	if (ferry_inherited_check(&o->inherited, o->uri, &err))
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s", err.msg);
	o->park.recover = !o->once;
	o->park.params = o->params;
	watch_signals();
	do
		code = park_one(o, uri, sizeof(uri), &again);
	while (again);
	if (o->uri == uri)
		o->uri = NULL;
	return ferry_tool_told(code);
}

int ferry_tool_park(int argc, char **argv)
{
	static const struct argp argp = {
		.options = list, .parser = option, .args_doc = "URI IMAGE",
		.doc = doc,
	};
	struct options o = { .params = ferry_params_new() };
	int code;

	if (!o.params)
		return ferry_tool_fail(FERRY_EXIT_FAILED, "out of memory");
	ferry_inherited_note(&o.inherited);
	code = ferry_tool_parse(&argp, argc, argv, &o);
	if (!code)
		code = park(&o);
	ferry_params_free(o.params);
	return code;
}
