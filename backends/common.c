/* SPDX-License-Identifier: MIT */
/*
 * See common.h.
 */
#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const struct argp_option options[] = {
	{ "socket", 's', "PATH", 0, "the front-end's socket; fd:N: listen on "
	  "one that was inherited", 0 },
	{ "connect", 'c', NULL, 0, "connect to it (default: listen)", 0 },
	{ "once", 'o', NULL, 0, "end when the front-end has gone", 0 },
	{ "json", 'j', NULL, 0, "print figures as JSON, one line", 0 },
	{ "verbose", 'v', NULL, 0, "say more; again: each message", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct backend *b = state->input;

	switch (key) {
	case 's':
		b->socket = arg;
		return 0;
	case 'c':
		b->connects = true;
		return 0;
	case 'o':
		b->once = true;
		return 0;
	case 'j':
		b->json = true;
		return 0;
	case 'v':
		b->verbose++;
		return 0;
	case ARGP_KEY_INIT:
		b->verbose = 1;
		return 0;
	case ARGP_KEY_END:
		if (!b->socket)
			argp_error(state, "--socket is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

const struct argp backend_argp = { options, parse, NULL, NULL, NULL, NULL,
				   NULL };

static int log_level = 1;

void backend_log(void *opaque, int level, const char *line)
{
	(void)opaque;
	if (level <= log_level)
		fprintf(stderr, "%s\n", line);
}

static const int signals[] = { SIGINT, SIGTERM, SIGUSR1, SIGPIPE };

static sigset_t signal_set(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaddset(&set, signals[i]);
	return set;
}

void backend_block_signals(void)
{
	sigset_t set = signal_set();

	sigprocmask(SIG_BLOCK, &set, NULL);
}

static uint64_t waits(const struct ferry_vhost_stats *s)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < FERRY_VHOST_WAIT_BUCKETS; i++)
		n += s->waits[i];
	return n;
}

/* As a list in JSON: waits shorter than 1 us, 2 us, 4 us, ... */
static void print_buckets(const struct ferry_vhost_stats *s)
{
	for (unsigned i = 0; i < FERRY_VHOST_WAIT_BUCKETS; i++)
		printf("%s%" PRIu64, i ? ", " : ", \"wait-buckets\": [",
		       s->waits[i]);
	printf("]}\n");
}

static void print_figures(struct ferry_vhost *v, bool json)
{
	struct ferry_vhost_stats s = FERRY_VHOST_STATS_INIT;

	ferry_vhost_stats(v, &s);
	printf(json ? "{\"connections\": %" PRIu64 ", \"popped\": %" PRIu64
	       ", \"pushed\": %" PRIu64 ", \"kicks\": %" PRIu64
	       ", \"calls\": %" PRIu64 ", \"logged-pages\": %" PRIu64
	       ", \"resubmitted\": %" PRIu64 ", \"broken\": %" PRIu64
	       ", \"waits\": %" PRIu64 ", \"wait-ns\": %" PRIu64
	       ", \"wait-max-ns\": %" PRIu64 :
	       "connections %" PRIu64 ", buffers %" PRIu64 " taken and %"
	       PRIu64 " given back, %" PRIu64 " kicks, %" PRIu64 " calls, %"
	       PRIu64 " pages logged, %" PRIu64 " resubmitted, %" PRIu64
	       " queues broken, waited %" PRIu64 " times for a page: %" PRIu64
	       " ns in all, %" PRIu64 " ns at most\n",
	       s.connections, s.popped, s.pushed, s.kicks, s.calls,
	       s.logged_pages, s.resubmitted, s.broken, waits(&s),
	       s.wait_sum_ns, s.wait_max_ns);
	if (json)
		print_buckets(&s);
	fflush(stdout);
}

static int open_socket(struct ferry_vhost *v, const struct backend *b,
		       struct ferry_err *e)
{
	log_level = b->verbose;
	if (b->connects)
		return ferry_vhost_connect(v, b->socket, e);
	return ferry_vhost_listen(v, b->socket, e);
}

/* True: a signal to end. */
static bool next_signal(struct ferry_vhost *v, const struct backend *b)
{
	const struct timespec tick = { .tv_nsec = 50L * 1000 * 1000 };
	sigset_t set = signal_set();
	int sig = sigtimedwait(&set, NULL, &tick);

	if (sig == SIGUSR1)
		print_figures(v, b->json);
	return sig == SIGINT || sig == SIGTERM;
}

static bool served_once(struct ferry_vhost *v)
{
	struct ferry_vhost_stats s = FERRY_VHOST_STATS_INIT;

	ferry_vhost_stats(v, &s);
	return s.connections && !s.connected;
}

int backend_serve(struct ferry_vhost *v, const struct backend *b)
{
	struct ferry_err e;
	int rc = 1;

	if (open_socket(v, b, &e)) {
		ferry_vhost_free(v);
		return backend_fail(&e);
	}
	while (rc == 1) {
		if (next_signal(v, b) || (b->once && served_once(v)))
			rc = 0;
		else
			rc = ferry_vhost_wait(v, 0, &e);
	}
	print_figures(v, b->json);
	ferry_vhost_free(v);
	return rc ? backend_fail(&e) : 0;
}

int backend_fail(const struct ferry_err *e)
{
	fprintf(stderr, "%s: %s\n", program_invocation_short_name, e->msg);
	return 1;
}
