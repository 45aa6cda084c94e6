/* SPDX-License-Identifier: MIT */
/*
 * From wishes to migrate-set-capabilities and migrate-set-parameters of a QEMU.
 */
#include "settle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "fit.h"

/* 0 is no limit to ferry, and to QEMU nobody said what. */
#define UNLIMITED	(1ull << 40)
/* Older ones open the connection for requested pages first of all, and wait
 * for it. */
#define GOOD_PREEMPT	800

/* What is to be set at one side. */
struct set {
	struct json_object *caps;	/* as the command wants them */
	struct json_object *params;
	const struct ferry_view *view;
	const struct ferry_wish *wish;
	const struct ferry_plan *plan;
	const struct ferry_view *other;	/* NULL: an address */
	bool target;
};

void ferry_plan_of(struct ferry_plan *plan, const struct ferry_wish *w)
{
	plan->passes = (unsigned)ferry_wish_u64(w, "x-ferry-precopy-passes");
	plan->max_passes = (unsigned)ferry_wish_u64(w, "x-ferry-max-passes");
	plan->by_ms = ferry_wish_u64(w, "x-ferry-by");
	plan->throttle = ferry_wish_u64(w, "auto-converge");
	plan->max_throttle = (unsigned)ferry_wish_u64(w, "max-cpu-throttle");
	plan->may_postcopy = ferry_wish_u64(w, "postcopy-ram");
	plan->must_postcopy = plan->may_postcopy &&
			      plan->passes < FERRY_PLAN_AUTO;
	plan->one_way = false;
}

/* ---- what a capability is to be ------------------------------------------------- */

enum want { KEEP = -1, OFF, ON };

static enum want want_said(const struct set *s, const char *name)
{
	const char *said = ferry_wish_said(s->wish, name);

	return said ? (enum want)!strcmp(said, "on") : KEEP;
}

static enum want want_postcopy(const struct set *s)
{
	if (s->plan->must_postcopy)
		return ON;
	if (!s->plan->may_postcopy)
		return OFF;
	/* Nobody knows whether it is on over there. */
	return s->other ? ON : want_said(s, "postcopy-ram");
}

/* Of use where both have it and it works well. */
static enum want want_preempt(const struct set *s)
{
	enum want said = want_said(s, "postcopy-preempt");
	const char *const name = "postcopy-preempt";

	if (!s->plan->may_postcopy)
		return OFF;
	if (said != KEEP || !s->other)
		return said;
	return s->view->version >= GOOD_PREEMPT &&
	       s->other->version >= GOOD_PREEMPT &&
	       ferry_view_has_cap(s->view, name) &&
	       ferry_view_has_cap(s->other, name);
}

static enum want want_of(const struct set *s, const struct ferry_setting *row)
{
	enum want said;

	if (!strcmp(row->name, "events"))
		return ON;
	if (!strcmp(row->name, "return-path"))
		return s->plan->one_way ? OFF : ON;
	if (!strcmp(row->name, "postcopy-ram"))
		return want_postcopy(s);
	if (!strcmp(row->name, "postcopy-preempt"))
		return want_preempt(s);
	said = want_said(s, row->name);
	if (said == KEEP && row->ours &&
	    (s->other || row->side == FERRY_SET_SOURCE))
		return OFF;
	return said;
}

/* A target that listens has its channels set up already. */
static bool is_fixed(const struct set *s, const char *name)
{
	const struct ferry_view *t = s->target ? s->view : s->other;

	return t && t->listens && strcmp(name, "postcopy-ram") &&
	       strcmp(name, "events");
}

static int add_cap(const struct set *s, const struct ferry_setting *row,
		   struct ferry_err *e)
{
	enum want want = want_of(s, row);
	struct json_object *o;

	if (is_fixed(s, row->name) && row->side == FERRY_SET_BOTH) {
		if (s->target)
			return 0;
		if (want_said(s, row->name) == KEEP)
			want = ferry_view_cap(s->other, row->name) ? ON : OFF;
	}
	if (want == KEEP)
		return 0;
	if (!ferry_view_has_cap(s->view, row->name)) {
		if (want == OFF || !strcmp(row->name, "events"))
			return 0;
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "%s, a QEMU "
				     "%u.%u, has no capability %s",
				     s->view->name, s->view->version / 100,
				     s->view->version % 100, row->name);
	}
	o = json_object_new_object();
	ferry_json_add_str(o, "capability", row->name);
	ferry_json_add_bool(o, "state", want == ON);
	json_object_array_add(s->caps, o);
	return 0;
}

/* ---- parameters ------------------------------------------------------------------- */

/* What it is to be, as text; NULL: as it is. */
static const char *text_of(const struct set *s,
			   const struct ferry_setting *row, char *buf,
			   size_t bytes)
{
	const char *said = ferry_wish_said(s->wish, row->name);
	uint64_t n;

	if (row->ours) {
		n = ferry_wish_u64(s->wish, row->name);
		if (!n && !strcmp(row->name, "max-bandwidth"))
			n = UNLIMITED;
		snprintf(buf, bytes, "%llu", (unsigned long long)n);
		return buf;
	}
	if (row->side != FERRY_SET_BOTH || said || !s->other)
		return said;
	/* Whatever the one side has that cannot be changed. */
	return s->target || is_fixed(s, row->name) ?
	       ferry_view_word(s->other, row->name) : NULL;
}

static int add_param(const struct set *s, const struct ferry_setting *row,
		     struct ferry_err *e)
{
	char buf[32];
	const char *text = text_of(s, row, buf, sizeof(buf));
	struct json_object *v;

	if (!text || (s->target && is_fixed(s, row->name)))
		return 0;
	if (!json_object_object_get_ex(s->view->params, row->name, NULL)) {
		if (!ferry_wish_said(s->wish, row->name))
			return 0;
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "%s, a QEMU "
				     "%u.%u, has no parameter %s",
				     s->view->name, s->view->version / 100,
				     s->view->version % 100, row->name);
	}
	v = row->type == FERRY_SET_WORD ? json_object_new_string(text) :
	    json_object_new_uint64(strtoull(text, NULL, 10));
	json_object_object_add(s->params, row->name, v);
	return 0;
}

/* ---- send --------------------------------------------------------------------------- */

static int fill(const struct set *s, struct ferry_err *e)
{
	unsigned mine = s->target ? FERRY_SET_TARGET : FERRY_SET_SOURCE;
	const struct ferry_setting *row;
	int rc = 0;

	for (size_t i = 0; !rc && (row = ferry_setting(i)); i++) {
		if (!(row->side & mine))
			continue;
		rc = row->type == FERRY_SET_CAP ? add_cap(s, row, e) :
						  add_param(s, row, e);
	}
	return rc;
}

/* Takes what was filled in. */
static int send(struct ferry_peer *p, struct set *s, struct ferry_err *e)
{
	struct json_object *args = json_object_new_object();

	json_object_object_add(args, "capabilities", ferry_steal(&s->caps));
	if (ferry_peer_call(p, "migrate-set-capabilities", args, NULL, e))
		return -1;
	if (!json_object_object_length(s->params))
		return 0;
	return ferry_peer_call(p, "migrate-set-parameters",
			       ferry_steal(&s->params), NULL, e);
}

static int settle(struct ferry_peer *p, struct set *s, struct ferry_err *e)
{
	int rc;

	s->caps = json_object_new_array();
	s->params = json_object_new_object();
	rc = fill(s, e) || send(p, s, e) ? -1 : 0;
	json_object_put(s->caps);
	json_object_put(s->params);
	return rc;
}

/* Multifd leaves no room for postcopy in older ones. */
static bool cannot_postcopy(const struct ferry_view *s,
			    const struct ferry_view *t,
			    const struct ferry_wish *w)
{
	const char *said = ferry_wish_said(w, "multifd");
	bool multifd = said ? !strcmp(said, "on") :
		       t->listens && ferry_view_cap(t, "multifd");

	return multifd && (s->version < 1002 || t->version < 1002);
}

int ferry_settle_pair(struct ferry_peer *source, struct ferry_view *s,
		      struct ferry_peer *target, struct ferry_view *t,
		      const struct ferry_wish *w, struct ferry_plan *plan,
		      struct ferry_err *why, struct ferry_err *e)
{
	struct set from = { .view = s, .wish = w, .plan = plan, .other = t };
	struct set to = { .view = t, .wish = w, .plan = plan, .other = s,
			  .target = true };

	if (!plan->must_postcopy && cannot_postcopy(s, t, w))
		plan->may_postcopy = false;
	/* The source first: the target takes after it. */
	if (settle(source, &from, e) || ferry_view_settings(s, source, e))
		return -1;
	if (settle(target, &to, e)) {
		if (!plan->may_postcopy || plan->must_postcopy ||
		    e->code != FERRY_E_PEER)
			return -1;
		*why = *e;
		plan->may_postcopy = false;
		if (settle(source, &from, e) || settle(target, &to, e))
			return -1;
	}
	if (ferry_view_settings(s, source, e) ||
	    ferry_view_settings(t, target, e))
		return -1;
	return ferry_fit_settings(s, t, e);
}

int ferry_settle_source(struct ferry_peer *source, struct ferry_view *s,
			const struct ferry_wish *w, struct ferry_plan *plan,
			struct ferry_err *e)
{
	struct set from = { .view = s, .wish = w, .plan = plan };

	if (plan->one_way && !plan->must_postcopy)
		plan->may_postcopy = false;
	if (settle(source, &from, e) || ferry_view_settings(s, source, e))
		return -1;
	plan->may_postcopy &= ferry_view_cap(s, "postcopy-ram");
	return 0;
}
