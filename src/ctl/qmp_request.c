/* SPDX-License-Identifier: MIT */
/*
 * The form of a request and of its arguments, with QEMU's error texts.  Pure
 * functions over json-c objects.
 */
#include "ctl/qmp.h"

#include <string.h>

static const struct {
	enum json_type	 json;
	const char	*name;
} types[] = {
	[FERRY_QMP_STR]		= { json_type_string,	"string" },
	[FERRY_QMP_INT]		= { json_type_int,	"integer" },
	[FERRY_QMP_BOOL]	= { json_type_boolean,	"boolean" },
	[FERRY_QMP_ARRAY]	= { json_type_array,	"array" },
	[FERRY_QMP_OBJECT]	= { json_type_object,	"object" },
};

static const struct ferry_qmp_arg *
find_arg(const struct ferry_qmp_command *cmd, const char *name)
{
	for (const struct ferry_qmp_arg *a = cmd->args; a->name; a++) {
		if (!strcmp(a->name, name))
			return a;
	}
	return NULL;
}

int ferry_qmp_check_args(const struct ferry_qmp_command *cmd,
			 const struct json_object *args, struct ferry_err *e)
{
	struct json_object *v;

	if (cmd->flags & FERRY_QMP_ANY_ARGS)
		return 0;

	for (const struct ferry_qmp_arg *a = cmd->args; a->name; a++) {
		if (!args || !json_object_object_get_ex(args, a->name, &v)) {
			if (a->optional)
				continue;
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "Parameter '%s' is missing",
					     a->name);
		}
		if (!json_object_is_type(v, types[a->type].json))
			return ferry_err_set(e, FERRY_E_INVALID, 0,
				"Invalid parameter type for '%s', expected: %s",
				a->name, types[a->type].name);
	}

	if (!args)
		return 0;
	json_object_object_foreach(args, name, unused) {
		(void)unused;
		if (!find_arg(cmd, name))
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "Parameter '%s' is unexpected",
					     name);
	}
	return 0;
}

static int take_command(struct ferry_qmp_request *r, const char *name,
			const struct json_object *v, bool oob,
			struct ferry_err *e)
{
	if (!json_object_is_type(v, json_type_string))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
			"QMP input member '%s' must be a string", name);
	if (r->command)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "QMP input member "
				     "'execute' clashes with 'exec-oob'");
	r->command = json_object_get_string((struct json_object *)v);
	r->oob = oob;
	return 0;
}

static int take_member(struct ferry_qmp_request *r, const char *name,
		       struct json_object *v, bool oob_agreed,
		       struct ferry_err *e)
{
	if (!strcmp(name, "execute"))
		return take_command(r, name, v, false, e);
	if (!strcmp(name, "exec-oob") && oob_agreed)
		return take_command(r, name, v, true, e);
	if (!strcmp(name, "id"))
		return 0;
	if (strcmp(name, "arguments"))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
			"QMP input member '%s' is unexpected", name);
	if (!json_object_is_type(v, json_type_object))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
			"QMP input member 'arguments' must be an object");
	r->args = v;
	return 0;
}

int ferry_qmp_request_split(struct json_object *o, bool oob_agreed,
			    struct ferry_qmp_request *r, struct ferry_err *e)
{
	*r = (struct ferry_qmp_request){ 0 };
	if (!json_object_is_type(o, json_type_object))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "QMP input must be a JSON object");

	json_object_object_get_ex(o, "id", &r->id);
	json_object_object_foreach(o, name, v) {
		if (take_member(r, name, v, oob_agreed, e))
			return -1;
	}
	if (!r->command)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "QMP input lacks member 'execute'");
	return 0;
}

struct json_object *ferry_qmp_error(const char *class_name, const char *desc)
{
	struct json_object *o = json_object_new_object();
	struct json_object *in = json_object_new_object();

	ferry_json_add_str(in, "class", class_name);
	ferry_json_add_str(in, "desc", desc);
	json_object_object_add(o, "error", in);
	return o;
}
