/* SPDX-License-Identifier: MIT */
/*
 * A machine without KVM and an engine without a network, behind the same
 * functions as the real ones.  They do nothing by themselves: a test plays
 * the guest (fake_shutdown ...) and the engine's thread (fake_state, fake.ops).
 * As with the real ones, freeing waits for a callback that is under way.
 * One VM per process; fields are read and written under fake_lock.
 */
#ifndef FERRY_TESTS_CTL_FAKE_H
#define FERRY_TESTS_CTL_FAKE_H

#include <pthread.h>
#include <stdbool.h>

#include <ferry/source.h>
#include <ferry/target.h>

#include "vmm/machine.h"

struct fake {
	/* machine */
	struct ferry_machine_config config;
	bool	made, running;
	bool	cannot_reset;
	bool	page_missing;		/* a vCPU waits for it */
	bool	limited;		/* run_until is past */
	unsigned runs, pauses, resets, throttle;
	uint64_t run_until;

	/* engine */
	const struct ferry_vm_ops *ops;
	void	*ops_opaque;
	struct ferry_callbacks cb;
	bool	source, target;		/* there is one */
	bool	committed;		/* cancel and cont are refused */
	bool	start_fails;
	char	uri[128];
	char	path[128];		/* last of ferry_source_add_path() */
	char	set[128];		/* last of ferry_source_set() */
	unsigned cancels, postcopies;
	bool	rescue_refused, abandoned;
	int	rescue_ran;		/* as the last rescue was told */
	struct ferry_stats stats;
};

extern struct fake fake;
extern pthread_mutex_t fake_lock;

/* As a vCPU's thread: what the guest asks for. */
void fake_shutdown(void);
void fake_reset(void);
void fake_panic(const char *text);

/* As the engine's thread: tell this state; it is in the stats too. */
void fake_state(enum ferry_state state, enum ferry_where where,
		const char *text);
void fake_pass(unsigned pass);

#endif
