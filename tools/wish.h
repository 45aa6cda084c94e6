/* SPDX-License-Identifier: MIT */
/*
 * What the user wants of a migration: ferry's parameters, and what only a QEMU
 * has.
 */
#ifndef FERRY_TOOLS_WISH_H
#define FERRY_TOOLS_WISH_H

#include <ferry/params.h>

#include "ctl/json.h"

struct ferry_wish {
	struct ferry_params *params;	/* of ferry's table */
	struct json_object *said;	/* name -> text; a boolean: on, off */
};

/* A setting of QEMU's; those that ferry's table has too stand in both. */
struct ferry_setting {
	const char *name;
	enum { FERRY_SET_CAP, FERRY_SET_NUMBER, FERRY_SET_WORD } type;
	enum { FERRY_SET_SOURCE = 1, FERRY_SET_TARGET, FERRY_SET_BOTH } side;
	bool	    ours;	/* ferry sets it, whether said or not */
	bool	    never;	/* and only to off */
};

/* Row i, or NULL past the end. */
const struct ferry_setting *ferry_setting(size_t i);

FERRY_CHECKED int ferry_wish_init(struct ferry_wish *w, struct ferry_err *e);
void ferry_wish_fini(struct ferry_wish *w);

/* One NAME=VALUE; refused when neither ferry nor a QEMU knows it, or when
 * the value is none. */
FERRY_CHECKED int ferry_wish_set(struct ferry_wish *w, const char *name,
				 const char *value, struct ferry_err *e);

/* The text that was said of it, or NULL. */
const char *ferry_wish_said(const struct ferry_wish *w, const char *name);

/* Of ferry's table. */
uint64_t ferry_wish_u64(const struct ferry_wish *w, const char *name);

/* Nothing was said that only a QEMU, or only ferry run, has. */
FERRY_CHECKED int ferry_wish_for_ferry(const struct ferry_wish *w,
				       struct ferry_err *e);
FERRY_CHECKED int ferry_wish_for_qemu(const struct ferry_wish *w,
				      struct ferry_err *e);

#endif
