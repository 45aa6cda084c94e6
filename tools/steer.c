/* SPDX-License-Identifier: MIT */
/*
 * Cancelling is only for while the VM is at the source for sure.  A QEMU obeys
 * also later, before 10.0 even in postcopy, and that loses the VM or makes two
 * of it; so it is not asked then.
 */
#include "steer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "shape.h"
#include "tempo.h"

static bool is(const char *a, const char *b)
{
	return a && !strcmp(a, b);
}

int ferry_steer_cancel(struct ferry_move *mv, struct ferry_err *e)
{
	/* A source that looks for its target would take it for the end of
	 * that. */
	if ((mv->source.kind == FERRY_PEER_QEMU && mv->postcopy) ||
	    !is(ferry_json_str(mv->m, "x-ferry-where"), "source"))
		return ferry_err_set(e, FERRY_E_STATE, 0, "the target has "
				     "taken over, or is about to");
	if (ferry_peer_call(&mv->source, "migrate_cancel", NULL, NULL, e))
		return -1;
	mv->cancelled = true;
	return 0;
}

void ferry_steer_give_up(struct ferry_move *mv, const char *text)
{
	struct ferry_err err = { 0 };

	if (ferry_steer_cancel(mv, &err))
		text = err.msg;
	snprintf(mv->why, sizeof(mv->why), "%s", text);
}

static void say_diverged(struct ferry_move *mv)
{
	const struct json_object *ram = ferry_json_obj(mv->m, "ram");
	char text[200];

	snprintf(text, sizeof(text), "precopy does not get there: after "
		 "%" PRIu64 " passes %" PRIu64 " MiB remain; allow postcopy, "
		 "a longer --max-pause or --throttle",
		 ferry_shape_passes(mv->m),
		 ferry_json_u64(ram, "remaining", 0) >> 20);
	ferry_steer_give_up(mv, text);
}

static void go_postcopy(struct ferry_move *mv)
{
	struct ferry_err err = { 0 };

	mv->postcopy = true;
	if (ferry_peer_call(&mv->source, "migrate-start-postcopy", NULL, NULL,
			    &err))
		ferry_tool_fail(0, "%s", err.msg);
}

void ferry_steer(struct ferry_move *mv)
{
	if (mv->source.kind != FERRY_PEER_QEMU || mv->postcopy ||
	    mv->cancelled || !is(mv->from.status, "active"))
		return;
	switch (ferry_tempo(&mv->plan, mv->m)) {
	case FERRY_TEMPO_GO_ON:
		return;
	case FERRY_TEMPO_POSTCOPY:
		go_postcopy(mv);
		return;
	case FERRY_TEMPO_GIVE_UP:
		say_diverged(mv);
		return;
	}
}
