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

#include "dev/bulk.h"
#include "dev/registry.h"
#include "mem/dirty.h"
#include "mem/mem.h"
#include "mig/foreign.h"
#include "mig/kept.h"
#include "recv/map.h"
#include "wire/dialect.h"

#define FERRY_VM_DIRTY_MAX	68	/* each bulk device may have one */

struct ferry_fact_copy {
	char		 name[FERRY_NAME_MAX + 1];
	enum ferry_fact_rule rule;
	char		*value;
};

/*
 * A VM that takes the shape of what comes: a source says which blocks it has,
 * and each goes to a file; device state is opaque; it runs nowhere here.
 *
 * Called by one thread of the target at a time; 0, or -1 with *e.
 */
struct ferry_adopted {
	const struct ferry_vm *vm;	/* name, facts; blocks so far */
	enum ferry_dialect dialect;	/* of the source */
	const uint8_t	*uuid;		/* 16 octets, or NULL */
};

struct ferry_adopt_state {
	struct ferry_adopted who;
	const struct ferry_map *map;	/* pages that are not here are zero */
	const void	*sections;
	size_t		 sections_bytes;
	const void	*vmdesc;
	size_t		 vmdesc_bytes;
};

struct ferry_adopt_ops {
	/* A source is there; what an earlier one has left is forgotten. */
	int (*begin)(void *opaque, struct ferry_err *e);

	/* Its next block: where do pages go? */
	int (*block)(void *opaque, const struct ferry_mem_block *b, int *fd,
		     uint64_t *offset, struct ferry_err *e);

	/* Memory was written: n pages of a block, data in one piece; NULL:
	 * zeroes.  By any of the threads that place, of one page no two at a
	 * time. */
	void (*wrote)(void *opaque, const struct ferry_mem_block *b,
		      uint64_t first, uint64_t n, const uint8_t *data);

	/* State of devices in parts, in the order in which it came on main and
	 * on each channel.  By the reader and by the channels' threads. */
	int (*keep)(void *opaque, const struct ferry_kept *k, const void *data,
		    struct ferry_err *e);

	/* Does the description name just these sections, to the last octet?
	 * If not, nothing is wrong yet: it may not be all of it. */
	bool (*is_whole)(void *opaque, const void *sections,
			 size_t sections_bytes, const void *vmdesc,
			 size_t vmdesc_bytes);

	/* All is here: make it durable, short of taking effect.  May be
	 * called again when it failed. */
	int (*prepare)(void *opaque, const struct ferry_adopt_state *state,
		       struct ferry_err *e);

	/* The VM is ours: let it take effect, durably.  aside: not quite yet,
	 * for the source is still to be told; it counts as ours with settle,
	 * and whoever finds it without that has to look at both sides.  May be
	 * called again when it failed. */
	int (*commit)(void *opaque, bool aside, struct ferry_err *e);

	/* Behind commit aside: the source knows. */
	int (*settle)(void *opaque, struct ferry_err *e);

	/* Or: it could not be told, and goes on. */
	void (*revoke)(void *opaque);
};

/* What cannot be seen from the stream in time. */
struct ferry_adopt_how {
	unsigned	 multifd;	/* channels of a QEMU; 0: off */
	bool		 preempt;
	bool		 switchover_ack;
	bool		 recover;	/* wait for a source that comes back */
};

struct ferry_vm {
	char		 name[FERRY_NAME_MAX + 1];
	struct ferry_vm_ops ops;
	void		*opaque;
	struct ferry_mem mem;
	struct ferry_registry devices;
	struct ferry_bulk_list bulk;
	struct ferry_fact_copy fact[FERRY_FACTS_MAX];
	unsigned	 facts;

	/* Trackers are made when first asked for; told[0] always exists once
	 * sealed. */
	struct ferry_dirty *dirty[FERRY_VM_DIRTY_MAX];
	unsigned	 trackers;
	struct ferry_vm_foreign foreign;
	_Atomic(struct ferry_dirty *) told;

	/* A parked VM: state of its devices as it was saved, instead of
	 * devices.  Borrowed; NULL: ask the devices. */
	const void	*state;
	size_t		 state_bytes;
	uint8_t		 uuid[16];	/* the same; zeroes: none */
	const struct ferry_kept_store *kept;	/* the same, or NULL */

	const struct ferry_adopt_ops *adopt;	/* NULL: an ordinary VM */
	struct ferry_adopt_how how;

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

/* ops must outlive it.  For one target at a time; it may take one VM after the
 * other. */
struct ferry_vm *ferry_vm_new_adopting(const struct ferry_adopt_ops *ops,
				       void *opaque,
				       const struct ferry_adopt_how *how,
				       struct ferry_err *e);
/* Forget what was adopted; then take the next name.  While lent. */
void ferry_vm_adopt_name(struct ferry_vm *vm, const char *name);
FERRY_CHECKED int ferry_vm_adopt_fact(struct ferry_vm *vm, const char *name,
				      enum ferry_fact_rule rule,
				      const char *value, struct ferry_err *e);

/* Lend to a source or target; FERRY_E_STATE when it is lent already. */
FERRY_CHECKED int ferry_vm_lend(struct ferry_vm *vm, struct ferry_err *e);
void ferry_vm_return(struct ferry_vm *vm);

#endif
