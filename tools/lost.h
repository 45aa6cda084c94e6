/* SPDX-License-Identifier: MIT */
/*
 * What a person is told of a link that was lost: since when, who waits for it,
 * what a rollback would rest on, and what can be done.  Pure.
 */
#ifndef FERRY_TOOLS_LOST_H
#define FERRY_TOOLS_LOST_H

#include <stdio.h>

#include "ctl/json.h"

/* m: query-migrate.  Lines of `ferry status`; none where all is well. */
void ferry_lost_print(FILE *to, const struct json_object *m);

/* What a person can do about a link that is lost; NULL: nothing needs to be. */
const char *ferry_lost_ways(const struct json_object *m);

#endif
