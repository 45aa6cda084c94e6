/* SPDX-License-Identifier: MIT */
/*
 * Only what is in the table of wish.h was changed by us, and is compared.
 */
#include "undo.h"

#include <string.h>

#include "base/cleanup.h"
#include "shape.h"
#include "wish.h"

/* Nobody wants to wait long for the end of what was refused. */
#define PATIENCE_MS	5000

void ferry_undo_note(struct ferry_undo *u, const struct ferry_view *v)
{
	if (v->kind != FERRY_PEER_QEMU || u->caps)
		return;
	u->caps = json_object_get(v->caps);
	u->params = json_object_get(v->params);
}

void ferry_undo_fini(struct ferry_undo *u)
{
	json_object_put(u->caps);
	json_object_put(u->params);
	u->caps = u->params = NULL;
}

static void add_cap(struct json_object *list, const struct ferry_view *was,
		    const struct ferry_view *is, const char *name)
{
	bool on = ferry_view_cap(was, name);
	struct json_object *o;

	if (!ferry_view_has_cap(was, name) || on == ferry_view_cap(is, name))
		return;
	o = json_object_new_object();
	ferry_json_add_str(o, "capability", name);
	ferry_json_add_bool(o, "state", on);
	json_object_array_add(list, o);
}

/* A word that was not there is said to be none. */
static void add_param(struct json_object *list, const struct ferry_view *was,
		      const struct ferry_view *is, const char *name)
{
	struct json_object *v = NULL;

	if (!strcmp(ferry_view_word(was, name), ferry_view_word(is, name)))
		return;
	json_object_object_get_ex(was->params, name, &v);
	json_object_object_add(list, name, v ? json_object_get(v) :
			       json_object_new_string(""));
}

/* Takes both. */
static int send(struct ferry_peer *p, struct json_object *caps,
		struct json_object *params, struct ferry_err *e)
{
	FERRY_AUTO_JSON *later = params;
	struct json_object *args = json_object_new_object();
	bool any = json_object_array_length(caps) > 0;

	json_object_object_add(args, "capabilities", caps);
	if (!any)
		json_object_put(args);
	else if (ferry_peer_call(p, "migrate-set-capabilities", args, NULL, e))
		return -1;
	if (!json_object_object_length(later))
		return 0;
	return ferry_peer_call(p, "migrate-set-parameters",
			       ferry_steal(&later), NULL, e);
}

static int put_back(const struct ferry_undo *u, struct ferry_peer *p,
		    struct ferry_err *e)
{
	const struct ferry_view was = { .caps = u->caps, .params = u->params };
	struct json_object *caps, *params;
	const struct ferry_setting *row;
	FERRY_AUTO_VIEW is = { 0 };

	if (ferry_view_settings(&is, p, e))
		return -1;
	caps = json_object_new_array();
	params = json_object_new_object();
	for (size_t i = 0; (row = ferry_setting(i)); i++)
		if (row->type == FERRY_SET_CAP)
			add_cap(caps, &was, &is, row->name);
		else
			add_param(params, &was, &is, row->name);
	return send(p, caps, params, e);
}

int ferry_undo(struct ferry_undo *u, struct ferry_peer *p,
	       struct ferry_err *e)
{
	FERRY_AUTO_JSON *m = NULL;
	FERRY_AUTO_JSON *vm = NULL;

	if (!u->caps || !p->qmp)
		return 0;
	p->patience_ms = PATIENCE_MS;
	if (ferry_peer_look(p, &m, &vm, e))
		return -1;
	return ferry_shape_listens(m) ? 0 : put_back(u, p, e);
}
