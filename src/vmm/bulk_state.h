/* SPDX-License-Identifier: MIT */
/*
 * Devices of `ferry run` with much state (--bulk-state): each is a process of
 * its own (bulk_keeper.h), which ends with this one.
 *
 * Threads: made and freed by the control thread; run by who changes the
 *          runstate; else by the engine, as include/ferry/bulk.h says.
 */
#ifndef FERRY_VMM_BULK_STATE_H
#define FERRY_VMM_BULK_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <ferry/vm.h>

#include "base/err.h"

#define FERRY_BULK_STATES_MAX	8u

/* NAME,size=100M,rate=400M[,change=1M][,first=0][,live=1] */
struct ferry_bulk_state_config {
	char		 name[64];
	uint64_t	 bytes;		/* whole blocks */
	uint64_t	 rate;		/* bytes/s; 0: no limit */
	uint64_t	 change;	/* bytes/s, while the VM runs */
	uint64_t	 first;		/* so much before the VM is stopped */
	uint64_t	 live;		/* 0: hands out nothing before that */
};

FERRY_CHECKED int ferry_bulk_state_parse(const char *words,
					 struct ferry_bulk_state_config *c,
					 struct ferry_err *e);

/* All of the words, which name different devices. */
FERRY_CHECKED int ferry_bulk_states_check(const char *const *words, size_t n,
					  struct ferry_err *e);

struct ferry_bulk_states;

/* Starts their processes.  empty: the state is to arrive.  NULL with *e. */
struct ferry_bulk_states *
ferry_bulk_states_new(const char *const *words, size_t n, bool empty,
		      struct ferry_err *e);
void ferry_bulk_states_free(struct ferry_bulk_states *s);

FERRY_CHECKED int ferry_bulk_states_describe(struct ferry_bulk_states *s,
					     struct ferry_vm *vm,
					     struct ferry_err *e);

/* The VM runs, or does not: they change, or do not.  NULL is fine. */
void ferry_bulk_states_run(struct ferry_bulk_states *s, bool runs);

#endif
