/* SPDX-License-Identifier: MIT */
/*
 * The checks, a table for each group.  A check gets a connection that nobody
 * has spoken on, and guest memory that nobody has used.
 */
#ifndef FERRY_VU_CHECK_ROWS_H
#define FERRY_VU_CHECK_ROWS_H

#include "vu/check/talk.h"

struct ferry_vc_row {
	struct ferry_vu_check	check;
	bool			asks;	/* it needs to know which device */

	/* 0; -1 or FERRY_VC_.. with c->err. */
	int			(*run)(struct ferry_vc *c);
	const void		*arg;	/* of run: c->row->arg */
};

struct ferry_vc_group {
	const struct ferry_vc_row *row;
	size_t			n;
};

extern const struct ferry_vc_group ferry_vc_handshake;
extern const struct ferry_vc_group ferry_vc_rings;
extern const struct ferry_vc_group ferry_vc_log;
extern const struct ferry_vc_group ferry_vc_postcopy;
extern const struct ferry_vc_group ferry_vc_state_rows;
extern const struct ferry_vc_group ferry_vc_bad;

#endif
