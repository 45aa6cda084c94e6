/* SPDX-License-Identifier: MIT */
/*
 * `ferry vhost-check`: does a vhost-user backend do what it should?
 */
#include "command.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "ctl/json.h"
#include "spawned.h"
#include "vu/check/check.h"

#define LIMIT_MS	5000u
#define LIMIT_MAX_MS	600000u
#define ONLY_MAX	64
#define START_LIMIT_NS	(30 * FERRY_NS_PER_S)

struct words {
	struct ferry_vu_check_how how;
	const char	*only[ONLY_MAX];
	size_t		n_only;
	bool		json, list, listen;
	const char	*run;
	struct ferry_spawned backend;	/* of run */
};

static const struct argp_option list[] = {
	{ "device", 'd', "KIND", 0, "what it is: net or blk; without, rings "
	  "are set up but stay empty.  Of a disk the first sectors are read", 0 },
	{ "only", 'o', "NAME", 0, "only this check, or this group; may be "
	  "repeated", 0 },
	{ "timeout", 't', "MS", 0, "for each answer (default 5000)", 0 },
	{ "run", 'r', "COMMAND", 0, "start the backend by this line for the "
	  "shell, again after a check that failed, and end it at last", 0 },
	{ "listen", 'l', NULL, 0, "the backend connects to SOCKET, which is "
	  "made, and again when a check has hung up", 0 },
	{ "list", 'L', NULL, 0, "what would be checked; SOCKET is not needed",
	  1 },
	{ "json", 'j', NULL, 0, "a JSON line for each check, and one for all",
	  1 },
	{ 0 },
};

static const char doc[] =
	"Try a vhost-user backend, any one, at its unix socket: handshake, "
	"rings, dirty log, postcopy, device state, and messages and rings that "
	"make no sense.  Each check is a connection of its own, so the backend "
	"must serve one after the other.\v"
	"What the backend does not claim to do is not offered, and no "
	"failure.\n\n"
	"Example: ferry vhost-check --device blk /tmp/blk.sock\n"
	"         ferry vhost-check --device blk --run 'exec my-backend "
	"/tmp/b.sock' /tmp/b.sock\n\n"
	"Exit codes: 0 nothing failed; 1 something did; 2 wrong words; "
	"5 nobody is at SOCKET.";

static void set_device(struct words *w, const char *arg,
		       struct argp_state *state)
{
	if (!strcmp(arg, "net"))
		w->how.device = FERRY_VU_NET;
	else if (!strcmp(arg, "blk"))
		w->how.device = FERRY_VU_BLK;
	else
		argp_error(state, "--device=%s: net or blk", arg);
}

static void set_timeout(struct words *w, const char *arg,
			struct argp_state *state)
{
	char *end;
	unsigned long ms = strtoul(arg, &end, 10);

	if (*end || end == arg || *arg == '-' || ms < 10 || ms > LIMIT_MAX_MS)
		argp_error(state, "--timeout=%s: 10 to %u ms", arg,
			   LIMIT_MAX_MS);
	w->how.limit_ms = (unsigned)ms;
}

static bool is_named(const struct ferry_vu_check *check, const char *name)
{
	return !strcmp(check->name, name) || !strcmp(check->group, name);
}

static void add_only(struct words *w, const char *arg,
		     struct argp_state *state)
{
	const struct ferry_vu_check *check;

	if (w->n_only == ONLY_MAX)
		argp_error(state, "--only more than %d times", ONLY_MAX);
	w->only[w->n_only++] = arg;
	for (size_t i = 0; (check = ferry_vu_check_at(i)); i++)
		if (is_named(check, arg))
			return;
	argp_error(state, "--only=%s: no such check or group (see --list)",
		   arg);
}

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct words *w = state->input;

	switch (key) {
	case 'd':
		set_device(w, arg, state);
		return 0;
	case 'o':
		add_only(w, arg, state);
		return 0;
	case 't':
		set_timeout(w, arg, state);
		return 0;
	case 'l':
		w->listen = true;
		return 0;
	case 'r':
		w->run = arg;
		return 0;
	case 'L':
		w->list = true;
		return 0;
	case 'j':
		w->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (w->how.path)
			argp_error(state, "'%s' is one word too many", arg);
		w->how.path = arg;
		return 0;
	case ARGP_KEY_END:
		if (!w->how.path && !w->list)
			argp_error(state, "SOCKET is needed");
		if (w->run && w->listen)
			argp_error(state, "--run and --listen do not go "
				   "together");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static bool is_wanted(const struct words *w,
		      const struct ferry_vu_check *check)
{
	for (size_t i = 0; i < w->n_only; i++)
		if (is_named(check, w->only[i]))
			return true;
	return !w->n_only;
}

/* ---- what is printed ----------------------------------------------------- */

static void print_json(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	fflush(stdout);
	json_object_put(o);
}

static struct json_object *text(const char *s)
{
	return json_object_new_string(s);
}

static void print_row(const struct words *w, const struct ferry_vu_check *check,
		      const char *verdict, const char *why)
{
	struct json_object *o;

	if (!w->json) {
		printf("%-10s %-18s %-11s %s%s%s\n", check->group, check->name,
		       verdict, check->what, *why ? "\n           -> " : "",
		       why);
		fflush(stdout);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "group", text(check->group));
	json_object_object_add(o, "check", text(check->name));
	json_object_object_add(o, "what", text(check->what));
	if (*verdict)
		json_object_object_add(o, "verdict", text(verdict));
	if (*why)
		json_object_object_add(o, "why", text(why));
	print_json(o);
}

static void print_sum(const struct words *w,
		      const unsigned count[FERRY_VU_VERDICTS])
{
	struct json_object *o;

	if (!w->json) {
		printf("\n%u passed, %u failed, %u not offered, %u not tried\n",
		       count[FERRY_VU_PASS], count[FERRY_VU_FAIL],
		       count[FERRY_VU_NOT_OFFERED], count[FERRY_VU_UNTRIED]);
		return;
	}
	o = json_object_new_object();
	for (unsigned v = 0; v < FERRY_VU_VERDICTS; v++)
		json_object_object_add(o, ferry_vu_verdict_name(v),
				       json_object_new_int64(count[v]));
	print_json(o);
}

/* ---- running them -------------------------------------------------------- */

/* A socket that nobody is at is no failure of a check; that who is there
 * accepts nobody (EAGAIN) is one. */
static bool is_there(const struct words *w)
{
	FERRY_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
				  SOCK_NONBLOCK, 0);
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (strlen(w->how.path) >= sizeof(a.sun_path)) {
		errno = ENAMETOOLONG;
		return false;
	}
	strcpy(a.sun_path, w->how.path);
	return !connect(fd, (struct sockaddr *)&a, sizeof(a)) ||
	       errno == EAGAIN;
}

static int listen_at(const char *path)
{
	FERRY_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(a.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(a.sun_path, path);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 1))
		return -1;
	return ferry_steal_fd(&fd);
}

static int show_list(const struct words *w)
{
	const struct ferry_vu_check *check;

	for (size_t i = 0; (check = ferry_vu_check_at(i)); i++)
		if (is_wanted(w, check))
			print_row(w, check, "", "");
	return ferry_tool_printed(FERRY_EXIT_DONE);
}

/* Of the backend before; a file that is something else is the user's. */
static void remove_socket(const char *path)
{
	struct stat st;

	if (!lstat(path, &st) && S_ISSOCK(st.st_mode))
		unlink(path);
}

/* With --run: a backend that is there, or the words why not. */
static int make_ready(struct words *w, struct ferry_err *e)
{
	const struct timespec pause = { .tv_nsec = 20000000 };
	uint64_t until = ferry_now_ns() + START_LIMIT_NS;

	if (!w->run || (ferry_spawned_is_alive(&w->backend) && is_there(w)))
		return 0;
	ferry_spawned_end(&w->backend);
	remove_socket(w->how.path);
	if (ferry_spawned_start(&w->backend, w->run, e))
		return -1;
	while (!is_there(w)) {
		if (!ferry_spawned_is_alive(&w->backend))
			return ferry_err_set(e, FERRY_E_IO, 0, "%s: it has "
					     "ended: %s", w->run,
					     w->backend.how);
		if (ferry_now_ns() > until)
			return ferry_err_set(e, FERRY_E_TIMEOUT, 0, "%s: it "
					     "does not listen at %s", w->run,
					     w->how.path);
		nanosleep(&pause, NULL);
	}
	return 0;
}

static enum ferry_vu_verdict run_one(struct words *w, size_t i,
				     struct ferry_err *why)
{
	enum ferry_vu_verdict verdict = FERRY_VU_UNTRIED;

	if (make_ready(w, why))
		return FERRY_VU_FAIL;
	verdict = ferry_vu_check_run(i, &w->how, why);
	/* That it is gone says more than what was seen of it. */
	if (w->run && !ferry_spawned_is_alive(&w->backend)) {
		ferry_err_set(why, FERRY_E_CLOSED, 0, "the backend has ended: "
			      "%s", w->backend.how);
		return FERRY_VU_FAIL;
	}
	/* One that hangs is not asked again. */
	if (verdict == FERRY_VU_FAIL)
		ferry_spawned_end(&w->backend);
	return verdict;
}

static int run_all(struct words *w)
{
	unsigned count[FERRY_VU_VERDICTS] = { 0 };
	const struct ferry_vu_check *check;

	for (size_t i = 0; (check = ferry_vu_check_at(i)); i++) {
		enum ferry_vu_verdict verdict;
		struct ferry_err why = { 0 };

		if (!is_wanted(w, check))
			continue;
		verdict = run_one(w, i, &why);
		count[verdict]++;
		print_row(w, check, ferry_vu_verdict_name(verdict), why.msg);
	}
	print_sum(w, count);
	return ferry_tool_printed(count[FERRY_VU_FAIL] ? FERRY_EXIT_FAILED :
				  FERRY_EXIT_DONE);
}

/* The backend of --run, for a handler; it stands in a group of its own, so a
 * terminal's Ctrl-C is not for it. */
static struct ferry_spawned *to_end;

static void on_end(int sig)
{
	if (to_end)
		ferry_spawned_end_in_handler(to_end->pid);
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Who started us may have had a signal ignored (nohup): that stays. */
static void end_backend_with_us(struct words *w)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction sa = { .sa_handler = on_end }, was;

	to_end = &w->backend;
	sigfillset(&sa.sa_mask);
	for (size_t i = 0; i < FERRY_LEN(ends); i++)
		if (!sigaction(ends[i], NULL, &was) &&
		    was.sa_handler != SIG_IGN)
			sigaction(ends[i], &sa, NULL);
}

int ferry_tool_vhost_check(int argc, char **argv)
{
	static const struct argp argp = { list, option, "SOCKET", doc };
	struct words w = { .how = { .listener = -1, .limit_ms = LIMIT_MS } };
	int rc = ferry_tool_parse(&argp, argc, argv, &w);

	if (rc)
		return rc;
	if (w.list)
		return show_list(&w);
	signal(SIGPIPE, SIG_IGN);	/* a backend may go at any time */
	signal(SIGCHLD, SIG_DFL);	/* and is heard of, whoever started us */
	if (!w.listen && !w.run && !is_there(&w))
		return ferry_tool_fail(FERRY_EXIT_NO_VM, "no backend is at %s: "
				       "%s", w.how.path, strerror(errno));
	if (w.listen)
		w.how.listener = listen_at(w.how.path);
	if (w.listen && w.how.listener < 0)
		return ferry_tool_fail(FERRY_EXIT_FAILED, "cannot listen at "
				       "%s: %s", w.how.path, strerror(errno));
	if (w.run)
		end_backend_with_us(&w);
	rc = run_all(&w);
	ferry_spawned_end(&w.backend);
	to_end = NULL;
	if (w.listen) {
		close(w.how.listener);
		unlink(w.how.path);
	}
	return rc;
}
