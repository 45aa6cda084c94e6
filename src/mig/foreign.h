/* SPDX-License-Identifier: MIT */
/*
 * What the embedder says for other processes that share the VM's memory:
 * <ferry/foreign.h>.
 *
 * Threads: as the public header says of each.
 */
#ifndef FERRY_MIG_FOREIGN_H
#define FERRY_MIG_FOREIGN_H

#include <stdbool.h>

#include <ferry/foreign.h>

#include "base/err.h"

struct ferry_vm_foreign {
	bool		 set;
	struct ferry_foreign_ops ops;
	void		*opaque;
};

/* 0 also when there are none. */
FERRY_CHECKED int ferry_foreign_can(const struct ferry_vm *vm,
				    enum ferry_foreign_ability what,
				    struct ferry_err *e);

/* A target, before anything comes. */
FERRY_CHECKED int ferry_foreign_begin(struct ferry_target *t,
				      struct ferry_err *e);
/* Faults are served here, and now in other processes too. */
FERRY_CHECKED int ferry_foreign_listen(struct ferry_target *t,
				       struct ferry_err *e);
/* Tell them, once; while faults are still served. */
void ferry_foreign_end(struct ferry_target *t, bool whole);

#endif
