/* SPDX-License-Identifier: MIT */
/*
 * `ferry migrate` from the first question to the last sentence.  What follows a
 * refusal is nothing: nothing was begun then.
 */
#include "move.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "base/cleanup.h"
#include "command.h"
#include "fit.h"
#include "incoming.h"
#include "migrate_params.h"
#include "progress.h"
#include "refusal.h"
#include "shape.h"
#include "tidy.h"

#define LOOK_MS	2000

static void note(const struct ferry_move *mv, const char *text)
{
	if (!mv->order->quiet)
		ferry_tool_fail(0, "%s", text);
}

/* ---- prepare ------------------------------------------------------------------ */

static int prepare_qemus(struct ferry_move *mv, struct ferry_view *s,
			 struct ferry_view *t, struct ferry_err *e)
{
	struct ferry_err why = { 0 };

	if (ferry_settle_pair(&mv->source, s, &mv->target, t,
			      &mv->order->wish, &mv->plan, &why, e))
		return -1;
	if (why.code) {
		ferry_err_wrap(&why, "precopy only, as postcopy cannot be "
			       "had");
		note(mv, why.msg);
	}
	return 0;
}

/* It is the target's alone, which has read it when it began to listen. */
static int check_authz(const struct ferry_view *target,
		       const struct ferry_wish *wish, struct ferry_err *e)
{
	if (!target->listens || !ferry_wish_said(wish, "tls-authz"))
		return 0;
	return ferry_err_set(e, FERRY_E_STATE, 0, "tls-authz cannot be set: "
			     "the target listens already, with what it was "
			     "started with; start it again with --set "
			     "tls-authz=...");
}

/* Before anything is set: who does not want to wait can be told to stop. */
static int await_tidy(struct ferry_move *mv, struct ferry_err *e)
{
	return mv->source.kind == FERRY_PEER_QEMU ?
	       ferry_tidy_await(&mv->source, FERRY_TIDY_MS, e) : 0;
}

static int prepare_pair(struct ferry_move *mv, struct ferry_err *e)
{
	const struct ferry_wish *wish = &mv->order->wish;
	FERRY_AUTO_VIEW s = { 0 };
	FERRY_AUTO_VIEW t = { 0 };

	if (ferry_view_init(&s, &mv->source, e) ||
	    ferry_view_init(&t, &mv->target, e) ||
	    ferry_fit_sides(&s, &t, e) || await_tidy(mv, e))
		return -1;
	mv->was_running = !strcmp(s.state, "running");
	ferry_undo_note(&mv->from_was, &s);
	ferry_undo_note(&mv->to_was, &t);
	if (mv->source.kind == FERRY_PEER_QEMU) {
		if (prepare_qemus(mv, &s, &t, e))
			return -1;
	} else if (ferry_fit_creds(&s, &t, ferry_wish_said(wish, "tls-creds"),
				   e) || check_authz(&t, wish, e) ||
		   ferry_migrate_params_send(mv->source.qmp, wish, e) ||
		   (!t.listens && ferry_migrate_params_send(mv->target.qmp,
							    wish, e))) {
		return -1;
	}
	return ferry_incoming(&mv->target, mv->order->listen, mv->uri,
			      sizeof(mv->uri), e);
}

static int prepare_qemu(struct ferry_move *mv, struct ferry_err *e)
{
	FERRY_AUTO_VIEW s = { 0 };
	char needs[160], text[220];

	if (ferry_view_init(&s, &mv->source, e) || ferry_fit_source(&s, e) ||
	    await_tidy(mv, e))
		return -1;
	mv->was_running = !strcmp(s.state, "running");
	ferry_undo_note(&mv->from_was, &s);
	mv->plan.one_way = ferry_fit_is_one_way(mv->uri);
	if (ferry_settle_source(&mv->source, &s, &mv->order->wish, &mv->plan,
				e) ||
	    ferry_fit_address(&s, &mv->order->wish, mv->uri, e))
		return -1;
	if (ferry_fit_needs(&s, needs, sizeof(needs))) {
		snprintf(text, sizeof(text), "the target must have: %s",
			 needs);
		note(mv, text);
	}
	return 0;
}

static int prepare_address(struct ferry_move *mv, struct ferry_err *e)
{
	size_t n = strlen(mv->order->to);
	FERRY_AUTO_JSON *vm = NULL;

	if (mv->order->listen)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "--listen is for "
				     "a target that is a VM, not an address");
	if (n >= sizeof(mv->uri))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "the address is too long");
	memcpy(mv->uri, mv->order->to, n + 1);
	if (mv->source.kind == FERRY_PEER_QEMU)
		return prepare_qemu(mv, e);
	if (ferry_peer_call(&mv->source, "query-status", NULL, &vm, e))
		return -1;
	mv->was_running = ferry_json_bool(vm, "running", false);
	return ferry_migrate_params_send(mv->source.qmp, &mv->order->wish, e);
}

/* Nobody steers a QEMU that is left alone. */
static int check_detached(const struct ferry_move *mv, struct ferry_err *e)
{
	if (!mv->order->detach || mv->source.kind != FERRY_PEER_QEMU)
		return 0;
	if (mv->plan.by_ms || (mv->plan.must_postcopy && mv->plan.passes))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "a QEMU is told "
				     "when to go to postcopy by this command: "
				     "it cannot be detached from");
	return 0;
}

static int check_words(const struct ferry_move *mv, struct ferry_err *e)
{
	const struct ferry_wish *w = &mv->order->wish;

	if (mv->order->paths && mv->source.kind == FERRY_PEER_QEMU)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "--path is for "
				     "ferry run: a QEMU does not find its "
				     "target again by itself");
	if (mv->source.kind == FERRY_PEER_QEMU)
		return ferry_wish_for_qemu(w, e) || check_detached(mv, e) ?
		       -1 : 0;
	if (!mv->to.known && ferry_address_check_ferry(mv->order->to, e))
		return -1;
	return ferry_wish_for_ferry(w, e);
}

/* ---- begin -------------------------------------------------------------------- */

static void add_paths(const struct ferry_move *mv, struct json_object *args)
{
	struct json_object *list;

	if (!mv->order->paths)
		return;
	list = json_object_new_array();
	for (unsigned i = 0; i < mv->order->paths; i++)
		json_object_array_add(list, json_object_new_string(
					      mv->order->path[i]));
	json_object_object_add(args, "x-ferry-paths", list);
}

static int begin(struct ferry_move *mv, struct ferry_err *e)
{
	struct json_object *args = json_object_new_object();

	ferry_json_add_str(args, "uri", mv->uri);
	add_paths(mv, args);
	if (ferry_peer_call(&mv->source, "migrate", args, NULL, e))
		return -1;
	mv->begun = true;
	if (mv->source.kind == FERRY_PEER_FERRY || !mv->plan.must_postcopy ||
	    mv->plan.passes)
		return 0;
	mv->postcopy = true;
	return ferry_peer_call(&mv->source, "migrate-start-postcopy", NULL,
			       NULL, e);
}

/* ---- the last sentence ---------------------------------------------------------- */

/* ferry run knows where its VM is; the target may know more. */
static struct ferry_outcome outcome_of(const struct ferry_move *mv)
{
	struct ferry_outcome o = ferry_outcome(&mv->from, &mv->to,
					       mv->was_running);

	if (mv->source.kind != FERRY_PEER_FERRY || mv->from.gone ||
	    o.code == FERRY_EXIT_DONE)
		return o;
	o.code = ferry_progress_exit(mv->m);
	o.where = ferry_json_str(mv->m, "x-ferry-where");
	o.advice = "";
	if (!o.where)
		o.where = "unknown";
	return o;
}

/* Behind an address can be somebody who keeps the VM (`ferry park`): only of
 * one that was asked it is known that it runs there. */
static void say_done(const struct ferry_move *mv)
{
	uint64_t total = ferry_json_u64(mv->m, "total-time", 0);
	uint64_t pause = ferry_json_u64(mv->m, "downtime", 0);
	const char *is = ferry_fit_is_one_way(mv->uri) ? "is in" :
			 mv->to.running ? "runs at" : "is at";

	printf("%s %s %s%s; %d ms", mv->source.name, is, mv->order->to,
	       mv->was_running ? "" : ", paused", (int)total);
	/* Some QEMUs say nonsense, docs/QEMU.md. */
	if (pause <= total)
		printf(", pause %d ms", (int)pause);
	if (ferry_json_str(mv->m, "x-ferry-verified"))
		printf(", every page verified");
	putchar('\n');
}

/* Where neither side gives a reason. */
static const char *no_reason(const struct ferry_move *mv, const char *status)
{
	if (status && !strcmp(status, "cancelled"))
		return mv->cancelled ? "told to stop" :
				       "somebody told it so";
	if (!mv->to.known)
		return "it does not say why; the target's log may";
	return mv->to.gone ? "the target has ended; why stands in its log" :
			     "neither side says why; their logs may";
}

static void say_failed(const struct ferry_move *mv,
		       const struct ferry_outcome *o)
{
	const char *status = ferry_json_str(mv->m, "status");
	const char *why = ferry_json_str(mv->t, "error-desc");
	bool theirs = why != NULL;

	if (!theirs)
		why = ferry_json_str(mv->m, "error-desc");
	if (*mv->why)
		why = mv->why;
	ferry_tool_fail(0, "%s: migration %s: %s%s%s; the VM is: %s%s%s%s",
			mv->source.name, status ? status : "ended",
			theirs && why != mv->why ? mv->target.name : "",
			theirs && why != mv->why ? ": " : "",
			why ? why : no_reason(mv, status), o->where,
			*o->advice ? " (" : "", o->advice,
			*o->advice ? ")" : "");
}

/* What is left to ask is the target: what is known of it, and of where the VM
 * was. */
static int say_gone(const struct ferry_move *mv, int code)
{
	const char *seen = ferry_json_str(mv->m, "status");
	const char *there = ferry_json_str(mv->t, "status");
	char text[200];

	if (mv->to.known && !mv->to.gone)
		snprintf(text, sizeof(text), "%s is %s, and its VM %s",
			 mv->order->to, there ? there : "there",
			 mv->to.running ? "runs" : "does not run");
	else if (mv->to.known)
		snprintf(text, sizeof(text), "%s has ended, too",
			 mv->order->to);
	else
		snprintf(text, sizeof(text), "what there is of the VM is at "
			 "%.100s: see `ferry status` there", mv->order->to);
	return ferry_tool_fail(code, "%s does not answer any more%s%s; it was "
			       "%s; %s", mv->source.name, *mv->why ? ": " : "",
			       mv->why, seen ? seen : "not seen before", text);
}

static int tell(struct ferry_move *mv)
{
	struct ferry_outcome o = outcome_of(mv);

	if (!mv->order->quiet && isatty(STDERR_FILENO))
		fputc('\n', stderr);
	if (mv->m && (mv->source.kind == FERRY_PEER_QEMU || mv->from.gone))
		ferry_shape_where(mv->m, o.where);
	if (mv->order->json && mv->m)
		puts(ferry_json_text(mv->m));
	if (mv->from.gone && o.code != FERRY_EXIT_DONE)
		return say_gone(mv, o.code);
	if (o.code != FERRY_EXIT_DONE)
		say_failed(mv, &o);
	else if (!mv->order->json)
		say_done(mv);
	if (o.code == FERRY_EXIT_DONE && *o.advice)
		note(mv, o.advice);
	return o.code;
}

/* ---- all of it ------------------------------------------------------------------ */

static void put_back(struct ferry_undo *u, struct ferry_peer *p)
{
	struct ferry_err err = { 0 };

	if (ferry_undo(u, p, &err) && !ferry_err_is_link(&err))
		ferry_tool_fail(0, "not all settings could be put back: %s",
				err.msg);
}

/* Whoever could not be asked: while an earlier migration has it split, that is
 * what counts. */
static int unasked(struct ferry_move *mv, const struct ferry_err *err)
{
	int json = mv->order->json;

	mv->source.patience_ms = LOOK_MS;
	if (mv->source.qmp && ferry_refusal_is_split(&mv->source))
		return ferry_refusal(&mv->source, json, err);
	return ferry_refusal_plain(FERRY_EXIT_NO_VM, json, err);
}

/* Nothing has begun, or it was refused. */
static int refused(struct ferry_move *mv, const struct ferry_err *err)
{
	static const struct {
		int err, exit;
	} codes[] = {
		{ FERRY_E_IO,		FERRY_EXIT_NO_VM },
		{ FERRY_E_CLOSED,	FERRY_EXIT_NO_VM },
		{ FERRY_E_TIMEOUT,	FERRY_EXIT_NO_VM },
		{ FERRY_E_PROTO,	FERRY_EXIT_NO_VM },
		{ FERRY_E_INVALID,	FERRY_EXIT_USAGE },
	};

	if (!mv->begun) {
		put_back(&mv->from_was, &mv->source);
		put_back(&mv->to_was, &mv->target);
	}
	for (size_t i = 0; i < FERRY_LEN(codes); i++) {
		if (err->code != codes[i].err)
			continue;
		return codes[i].exit == FERRY_EXIT_NO_VM ? unasked(mv, err) :
		       ferry_refusal_plain(codes[i].exit, mv->order->json,
					   err);
	}
	return ferry_refusal(&mv->source, mv->order->json, err);
}

static int open_both(struct ferry_move *mv, struct ferry_err *e)
{
	if (ferry_peer_open(&mv->source, mv->order->vm, e))
		return -1;
	if (ferry_address_is_one(mv->order->to))
		return 0;
	mv->to.known = true;
	return ferry_peer_open(&mv->target, mv->order->to, e);
}

/* What is wrong whoever it is told. */
static int check_target(const struct ferry_order *order, struct ferry_err *e)
{
	if (!strcmp(order->vm, order->to))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "source and "
				     "target are the same VM: %s", order->vm);
	return ferry_address_is_one(order->to) ?
	       ferry_address_check(order->to, e) : 0;
}

static int run(struct ferry_move *mv)
{
	struct ferry_err err = { 0 };
	int json = mv->order->json;

	if (check_target(mv->order, &err))
		return ferry_refusal_plain(FERRY_EXIT_USAGE, json, &err);
	if (open_both(mv, &err))
		return unasked(mv, &err);
	ferry_plan_of(&mv->plan, &mv->order->wish);
	if (check_words(mv, &err))
		return ferry_refusal_plain(FERRY_EXIT_USAGE, json, &err);
	if (mv->to.known ? prepare_pair(mv, &err) : prepare_address(mv, &err))
		return refused(mv, &err);
	mv->order->begins();
	if (begin(mv, &err))
		return refused(mv, &err);
	if (mv->order->detach)
		return FERRY_EXIT_DONE;
	if (ferry_watch(mv))
		return mv->from.gone ? FERRY_EXIT_LOST :
				       ferry_progress_exit(mv->m);
	return tell(mv);
}

int ferry_move(const struct ferry_order *order)
{
	struct ferry_move mv = { .order = order };
	int code = run(&mv);

	ferry_peer_close(&mv.source);
	ferry_peer_close(&mv.target);
	json_object_put(mv.m);
	json_object_put(mv.t);
	ferry_undo_fini(&mv.from_was);
	ferry_undo_fini(&mv.to_was);
	return code;
}
