/* SPDX-License-Identifier: MIT */
/*
 * What an exit code of `ferry migrate` promises holds here too: 1 only if the
 * VM is at the source, whole.
 */
#include "refusal.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "command.h"

static bool is(const char *a, const char *b)
{
	return a && !strcmp(a, b);
}

/* Of one that is nobody's target: a source, or never moved. */
static int exit_of_source(const char *where)
{
	static const struct {
		const char *where;
		int exit;
	} codes[] = {
		{ "source",	FERRY_EXIT_FAILED },
		{ "undecided",	FERRY_EXIT_SPLIT },
		{ "split",	FERRY_EXIT_SPLIT },
		{ "target",	FERRY_EXIT_NO_VM },
	};

	for (size_t i = 0; i < FERRY_LEN(codes); i++)
		if (is(where, codes[i].where))
			return codes[i].exit;
	return FERRY_EXIT_FAILED;
}

static int exit_of_target(const char *where)
{
	if (is(where, "target"))
		return FERRY_EXIT_FAILED;	/* at home since */
	return is(where, "source") ? FERRY_EXIT_NO_VM : FERRY_EXIT_SPLIT;
}

int ferry_refusal_exit(const struct json_object *migration,
		       const struct json_object *vm)
{
	const char *role = ferry_json_str(migration, "x-ferry-role");
	const char *where = ferry_json_str(migration, "x-ferry-where");

	if (!role)
		return is(ferry_json_str(vm, "status"), "inmigrate") ?
		       FERRY_EXIT_NO_VM : FERRY_EXIT_FAILED;
	return is(role, "target") ? exit_of_target(where) :
				    exit_of_source(where);
}

bool ferry_refusal_is_split(struct ferry_peer *source)
{
	FERRY_AUTO_JSON *m = NULL;
	FERRY_AUTO_JSON *vm = NULL;
	struct ferry_err gone = { 0 };

	return !ferry_peer_look(source, &m, &vm, &gone) &&
	       ferry_refusal_exit(m, vm) == FERRY_EXIT_SPLIT;
}

/* m: may be NULL.  Not error-desc: that is of the migration before. */
static void print_json(struct json_object *m, const char *why)
{
	FERRY_AUTO_JSON *o = m ? json_object_get(m) : json_object_new_object();

	ferry_json_add_str(o, "x-ferry-refused", why);
	puts(ferry_json_text(o));
}

int ferry_refusal_plain(int code, bool json, const struct ferry_err *why)
{
	if (json)
		print_json(NULL, why->msg);
	return ferry_tool_fail(code, "%s", why->msg);
}

int ferry_refusal(struct ferry_peer *source, bool json,
		  const struct ferry_err *why)
{
	FERRY_AUTO_JSON *m = NULL;
	FERRY_AUTO_JSON *vm = NULL;
	struct ferry_err gone = { 0 };
	const char *where;
	int code;

	if (ferry_peer_look(source, &m, &vm, &gone))
		return ferry_refusal_plain(FERRY_EXIT_NO_VM, json, why);
	code = ferry_refusal_exit(m, vm);
	where = ferry_json_str(m, "x-ferry-where");
	if (json)
		print_json(m, why->msg);
	if (code == FERRY_EXIT_FAILED || !where ||
	    (code == FERRY_EXIT_NO_VM && is(where, "source")))
		return ferry_tool_fail(code, "%s", why->msg);
	return ferry_tool_fail(code, "%s; the VM is: %s", why->msg, where);
}
