/* SPDX-License-Identifier: MIT */
/*
 * The backend's half of postcopy.
 *
 * ADVISE: we open a userfaultfd and hand the front-end a copy.  LISTEN: the
 * memory that comes now will have holes.  The memory table: we map it without
 * touching it, answer with our addresses, and after the front-end's word
 * register it: from then on a missing page is the front-end's to bring.  END:
 * all is here.
 *
 * When the front-end dies in between, its copy of the userfaultfd goes with it,
 * and the kernel would let waiters read zeroes.  So `touch` is told first that
 * the memory is broken; then holes get a private page of zeroes each, whoever
 * waits is let go and finds out that it is broken.  What is here stays as it
 * is, for system calls that are under way with it.
 *
 * Threads: the control thread.
 */
#ifndef FERRY_VU_BE_POSTCOPY_H
#define FERRY_VU_BE_POSTCOPY_H

#include <stdbool.h>

#include "base/err.h"

struct ferry_vb_memory;
struct ferry_vb_touch;

struct ferry_vb_postcopy {
	int	uffd;		/* -1: not advised */
	bool	listening;
	bool	registered;	/* some memory is */
};

#define FERRY_VB_POSTCOPY_NONE { .uffd = -1 }

/* Why not, with the fix; or 0. */
FERRY_CHECKED int ferry_vb_postcopy_probe(struct ferry_err *e);

/* Open (or use `handed`, taken, if not -1).  Again: does nothing.  The copy
 * for the front-end, or -1. */
FERRY_CHECKED int ferry_vb_postcopy_advise(struct ferry_vb_postcopy *p,
					   int handed, struct ferry_err *e);

/* Register all of it and let it be used (it was mapped PROT_NONE). */
FERRY_CHECKED int ferry_vb_postcopy_register(struct ferry_vb_postcopy *p,
					     struct ferry_vb_memory *m,
					     struct ferry_vb_touch *t,
					     struct ferry_err *e);

/* All pages are here. */
void ferry_vb_postcopy_end(struct ferry_vb_postcopy *p,
			   struct ferry_vb_memory *m,
			   struct ferry_vb_touch *t);

/* The front-end is gone.  Nothing but this lets waiting threads go. */
void ferry_vb_postcopy_abandon(struct ferry_vb_postcopy *p,
			       struct ferry_vb_memory *m,
			       struct ferry_vb_touch *t);

#endif
