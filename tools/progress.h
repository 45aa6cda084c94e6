/* SPDX-License-Identifier: MIT */
/*
 * A migration as a line of text, from query-migrate.
 */
#ifndef FERRY_TOOLS_PROGRESS_H
#define FERRY_TOOLS_PROGRESS_H

#include <stddef.h>

#include "ctl/json.h"

/* "active 43% 812 MiB/s dirty 95 MiB/s ETA 1.2 s pause ~12 ms". */
void ferry_progress_line(const struct json_object *migration, char *buf,
			 size_t bytes);

/* Cut to the width of the terminal that fd is: a line that wraps cannot be
 * written over.  Untouched where that width is not known. */
void ferry_progress_cut(char *line, int fd);

/* The exit code that a finished or broken migration deserves. */
int ferry_progress_exit(const struct json_object *migration);

/* No step is left that it takes by itself. */
int ferry_progress_ended(const struct json_object *migration);

#endif
