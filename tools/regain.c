/* SPDX-License-Identifier: MIT */
/*
 * `ferry recover` waits: says how it goes, what is the matter when it does not,
 * and where the VM is when nobody waits any more.
 */
#include "regain.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "command.h"
#include "progress.h"

#define REFRESH_MS	200
#define STALE_NS	(3000 * FERRY_NS_PER_MS)
#define SAY_FIRST_NS	(1500 * FERRY_NS_PER_MS)
#define SAY_NS		(10 * FERRY_NS_PER_S)
/* From here on a QEMU goes back to postcopy-paused when this fails. */
#define GOES_BACK	1000

static bool is(const char *a, const char *b)
{
	return a && !strcmp(a, b);
}

static void say_why(const struct ferry_peer *p, const struct json_object *m)
{
	const char *why = ferry_json_str(m, "error-desc");

	ferry_tool_fail(0, "%s: %s: %s", p->name, ferry_json_str(m, "status"),
			why ? why : "it does not say why; the log of the "
			"other side may");
}

/* A QEMU that was told says for a moment what it said before. */
static bool is_stale(const struct ferry_peer *p, const struct json_object *m,
		     uint64_t *until_ns)
{
	if (p->kind != FERRY_PEER_QEMU)
		return false;
	if (!is(ferry_json_str(m, "status"), "postcopy-paused"))
		*until_ns = 0;		/* it has begun */
	return ferry_now_ns() < *until_ns;
}

static uint64_t attempts_of(const struct json_object *m)
{
	return ferry_json_u64(ferry_json_obj(m, "x-ferry-recovery"),
			      "attempts", 0);
}

void ferry_regain_begin(struct ferry_regain *s, const struct json_object *m)
{
	s->begin_ns = ferry_now_ns();
	s->next_ns = s->begin_ns + SAY_FIRST_NS;
	s->before = attempts_of(m);
	s->told = UINT64_MAX;
}

/* Not more often than one wants to read it, and nothing twice. */
static void say_search(const struct ferry_peer *p, struct ferry_regain *s,
		       const struct json_object *m)
{
	uint64_t now = ferry_now_ns(), tried = attempts_of(m) - s->before;
	const char *why = ferry_json_str(m, "error-desc");

	/* Why it failed is known between two attempts. */
	if (now < s->next_ns || tried == s->told || !why ||
	    !is(ferry_json_str(m, "status"), "postcopy-paused"))
		return;
	s->told = tried;
	s->next_ns = now + SAY_NS;
	ferry_tool_fail(0, "%s: looks for the target%s%s, %d tries in %.0f s; "
			"the last: %s", p->name, s->uri ? " at " :
			" where it was", s->uri ? s->uri : "", (int)tried,
			(double)(now - s->begin_ns) / (double)FERRY_NS_PER_S,
			why);
}

/*
 * A QEMU that somebody let in, and nobody answers.  It says nothing about that,
 * and before 10.0 it does not even see that the connection was closed.
 */
static bool is_stuck(const struct ferry_peer *p, struct ferry_regain *s,
		     const struct json_object *m)
{
	if (p->kind != FERRY_PEER_QEMU ||
	    !is(ferry_json_str(m, "status"), "postcopy-recover")) {
		s->met_ns = 0;
		return false;
	}
	if (!s->met_ns)
		s->met_ns = ferry_now_ns();
	return ferry_now_ns() - s->met_ns > s->wait_ns;
}

static int say_stuck(const struct ferry_peer *p, const struct ferry_regain *s)
{
	const char *way = p->version < GOES_BACK ?
		"a QEMU %u.%u does not come out of that: what was still with "
		"it is lost, and the VM can only be started anew, from its "
		"disks" :
		"tell this QEMU %u.%u by QMP's migrate-pause to give it up, "
		"then `ferry recover` again";
	char text[240];

	snprintf(text, sizeof(text), way, p->version / 100, p->version % 100);
	return ferry_tool_fail(FERRY_EXIT_SPLIT, "%s: postcopy-recover for %d "
			       "s: who took the connection at %s does not "
			       "answer as the target of this VM would; the VM "
			       "is: split, its memory at both sides: end "
			       "neither. If the address was right it may still "
			       "go on, `ferry status %s` tells; if not, %s",
			       p->name, (int)(s->wait_ns / FERRY_NS_PER_S),
			       s->uri, p->name, text);
}

/* ---- being told to stop ---------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

/* The second one ends the command, whatever it waits for. */
void ferry_regain_heed_signals(void)
{
	struct sigaction sa = {
		.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND,
	};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

static int say_left(const struct ferry_peer *p, const struct json_object *m)
{
	const char *status = ferry_json_str(m, "status");
	const char *where = ferry_json_str(m, "x-ferry-where");

	return ferry_tool_fail(ferry_progress_exit(m), "%s: not waited for any "
			       "more, it goes on by itself (%s); the VM is: "
			       "%s; see `ferry status %s`", p->name,
			       status ? status : "none",
			       where ? where : "unknown", p->name);
}

static int say_done(const struct ferry_peer *p, const struct ferry_regain *s)
{
	printf("%s: recovered; all of the VM is at %s\n", p->name,
	       s->uri ? s->uri : "its target");
	return FERRY_EXIT_DONE;
}

/* What there is to say of it now; an exit code, or -1: it goes on. */
static int judge(const struct ferry_peer *p, struct ferry_regain *s,
		 const struct json_object *m, uint64_t *stale_ns)
{
	int code;

	if (!is_stale(p, m, stale_ns) && ferry_progress_ended(m)) {
		code = ferry_progress_exit(m);
		if (code == FERRY_EXIT_DONE)
			return say_done(p, s);
		say_why(p, m);
		return code;
	}
	if (is_stuck(p, s, m))
		return say_stuck(p, s);
	if (interrupted)
		return say_left(p, m);
	say_search(p, s, m);
	return -1;
}

/* Until it is completed, or was given up again. */
int ferry_regain_watch(struct ferry_peer *p, struct ferry_regain *s)
{
	uint64_t stale_ns = ferry_now_ns() + STALE_NS;
	struct ferry_err err = { 0 };
	int code = -1;

	while (code < 0) {
		FERRY_AUTO_JSON *vm = NULL;
		FERRY_AUTO_JSON *m = NULL;
		struct json_object *event = NULL;

		if (ferry_peer_look(p, &m, &vm, &err))
			return ferry_tool_fail(FERRY_EXIT_LOST, "%s",
					       err.msg);
		code = judge(p, s, m, &stale_ns);
		if (code >= 0)
			break;
		if (ferry_qmp_client_event(p->qmp, REFRESH_MS, &event, &err) <
		    0)
			return ferry_tool_fail(FERRY_EXIT_LOST, "%s",
					       err.msg);
		json_object_put(event);
	}
	return code;
}
