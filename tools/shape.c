/* SPDX-License-Identifier: MIT */
/*
 * Where a QEMU's VM is, by its state.  Unlike ferry it does not say what it has
 * sent: while it hands over (`device`), and after a postcopy that it calls
 * `failed`, that is undecided.  Pure.
 */
#include "shape.h"

#include <string.h>

#include "base/cleanup.h"

#define UNDECIDED	"undecided"
#define SPLIT		"split"
#define SOURCE		"source"
#define TARGET		"target"

static const struct {
	const char *state, *source, *target;
} places[] = {
	{ "device",			UNDECIDED,	SOURCE },
	{ "postcopy-device",		UNDECIDED,	UNDECIDED },
	{ "postcopy-active",		SPLIT,		SPLIT },
	{ "postcopy-paused",		SPLIT,		SPLIT },
	{ "postcopy-recover-setup",	SPLIT,		SPLIT },
	{ "postcopy-recover",		SPLIT,		SPLIT },
	{ "completed",			TARGET,		TARGET },
};

static bool has(const struct json_object *o, const char *key)
{
	return json_object_object_get_ex(o, key, NULL);
}

static bool is(const char *a, const char *b)
{
	return a && !strcmp(a, b);
}

/* Its memory went, or began to go, by postcopy. */
static bool in_postcopy(const struct json_object *m)
{
	const struct json_object *ram = ferry_json_obj(m, "ram");

	return ferry_json_u64(ram, "postcopy-bytes", 0) ||
	       ferry_json_u64(ram, "postcopy-requests", 0);
}

static const char *where_of(const struct json_object *m, bool source,
			    const char *run_state)
{
	const char *state = ferry_json_str(m, "status");

	/* Somebody took back what was given away (postmigrate). */
	if (source && is(state, "completed") &&
	    (is(run_state, "running") || is(run_state, "paused")))
		return UNDECIDED;
	/* 7.2 stops the guest and still calls it active. */
	if (source && is(state, "active") && is(run_state, "finish-migrate"))
		return UNDECIDED;
	/* Who fails in postcopy may have lost only the target's last word. */
	if (source && (is(state, "failed") || is(state, "failing")) &&
	    in_postcopy(m))
		return UNDECIDED;
	for (size_t i = 0; i < FERRY_LEN(places); i++)
		if (is(state, places[i].state))
			return source ? places[i].source : places[i].target;
	return SOURCE;
}

void ferry_shape_where(struct json_object *m, const char *where)
{
	bool either = is(where, SOURCE) || is(where, TARGET);

	json_object_object_del(m, "x-ferry-where");
	json_object_object_del(m, "x-ferry-safe");
	ferry_json_add_str(m, "x-ferry-where", where);
	ferry_json_add_str(m, "x-ferry-safe", either ? where : "none");
}

/*
 * A QEMU does not say which of the two it was.  A source has figures of RAM, but
 * not before it is connected; a target that does not wait any more has none, and
 * in none of these states.
 */
static bool was_source(const struct json_object *m)
{
	static const char *const states[] = {
		"setup", "failed", "failing", "cancelling", "cancelled",
	};

	for (size_t i = 0; i < FERRY_LEN(states); i++)
		if (is(ferry_json_str(m, "status"), states[i]))
			return true;
	return ferry_json_obj(m, "ram");
}

void ferry_shape_qemu(struct json_object *m, const char *run_state,
		      const char *software)
{
	const struct json_object *ram = ferry_json_obj(m, "ram");
	bool waits = is(run_state, "inmigrate");
	bool source = !waits && was_source(m);
	uint64_t requests = ferry_json_u64(ram, "postcopy-requests", 0);
	struct json_object *faults;

	/* One that listens has no state until somebody comes. */
	if (waits && !has(m, "status") && has(m, "socket-address"))
		ferry_json_add_str(m, "status", "setup");
	if (!has(m, "status"))
		return;
	ferry_json_add_str(m, "x-ferry-software", software);
	ferry_json_add_str(m, "x-ferry-role", source ? SOURCE : TARGET);
	ferry_shape_where(m, where_of(m, source, run_state));
	if (!requests)
		return;
	faults = json_object_new_object();
	ferry_json_add_u64(faults, "count", requests);
	json_object_object_add(m, "x-ferry-faults", faults);
}

bool ferry_shape_listens(const struct json_object *m)
{
	return is(ferry_json_str(m, "status"), "setup");
}

/* QEMU counts the first look at the dirty log, too. */
uint64_t ferry_shape_passes(const struct json_object *m)
{
	uint64_t n = ferry_json_u64(ferry_json_obj(m, "ram"),
				    "dirty-sync-count", 0);

	return n && has(m, "x-ferry-software") ? n - 1 : n;
}
