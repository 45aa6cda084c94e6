/* SPDX-License-Identifier: MIT */
/*
 * What a QEMU is asked before it takes part in a migration.  What it does not
 * answer (commands come and go with its versions) is left out: it is for
 * earlier and better words only, QEMU checks again.
 */
#include "view.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "names.h"
#include "shape.h"

static struct json_object *ask(struct ferry_peer *p, const char *command,
			       struct json_object *args)
{
	struct json_object *ret = NULL;

	if (ferry_qmp_client_call(p->qmp, command, args,
				  FERRY_QMP_TIMEOUT_MS, &ret, NULL))
		return NULL;
	return ret;
}

/* "pc-i440fx-7.2-machine", a class, without its last word. */
static void look_machine(struct ferry_view *v, struct ferry_peer *p)
{
	struct json_object *args = json_object_new_object();
	FERRY_AUTO_JSON *type = NULL;
	const char *text;
	size_t n;

	ferry_json_add_str(args, "path", "/machine");
	ferry_json_add_str(args, "property", "type");
	type = ask(p, "qom-get", args);
	text = type ? json_object_get_string(type) : "";
	n = strlen(text);
	if (n > 8 && !strcmp(text + n - 8, "-machine"))
		n -= 8;
	snprintf(v->machine, sizeof(v->machine), "%.*s", (int)n, text);
}

static void look_size(struct ferry_view *v, struct ferry_peer *p)
{
	FERRY_AUTO_JSON *ram = ask(p, "query-memory-size-summary", NULL);
	FERRY_AUTO_JSON *cpus = ask(p, "query-cpus-fast", NULL);

	v->ram_bytes = ferry_json_u64(ram, "base-memory", 0) +
		       ferry_json_u64(ram, "plugged-memory", 0);
	if (json_object_is_type(cpus, json_type_array))
		v->vcpus = json_object_array_length(cpus);
}

static struct json_object *by_name(struct json_object *list)
{
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; json_object_is_type(list, json_type_array) &&
			   i < json_object_array_length(list); i++) {
		struct json_object *row = json_object_array_get_idx(list, i);
		const char *name = ferry_json_str(row, "capability");

		if (name)
			ferry_json_add_bool(o, name, ferry_json_bool(row,
							"state", false));
	}
	return o;
}

int ferry_view_settings(struct ferry_view *v, struct ferry_peer *p,
			struct ferry_err *e)
{
	FERRY_AUTO_JSON *list = NULL;

	json_object_put(v->caps);
	json_object_put(v->params);
	v->caps = v->params = NULL;
	if (ferry_peer_call(p, "query-migrate-capabilities", NULL, &list, e) ||
	    ferry_peer_call(p, "query-migrate-parameters", NULL, &v->params,
			    e))
		return -1;
	v->caps = by_name(list);
	return 0;
}

/* The first reason, in QEMU's words. */
static void look_blocked(struct ferry_view *v, const struct json_object *m)
{
	struct json_object *list = NULL;
	const char *why = NULL;

	json_object_object_get_ex(m, "blocked-reasons", &list);
	if (json_object_is_type(list, json_type_array) &&
	    json_object_array_length(list))
		why = json_object_get_string(json_object_array_get_idx(list,
								       0));
	snprintf(v->blocked, sizeof(v->blocked), "%s", why ? why : "");
}

int ferry_view_init(struct ferry_view *v, struct ferry_peer *p,
		    struct ferry_err *e)
{
	FERRY_AUTO_JSON *m = NULL;
	FERRY_AUTO_JSON *vm = NULL;
	const char *state;

	*v = (struct ferry_view){ .name = p->name, .kind = p->kind,
				  .version = p->version };
	if (ferry_peer_look(p, &m, &vm, e) || ferry_view_settings(v, p, e))
		return -1;
	state = ferry_json_str(vm, "status");
	snprintf(v->state, sizeof(v->state), "%s", state ? state : "unknown");
	v->waits = !strcmp(v->state, "inmigrate");
	v->listens = v->waits && ferry_shape_listens(m);
	look_blocked(v, m);
	if (v->kind == FERRY_PEER_QEMU) {
		look_machine(v, p);
		look_size(v, p);
	}
	return 0;
}

void ferry_view_fini(struct ferry_view *v)
{
	json_object_put(v->caps);
	json_object_put(v->params);
	v->caps = v->params = NULL;
}

bool ferry_view_cap(const struct ferry_view *v, const char *name)
{
	return ferry_json_bool(v->caps, name, false);
}

bool ferry_view_has_cap(const struct ferry_view *v, const char *name)
{
	return json_object_object_get_ex(v->caps, name, NULL);
}

const char *ferry_view_word(const struct ferry_view *v, const char *name)
{
	struct json_object *o = NULL;

	json_object_object_get_ex(v->params, name, &o);
	return o ? json_object_get_string(o) : "";
}
