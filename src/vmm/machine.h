/* SPDX-License-Identifier: MIT */
/*
 * A virtual machine: memory, vCPUs, interrupt chips, serial port.  What runs
 * it from outside (QMP, signals, migration) is control.c; this is the thing
 * that is controlled.
 *
 * Threads: one per vCPU, inside; every function here is called by the control
 *          thread or by the migration engine's callbacks, and takes the
 *          machine's lock.  Callbacks below come from vCPU threads.
 */
#ifndef FERRY_VMM_MACHINE_H
#define FERRY_VMM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include <ferry/vm.h>

#include "base/err.h"
#include "vmm/ram.h"
#include "vmm/virtio_mmio.h"

#define FERRY_VMM_VCPUS_MAX	16u
#define FERRY_VMM_RAM_MAX	(64ull << 30)
#define FERRY_VMM_HOLE_START	0xc0000000ull	/* RAM below 4 GiB ends here */
#define FERRY_VMM_HOLE_END	0x100000000ull

/* What ferry_vm_new() is told: the layout of memory, ports and interrupts that
 * this monitor gives a guest.  A change that a guest could see is a new one. */
#define FERRY_MACHINE_TYPE	"ferry-pc-1"

struct ferry_machine;

struct ferry_machine_config {
	const char	*name;		/* of this VM, for people */
	unsigned	 vcpus;		/* 1 to 16 */
	uint64_t	 ram_bytes;	/* a multiple of 2 MiB, up to 64 GiB */
	enum ferry_ram_kind ram_kind;
	const char	*ram_path;	/* of kind FILE */
	const char	*kernel;	/* PVH ELF or bzImage; or NULL, when it
					 * comes by migration */
	const char	*initrd;	/* or NULL */
	const char	*cmdline;	/* or NULL */
	bool		 arrives;	/* by migration: nothing is loaded, the
					 * kernel is for a reset */
	const char	*serial;	/* stdio, null, file:PATH (appended to),
					 * unix:PATH (a server; one client at a
					 * time); NULL: null */
	const char	*cpu_mask;	/* CPU features to keep from the guest,
					 * as in the fact "cpu-features",
					 * separated by commas; or NULL */
	const struct ferry_virtio_device *const *virtio;
	unsigned	 n_virtio;	/* 0 to 16; they outlive the machine */

	/*
	 * From a vCPU thread, without the machine's lock: the guest asked for
	 * power-off or reset, or a vCPU cannot go on (text says why).  They
	 * must not call back into the machine.  After the call that vCPU
	 * waits, as if paused, until pause and run; the others go on.
	 */
	void (*on_shutdown)(void *opaque);
	void (*on_reset)(void *opaque);
	void (*on_panic)(void *opaque, const char *text);
	void *opaque;
};

/* What can be said of the words alone, on whatever host; nothing is opened. */
FERRY_CHECKED int ferry_machine_check(const struct ferry_machine_config *c,
				      struct ferry_err *e);

/*
 * Everything is checked and made; no vCPU runs.  RAM is one block "pc.ram"
 * (one mapping; the part above the hole is mapped at 4 GiB).
 */
struct ferry_machine *
ferry_machine_new(const struct ferry_machine_config *config,
		  struct ferry_err *e);

/* Stops the vCPUs and frees. */
void ferry_machine_free(struct ferry_machine *m);

/*
 * The machine as the engine sees it: memory, KVM dirty log, every piece of
 * vCPU and VM state as a section, facts (vcpus, cpu-features, cpu-vendor,
 * ram layout is implied).  Made by the caller with ferry_vm_new(); this fills
 * it.  The VM's ops are control.c's, which call the functions below.
 */
FERRY_CHECKED int ferry_machine_describe(struct ferry_machine *m,
					 struct ferry_vm *vm,
					 struct ferry_err *e);

/* Of the i-th virtio device; and where guest memory is, for those. */
struct ferry_virtio *ferry_machine_virtio(struct ferry_machine *m, unsigned i);
const struct ferry_ram *ferry_machine_ram(const struct ferry_machine *m);

/* The engine is told of the monitor's own writes to guest memory through this
 * VM (NULL: nobody is told). */
void ferry_machine_set_vm(struct ferry_machine *m, struct ferry_vm *vm);

/* Let the vCPUs run; no-op when they do. */
FERRY_CHECKED int ferry_machine_run(struct ferry_machine *m,
				    struct ferry_err *e);

/* On return no vCPU runs, the serial port is still, and devices have finished
 * what they had begun: nothing writes guest memory.  No-op when stopped.  Works
 * while a vCPU waits for a missing page only after that page came: callers in
 * postcopy must expect to wait, or use the second, which is false when that
 * moment came first: the VM runs on. */
void ferry_machine_pause(struct ferry_machine *m);
bool ferry_machine_pause_until(struct ferry_machine *m, uint64_t until_ns);

/* Of a machine that is paused: did all of its devices stop in order?  -1: one
 * did not, and the state of its queues is not to be trusted. */
FERRY_CHECKED int ferry_machine_check_paused(struct ferry_machine *m,
					     struct ferry_err *e);

/* See ferry_vm_ops.run_until. */
void ferry_machine_run_until(struct ferry_machine *m, uint64_t boot_ns);
bool ferry_machine_is_limited(struct ferry_machine *m);	/* that is past */

bool ferry_machine_running(struct ferry_machine *m);

/* 0 to 99 percent of the time not running; 0: full speed. */
void ferry_machine_throttle(struct ferry_machine *m, unsigned percent);

/* Back to the state right after power-on with the same kernel loaded anew;
 * stopped machine only.  Not for a machine that came by migration without a
 * kernel: FERRY_E_STATE.  RAM that the kernel does not cover keeps its content,
 * as on hardware. */
FERRY_CHECKED int ferry_machine_reset(struct ferry_machine *m,
				      struct ferry_err *e);

/* The heartbeat port (0xfe): how many bytes the guest wrote, and the longest
 * time between two, by CLOCK_MONOTONIC; since the last call. */
struct ferry_heartbeat {
	uint64_t	beats;
	uint64_t	longest_gap_ns;
	uint64_t	first_ns;	/* 0: none */
	uint64_t	last_ns;	/* ever */
};
void ferry_machine_heartbeat(struct ferry_machine *m,
			     struct ferry_heartbeat *out);

#endif
