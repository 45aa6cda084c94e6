/* SPDX-License-Identifier: MIT */
/*
 * Watches a migration until it ends: both sides' events wake it, the source is
 * asked how far it is.  A QEMU is told when to go to postcopy; ferry run knows
 * that by itself.
 *
 * Cancelling is only for while the VM is at the source for sure.  A QEMU obeys
 * also later, before 10.0 even in postcopy, and that loses the VM or makes two
 * of it; so it is not asked then.
 */
#include "move.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "command.h"
#include "progress.h"
#include "shape.h"
#include "tempo.h"

#define REFRESH_MS	200
#define TARGET_MS	2000	/* patience with one answer of the target */
#define ALONE_NS	(5000 * FERRY_NS_PER_MS)
#define SETTLE_NS	(10000 * FERRY_NS_PER_MS)
#define SETTLE_LOST_NS	(2000 * FERRY_NS_PER_MS)

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

static void look_source(struct ferry_move *mv)
{
	FERRY_AUTO_JSON *vm = NULL;
	struct json_object *m = NULL;
	struct ferry_err err = { 0 };

	if (ferry_peer_look(&mv->source, &m, &vm, &err)) {
		snprintf(mv->why, sizeof(mv->why), "%s", err.msg);
		lose(&mv->source, &mv->from);
		return;
	}
	json_object_put(mv->m);
	mv->m = m;
	see(&mv->from, m, vm);
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
		end->ran |= is(ferry_json_str(event, "event"), "RESUME");
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

/* ---- steering ----------------------------------------------------------------- */

/* 0, or -1 and why not. */
static int cancel(struct ferry_move *mv, struct ferry_err *e)
{
	if (mv->source.kind == FERRY_PEER_QEMU &&
	    (mv->postcopy ||
	     !is(ferry_json_str(mv->m, "x-ferry-where"), "source")))
		return ferry_err_set(e, FERRY_E_STATE, 0, "the target has "
				     "taken over, or is about to");
	if (ferry_peer_call(&mv->source, "migrate_cancel", NULL, NULL, e))
		return -1;
	mv->cancelled = true;
	return 0;
}

static void give_up(struct ferry_move *mv, const char *text)
{
	struct ferry_err err = { 0 };

	if (cancel(mv, &err))
		text = err.msg;
	snprintf(mv->why, sizeof(mv->why), "%s", text);
}

static void say_diverged(struct ferry_move *mv)
{
	const struct json_object *ram = ferry_json_obj(mv->m, "ram");
	char text[200];

	snprintf(text, sizeof(text), "precopy does not get there: after "
		 "%" PRIu64 " passes %" PRIu64 " MiB remain; allow postcopy, "
		 "a longer --max-pause or --throttle",
		 ferry_shape_passes(mv->m),
		 ferry_json_u64(ram, "remaining", 0) >> 20);
	give_up(mv, text);
}

static void go_postcopy(struct ferry_move *mv)
{
	struct ferry_err err = { 0 };

	mv->postcopy = true;
	if (ferry_peer_call(&mv->source, "migrate-start-postcopy", NULL, NULL,
			    &err))
		ferry_tool_fail(0, "%s", err.msg);
}

static void steer(struct ferry_move *mv)
{
	if (mv->source.kind != FERRY_PEER_QEMU || mv->postcopy ||
	    mv->cancelled || !is(mv->from.status, "active"))
		return;
	switch (ferry_tempo(&mv->plan, mv->m)) {
	case FERRY_TEMPO_GO_ON:
		return;
	case FERRY_TEMPO_POSTCOPY:
		go_postcopy(mv);
		return;
	case FERRY_TEMPO_GIVE_UP:
		say_diverged(mv);
		return;
	}
}

/* Some QEMUs wait forever for a target that has ended.  True: so does this
 * one, and cannot be helped. */
static bool is_stuck(struct ferry_move *mv)
{
	if (!mv->to.gone || mv->source.kind != FERRY_PEER_QEMU)
		return false;
	if (!mv->alone_ns)
		mv->alone_ns = ferry_now_ns();
	if (ferry_now_ns() - mv->alone_ns < ALONE_NS)
		return false;
	mv->alone_ns = ferry_now_ns();
	if (mv->postcopy || mv->to.ran || mv->cancelled)
		return true;
	/* It never ran there, and will not: also in `device` it is safe. */
	ferry_shape_where(mv->m, "source");
	give_up(mv, "the target has ended");
	return false;
}

/* The first interrupt cancels, the second (or a refusal) stops watching.
 * True: stop watching. */
static bool interrupted(struct ferry_move *mv, int seen)
{
	struct ferry_err err = { 0 };

	if (seen == 1 && !cancel(mv, &err))
		return false;
	if (seen == 1)
		ferry_tool_fail(0, "it cannot be cancelled any more: %s",
				err.msg);
	ferry_tool_fail(0, "the migration goes on; see `ferry status %s`",
			mv->order->vm);
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

int ferry_watch(struct ferry_move *mv)
{
	int handled = 0;

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
		steer(mv);
		await_news(mv);
	}
	await_target(mv);
	return 0;
}
