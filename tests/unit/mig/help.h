/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the conductor share: cmocka, memory, a VM that does
 * nothing.
 */
#ifndef TESTS_UNIT_MIG_HELP_H
#define TESTS_UNIT_MIG_HELP_H

#include <ferry/ferry.h>

#include "base/cleanup.h"
#include "unit/mem/help.h"

#define assert_ok(rc)	assert_int_equal((rc), 0)

/* The error is of this code and its sentence has this in it. */
static inline void assert_says(const struct ferry_err *e, int code,
			       const char *part)
{
	if (e->code != code || !strstr(e->msg, part))
		fail_msg("error %s '%s', not %s '%s'", ferry_err_name(e->code),
			 e->msg, ferry_err_name(code), part);
}

static inline int no_stop(void *opaque, struct ferry_err *e)
{
	(void)opaque;
	(void)e;
	return 0;
}

static inline void no_resume(void *opaque)
{
	(void)opaque;
}

static inline int no_start(void *opaque, int running, struct ferry_err *e)
{
	(void)opaque;
	(void)running;
	(void)e;
	return 0;
}

static inline void no_throttle(void *opaque, unsigned percent)
{
	(void)opaque;
	(void)percent;
}

static inline int not_running(void *opaque)
{
	(void)opaque;
	return 0;
}

#define IDLE_OPS {							\
	.size = sizeof(struct ferry_vm_ops), .stop = no_stop,		\
	.resume = no_resume, .start = no_start,				\
	.throttle = no_throttle, .running = not_running }

#endif
