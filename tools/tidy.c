/* SPDX-License-Identifier: MIT */
/*
 * Its list of what can be yanked has an entry for the migration until its
 * clean-up has run.  The state of the migration says nothing of that: it is
 * `failed` before.
 */
#include "tidy.h"

#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "progress.h"

#define LOOK_MS	20

static bool has_migration(struct json_object *list)
{
	for (size_t i = 0; json_object_is_type(list, json_type_array) &&
			   i < json_object_array_length(list); i++) {
		const char *type = ferry_json_str(
			json_object_array_get_idx(list, i), "type");

		if (type && !strcmp(type, "migration"))
			return true;
	}
	return false;
}

int ferry_tidy_look(struct ferry_peer *p, struct ferry_err *e)
{
	FERRY_AUTO_JSON *list = NULL;
	FERRY_AUTO_JSON *vm = NULL;
	FERRY_AUTO_JSON *m = NULL;

	if (ferry_peer_call(p, "query-yank", NULL, &list, e))
		return e->code == FERRY_E_PEER ? 1 : -1;
	if (!has_migration(list))
		return 1;
	if (ferry_peer_look(p, &m, &vm, e))
		return -1;
	return !ferry_progress_ended(m);
}

int ferry_tidy_await(struct ferry_peer *p, unsigned patience_ms,
		     struct ferry_err *e)
{
	uint64_t until = ferry_now_ns() + patience_ms * FERRY_NS_PER_MS;
	struct ferry_err err = { 0 };
	int rc;

	while (!(rc = ferry_tidy_look(p, &err)) && ferry_now_ns() < until)
		poll(NULL, 0, LOOK_MS);
	if (rc > 0)
		return 0;
	if (!rc)
		ferry_err_set(&err, FERRY_E_STATE, 0, "%s has not tidied up "
			      "after its last migration for %u s (its "
			      "query-yank still lists one), and could die of "
			      "the next: try again later", p->name,
			      patience_ms / 1000);
	if (e)
		*e = err;
	return -1;
}
