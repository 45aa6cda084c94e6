/* SPDX-License-Identifier: MIT */
/*
 * Waiting for guest memory in postcopy, in one place.
 *
 * While pages are missing, each page of a buffer and of a ring is read once
 * before anyone works with it.  So
 *  - no system call of a device ever meets a missing page: guest memory can go
 *    to the kernel although the userfaultfd serves user mode only, which is all
 *    that an ordinary user gets; no buffer needs to be copied for that;
 *  - every wait is counted, and by us;
 *  - when the front-end dies, whoever waits is let go in here (be/postcopy.h),
 *    sees `broken`, and what he read is never used.
 *
 * A page that is here stays: nothing is discarded while the guest runs.
 *
 * Threads: any; `missing` and `broken` are set by the control thread.
 */
#ifndef FERRY_VU_BE_TOUCH_H
#define FERRY_VU_BE_TOUCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <ferry/vhost.h>

struct ferry_vb_touch {
	_Atomic bool	missing;	/* pages may be */
	_Atomic bool	broken;		/* memory is not to be trusted */
	_Atomic uint64_t waits[FERRY_VHOST_WAIT_BUCKETS];
	_Atomic uint64_t wait_sum_ns;
	_Atomic uint64_t wait_max_ns;
};

/* Wait until these octets are here.  False: broken, do not look at them. */
bool ferry_vb_touch_wait(struct ferry_vb_touch *t, const void *at,
			 uint64_t bytes);

/* The usual case costs a load. */
static inline bool ferry_vb_touch(struct ferry_vb_touch *t, const void *at,
				  uint64_t bytes)
{
	if (atomic_load_explicit(&t->missing, memory_order_acquire))
		return ferry_vb_touch_wait(t, at, bytes);
	return !atomic_load_explicit(&t->broken, memory_order_acquire);
}

static inline bool ferry_vb_touch_broken(struct ferry_vb_touch *t)
{
	return atomic_load_explicit(&t->broken, memory_order_acquire);
}

#endif
