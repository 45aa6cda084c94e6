/* SPDX-License-Identifier: MIT */
/*
 * States of a migration, and where the VM is.
 *
 * The names are QEMU's (query-migrate, MIGRATION events), because operators
 * and tools know them.  The legal transitions stand in docs/states.md, which
 * a test compares with the library's table.
 */
#ifndef FERRY_STATE_H
#define FERRY_STATE_H

#ifdef __cplusplus
extern "C" {
#endif

enum ferry_state {
	FERRY_STATE_NONE,
	FERRY_STATE_SETUP,
	FERRY_STATE_ACTIVE,
	FERRY_STATE_PRE_SWITCHOVER,
	FERRY_STATE_DEVICE,
	FERRY_STATE_POSTCOPY_ACTIVE,
	FERRY_STATE_POSTCOPY_PAUSED,
	FERRY_STATE_POSTCOPY_RECOVER_SETUP,
	FERRY_STATE_POSTCOPY_RECOVER,
	FERRY_STATE_COMPLETED,
	FERRY_STATE_FAILED,
	FERRY_STATE_CANCELLING,
	FERRY_STATE_CANCELLED,
	FERRY_STATES		/* how many there are */
};

/*
 * Where the VM is.  Answers what matters when something breaks: which side
 * holds a VM that may run.
 */
enum ferry_where {
	FERRY_WHERE_SOURCE,	/* nothing is lost: it runs, or may, there */
	FERRY_WHERE_UNDECIDED,	/* committed, target not heard of since: the
				 * source is stopped and keeps everything */
	FERRY_WHERE_SPLIT,	/* target runs; its memory is on both sides */
	FERRY_WHERE_TARGET,	/* all of it is there */
	FERRY_WHERES
};

/* Which side may be (re)started by hand without making a second VM or
 * losing this one; bits. */
enum ferry_safe {
	FERRY_SAFE_NONE		= 0,
	FERRY_SAFE_SOURCE	= 1,	/* the source may run the VM */
	FERRY_SAFE_TARGET	= 2,	/* the target may run the VM */
};

/*
 * Of a source whose target is lost: may it be rolled back to the switchover
 * (ferry_source_rollback())?  This is beside `safe`: what the guest did since
 * is lost by it.
 */
enum ferry_rollback {
	FERRY_ROLLBACK_NO,	 /* there is nothing to be rolled back, not all
				  * of it was kept, or the target may have all
				  * of the VM and no lease any more */
	FERRY_ROLLBACK_UNPROVEN, /* without a lease: that the target is dead is
				  * nothing but the user's word */
	FERRY_ROLLBACK_LATER,	 /* the target's lease runs yet */
	FERRY_ROLLBACK_PROVEN,	 /* it has run out: the VM stands still there,
				  * and goes on only by the source's word */
	FERRY_ROLLBACKS
};

/* QEMU's name ("postcopy-active"), a static string, never NULL. */
const char *ferry_state_name(enum ferry_state state);

/* "source", "undecided", "split" or "target". */
const char *ferry_where_name(enum ferry_where where);

/* "none", "source", "target" or "both". */
const char *ferry_safe_name(unsigned safe);

/* "no", "unproven", "later" or "proven". */
const char *ferry_rollback_name(enum ferry_rollback rollback);

#ifdef __cplusplus
}
#endif
#endif
