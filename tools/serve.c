/* SPDX-License-Identifier: MIT */
/*
 * `ferry serve`: the VM in an image goes on at one or more hosts that wait for
 * it.  Requested pages go first, so a guest runs as soon as its devices'
 * state is there.
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

#include "base/clock.h"
#include "ctl/json.h"
#include "park/serve.h"
#include "vmm/inherited.h"

#define HOSTS_MAX	64
#define REFRESH_MS	200
#define RETRY_NS	FERRY_NS_PER_S

struct host {
	const char	*uri;
	struct ferry_serve serve;
	struct ferry_source *source;	/* NULL: it was not begun, or is told */
	int		 waits;		/* for the link, and this was said */
	int		 left;		/* as it is: nothing is waited for */
	uint64_t	 tried_ns;
};

struct options {
	const char	*image;
	struct ferry_params *params;
	int		 json, quiet, verify, recover;
	struct ferry_inherited inherited;	/* what fd:N may name */
	int		 heeded;	/* of the signals */
	unsigned	 hosts;
	struct host	 host[HOSTS_MAX];
};

static const struct argp_option list[] = {
	{ "precopy", 'p', NULL, 0, "send all memory before the VM runs, for "
	  "hosts without postcopy", 0 },
	{ "preempt", 'e', NULL, 0, "send requested pages to a QEMU on a "
	  "connection of their own; its capability postcopy-preempt must be "
	  "on", 0 },
	{ "multifd", 'm', "N", 0, "send pages on N connections before the VM "
	  "runs; a QEMU must have its capability multifd on, and "
	  "multifd-channels=N; before QEMU 10.2 only with --precopy", 0 },
	{ "multifd-compression", 'c', "METHOD", 0, "compress those pages: none "
	  "(the default), zlib or zstd, the same as at the QEMU", 0 },
	{ "recover", 'r', NULL, 0, "when the connection breaks in postcopy, "
	  "wait until the host listens again (QMP's migrate-recover, at the "
	  "same address), and send the rest", 0 },
	{ "verify", 'v', NULL, 0, "check all of the image first", 1 },
	{ "set", 's', "NAME=VALUE", 0, "set any parameter or capability", 1 },
	{ "json", 'j', NULL, 0, "print one JSON object for each host", 2 },
	{ "quiet", 'q', NULL, 0, "no progress", 2 },
	{ 0 },
};

static const char doc[] =
	"Let the VM that `ferry park` put into IMAGE go on at the host that "
	"waits at URI (a QEMU with -incoming, or `ferry run --incoming`, as "
	"its source was).  It runs there at once, its memory follows on "
	"demand.  The image stays as it is.\v"
	"With several URIs each host gets the VM, as it was when it was "
	"parked: clones.  They need identities of their own: MAC addresses, "
	"machine-id, host keys, and fresh entropy; and disks of their own.\n\n"
	"Example: ferry serve web.ferry tcp:127.0.0.1:4444\n\n"
	"Exit codes: 0 runs at every host; 1 failed at some host, where it "
	"does not run, image whole; 2 wrong words; 3 runs or may run at some "
	"host that has not got all of its memory.";

static void want(struct argp_state *state, const char *name,
		 const char *value)
{
	struct options *o = state->input;
	struct ferry_err err;

	if (ferry_params_set(o->params, name, value, &err))
		argp_error(state, "%s", err.msg);
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

	if (!o->image)
		o->image = word;
	else if (o->hosts < HOSTS_MAX)
		o->host[o->hosts++].uri = word;
	else
		argp_error(state, "more than %d hosts", HOSTS_MAX);
}

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'p':
		want(state, "postcopy-ram", "off");
		want(state, "x-ferry-precopy-passes", "1000");
		return 0;
	case 'e':
		want(state, "x-ferry-qemu-preempt", "on");
		return 0;
	case 'm':
		want(state, "x-ferry-qemu-multifd", "on");
		want(state, "multifd-channels", arg);
		return 0;
	case 'c':
		want(state, "multifd-compression", arg);
		return 0;
	case 's':
		want_pair(state, arg);
		return 0;
	case 'r':
		o->recover = 1;
		return 0;
	case 'v':
		o->verify = 1;
		return 0;
	case 'j':
		o->json = 1;
		return 0;
	case 'q':
		o->quiet = 1;
		return 0;
	case ARGP_KEY_ARG:
		want_word(state, arg);
		return 0;
	case ARGP_KEY_END:
		if (!o->hosts)
			argp_error(state, "IMAGE and URI are needed");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* ---- being told to stop ----------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
	(void)signal;
	interrupted++;
}

static void watch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* Once: what can be taken back is, and no link is looked for.  Twice: what was
 * handed over is left as it is; what was not ends by itself. */
static void stop_host(struct host *h, int again)
{
	struct ferry_stats st = FERRY_STATS_INIT;
	struct ferry_err err = { 0 };

	ferry_source_stats(h->source, &st);
	if (st.where != FERRY_WHERE_SOURCE &&
	    (again || st.seeking || st.state == FERRY_STATE_POSTCOPY_PAUSED))
		h->left = 1;
	else if (ferry_source_cancel(h->source, &err))
		ferry_tool_fail(0, "%s: %s; it goes on, unless told once more",
				h->uri, err.msg);
}

/* ---- one host ------------------------------------------------------------- */

static int begin(struct host *h, const struct options *o,
		 const struct ferry_image *img, struct ferry_err *e)
{
	if (ferry_serve_init(&h->serve, img, e) ||
	    ferry_inherited_check(&o->inherited, h->uri, e))
		return -1;
	h->source = ferry_source_new(h->serve.vm, o->params, NULL, e);
	return h->source ? ferry_source_start(h->source, h->uri, e) : -1;
}

static void end(struct host *h)
{
	ferry_source_free(h->source);
	h->source = NULL;
	if (h->serve.vm)
		ferry_serve_fini(&h->serve);
}

static void print_json(const struct host *h, const struct ferry_stats *st)
{
	FERRY_AUTO_JSON *o = json_object_new_object();

	ferry_json_add_str(o, "uri", h->uri);
	ferry_json_add_str(o, "status", ferry_state_name(st->state));
	ferry_json_add_str(o, "where", st->where == FERRY_WHERE_SOURCE ?
			   "image" : ferry_where_name(st->where));
	ferry_json_add_u64(o, "total-ms", st->total_ns / 1000000);
	ferry_json_add_u64(o, "bytes", st->sent_bytes);
	ferry_json_add_u64(o, "requests", st->requests);
	if (st->error[0])
		ferry_json_add_str(o, "error-desc", st->error);
	puts(ferry_json_text(o));
}

static const char *runs(enum ferry_where where)
{
	switch (where) {
	case FERRY_WHERE_SOURCE:
		return "does not run there";
	case FERRY_WHERE_SPLIT:
		return "runs there, or may, without all of its memory";
	case FERRY_WHERE_TARGET:
	case FERRY_WHERE_UNDECIDED:
	case FERRY_WHERES:
		break;
	}
	return "may run there";
}

/* What the image lacks the guest has not got, and waits for. */
static int tell_damage(const struct host *h, const struct options *o,
		       enum ferry_where where, const char *what)
{
	if (where == FERRY_WHERE_SOURCE)
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s: the VM %s: %s: "
				       "%s", h->uri, runs(where), o->image,
				       what);
	return ferry_tool_fail(FERRY_EXIT_SPLIT, "%s: the VM %s: %s: %s; its "
			       "guest stands still as soon as it needs that: "
			       "end it there, and serve a whole copy of the "
			       "image", h->uri, runs(where), o->image, what);
}

/* The exit code that this host deserves. */
static int tell(struct host *h, const struct options *o)
{
	struct ferry_stats st = FERRY_STATS_INIT;
	struct ferry_err damage = { 0 };
	const char *why;

	ferry_source_stats(h->source, &st);
	if (ferry_serve_is_damaged(&h->serve, &damage))
		snprintf(st.error, sizeof(st.error), "%s", damage.msg);
	if (o->json)
		print_json(h, &st);
	if (st.state == FERRY_STATE_COMPLETED) {
		if (!o->json)
			printf("%s runs at %s; %" PRIu64 " ms, %" PRIu64
			       " MiB, %" PRIu64 " requests\n", o->image,
			       h->uri, st.total_ns / 1000000,
			       st.sent_bytes >> 20, st.requests);
		return FERRY_EXIT_DONE;
	}
	why = st.error[0] ? st.error : "told to stop";
	if (damage.code)
		return tell_damage(h, o, st.where, damage.msg);
	if (st.where == FERRY_WHERE_SOURCE)
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s: the VM %s: %s",
				       h->uri, runs(st.where), why);
	return ferry_tool_fail(FERRY_EXIT_SPLIT, "%s: the VM %s: %s; look "
			       "there: if its process has ended (its log says "
			       "why), the image can be served again", h->uri,
			       runs(st.where), why);
}

static void show(const struct host *h)
{
	struct ferry_stats st = FERRY_STATS_INIT;

	ferry_source_stats(h->source, &st);
	fprintf(stderr, "\r%s: %s %" PRIu64 " of %" PRIu64 " MiB, %" PRIu64
		" requests \033[K", h->uri, ferry_state_name(st.state),
		(st.memory_bytes - st.remaining_bytes) >> 20,
		st.memory_bytes >> 20, st.requests);
}

/*
 * From time to time; 0 when the link cannot be found again.  Not at once: a
 * host to whom a new connection comes before it has noticed that the old one
 * is gone takes it for something else, and a QEMU 7.2 does not get over a
 * second break then.
 */
static int find_again(struct host *h, const struct ferry_stats *st)
{
	uint64_t now = ferry_now_ns();
	struct ferry_err err;

	if (!h->tried_ns)
		h->tried_ns = now;
	if (now - h->tried_ns < RETRY_NS)
		return 1;
	h->tried_ns = now;
	if (ferry_source_recover(h->source, NULL, &err))
		return 0;
	if (!h->waits)
		ferry_tool_fail(0, "%s: %s; waiting for the host to listen "
				"again", h->uri, st->error);
	h->waits = 1;
	return 1;
}

static int is_over(struct host *h, const struct options *o)
{
	struct ferry_stats st = FERRY_STATS_INIT;
	struct ferry_err damage;

	ferry_source_stats(h->source, &st);
	if (h->left || st.state == FERRY_STATE_COMPLETED ||
	    st.state == FERRY_STATE_FAILED ||
	    st.state == FERRY_STATE_CANCELLED)
		return 1;
	/* No other link has it. */
	if (st.where != FERRY_WHERE_SOURCE &&
	    ferry_serve_is_damaged(&h->serve, &damage))
		return 1;
	if (st.state != FERRY_STATE_POSTCOPY_PAUSED) {
		h->tried_ns = 0;
		return 0;
	}
	return !st.seeking && !(o->recover && find_again(h, &st));
}

/* ---- all of them ------------------------------------------------------------ */

/* True when this one is over; the others are looked after, too. */
static int look_at_all(struct options *o, unsigned which, int told)
{
	int over = 0;

	for (unsigned i = which; i < o->hosts; i++) {
		struct host *h = &o->host[i];

		if (h->source && told)
			stop_host(h, told > 1);
		if (h->source && is_over(h, o) && i == which)
			over = 1;
	}
	return over;
}

/* Until it has ended, one way or another. */
static void await(struct options *o, unsigned which)
{
	int progress = !o->quiet && !o->json && isatty(STDERR_FILENO);
	struct host *h = &o->host[which];
	int told;

	do {
		if (ferry_source_wait(h->source, REFRESH_MS, NULL) &&
		    h->waits)	/* paused: that does not wait */
			poll(NULL, 0, REFRESH_MS);
		told = interrupted != o->heeded ? interrupted : 0;
		o->heeded = interrupted;
		if (progress)
			show(h);
	} while (!look_at_all(o, which, told));
	if (progress)
		fputs("\r\033[K", stderr);
}

static int serve_all(struct options *o, const struct ferry_image *img)
{
	struct ferry_err err = { 0 };
	int code = FERRY_EXIT_DONE;

	for (unsigned i = 0; i < o->hosts; i++) {
		struct host *h = &o->host[i];

		if (!begin(h, o, img, &err))
			continue;
		code = ferry_tool_fail(FERRY_EXIT_FAILED, "%s: %s", h->uri,
				       err.msg);
		end(h);
	}
	for (unsigned i = 0; i < o->hosts; i++) {
		int rc;

		if (!o->host[i].source)
			continue;
		await(o, i);
		rc = tell(&o->host[i], o);
		code = rc > code ? rc : code;
		end(&o->host[i]);
	}
	return ferry_tool_told(code);
}

static int serve(struct options *o)
{
	struct ferry_image img;
	struct ferry_err err = { 0 };
	int code;

	if (ferry_image_open(&img, o->image, &err))
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s", err.msg);
	if (o->verify && ferry_image_verify(&img, NULL, NULL, &err)) {
		code = ferry_tool_fail(FERRY_EXIT_FAILED, "%s: %s", o->image,
				       err.msg);
	} else if (ferry_params_set(o->params, "x-ferry-peer",
				    ferry_image_peer(&img), &err)) {
		code = ferry_tool_fail(FERRY_EXIT_FAILED, "%s", err.msg);
	} else {
		code = serve_all(o, &img);
	}
	ferry_image_close(&img);
	return code;
}

int ferry_tool_serve(int argc, char **argv)
{
	static const struct argp argp = {
		.options = list, .parser = option, .args_doc = "IMAGE URI...",
		.doc = doc,
	};
	struct options *o = calloc(1, sizeof(*o));
	struct ferry_err err;
	int code;

	if (o) {
		ferry_inherited_note(&o->inherited);
		o->params = ferry_params_new();
	}
	if (!o || !o->params ||
	    ferry_params_set(o->params, "x-ferry-precopy-passes", "0", &err)) {
		free(o);
		return ferry_tool_fail(FERRY_EXIT_FAILED, "out of memory");
	}
	watch_signals();
	code = ferry_tool_parse(&argp, argc, argv, o);
	if (!code)
		code = serve(o);
	ferry_params_free(o->params);
	free(o);
	return code;
}
