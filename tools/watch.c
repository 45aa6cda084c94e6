/* SPDX-License-Identifier: MIT */
/*
 * Watches a migration until it ends: both sides' events wake it, the source is
 * asked how far it is.
 */
#include "move.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "command.h"
#include "progress.h"
#include "shape.h"
#include "steer.h"
#include "tidy.h"

#define REFRESH_MS	200
#define TARGET_MS	2000	/* patience with one answer of the target */
/* And of the source, which does not answer while its last octets are taken
 * slowly. */
#define SOURCE_MS	120000
#define ALONE_NS	(5000 * FERRY_NS_PER_MS)
#define SETTLE_NS	(10000 * FERRY_NS_PER_MS)
#define SETTLE_LOST_NS	(2000 * FERRY_NS_PER_MS)
#define FIGURES_NS	(1000 * FERRY_NS_PER_MS)
#define LOOK_MS		20

static bool is(const char *a, const char *b)
{
	return a && !strcmp(a, b);
}

/* ---- looking ------------------------------------------------------------------ */

static void lose(struct ferry_peer *p, struct ferry_end *end)
{
	ferry_peer_close(p);
	end->gone = true;
}

static void see(struct ferry_end *end, const struct json_object *m,
		const struct json_object *vm)
{
	end->running = ferry_json_bool(vm, "running", false);
	end->status = ferry_json_str(m, "status");
}

static int ask_source(struct ferry_move *mv, struct ferry_err *e)
{
	FERRY_AUTO_JSON *vm = NULL;
	struct json_object *m = NULL;

	if (ferry_peer_look(&mv->source, &m, &vm, e))
		return -1;
	json_object_put(mv->m);
	mv->m = m;
	see(&mv->from, m, vm);
	return 0;
}

static void look_source(struct ferry_move *mv)
{
	struct ferry_err err = { 0 };

	if (!ask_source(mv, &err))
		return;
	snprintf(mv->why, sizeof(mv->why), "%s", err.msg);
	lose(&mv->source, &mv->from);
}

/* Silence is no end: its main loop may wait for a page. */
static void look_target(struct ferry_move *mv)
{
	FERRY_AUTO_JSON *vm = NULL;
	struct json_object *t = NULL;
	struct ferry_err err = { 0 };

	if (ferry_peer_look(&mv->target, &t, &vm, &err)) {
		if (err.code != FERRY_E_TIMEOUT)
			lose(&mv->target, &mv->to);
		return;
	}
	json_object_put(mv->t);
	mv->t = t;
	see(&mv->to, t, vm);
	mv->to.ran |= mv->to.running;
}

static void hear(struct ferry_end *end, const struct json_object *event)
{
	const char *name = ferry_json_str(event, "event");
	const struct json_object *data = ferry_json_obj(event, "data");

	end->ran |= is(name, "RESUME");
	end->done |= is(name, "MIGRATION") &&
		     is(ferry_json_str(data, "status"), "completed");
}

/* Take what there is; true when there was something. */
static bool drain(struct ferry_peer *p, struct ferry_end *end)
{
	struct json_object *event = NULL;
	struct ferry_err err = { 0 };
	bool any = false;
	int rc;

	if (!p->qmp)
		return false;
	while ((rc = ferry_qmp_client_event(p->qmp, 0, &event, &err)) > 0) {
		any = true;
		hear(end, event);
		json_object_put(event);
	}
	if (rc < 0)
		lose(p, end);
	return any || rc < 0;
}

static void await_news(struct ferry_move *mv)
{
	struct pollfd fds[2];
	nfds_t n = 0;
	bool any = drain(&mv->source, &mv->from);

	any |= drain(&mv->target, &mv->to);
	if (any)
		return;
	fds[n++] = (struct pollfd){ ferry_qmp_client_fd(mv->source.qmp),
				    POLLIN, 0 };
	if (mv->target.qmp)
		fds[n++] = (struct pollfd){
			ferry_qmp_client_fd(mv->target.qmp), POLLIN, 0 };
	poll(fds, n, REFRESH_MS);
	drain(&mv->source, &mv->from);
	drain(&mv->target, &mv->to);
}

static void show(const struct ferry_move *mv)
{
	char line[256];

	if (mv->order->quiet || !isatty(STDERR_FILENO))
		return;
	ferry_progress_line(mv->m, line, sizeof(line));
	ferry_progress_cut(line, STDERR_FILENO);
	fprintf(stderr, "\r\033[K%s", line);
}

/* ---- what is to be done ------------------------------------------------------- */

/* Some QEMUs wait forever for a target that has ended, or for its last word
 * that was lost.  True: so does this one, and cannot be helped. */
static bool is_stuck(struct ferry_move *mv)
{
	if ((!mv->to.gone && !mv->to.done) ||
	    mv->source.kind != FERRY_PEER_QEMU)
		return false;
	if (!mv->alone_ns)
		mv->alone_ns = ferry_now_ns();
	if (ferry_now_ns() - mv->alone_ns < ALONE_NS)
		return false;
	mv->alone_ns = ferry_now_ns();
	if (mv->postcopy || mv->to.ran || mv->to.done || mv->cancelled)
		return true;
	/* It never ran there, and will not: also in `device` it is safe. */
	ferry_shape_where(mv->m, "source");
	ferry_steer_give_up(mv, "the target has ended");
	return false;
}

/* The first interrupt cancels, the second (or a refusal) stops watching.
 * True: stop watching. */
static bool interrupted(struct ferry_move *mv, int seen)
{
	struct ferry_err err = { 0 };

	/* Who does not answer is seen to be gone. */
	if (seen == 1 && (!ferry_steer_cancel(mv, &err) ||
			  ferry_err_is_link(&err)))
		return false;
	if (seen == 1)
		ferry_tool_fail(0, "it cannot be cancelled any more (%s): the "
				"migration goes on; see `ferry status %s`",
				err.msg, mv->order->vm);
	else
		ferry_tool_fail(0, "how cancelling ends is not waited for; "
				"see `ferry status %s`", mv->order->vm);
	return true;
}

/* ---- the loop ----------------------------------------------------------------- */

/* The source is done with it; what became of it at the target? */
static void await_target(struct ferry_move *mv)
{
	bool done = is(mv->from.status, "completed");
	uint64_t until = ferry_now_ns() + (done ? SETTLE_NS : SETTLE_LOST_NS);

	while (mv->to.known && !mv->to.gone) {
		struct json_object *event = NULL;

		look_target(mv);
		if (mv->to.gone || ferry_progress_ended(mv->t) ||
		    ferry_now_ns() > until)
			return;
		if (ferry_qmp_client_event(mv->target.qmp, REFRESH_MS, &event,
					   NULL) < 0)
			lose(&mv->target, &mv->to);
		json_object_put(event);
	}
}

/*
 * A QEMU says that it failed before it lets its VM go on, or does not.  Where
 * the VM is then is not judged before it has done either; when its clean-up is
 * over it does no more.
 */
static void await_source(struct ferry_move *mv)
{
	uint64_t until = ferry_now_ns() + SETTLE_NS;
	struct ferry_err err = { 0 };
	int rc = 0;

	if (mv->source.kind != FERRY_PEER_QEMU ||
	    (!is(mv->from.status, "failed") &&
	     !is(mv->from.status, "cancelled")))
		return;
	while (!rc && !mv->from.gone && ferry_now_ns() < until) {
		rc = ferry_tidy_look(&mv->source, &err);
		look_source(mv);
		if (mv->from.running)
			return;
		poll(NULL, 0, LOOK_MS);
	}
}

/*
 * The target has all of it and runs it, and the source did not hear so: a QEMU
 * runs it again then.  That is stopped at once; nobody who reads the last
 * sentence is as fast.
 */
static void keep_apart(struct ferry_move *mv)
{
	struct ferry_err err = { 0 };

	if (mv->source.kind != FERRY_PEER_QEMU || mv->from.gone ||
	    !mv->from.running || !mv->to.running ||
	    !is(mv->to.status, "completed") ||
	    (!is(mv->from.status, "failed") &&
	     !is(mv->from.status, "cancelled")))
		return;
	mv->from.stopped = !ferry_peer_call(&mv->source, "stop", NULL, NULL,
					    &err);
}

/* A QEMU is completed a moment before it knows how long it took.  One that
 * ends in that moment was completed all the same. */
static void await_figures(struct ferry_move *mv)
{
	uint64_t until = ferry_now_ns() + FIGURES_NS;
	struct ferry_err err = { 0 };

	while (mv->source.kind == FERRY_PEER_QEMU && !mv->from.gone &&
	       is(mv->from.status, "completed") &&
	       !ferry_json_u64(mv->m, "total-time", 0) &&
	       ferry_now_ns() < until) {
		poll(NULL, 0, LOOK_MS);
		if (ask_source(mv, &err))
			return;
	}
}

int ferry_watch(struct ferry_move *mv)
{
	int handled = 0;

	mv->source.patience_ms = SOURCE_MS;
	mv->target.patience_ms = TARGET_MS;
	while (!mv->from.gone) {
		look_source(mv);
		if (mv->from.gone)
			break;
		show(mv);
		if (ferry_progress_ended(mv->m) || is_stuck(mv))
			break;
		if (*mv->order->interrupts > handled &&
		    interrupted(mv, ++handled)) {
			look_source(mv);
			return 1;
		}
		ferry_steer(mv);
		await_news(mv);
	}
	await_target(mv);
	await_source(mv);
	keep_apart(mv);
	await_figures(mv);
	return 0;
}
