/* SPDX-License-Identifier: MIT */
/*
 * Other processes that share the VM's memory: backends of its devices.  What
 * they write has to be sent, and in postcopy they wait for pages too.
 *
 * A VMM with devices of vhost-user (<ferry/vhost_fe.h>) says here what the
 * engine should ask of them, once for all of them.  Their writes it tells with
 * ferry_vm_track_log().  Nothing in here is bound to vhost-user.
 */
#ifndef FERRY_FOREIGN_H
#define FERRY_FOREIGN_H

#include <ferry/target.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ferry_foreign_ability {
	FERRY_FOREIGN_LOG	= 1,	/* tell what they wrote; any source */
	FERRY_FOREIGN_FAULT	= 2,	/* wait for pages; postcopy's target */
	FERRY_FOREIGN_START	= 3,	/* go on with what was loaded; target */
};

/* No slot may be NULL. */
struct ferry_foreign_ops {
	uint32_t size;
	uint32_t reserved;

	/*
	 * Can all of them do it?  LOG: the source asks before it connects.
	 * FAULT: the target, when the source says what it wants to do, and
	 * before anything of the VM has moved.  START: the target, when all
	 * devices are loaded, and before the source hears so and commits: has
	 * nobody died meanwhile with what was loaded into him?
	 * By any of the engine's threads; should not block.  0, or -1 with *e,
	 * which names who cannot: the migration fails with it (LOG, START), or
	 * has no postcopy (FAULT).
	 */
	int (*can)(void *opaque, enum ferry_foreign_ability what,
		   struct ferry_err *e);

	/*
	 * Target, its reader's thread: from here on pages may be missing.  What
	 * touches guest memory later has to wait for them: give the
	 * userfaultfds of processes to `t` with ferry_target_add_uffd(), now or
	 * while devices are loaded and the VM is started.  Before devices are
	 * loaded.  0, or -1 with *e: the migration fails.
	 */
	int (*listen)(void *opaque, struct ferry_target *t,
		      struct ferry_err *e);

	/*
	 * Target, behind listen(), once.  whole 1: all pages are here; faults
	 * are served until this returns, and no longer: let the other processes
	 * end their part.  0: pages will be missing for ever: who waits for one
	 * must get an error, not zeroes, and this must not wait for them.
	 * By any of the engine's threads, or that of ferry_target_free() or
	 * ferry_target_abandon(); start() may still be running if whole is 0.
	 */
	void (*end)(void *opaque, int whole);
};

#define FERRY_FOREIGN_OPS_INIT FERRY_SIZED(ferry_foreign_ops)

/* One for a VM; before its first source or target.  ops is copied. */
int ferry_vm_set_foreign(struct ferry_vm *vm,
			 const struct ferry_foreign_ops *ops, void *opaque,
			 struct ferry_err *e);

/* ---- faults of other processes (target) --------------------------------- */

/* A part of the other process' memory, which is the VM's at `host`.  Whole
 * pages of the block that is there. */
struct ferry_uffd_range {
	uint64_t addr;		/* there */
	uint64_t bytes;
	void *host;		/* here */
};

enum { FERRY_UFFD_RANGES_MAX = 16 };

/*
 * From now on, in postcopy: read the faults of this userfaultfd of another
 * process, fetch the pages, and wake who waits there; who waits for a page
 * that is here is woken at once.  fd is duplicated, and made non-blocking.
 * Behind listen(), from inside it too.  Waiting outside of all ranges is in
 * vain, and a userfaultfd that cannot be read any more is dropped: both are
 * logged, and do no harm to the migration.  At most 64.  name is for messages
 * and copied.
 *
 * Returns a number from 1 on, for remove; or -1 with *e.
 */
int ferry_target_add_uffd(struct ferry_target *t, int fd, const char *name,
			  const struct ferry_uffd_range *range, size_t n,
			  struct ferry_err *e);

/* On return it is not read any more.  Safe when the engine dropped it; until
 * `t` is freed. */
void ferry_target_remove_uffd(struct ferry_target *t, int number);

#ifdef __cplusplus
}
#endif
#endif
