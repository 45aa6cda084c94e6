/* SPDX-License-Identifier: MIT */
/*
 * The VM (or any program whose memory should move), described to the engine.
 *
 * A `struct ferry_vm` is made by the embedder, filled once (memory, how writes
 * are tracked, devices, facts), and then lent to one source or one target at a
 * time.  Filling is not thread-safe and ends when the first source or target
 * is made from it.  It must outlive them.
 *
 * Structs that the caller fills begin with `size`, set by their *_INIT macro:
 * a newer library reads an older caller's struct by it.
 */
#ifndef FERRY_VM_H
#define FERRY_VM_H

#include <stddef.h>
#include <stdint.h>

#include <ferry/err.h>
#include <ferry/sized.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ferry_vm;

/*
 * What the engine asks of the embedder.  No slot but the last may be NULL; for
 * what does not apply give a function that does nothing.  All but the last are
 * called from the engine's main thread of the migration, never two at once, and
 * may block.
 */
struct ferry_vm_ops {
	uint32_t size;

	/*
	 * Source.  Stop everything that writes guest memory or changes
	 * device state: vCPUs first, then devices.  Called once per
	 * switchover attempt; on return nothing may write any more.
	 * 0, or -1 with *e: the migration fails and resume() is called.
	 */
	int (*stop)(void *opaque, struct ferry_err *e);

	/*
	 * Source.  The migration failed or was cancelled before the commit, or
	 * was rolled back after it: run again if it ran before stop().  Cannot
	 * fail.
	 */
	void (*resume)(void *opaque);

	/*
	 * Target.  Memory and devices are loaded, the source has given up the
	 * VM: run it if it ran there (`running`), else leave it stopped.
	 * In postcopy memory is still arriving: touching it may block.
	 * 0, or -1 with *e: the migration fails; the source is told so.
	 */
	int (*start)(void *opaque, int running, struct ferry_err *e);

	/*
	 * Source.  Let the vCPUs run only 100 - percent percent of the time;
	 * 0 ends throttling.  0 to 99.
	 */
	void (*throttle)(void *opaque, unsigned percent);

	/* Source.  1 when the VM runs now, else 0.  Asked before stop(). */
	int (*running)(void *opaque);

	/*
	 * Target.  The VM may run until this moment of CLOCK_BOOTTIME, in ns;
	 * UINT64_MAX: for good; one that is past, such as 0: not now.  Before
	 * start(), and again and again while the migration has a lease
	 * (x-ferry-lease); 0 when that has run out.  By several of the
	 * engine's threads, one at a time, also beside the others.
	 *
	 * Must not block, and not wait for vCPUs: one that waits for a missing
	 * page may do so for ever.  But when time is over, no vCPU executes a
	 * further instruction, also one whose page comes then; and the best
	 * clock is the embedder's own: each vCPU should look at it before it
	 * enters the guest, so that a process which was stopped, and goes on,
	 * does not run the VM for a moment.
	 *
	 * May be NULL: then a source that wants a lease is refused.
	 */
	void (*run_until)(void *opaque, uint64_t boottime_ns);
};

#define FERRY_VM_OPS_INIT FERRY_SIZED(ferry_vm_ops)

/*
 * name: what the VM (or program) is, 1 to 255 octets; travels as QEMU's
 * machine type and must be equal on both sides.  ops is copied.
 * Returns NULL and fills *e on failure.  Owned by the caller.
 */
struct ferry_vm *ferry_vm_new(const char *name, const struct ferry_vm_ops *ops,
			      void *opaque, struct ferry_err *e);
void ferry_vm_free(struct ferry_vm *vm);

/* ---- memory ---------------------------------------------------------- */

/*
 * One block of memory.  Its addresses and fd stay the caller's and must stay
 * valid while a source or target uses the VM.
 */
struct ferry_block {
	uint32_t size;
	uint32_t page_bytes;	/* host page: 4096, or 2 MiB for hugetlb */
	const char *name;	/* unique, 1 to 255 octets; on both sides */
	void *addr;		/* aligned to page_bytes */
	uint64_t bytes;		/* a multiple of page_bytes, not 0 */
	uint64_t gpa;		/* guest physical address, or 0 */
	int fd;			/* memfd or file behind it (MAP_SHARED), or -1
				 * for private anonymous memory */
	uint32_t reserved;	/* 0 */
	uint64_t fd_offset;	/* where the block begins in fd */
};

#ifdef __cplusplus
#define FERRY_BLOCK_INIT [] { \
	struct ferry_block ferry_block = FERRY_SIZED(ferry_block); \
	ferry_block.page_bytes = 4096; \
	ferry_block.fd = -1; \
	return ferry_block; }()
#else
#define FERRY_BLOCK_INIT { .size = sizeof(struct ferry_block), \
			   .page_bytes = 4096, .fd = -1 }
#endif

/* At most 256 blocks.  The struct and its name are copied. */
int ferry_vm_add_block(struct ferry_vm *vm, const struct ferry_block *block,
		       struct ferry_err *e);

/* ---- tracking writes (source) ---------------------------------------- */

/* One KVM memory slot and the memory that backs it. */
struct ferry_kvm_slot {
	uint32_t size;
	uint32_t slot;		/* as given to KVM_SET_USER_MEMORY_REGION */
	uint64_t gpa;
	uint64_t bytes;
	void *addr;		/* inside one block */
};

#define FERRY_KVM_SLOT_INIT FERRY_SIZED(ferry_kvm_slot)

/*
 * Writes by vCPUs are found in KVM's dirty log.  The engine switches logging
 * on and off by setting the slot again with and without
 * KVM_MEM_LOG_DIRTY_PAGES, and uses KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 where
 * the kernel has it.  Writes by the monitor itself are not in that log: tell
 * them by ferry_vm_mark_dirty().  vm_fd stays the caller's.
 */
int ferry_vm_track_kvm(struct ferry_vm *vm, int vm_fd,
		       const struct ferry_kvm_slot *slots, size_t n,
		       struct ferry_err *e);

/*
 * Writes by the threads of this process to any block are found by write
 * protection (userfaultfd and PAGEMAP_SCAN; on kernels without them by
 * synchronous write faults, or by soft-dirty bits).  Needs no help of the
 * writers.  Which way is taken is decided when a migration starts.
 */
int ferry_vm_track_process(struct ferry_vm *vm, struct ferry_err *e);

/*
 * Something that logs writes by itself: an IOMMU, a device, another process.
 * No slot may be NULL.  Engine's main thread.  0, or -1 with *e: the migration
 * fails.
 */
struct ferry_track_ops {
	uint32_t size;

	/* Begin: every write from now on is logged.  Memory is looked at for
	 * the first time behind it. */
	int (*start)(void *opaque, struct ferry_err *e);

	/* Tell by ferry_vm_mark_dirty() what was written since start or the
	 * last time.  final: nothing writes any more. */
	int (*collect)(void *opaque, int final, struct ferry_err *e);

	/* End; also when start failed or was not called. */
	void (*stop)(void *opaque);
};

#define FERRY_TRACK_OPS_INIT FERRY_SIZED(ferry_track_ops)

/* ops is copied. */
int ferry_vm_track_log(struct ferry_vm *vm, const struct ferry_track_ops *ops,
		       void *opaque, struct ferry_err *e);

/*
 * The embedder writes [addr, addr + bytes) or has just done so.  Any thread,
 * any time, also inside callbacks; costs a few atomic operations, and nothing
 * while no migration runs.  Call it after the write, and before stop()
 * returns, or inside collect().  Addresses outside every block are ignored.
 */
void ferry_vm_mark_dirty(struct ferry_vm *vm, const void *addr,
			 uint64_t bytes);

/* ---- devices ---------------------------------------------------------- */

/* Where a device writes its state; borrowed, valid inside save() only. */
struct ferry_save;

/* Append octets.  Cannot fail at once: an allocation failure, or more than
 * 64 MiB for all devices together, makes the migration fail after save(). */
void ferry_save_bytes(struct ferry_save *out, const void *data, size_t bytes);

struct ferry_device_ops {
	uint32_t size;

	/* Source, VM stopped, engine's main thread. */
	int (*save)(void *opaque, struct ferry_save *out, struct ferry_err *e);

	/*
	 * Target, engine's load thread, before start().  version is the
	 * sender's and never higher than the one registered here.  data is
	 * borrowed.  In postcopy, touching guest memory works and may block
	 * until the source has sent the page.
	 */
	int (*load)(void *opaque, uint32_t version, const void *data,
		    size_t bytes, struct ferry_err *e);
};

#define FERRY_DEVICE_OPS_INIT FERRY_SIZED(ferry_device_ops)

/*
 * A piece of state, sent and loaded in the order of addition.  name: 1 to 255
 * octets; (name, instance) is unique and equal on both sides.  ops is copied.
 * Names beginning with "ferry." are the library's own and refused.
 */
int ferry_vm_add_device(struct ferry_vm *vm, const char *name,
			uint32_t instance, uint32_t version,
			const struct ferry_device_ops *ops, void *opaque,
			struct ferry_err *e);

/* ---- facts ------------------------------------------------------------ */

/*
 * What both sides must agree on before any memory is copied.
 */
enum ferry_fact_rule {
	FERRY_FACT_EQUAL	= 1,	/* values are equal strings */
	FERRY_FACT_SUBSET	= 2,	/* space separated words: each of the
					 * source's is among the target's */
};

/*
 * For example ("vcpus", FERRY_FACT_EQUAL, "2") or ("cpu-features",
 * FERRY_FACT_SUBSET, "sse2 avx avx2").  name 1 to 255, value 0 to 4096
 * octets, at most 64 facts.  A fact that only one side states is a mismatch.
 * A name beginning with "ferry." is the library's own and refused.
 */
int ferry_vm_add_fact(struct ferry_vm *vm, const char *name,
		      enum ferry_fact_rule rule, const char *value,
		      struct ferry_err *e);

#ifdef __cplusplus
}
#endif
#endif
