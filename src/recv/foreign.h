/* SPDX-License-Identifier: MIT */
/*
 * Faults of other processes: their userfaultfds, and where each has the VM's
 * memory.  All of them share one page cache with us: a page that is placed here
 * is there for everybody, but who waits for it in another process has to be
 * woken through that process' userfaultfd.
 *
 * Threads: add, remove and wake by any; the fault thread reads.
 * Order:   `lock` is the innermost of all, and nothing waits under it.
 * Trust:   the other process may lie, about its addresses too: it can ask for
 *          any page of the VM, which it has anyway, and be left waiting.  It
 *          shares the flags of its userfaultfd with us: reading never relies
 *          on O_NONBLOCK.
 */
#ifndef FERRY_RECV_FOREIGN_H
#define FERRY_RECV_FOREIGN_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include <ferry/foreign.h>

#include "mem/mem.h"

#define FERRY_FOREIGN_MAX	64u
#define FERRY_FOREIGN_AT_ONCE	32u	/* faults of one process in a row */

struct ferry_foreign_uffd {
	int		fd;		/* ours; -1: free */
	int		number;
	char		name[64];
	bool		told;		/* that it cannot be helped */
	uint32_t	ranges;
	struct ferry_uffd_range range[FERRY_UFFD_RANGES_MAX];
};

struct ferry_foreign {
	int		changed;	/* eventfd: the fault thread is to look */
	/* Tells that one was dropped, or cannot be helped. */
	void		(*say)(void *arg, const char *name, const char *what);
	void		*arg;
	_Atomic unsigned count;		/* that are there; 0: no lock is
					 * taken for a page */

	pthread_mutex_t	lock;		/* all of this: */
	bool		open;		/* faults are served */
	int		next;
	struct ferry_foreign_uffd uffd[FERRY_FOREIGN_MAX];
};

/* say and arg are filled by the caller. */
FERRY_CHECKED int ferry_foreign_init(struct ferry_foreign *o,
				     struct ferry_err *e);
void ferry_foreign_fini(struct ferry_foreign *o);

/* From here on they may be added. */
void ferry_foreign_open(struct ferry_foreign *o);
/* All pages are here, or nobody asks for any more: whoever waits looks again,
 * and all are closed. */
void ferry_foreign_close(struct ferry_foreign *o);

/* fd is duplicated.  A number, or -1 with *e. */
int ferry_foreign_add(struct ferry_foreign *o, struct ferry_mem *mem, int fd,
		      const char *name, const struct ferry_uffd_range *range,
		      size_t n, struct ferry_err *e);
void ferry_foreign_remove(struct ferry_foreign *o, int number);

/* These octets of ours are here now: who waits for them looks again. */
void ferry_foreign_wake(struct ferry_foreign *o, const void *host,
			uint64_t bytes);

/* ---- the fault thread ----------------------------------------------------- */

/* What to wait for; how many there are.  number: of each, for read. */
unsigned ferry_foreign_poll(struct ferry_foreign *o,
			    struct pollfd p[FERRY_FOREIGN_MAX],
			    int number[FERRY_FOREIGN_MAX]);

/* Where faults are, in our addresses; one that is ready, by its revents.
 * One that is at fault is dropped. */
unsigned ferry_foreign_read(struct ferry_foreign *o, int number, short revents,
			    void *host[FERRY_FOREIGN_AT_ONCE]);

#endif
