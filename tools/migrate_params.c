/* SPDX-License-Identifier: MIT */
/*
 * The library's table of parameters, said in QMP.
 */
#include "migrate_params.h"

#include <string.h>

#include "names.h"

static struct json_object *value_of(const struct ferry_param_info *info,
				    uint64_t v)
{
	switch (info->type) {
	case FERRY_PARAM_BOOL:
		return json_object_new_boolean(v != 0);
	case FERRY_PARAM_UINT:
		return json_object_new_uint64(v);
	case FERRY_PARAM_CHOICE:
		return json_object_new_string(info->choices[v]);
	case FERRY_PARAM_TEXT:
		break;
	}
	return NULL;
}

static void add_capability(struct json_object *list, const char *name,
			   uint64_t v)
{
	struct json_object *row = json_object_new_object();

	ferry_json_add_str(row, "capability", name);
	ferry_json_add_bool(row, "state", v != 0);
	json_object_array_add(list, row);
}

/* All rows into the two shapes that QMP has for them. */
static int fill(const struct ferry_wish *wish, struct json_object *caps,
		struct json_object *args, struct ferry_err *e)
{
	const struct ferry_param_info *info;

	for (size_t i = 0; (info = ferry_param_info(i)); i++) {
		uint64_t v;

		if (info->type == FERRY_PARAM_TEXT) {
			if (ferry_wish_said(wish, info->name))
				ferry_json_add_str(args, info->name,
					ferry_wish_said(wish, info->name));
			continue;
		}
		if (ferry_params_get(wish->params, info->name, &v, e))
			return -1;
		if (info->is_capability)
			add_capability(caps, info->name, v);
		else
			json_object_object_add(args, info->name,
					       value_of(info, v));
	}
	return 0;
}

int ferry_migrate_params_send(struct ferry_qmp_client *c,
			      const struct ferry_wish *wish,
			      struct ferry_err *e)
{
	struct json_object *args = json_object_new_object();
	struct json_object *caps = json_object_new_array();
	struct json_object *outer = json_object_new_object();

	json_object_object_add(outer, "capabilities", caps);
	if (fill(wish, caps, args, e)) {
		json_object_put(args);
		json_object_put(outer);
		return -1;
	}
	if (ferry_qmp_client_call(c, "migrate-set-capabilities", outer,
				  FERRY_QMP_TIMEOUT_MS, NULL, e)) {
		json_object_put(args);
		return -1;
	}
	return ferry_qmp_client_call(c, "migrate-set-parameters", args,
				     FERRY_QMP_TIMEOUT_MS, NULL, e);
}
