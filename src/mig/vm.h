/* SPDX-License-Identifier: MIT */
/*
 * What the embedder told about its VM.
 *
 * Threads: filled by one thread; read-only while lent (in_use), but for
 *          `told`, which any thread marks.
 */
#ifndef FERRY_MIG_VM_H
#define FERRY_MIG_VM_H

#include <stdatomic.h>

#include <ferry/vm.h>

#include "dev/registry.h"
#include "mem/dirty.h"
#include "mem/mem.h"

#define FERRY_VM_DIRTY_MAX	4

struct ferry_fact_copy {
	char		 name[FERRY_NAME_MAX + 1];
	enum ferry_fact_rule rule;
	char		*value;
};

struct ferry_vm {
	char		 name[FERRY_NAME_MAX + 1];
	struct ferry_vm_ops ops;
	void		*opaque;
	struct ferry_mem mem;
	struct ferry_registry devices;
	struct ferry_fact_copy fact[FERRY_FACTS_MAX];
	unsigned	 facts;

	/* Trackers are made when first asked for; told[0] always exists once
	 * sealed. */
	struct ferry_dirty *dirty[FERRY_VM_DIRTY_MAX];
	unsigned	 trackers;
	_Atomic(struct ferry_dirty *) told;

	/* A parked VM: state of its devices as it was saved, instead of
	 * devices.  Borrowed; NULL: ask the devices. */
	const void	*state;
	size_t		 state_bytes;

	bool		 was_running;	/* before the switchover; travels */
	_Atomic bool	 in_use;
	bool		 sealed;	/* lent once: no more filling */
};

/* For a VM that is parked, not running: blocks in a store, and the sections
 * of its devices.  Both stay the caller's.  See ferry_vm_add_block(). */
FERRY_CHECKED int ferry_vm_add_stored(struct ferry_vm *vm, const char *name,
				      uint64_t bytes, uint32_t page_bytes,
				      uint64_t gpa,
				      const struct ferry_mem_store *store,
				      struct ferry_err *e);
void ferry_vm_set_state(struct ferry_vm *vm, const void *state, size_t bytes);

/* Lend to a source or target; FERRY_E_STATE when it is lent already. */
FERRY_CHECKED int ferry_vm_lend(struct ferry_vm *vm, struct ferry_err *e);
void ferry_vm_return(struct ferry_vm *vm);

#endif
