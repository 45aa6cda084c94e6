/* SPDX-License-Identifier: MIT */
/*
 * The ways in which `ferry dump` shows records: one ops table each.  All write
 * to stdout.
 */
#ifndef FERRY_TOOLS_DUMP_PRINT_H
#define FERRY_TOOLS_DUMP_PRINT_H

#include "park/dump.h"

/* Their argument: */
struct ferry_dump_print {
	unsigned	lists;		/* that are open */
	bool		first;		/* of the values of a list */
};

extern const struct ferry_dump_ops ferry_dump_as_text;
extern const struct ferry_dump_ops ferry_dump_as_json;

/* Counts kinds of records instead of showing them. */
#define FERRY_DUMP_KINDS_MAX	128u

struct ferry_dump_count {
	struct ferry_dump_kinds {
		const char	*record, *what;
		uint64_t	 times, bytes;
	} kind[FERRY_DUMP_KINDS_MAX];
	size_t		kinds;
	size_t		now;		/* the record that is told */
};

extern const struct ferry_dump_ops ferry_dump_as_count;

void ferry_dump_count_print(const struct ferry_dump_count *c, bool json);

/* The last line of JSON after a failure. */
void ferry_dump_error_print(const struct ferry_dump_where *w,
			    const char *what);

#endif
