/* SPDX-License-Identifier: MIT */
/*
 * Reading the half of a VM (wire/half.h): record by record, each checked
 * before anything of it is handed out.  One thread.
 */
#ifndef FERRY_PARK_HALF_H
#define FERRY_PARK_HALF_H

#include <limits.h>
#include <stdio.h>

#include "wire/half.h"
#include "wire/hello.h"

struct ferry_half_file {
	char		 path[PATH_MAX];
	FILE		*file;
	uint8_t		*buf;		/* a record */
	struct ferry_half_head head;
	struct ferry_hello vm;		/* name, blocks, facts */
	struct ferry_half_end count;	/* of what was handed out */
	uint64_t	 sums;		/* too */
	uint32_t	 last;		/* type of the record before */
};

/* What a record holds; borrowed until the next. */
struct ferry_half_record {
	uint32_t	 type;		/* HAS, SUMS, STATE, PAGES, END */
	struct ferry_half_place place;
	uint64_t	 n;		/* runs, sums, octets or pages */
	const uint8_t	*data;		/* runs and sums as in the file; state;
					 * pages */
};

/* Messages name the file. */
FERRY_CHECKED int ferry_half_open(struct ferry_half_file *h, const char *path,
				  struct ferry_err *e);
void ferry_half_close(struct ferry_half_file *h);

/* Blocks and pages that it names are there.  END: the file has ended, and all
 * of it was there. */
FERRY_CHECKED int ferry_half_next(struct ferry_half_file *h,
				  struct ferry_half_record *r,
				  struct ferry_err *e);

/* Of a HAS. */
struct ferry_half_run ferry_half_run_at(const struct ferry_half_record *r,
					uint64_t i);

#endif
