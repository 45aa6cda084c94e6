/* SPDX-License-Identifier: MIT */
/*
 * Capabilities and parameters: the library's one table, as QMP shows and sets
 * it.  Nothing here knows a name.  A set of values is taken as a whole or not
 * at all.  Control thread.
 */
#include <string.h>

#include "base/cleanup.h"
#include "vmm/control_priv.h"

/* What clients of QEMU switch on, and what is never off here. */
#define FERRY_TEXT_MAX	1024	/* of any value */

static const char *const always[] = { "events", "return-path" };

/* ---- out --------------------------------------------------------------------- */

static struct json_object *value_of(const struct ferry_params *p,
				    const struct ferry_param_info *row)
{
	char text[FERRY_TEXT_MAX] = "";
	uint64_t v = row->def;

	/* Cannot fail for a name out of the table. */
	if (row->type == FERRY_PARAM_TEXT)
		ferry_params_get_text(p, row->name, text, sizeof(text), NULL);
	else
		ferry_params_get(p, row->name, &v, NULL);
	switch (row->type) {
	case FERRY_PARAM_BOOL:
		return json_object_new_boolean(v != 0);
	case FERRY_PARAM_CHOICE:
		return json_object_new_string(row->choices[v]);
	case FERRY_PARAM_TEXT:
		return json_object_new_string(text);
	case FERRY_PARAM_UINT:
		break;
	}
	return json_object_new_uint64(v);
}

struct json_object *ferry_control_query_params(const struct ferry_params *p)
{
	struct json_object *o = json_object_new_object();
	const struct ferry_param_info *row;

	for (size_t i = 0; (row = ferry_param_info(i)); i++) {
		if (!row->is_capability)
			json_object_object_add(o, row->name, value_of(p, row));
	}
	return o;
}

static void add_cap(struct json_object *list, const char *name,
		    struct json_object *state)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "state", state);
	ferry_json_add_str(o, "capability", name);
	json_object_array_add(list, o);
}

struct json_object *ferry_control_query_caps(const struct ferry_params *p)
{
	struct json_object *list = json_object_new_array();
	const struct ferry_param_info *row;

	for (size_t i = 0; (row = ferry_param_info(i)); i++) {
		if (row->is_capability)
			add_cap(list, row->name, value_of(p, row));
	}
	for (size_t i = 0; i < FERRY_LEN(always); i++)
		add_cap(list, always[i], json_object_new_boolean(true));
	return list;
}

/* ---- in ---------------------------------------------------------------------- */

static struct ferry_params *copy_params(const struct ferry_params *from,
					struct ferry_err *e)
{
	struct ferry_params *p = ferry_params_new();
	const struct ferry_param_info *row;
	char text[FERRY_TEXT_MAX];

	if (!p) {
		ferry_err_set(e, FERRY_E_NOMEM, 0, "parameters");
		return NULL;
	}
	for (size_t i = 0; (row = ferry_param_info(i)); i++) {
		if (ferry_params_get_text(from, row->name, text, sizeof(text),
					  e) ||
		    ferry_params_set(p, row->name, text, e)) {
			ferry_params_free(p);
			return NULL;
		}
	}
	return p;
}

static const struct ferry_param_info *find_row(const char *name, bool cap)
{
	const struct ferry_param_info *row;

	for (size_t i = 0; (row = ferry_param_info(i)); i++) {
		if (!strcmp(row->name, name) && !row->is_capability == !cap)
			return row;
	}
	return NULL;
}

static const struct {
	enum json_type	 json;
	const char	*name;
} expects[] = {
	[FERRY_PARAM_BOOL]	= { json_type_boolean,	"boolean" },
	[FERRY_PARAM_UINT]	= { json_type_int,	"uint64" },
	[FERRY_PARAM_CHOICE]	= { json_type_string,	"string" },
	[FERRY_PARAM_TEXT]	= { json_type_string,	"string" },
};

/* One value into a copy, and into a running migration's own. */
struct pending {
	struct ferry_params	*copy;
	struct ferry_source	*running;	/* or NULL */
	const char		*fixed;		/* why most are; or NULL */
};

static int set_one(const struct pending *to, const struct ferry_param_info *row,
		   struct json_object *v, struct ferry_err *e)
{
	const char *text = json_object_get_string(v);

	if (!json_object_is_type(v, expects[row->type].json))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "Parameter '%s' expects %s", row->name,
				     expects[row->type].name);
	if (row->type == FERRY_PARAM_UINT && text[0] == '-')
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "Parameter '%s' expects uint64",
				     row->name);
	if (to->fixed && !row->while_running)
		return ferry_err_set(e, FERRY_E_STATE, 0, "Parameter '%s' "
				     "cannot be changed now: %s", row->name,
				     to->fixed);
	return ferry_params_set(to->copy, row->name, text, e);
}

/* All values are good: let a running migration have them too. */
static int tell_running(const struct pending *to, struct json_object *args,
			struct ferry_err *e)
{
	if (!to->running)
		return 0;
	json_object_object_foreach(args, name, v) {
		if (ferry_source_set(to->running, name,
				     json_object_get_string(v), e))
			return -1;
	}
	return 0;
}

static void swap_in(struct ferry_control *c, struct pending *to)
{
	ferry_params_free(c->params);
	c->params = ferry_steal(&to->copy);
}

static int begin(struct ferry_control *c, struct pending *to,
		 struct ferry_err *e)
{
	struct ferry_rule rule = ferry_rule_for(ferry_control_phase(c),
						FERRY_ASK_SETTINGS);

	to->fixed = rule.why;
	to->running = to->fixed ? c->mig.source : NULL;
	to->copy = copy_params(c->params, e);
	return to->copy ? 0 : -1;
}

static int set_all(const struct pending *to, struct json_object *args,
		   struct ferry_err *e)
{
	json_object_object_foreach(args, name, v) {
		const struct ferry_param_info *row = find_row(name, false);

		if (!row)
			return ferry_err_set(e, FERRY_E_INVALID, 0,
				"Parameter '%s' is unexpected", name);
		if (set_one(to, row, v, e))
			return -1;
	}
	return tell_running(to, args, e);
}

int ferry_control_set_params(struct ferry_control *c,
			     struct json_object *args, struct ferry_err *e)
{
	struct pending to;
	int rc;

	if (begin(c, &to, e))
		return -1;
	rc = set_all(&to, args, e);
	if (!rc)
		swap_in(c, &to);
	ferry_params_free(to.copy);
	return rc;
}

/* 1: it is not one of these. */
static int set_always(const char *name, struct json_object *state,
		      struct ferry_err *e)
{
	for (size_t i = 0; i < FERRY_LEN(always); i++) {
		if (strcmp(name, always[i]))
			continue;
		if (json_object_is_type(state, json_type_boolean) &&
		    json_object_get_boolean(state))
			return 0;
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "Capability "
				     "'%s' cannot be switched off", name);
	}
	return 1;
}

static int set_cap(const struct pending *to, struct json_object *o, size_t i,
		   struct ferry_err *e)
{
	const char *name = ferry_json_str(o, "capability");
	const struct ferry_param_info *row;
	struct json_object *state = NULL;
	int rc;

	if (!name)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "Parameter "
			"'capabilities[%zu].capability' is missing", i);
	if (!json_object_object_get_ex(o, "state", &state))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "Parameter "
			"'capabilities[%zu].state' is missing", i);
	rc = set_always(name, state, e);
	if (rc <= 0)
		return rc;
	row = find_row(name, true);
	if (!row)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "Parameter "
			"'capability' does not accept value '%s'", name);
	return set_one(to, row, state, e);
}

static int set_caps(const struct pending *to, struct json_object *list,
		    struct ferry_err *e)
{
	if (to->fixed)
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s", to->fixed);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		if (set_cap(to, json_object_array_get_idx(list, i), i, e))
			return -1;
	}
	return 0;
}

int ferry_control_set_caps(struct ferry_control *c, struct json_object *list,
			   struct ferry_err *e)
{
	struct pending to;
	int rc;

	if (begin(c, &to, e))
		return -1;
	rc = set_caps(&to, list, e);
	if (!rc)
		swap_in(c, &to);
	ferry_params_free(to.copy);
	return rc;
}

int ferry_control_set_pair(struct ferry_params *p, const char *pair,
			   struct ferry_err *e)
{
	const char *eq = strchr(pair, '=');
	FERRY_AUTO_FREE char *name = NULL;

	if (!eq)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "'%s' is not of the form name=value",
				     pair);
	name = strndup(pair, (size_t)(eq - pair));
	if (!name)
		return ferry_err_set(e, FERRY_E_NOMEM, 0, "parameters");
	return ferry_params_set(p, name, eq + 1, e);
}
