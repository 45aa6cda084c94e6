/* SPDX-License-Identifier: MIT */
/*
 * A QEMU's settings as they were before a migration was prepared: one that is
 * refused leaves nothing behind that the next one would trip over.
 */
#ifndef FERRY_TOOLS_UNDO_H
#define FERRY_TOOLS_UNDO_H

#include "view.h"

struct ferry_undo {
	struct json_object *caps, *params;	/* NULL: nothing was changed */
};

/* Before the first change; of ferry run nothing is noted. */
void ferry_undo_note(struct ferry_undo *u, const struct ferry_view *v);

/* Put back what is not as it was.  One that listens keeps what it listens
 * with: the next source is set after that. */
FERRY_CHECKED int ferry_undo(struct ferry_undo *u, struct ferry_peer *p,
			     struct ferry_err *e);

void ferry_undo_fini(struct ferry_undo *u);

#endif
