/* SPDX-License-Identifier: MIT */
/*
 * Placing: pages that have arrived become guest memory.
 *
 * Before the VM runs here (`precopy`) nobody else looks.  Private memory is
 * plainly written, so that it comes in huge pages, in which the VM then runs
 * faster; in files, which seldom have any, pages that are missing are placed
 * by UFFDIO_COPY where userfaultfd is at hand (it saves zeroing them first).
 * Pages that are here are written over.  From LISTEN on (`postcopy`) a page
 * appears whole or not at all: UFFDIO_COPY and UFFDIO_ZEROPAGE only; one that
 * is here already is a second copy and is dropped; one that is there and was
 * not placed by us is an error, for the guest may have read it.  A VM that is
 * parked has no memory here: its pages are written to a file.  The ways stand
 * behind one ops table.
 *
 * A huge page is there as a whole when one page of it was written.  So once
 * pages may be owed to a VM that runs - with the first discard, or LISTEN - no
 * new ones are allowed, and what is missing is dropped: from there on memory
 * is `exact`, what the map calls missing is absent.
 *
 * Where memory lacks (a full tmpfs, no free huge page), placing pauses and
 * tries again: in postcopy until there is some, for the page exists nowhere
 * else by then; before, for a few seconds.
 *
 * Threads: any number of receivers, each with its own ferry_placer; before
 *          LISTEN no two of them get the same page.  What begins, discards,
 *          listens and ends: one thread at a time.
 */
#ifndef FERRY_RECV_PLACE_H
#define FERRY_RECV_PLACE_H

#include <pthread.h>

#include "base/hist.h"
#include "mem/uffd.h"
#include "recv/foreign.h"
#include "recv/map.h"
#include "recv/sums.h"

struct ferry_place;

struct ferry_place_ops {
	const char *name;

	/* n pages, data in one piece.  Multiples of the host page where
	 * `whole`.  0 or -errno; -EEXIST: the first one of them that is not
	 * here was written by somebody else. */
	int (*pages)(struct ferry_place *p, struct ferry_mem_block *b,
		     uint64_t first, uint64_t n, const uint8_t *data);
	int (*zeroes)(struct ferry_place *p, struct ferry_mem_block *b,
		      uint64_t first, uint64_t n);

	/* What the page holds now; of one that is missing, zeroes. */
	int (*read)(struct ferry_place *p, struct ferry_mem_block *b,
		    uint64_t page, uint8_t *out);

	/* Nothing is lost by an end: a lack of room is not waited out. */
	bool may_give_up;
};

/*
 * Hears of all that is written to files, when it is: n pages, what they hold
 * in one piece; data NULL: zeroes.  Any receiver's thread; of one page no two
 * at a time.
 */
struct ferry_place_watch {
	void (*wrote)(void *arg, const struct ferry_mem_block *b,
		      uint64_t first, uint64_t n, const uint8_t *data);
	void	*arg;
};

#define FERRY_WAITING_MAX	256

/* A fault that somebody waits for. */
struct ferry_waiting {
	uint32_t	block;
	uint64_t	page;
	uint64_t	since_ns;	/* 0: free */
};

struct ferry_place {
	struct ferry_mem *mem;
	struct ferry_map *map;
	struct ferry_uffd uffd;		/* fd -1: none */
	struct ferry_foreign *foreign;	/* others who wait; NULL: nobody */
	_Atomic bool	*registered;	/* per block */
	_Atomic bool	 exact;		/* see above */

	/* For writing: missing pages are being dropped, or looked at.  For
	 * reading: some are being written and noted as here. */
	pthread_rwlock_t shape;

	bool		 in_file;	/* see ferry_place_init_file() */
	struct ferry_place_watch watch;	/* of files */
	struct ferry_sums *sums;	/* verify mode; set before a page
					 * comes */

	/* Changed once, by the main thread, while no receiver places. */
	const struct ferry_place_ops *_Atomic ops;

	pthread_mutex_t	 lock;		/* waiting */
	struct ferry_waiting waiting[FERRY_WAITING_MAX];
	struct ferry_hist faults;
	_Atomic uint64_t dropped_pages;
	_Atomic uint64_t normal_pages;
	_Atomic uint64_t zero_pages;
	_Atomic uint64_t received_bytes;	/* over all channels */
	_Atomic bool	 stopped;	/* give up retrying */
	uint64_t	 patience_ns;	/* with a lack of memory, in precopy */
	struct ferry_err no_uffd;	/* why there is none; of begin() */
};

FERRY_CHECKED int ferry_place_init(struct ferry_place *p, struct ferry_mem *mem,
				   struct ferry_map *map, struct ferry_err *e);
/* The same for blocks that lie in files and are not known yet; mem and map are
 * filled before the first page comes.  There are no faults then.  watch is
 * copied; NULL: nobody wants to know. */
FERRY_CHECKED int ferry_place_init_file(struct ferry_place *p,
					struct ferry_mem *mem,
					struct ferry_map *map,
					const struct ferry_place_watch *watch,
					struct ferry_err *e);
void ferry_place_fini(struct ferry_place *p);

/* Of files: pages that are zero become holes, whatever was there before or was
 * promised to them.  When all pages are here.  0 or -errno. */
int ferry_place_trim(struct ferry_place *p);

/* Empty all blocks and, when userfaultfd is at hand, register files of 4 KiB
 * pages and see that other memory could be.  It is no error when it is not. */
FERRY_CHECKED int ferry_place_begin(struct ferry_place *p,
				    struct ferry_err *e);

/* Postcopy can be had: userfaultfd was at hand in begin(), whatever happened
 * since; else why it was not. */
FERRY_CHECKED int ferry_place_can_listen(const struct ferry_place *p,
					 struct ferry_err *why);

/* Make exact, and register the rest: missing pages fault from now on, for
 * everyone. */
FERRY_CHECKED int ferry_place_listen(struct ferry_place *p,
				     struct ferry_err *e);

/* Do not wait for memory any more: what cannot be placed now is an error.  Any
 * thread. */
void ferry_place_stop_waiting(struct ferry_place *p);
/* As before it; no receiver is there. */
void ferry_place_wait_again(struct ferry_place *p);

/* Faults are normal again; what still arrives is dropped.  Receivers may go
 * on: userfaultfd stays open until fini. */
void ferry_place_end(struct ferry_place *p);

/* The VM will never be whole: make what is missing inaccessible, so that who
 * waits for it gets an error instead of zeroes; then as ferry_place_end(). */
void ferry_place_abandon(struct ferry_place *p);

/* Pages are complete and the VM does not run yet: unregister, so that loading
 * devices may touch what is known to be zero. */
void ferry_place_complete(struct ferry_place *p);

/* Forget pages: they become missing.  Before LISTEN only; others may be placed
 * meanwhile. */
FERRY_CHECKED int ferry_place_discard(struct ferry_place *p,
				      struct ferry_mem_block *b,
				      uint64_t first, uint64_t n,
				      struct ferry_err *e);

/* Somebody waits for this page: note when, for the statistics. */
void ferry_place_wait_begins(struct ferry_place *p, uint32_t block,
			     uint64_t page);

/* How long the one who waits longest has waited; 0: nobody waits.  *pages: how
 * many are waited for, as far as they are noted; may be NULL. */
uint64_t ferry_place_oldest_wait_ns(struct ferry_place *p, unsigned *pages);

/*
 * One receiver's view: puts host pages together that arrive in pieces.
 */
struct ferry_placer {
	struct ferry_place *place;
	uint32_t	 way;		/* how the pages come: recv/sums.h */
	uint8_t		*host;		/* one huge page being assembled */
	struct ferry_mem_block *block;
	uint64_t	 first;		/* its first page */
	uint32_t	 have;		/* pages of it so far */
	bool		 all_zero;
};

void ferry_placer_init(struct ferry_placer *r, struct ferry_place *place);
void ferry_placer_fini(struct ferry_placer *r);

FERRY_CHECKED int ferry_placer_pages(struct ferry_placer *r,
				     struct ferry_mem_block *b, uint64_t first,
				     uint64_t n, const uint8_t *data,
				     struct ferry_err *e);
/* An XBZRLE page: what differs from what is there.  Before LISTEN only. */
FERRY_CHECKED int ferry_placer_patch(struct ferry_placer *r,
				     struct ferry_mem_block *b, uint64_t page,
				     const uint8_t *patch, size_t bytes,
				     struct ferry_err *e);
FERRY_CHECKED int ferry_placer_zeroes(struct ferry_placer *r,
				      struct ferry_mem_block *b,
				      uint64_t first, uint64_t n,
				      struct ferry_err *e);

#endif
