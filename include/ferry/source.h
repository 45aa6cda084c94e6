/* SPDX-License-Identifier: MIT */
/*
 * The source: gives the VM away.
 *
 * One object is one migration attempt.  All functions may be called from any
 * thread; only ferry_source_wait() and ferry_source_free() block.
 *
 * URIs: tcp:HOST:PORT (HOST may be [v6]), unix:PATH, fd:N, file:PATH.
 */
#ifndef FERRY_SOURCE_H
#define FERRY_SOURCE_H

#include <ferry/event.h>
#include <ferry/params.h>
#include <ferry/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ferry_source;

/*
 * params and cb may be NULL (defaults, nothing told); both are copied.
 * Fails with FERRY_E_STATE when the VM is already part of a migration.
 */
struct ferry_source *ferry_source_new(struct ferry_vm *vm,
				      const struct ferry_params *params,
				      const struct ferry_callbacks *cb,
				      struct ferry_err *e);

/*
 * Begin.  Returns at once; connecting and all else happens on the engine's
 * threads, failures arrive as an event and by ferry_source_wait().  Fails at
 * once for a malformed URI, or for parameters that the URI cannot carry
 * (postcopy over file:).
 */
int ferry_source_start(struct ferry_source *s, const char *uri,
		       struct ferry_err *e);

/*
 * A further address of the same target, to be tried in turn after the link was
 * lost: another network, say.  tcp: or unix:; at most 8 with the first.  At any
 * time.
 */
int ferry_source_add_path(struct ferry_source *s, const char *uri,
			  struct ferry_err *e);

/* Go to postcopy as soon as possible; needs postcopy-ram.  Once is enough. */
int ferry_source_start_postcopy(struct ferry_source *s, struct ferry_err *e);

/*
 * Give up, VM goes on here.  Asynchronous: ends in `cancelled`.  Refused with
 * FERRY_E_STATE and the reason after the commit; but a source that lost its
 * link and looks for it stops doing so, and stays paused.
 */
int ferry_source_cancel(struct ferry_source *s, struct ferry_err *e);

/* In postcopy: break the link, and leave it so until recover is called. */
int ferry_source_pause(struct ferry_source *s, struct ferry_err *e);

/*
 * Paused: find the target again now, at this address first (NULL: those it has
 * been given).  Asynchronous.  A ferry does so by itself for x-ferry-recover;
 * then this is for another address, or when that is over.
 */
int ferry_source_recover(struct ferry_source *s, const char *uri,
			 struct ferry_err *e);

/*
 * Paused, and the link will not come back: write what this side has of the VM
 * to fd (a file, or a pipe), for `ferry rescue merge`.  It gives the migration
 * up: from here on the source does not come back to its target, whether this
 * succeeds or not; it may be repeated.  Blocks; any thread.
 */
int ferry_source_rescue(struct ferry_source *s, int fd, struct ferry_err *e);

/*
 * Paused, and the target is lost for good: run the VM here again, as it was at
 * the switchover.  What it did at the target since is lost.
 *
 * The caller says by this that the target is dead.  With x-ferry-lease that is
 * not all: refused as long as the target's lease has not run out, and when the
 * target may be rid of it (stats: rollback, lease_left_ns).  Refused too when
 * not all was kept here (release-ram), or this half was dumped for a rescue.
 *
 * The session is burnt: from here on nobody recovers it.  The target is looked
 * for, for x-ferry-recover, and told that its VM is void; then it gives it up.
 *
 * 0: the VM is here, and runs if it ran before; the state is `failed`.  -1:
 * nothing has changed.  Blocks for a moment; not from a callback.
 */
int ferry_source_rollback(struct ferry_source *s, struct ferry_err *e);

/* Change a parameter; while running only those marked while_running. */
int ferry_source_set(struct ferry_source *s, const char *name,
		     const char *value, struct ferry_err *e);

/*
 * Wait until the attempt has ended (completed, failed, cancelled) or does not
 * go on by itself (postcopy-paused, and the link is not looked for, or no
 * more), at most timeout_ms (-1: for ever).
 * 0: completed.  -1: *e says why; FERRY_E_TIMEOUT when time ran out.
 */
int ferry_source_wait(struct ferry_source *s, int timeout_ms,
		      struct ferry_err *e);

/* May the embedder run the VM here now (QMP `cont`)?  0, or -1 with why not. */
int ferry_source_may_run(struct ferry_source *s, struct ferry_err *e);

void ferry_source_stats(struct ferry_source *s, struct ferry_stats *out);

/* The i-th connection for pages, from 0 on: 0, or -1 when there are not so
 * many (none with a QEMU, or before there was an answer). */
int ferry_source_channel(struct ferry_source *s, unsigned i,
			 struct ferry_channel_stats *out);

/*
 * Ends threads and connections and frees.  A migration that is under way is
 * broken off: before the commit the VM resumes here; after it the VM stays
 * stopped here and what was not sent is lost to the target.
 */
void ferry_source_free(struct ferry_source *s);

/*
 * "Move it, well": all defaults, waits for the end.  0: it runs there.
 * -1: *e says why, *where (may be NULL) where the VM is.
 */
int ferry_migrate(struct ferry_vm *vm, const char *uri,
		  enum ferry_where *where, struct ferry_err *e);

#ifdef __cplusplus
}
#endif
#endif
